from __future__ import annotations

import numpy as np
import pytest

from recsys.ranking.kernel.layout import TIER_ACCOUNT, TIER_CART
from tests.support.reference_ranker.candidates import (
    Pool,
    combine,
    crosses,
    in_this_order,
    merge_weights,
    noisy_or,
)


def pool(products: list[int], probabilities: list[float], tier: int) -> Pool:
    n = len(products)
    return crosses(np.array(products, dtype=np.int32), np.array(probabilities), np.ones(n), tier)


def test_what_both_name_gets_the_larger_chance_and_the_tier_of_the_stronger() -> None:
    both = combine(pool([7, 3], [0.2, 0.1], TIER_ACCOUNT), pool([3, 5], [0.5, 0.4], TIER_CART))
    assert both.product.tolist() == [7, 3, 5]
    assert both.probability == pytest.approx([0.2, 0.5, 0.4])
    assert both.chance == pytest.approx([0.2, 1 - (1 - 0.1) * (1 - 0.5), 0.4])
    assert both.tier.tolist() == [TIER_ACCOUNT, TIER_CART, TIER_CART]


def test_a_weaker_cart_leaves_the_account_its_tier() -> None:
    both = combine(pool([3], [0.5], TIER_ACCOUNT), pool([3], [0.1], TIER_CART))
    assert both.tier.tolist() == [TIER_ACCOUNT]
    assert both.probability == pytest.approx([0.5])


def test_the_account_s_share_of_this_order_ranks_and_its_horizon_is_told() -> None:
    account = in_this_order(pool([3, 9], [0.4, 0.2], TIER_ACCOUNT), 3.0)  # three more orders are expected
    both = combine(account, pool([3], [0.15], TIER_CART))
    assert both.chance == pytest.approx([1 - (1 - 1.3 * 0.4 / 4) * (1 - 0.15), 1.3 * 0.2 / 4])
    assert both.probability == pytest.approx([1 - (1 - 0.4) * (1 - 0.1), 1 - (1 - 0.2) * (1 - 0.05)])
    assert both.score == pytest.approx(both.chance)
    assert both.tier.tolist() == [TIER_CART, TIER_ACCOUNT]


def test_one_empty_side_leaves_the_other_as_it_is() -> None:
    some, none = pool([1, 2], [0.3, 0.2], TIER_ACCOUNT), pool([], [], TIER_CART)
    assert combine(some, none) is some
    assert combine(none, some) is some


def test_the_combination_is_symmetric_and_never_below_its_parts() -> None:
    one, other = np.linspace(0, 1, 11), np.linspace(1, 0, 11)
    assert noisy_or(one, other) == pytest.approx(noisy_or(other, one))
    assert (noisy_or(one, other) >= np.maximum(one, other) - 1e-12).all()


def test_a_cart_that_says_the_same_of_all_keeps_the_account_s_order() -> None:
    account = pool([1, 2, 3], [0.3, 0.2, 0.1], TIER_ACCOUNT)
    both = combine(account, pool([1, 2, 3], [0.4, 0.4, 0.4], TIER_CART))
    assert (np.diff(both.chance) < 0).all()


def test_weights_add_up_by_product() -> None:
    rows = [np.array([1, 4], dtype=np.int32), np.array([0, 4], dtype=np.int32)]
    weights = [np.array([0.1, 0.2], dtype=np.float64), np.array([0.3, 0.5], dtype=np.float64)]
    product, score = merge_weights(rows, weights)
    assert product.tolist() == [0, 1, 4]
    assert score == pytest.approx([0.3, 0.1, 0.2 + 0.5])


def test_no_weights_make_no_products() -> None:
    empty = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float64)
    product, score = merge_weights([empty[0]] * 2, [empty[1]] * 2)
    assert len(product) == len(score) == 0
