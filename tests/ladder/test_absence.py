"""A ladder without an edge says what each rule left out."""

from __future__ import annotations

import pandas as pd

from recsys.ladder.absence import why_no_edges
from recsys.ladder.edges import LadderConfig
from tests.ladder.test_ladder import lines_of
from tests.ladder.test_word_steps import GRADES, catalogue, sold


def test_products_without_anything_are_counted() -> None:
    products = pd.DataFrame({"product_id": ["p0", "p1"]})
    said = why_no_edges(products, lines_of([("a", "p0", 0, 1, 2.0)]), None, LadderConfig())
    assert "0 curated links are given" in said
    assert "0 of 2 products have a family and a tier" in said
    assert "0 have a name and a price, and no family" in said
    assert said.endswith(
        "Give products a family and a tier, or a table of upgrades with from_product_id and to_product_id."
    )


def test_words_whose_prices_do_not_go_one_way_are_counted() -> None:
    products = catalogue(dict.fromkeys(GRADES, 1.0))
    said = why_no_edges(products.drop(columns="price"), sold(products), None, LadderConfig())
    assert "54 have a name and a price, and no family" in said
    assert (
        "6 pairs of words take each other's place in 3 names or more: with 6 the price does not go one way, 0 are "
        "bought together in one order, 0 by other accounts"
    ) in said


def test_steps_outside_of_the_price_band_are_counted() -> None:
    products = catalogue(GRADES)
    config = LadderConfig(min_price_ratio=1.1, max_price_ratio=1.2)
    said = why_no_edges(products.drop(columns="price"), sold(products), None, config)
    assert "with 3 the price does not go one way" in said
    assert "54 steps have a price outside of 1.1 to 1.2 times the lower one's" in said


def test_links_tiers_and_families_that_lead_nowhere_are_told() -> None:
    products = pd.DataFrame(
        {"product_id": ["p0", "p1", "p2", "p3"], "family": ["tin", "tin", "pot", "pot"], "tier": ["1", "2", None, None]}
    )
    links = pd.DataFrame({"from_product_id": ["p0"], "to_product_id": ["gone"]})
    history = lines_of([("a", f"p{at}", 0, 1, price) for at, price in enumerate([2.0, 1.0, 3.0, 3.1])])
    said = why_no_edges(products, history, links, LadderConfig())
    assert "1 curated links are given, none between two known products" in said
    assert "2 of 4 products have a family and a tier, none with a dearer next tier in its family" in said
    assert "2 have a family alone, no two of one family with 1.1 to 5 times the other's price" in said
    assert "ladder.infer == 'never'" in why_no_edges(products, history, links, LadderConfig(infer="never"))
