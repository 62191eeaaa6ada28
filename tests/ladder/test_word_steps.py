"""Steps that prices and purchases show: invented words make them, shuffled prices don't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History
from recsys.ladder.edges import LadderConfig, build_ladder

pytestmark = pytest.mark.slow

START = pd.Timestamp(datetime(2025, 1, 1, tzinfo=UTC))
GRADES = {"LL": 1.0, "ML": 1.6, "HL": 2.5}
KINDS = {"Pedal": 20.0, "Saddle": 12.0, "Fork": 60.0, "Crankset": 80.0, "Headset": 15.0, "Wheel": 40.0}
COLOURS = ("Red", "Blue", "Green")


def catalogue(grades: Mapping[str, float]) -> pd.DataFrame:
    """Every kind in every grade and colour; the grade moves the price, the colour doesn't."""
    rows = [
        (f"{grade} {kind} - {colour}", kind, price * times)
        for kind, price in KINDS.items()
        for grade, times in grades.items()
        for colour in COLOURS
    ]
    frame = pd.DataFrame(rows, columns=["name", "category", "price"])
    return frame.assign(product_id=[f"p{at:02}" for at in range(len(frame))])


def sold(products: pd.DataFrame, baskets: Sequence[tuple[str | None, Sequence[str]]] = ()) -> History:
    """Each product once by nobody, then one order a basket of (account, names), a day apart, at the list's prices."""
    by_name = products.drop_duplicates("name").set_index("name")
    listed = products[["product_id", "price"]].to_numpy().tolist()
    rows: list[tuple[object, ...]] = [(f"o{i}", None, product, price, 0) for i, (product, price) in enumerate(listed)]
    for day, (account, names) in enumerate(baskets, start=1):
        rows += [(f"b{day}", account, by_name["product_id"][name], by_name["price"][name], day) for name in names]
    frame = pd.DataFrame(rows, columns=["order_id", "account_id", "product_id", "unit_price", "day"])
    times = START + pd.to_timedelta(frame["day"], unit="D")
    return History.from_frame(frame.assign(ordered_at=times, quantity=1.0))


def named_edges(products: pd.DataFrame, history: History) -> set[tuple[str, str]]:
    ladder = build_ladder(products.drop(columns="price"), history, None, LadderConfig())
    names = products.set_index("product_id")["name"]
    return set(zip(names[list(ladder.from_ids)], names[list(ladder.to_ids)], strict=True))


def expected(grades: Mapping[str, float]) -> set[tuple[str, str]]:
    rungs = list(grades)
    return {
        (f"{lower} {kind} - {colour}", f"{upper} {kind} - {colour}")
        for lower, upper in pairwise(rungs)
        for kind in KINDS
        for colour in COLOURS
    }


def test_grades_that_no_list_knows_are_rungs_and_colours_are_none() -> None:
    products = catalogue(GRADES)
    assert named_edges(products, sold(products)) == expected(GRADES)


def test_invented_words_leave_the_ladder_as_it_is() -> None:
    invented = dict(zip(("Quorp", "Zill", "Avnet"), GRADES.values(), strict=True))
    products = catalogue(invented)
    assert named_edges(products, sold(products)) == expected(invented)


def test_model_numbers_that_fall_as_prices_rise_are_rungs() -> None:
    numbers = {"650": 1.0, "550": 1.6, "250": 2.5}
    products = catalogue(numbers).assign(name=lambda frame: frame["name"].str.replace(" - ", " "))
    plain = {(lower.replace(" - ", " "), upper.replace(" - ", " ")) for lower, upper in expected(numbers)}
    assert named_edges(products, sold(products)) == plain


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("grades", [GRADES, {"Small": 1.0, "Medium": 1.6, "Large": 2.5}], ids=["learned", "listed"])
def test_shuffled_prices_leave_no_ladder(seed: int, grades: Mapping[str, float]) -> None:
    products = catalogue(grades)
    shuffled = products.assign(price=np.random.default_rng(seed).permutation(products["price"]))
    assert len(named_edges(products, sold(products))) == 36
    assert len(named_edges(shuffled, sold(shuffled))) <= 2


def patterned(things: Mapping[str, float], dearer: float = 0.01) -> tuple[list[str], pd.DataFrame]:
    """Eight patterns of each thing without a category, and the products; each pattern is a little dearer."""
    patterns = [f"Pattern{letter}{letter}" for letter in "ABCDEFGH"]
    rows = [
        (f"{p} {what}", price * (1 + at * dearer)) for at, p in enumerate(patterns) for what, price in things.items()
    ]
    frame = pd.DataFrame(rows, columns=["name", "price"])
    return patterns, frame.assign(product_id=[f"p{i:02}" for i in range(len(rows))])


def test_one_price_of_each_is_no_step_where_no_category_says_that_both_are_of_a_kind() -> None:
    """Eight picnic bags that cost more than the charlotte bags of their prints are another thing, seen once."""
    things = {"Charlotte Bag": 1.95, "Picnic Bag": 2.95, "Tidy": 1.95}
    patterns, products = patterned(things, dearer=0.0)
    steps = {(f"{p} Charlotte Bag", f"{p} Picnic Bag") for p in patterns}
    assert not steps & named_edges(products, sold(products))
    bags = products.assign(category="Bags")
    assert steps <= named_edges(bags, sold(bags))
    _, products = patterned(things)
    assert steps <= named_edges(products, sold(products))


