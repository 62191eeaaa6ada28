"""Values by hand: three products at 10, 30 and 200, costs 4, 20 and unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.contracts.offers import Objective
from recsys.offer_model.tables import EVERYONE
from recsys.ranking.kernel.layout import TIER_ACCOUNT
from recsys.ranking.live_catalogue import LiveCatalogue
from tests.support.reference_ranker.candidates import Pool
from tests.support.reference_ranker.order import credible, raw_order, unit_worth, value_order
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

MODEL = synthetic_model(SyntheticModelConfig(n_products=20), np.random.default_rng(0))


def catalogue() -> LiveCatalogue:
    price, cost = np.full(20, np.nan), np.full(20, np.nan)
    price[:3], cost[:2] = [10, 30, 200], [4, 20]
    return LiveCatalogue(replace(MODEL, products=replace(MODEL.products, price=price, cost=cost)))


def pool(
    products: list[int], probabilities: list[float], lower: list[int] | None = None, scores: list[float] | None = None
) -> Pool:
    n = len(products)
    return Pool(
        product=np.array(products, dtype=np.int32),
        from_product=np.array(lower or [-1] * n, dtype=np.int32),
        probability=np.array(probabilities),
        chance=np.array(probabilities),
        quantity=np.full(n, 2.0),
        score=np.array(scores or probabilities),
        evidence=np.full(n, -1, dtype=np.int32),
        tier=np.full(n, TIER_ACCOUNT, dtype=np.int8),
    )


def expected_value(candidates: Pool, objective: Objective, live: LiveCatalogue) -> np.ndarray:
    return candidates.probability * unit_worth(candidates, objective, live, EVERYONE)


def test_a_cross_sell_is_worth_probability_times_quantity_times_price() -> None:
    value = expected_value(pool([0, 1, 2], [0.5, 0.1, 0.01]), "revenue", catalogue())
    assert value == pytest.approx([0.5 * 2 * 10, 0.1 * 2 * 30, 0.01 * 2 * 200])


def test_an_upgrade_is_worth_the_difference_to_what_it_displaces() -> None:
    value = expected_value(pool([1, 0], [0.25, 0.25], lower=[0, 1]), "revenue", catalogue())
    assert value == pytest.approx([0.25 * 2 * (30 - 10), 0.25 * 2 * (10 - 30)])


def test_margin_takes_the_cost_off_and_the_median_rate_where_it_is_not_known() -> None:
    live = catalogue()
    rate = np.median([1 - 4 / 10, 1 - 20 / 30])
    value = expected_value(pool([0, 1, 2], [0.5, 0.5, 0.5]), "margin", live)
    assert value == pytest.approx([10 - 4, 30 - 20, 200 * rate])
    climb = expected_value(pool([1], [0.5], lower=[0]), "margin", live)
    assert climb == pytest.approx([(30 - 20) - (10 - 4)])


def test_an_unknown_price_is_worth_nothing_rather_than_not_a_number() -> None:
    assert expected_value(pool([5, 0], [0.5, 0.5], lower=[-1, 5]), "revenue", catalogue()).tolist() == [0, 0]


def test_a_high_price_alone_never_leads() -> None:
    candidates = pool([0, 2], [0.5, 0.04])
    value = expected_value(candidates, "revenue", catalogue())
    assert value[1] > value[0]
    relevant = credible(candidates, 0.1, "revenue")
    assert relevant.tolist() == [True, False]
    assert value_order(candidates, value, relevant).tolist() == [0, 1]
    assert value_order(candidates, value, credible(candidates, 0.05, "revenue")).tolist() == [1, 0]


def test_where_no_money_counts_chances_alone_make_the_order() -> None:
    assert credible(pool([0, 2], [0.5, 0.04]), 0.1, "conversion").tolist() == [True, True]


def test_the_floor_is_of_each_kind() -> None:
    candidates = pool([0, 1, 2], [0.5, 0.02, 0.001], lower=[-1, 0, 0])
    assert credible(candidates, 0.1, "revenue").tolist() == [True, True, False]


def test_ties_go_to_the_higher_score_then_to_the_smaller_product() -> None:
    candidates = pool([4, 3, 2], [0.2, 0.2, 0.2], scores=[1.0, 1.0, 2.0])
    worth = candidates.probability
    assert candidates.product[value_order(candidates, worth, np.ones(3, dtype=bool))].tolist() == [2, 3, 4]


def test_raw_merges_kinds_by_probability_without_turning_a_kind_s_order() -> None:
    # The second cross-sell has a higher probability than the first: its score puts it behind all the same.
    candidates = pool([1, 2, 3, 4], [0.1, 0.3, 0.2, 0.05], lower=[-1, -1, 0, 0], scores=[9, 8, 7, 6])
    order = raw_order(candidates)
    assert candidates.product[order].tolist() == [3, 1, 2, 4]