def test_what_costs_less_lately_is_no_step_up() -> None:
    products = catalogue(GRADES)
    lower, lowered = "ML Pedal - Red", "HL Pedal - Red"
    lately = [(None, [lowered]), (None, [lower])] * 4
    history = sold(products, [(None, [lowered])] * 10 + [(None, ["LL Fork - Red"])] * 100 + lately)
    is_lowered = history.product_ids[history.product] == products.set_index("name")["product_id"][lowered]
    is_late = history.seconds > history.seconds.min() + 100 * 86_400
    cheap = replace(history, unit_price=np.where(is_lowered & is_late, 1.0, history.unit_price))
    assert named_edges(products, history) == expected(GRADES)
    assert named_edges(products, cheap) == expected(GRADES) - {(lower, lowered)}


def test_what_goes_together_in_one_order_is_no_step() -> None:
    """Plates are dearer than cups in every pattern, but whoever buys the one buys the other with it."""
    patterns, products = patterned({"Cup": 1.0, "Plate": 1.5, "Bowl": 1.52})
    apart = [(f"a{i}", [f"{p} {what}"]) for i in range(40) for p in patterns for what in ("Cup", "Plate")]
    together = [(f"a{i}", [f"{p} Cup", f"{p} Plate"]) for i in range(40) for p in patterns]
    found = named_edges(products, sold(products, apart))
    assert {(f"{p} Cup", f"{p} Plate") for p in patterns} <= found
    assert not any(b.endswith("Plate") for _, b in named_edges(products, sold(products, together)))


def test_what_no_account_moves_to_is_no_step() -> None:
    """Rings and watches of one pattern have the same words left, but other buyers."""
    patterns, products = patterned({"Ring": 1.0, "Watch": 2.5, "Band": 1.0})

    def bought(by: str) -> History:
        rings = [(f"r{i}", [f"{p} {what}"]) for i in range(40) for p in patterns for what in ("Ring", "Band")]
        return sold(products, [*rings, *((f"{by}{i}", [f"{p} Watch"]) for i in range(40) for p in patterns)])

    steps = {(f"{p} Ring", f"{p} Watch") for p in patterns}
    assert steps <= named_edges(products, bought("r"))
    assert not steps & named_edges(products, bought("w"))


def test_of_products_with_one_name_the_step_leads_to_the_one_sold_last() -> None:
    products = catalogue(GRADES)
    old = products[products["name"] == "ML Pedal - Red"].assign(product_id="old")
    both = pd.concat([products, old], ignore_index=True)
    history = sold(both, [("a", ["ML Pedal - Red"])])
    ladder = build_ladder(both, history, None, LadderConfig())
    low = products.loc[products["name"] == "LL Pedal - Red", "product_id"].iloc[0]
    new = products.loc[products["name"] == "ML Pedal - Red", "product_id"].iloc[0]
    assert ladder.to_ids[ladder.from_ids == low].tolist() == [new]
    assert set(ladder.from_ids) >= {"old", new}


def test_a_name_that_differs_in_more_leads_to_the_likest() -> None:
    products = catalogue(GRADES)
    more = pd.DataFrame(
        {
            "product_id": ["x0", "x1"],
            "name": ["LL Lamp - Red", "ML Lamp Round - Red"],
            "category": "Lamp",
            "price": [20.0, 32.0],
        }
    )
    both = pd.concat([products, more], ignore_index=True)
    baskets = [(f"a{i}", [name]) for i in range(30) for name in both["name"]]
    assert ("LL Lamp - Red", "ML Lamp Round - Red") in named_edges(both, sold(both, baskets))
    others = [(f"b{i}" if "Lamp Round" in name else f"a{i}", [name]) for i in range(30) for name in both["name"]]
    assert ("LL Lamp - Red", "ML Lamp Round - Red") not in named_edges(both, sold(both, others))


def test_listed_words_are_believed_until_prices_contradict_them() -> None:
    few = pd.DataFrame(
        {"product_id": ["p0", "p1", "p2", "p3"], "price": [1.0, 2.0, 2.0, 1.0],
         "name": ["Small oak shelf", "Large oak shelf", "Small jar", "Large jar"]}
    )  # fmt: skip
    assert named_edges(few, sold(few)) == {("Small oak shelf", "Large oak shelf")}


def test_a_count_of_an_unknown_word_has_to_be_borne_out() -> None:
    """In "650 Black" stands a model's number and not a count of anything."""
    few = pd.DataFrame({"product_id": ["p0", "p1"], "name": ["Road 250 Black", "Road 650 Black"], "price": [1.0, 2.0]})
    assert named_edges(few, sold(few)) == set()


def test_no_account_and_one_price_make_no_step() -> None:
    products = catalogue(dict.fromkeys(GRADES, 1.0))
    assert named_edges(products, sold(products)) == set()
    history = sold(products)
    assert named_edges(products, replace(history, unit_price=np.zeros(len(history)))) == set()
