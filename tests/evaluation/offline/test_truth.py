"""What counts as a novel purchase, a climb, an eligible pair; coverage and novelty of the catalogue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History
from recsys.evaluation.offline.ground_truth import cross_sell_pairs, ground_truth, rung_climbs
from recsys.evaluation.offline.ranking_metrics import active_products, coverage, novelty
from recsys.ladder.upgrade_events import EdgeRows, UpgradeEventConfig

CUTOFF = datetime(2024, 6, 1, tzinfo=UTC)


def history_of(*lines: tuple[str, str | None, str, float, float]) -> History:
    """Lines of (order, account, product, days after the cutoff, revenue)."""
    frame = pd.DataFrame(lines, columns=["order_id", "account_id", "product_id", "day", "unit_price"])
    frame["ordered_at"] = [CUTOFF + timedelta(days=day) for day in frame.pop("day")]
    return History.from_frame(frame.assign(quantity=1.0))


SMALL = history_of(
    ("o1", "a0", "p0", -40, 1),
    ("o2", "a1", "p1", -5, 1),
    ("o3", "a0", "p1", 0, 7),  # novel, at the cutoff itself
    ("o3", "a0", "p0", 0, 5),  # a repeat
    ("o4", "a0", "p1", 3, 2),  # bought again within the horizon: its revenue counts, once novel
    ("o5", "a1", "p2", 30, 9),  # at the end of the horizon: too late
    ("o6", "a2", "p0", 4, 3),  # a new account
    ("o7", None, "p2", 4, 3),
)


def test_novel_purchases_are_first_ones_within_the_horizon_by_accounts_with_a_past() -> None:
    truth = ground_truth(SMALL, CUTOFF, 30)
    assert truth.accounts.tolist() == [0]
    assert truth.relevant.toarray().tolist() == [[0, 1, 0]]
    assert truth.revenue.toarray().tolist() == [[0, 7 + 2, 0]]


def test_a_longer_horizon_takes_in_the_later_purchase() -> None:
    truth = ground_truth(SMALL, CUTOFF, 31)
    assert truth.accounts.tolist() == [0, 1]
    assert truth.relevant.toarray().tolist() == [[0, 1, 0], [0, 0, 1]]


def test_climbs_need_a_rung_below_before_the_cutoff() -> None:
    history = history_of(
        ("o1", "a0", "low", -20, 1),
        ("o2", "a1", "low", -20, 1),
        ("o3", "a2", "other", -20, 1),
        ("o4", "a0", "top", 5, 4),  # a climb: low is not bought again
        ("o5", "a1", "top", 5, 4),  # an add-on: most of the spend stays with low
        ("o5", "a1", "low", 5, 40),
        ("o6", "a2", "low", 2, 1),  # steps on the ladder only after the cutoff
        ("o7", "a2", "top", 9, 4),
        ("o8", "a3", "top", 9, 4),
    )
    edges = EdgeRows.of(history, np.array(["low"], dtype=object), np.array(["top"], dtype=object))
    truth = rung_climbs(history, CUTOFF, 30, edges, UpgradeEventConfig())
    assert [history.account_ids[row] for row in truth.accounts] == ["a0"]
    assert [history.product_ids[row] for row in truth.relevant.indices] == ["top"]
    assert truth.revenue.toarray().sum() == 4
    assert len(rung_climbs(history, CUTOFF, 3, edges, UpgradeEventConfig())) == 0


def test_pairs_are_all_accounts_with_a_past_times_the_products_sold_before_less_what_is_owned() -> None:
    listed = np.array([0, 1], dtype=np.int32), np.array([1, 0], dtype=np.int32), np.array([0.5, 0.25])
    pairs = cross_sell_pairs(SMALL, CUTOFF, 30, *listed)
    # accounts a0, a1; products p0, p1 (p2 was never sold before): 4 pairs, 2 owned, so both others are listed
    assert pairs.probability.tolist() == [0.5, 0.25]
    assert pairs.positive.tolist() == [True, False]
    assert (pairs.n_unlisted, pairs.n_unlisted_positive, pairs.tail_probability) == (0, 0, 0.0)


def test_unlisted_pairs_count_with_the_rate_of_the_horizon_before() -> None:
    history = history_of(
        ("o0", "a0", "p0", -90, 1),
        ("o0", "a0", "p1", -90, 1),
        ("o1", "a1", "p0", -80, 1),
        ("o2", "a2", "p2", -70, 1),
        ("o3", "a1", "p1", -10, 1),  # the one novel purchase of the horizon before
        ("o4", "a2", "p0", 10, 1),
    )
    listed = np.array([0], dtype=np.int32), np.array([2], dtype=np.int32), np.array([0.3])
    pairs = cross_sell_pairs(history, CUTOFF, 30, *listed)
    # 3 accounts x 3 products: 9 - 4 owned = 5 pairs before, of which one came true; now 9 - 5 owned = 4 pairs
    assert pairs.n_unlisted == 3
    assert pairs.n_unlisted_positive == 1
    assert pairs.positive.tolist() == [False]
    assert pairs.tail_probability == pytest.approx((1 / 5 * 4 - 0.3) / 3)


def test_weights_say_how_many_accounts_a_sampled_one_stands_for() -> None:
    history = history_of(
        ("o0", "a0", "p0", -90, 1),
        ("o0", "a0", "p1", -90, 1),
        ("o1", "a1", "p0", -80, 1),
        ("o2", "a2", "p2", -70, 1),
        ("o3", "a1", "p1", -10, 1),  # the one novel purchase of the horizon before
        ("o4", "a2", "p0", 10, 1),
    )
    listed = np.array([0, 1], dtype=np.int32), np.array([2, 2], dtype=np.int32), np.array([0.3, 0.2])
    pairs = cross_sell_pairs(history, CUTOFF, 30, *listed, weight=np.array([1.0, 0.0, 2.0]))
    assert pairs.weight is not None
    assert pairs.account is not None
    assert (pairs.probability.tolist(), pairs.weight.tolist(), pairs.account.tolist()) == ([0.3], [1.0], [0])
    # a0 has one pair open, a2 has two and stands for two accounts: 5 pairs, one listed
    assert (pairs.n_unlisted, pairs.n_unlisted_positive) == (4, 2)
    assert pairs.tail_probability == pytest.approx((1 / 5 * 5 - 0.3) / 4)


def test_what_happens_after_the_cutoff_changes_no_tail_probability() -> None:
    before = SMALL.before(CUTOFF)
    listed = np.array([0], dtype=np.int32), np.array([1], dtype=np.int32), np.array([0.1])
    told = cross_sell_pairs(SMALL, CUTOFF, 30, *listed)
    blind = cross_sell_pairs(before, CUTOFF, 30, *listed)
    assert told.tail_probability == blind.tail_probability
    assert told.n_unlisted == blind.n_unlisted


def test_pairs_that_are_not_eligible_are_left_out() -> None:
    owned_and_unsold = np.array([0, 0], dtype=np.int32), np.array([0, 2], dtype=np.int32), np.array([0.9, 0.9])
    assert len(cross_sell_pairs(SMALL, CUTOFF, 30, *owned_and_unsold).probability) == 0


def test_coverage_is_a_share_of_the_active_catalogue() -> None:
    active = active_products(SMALL, CUTOFF, window_days=30)
    assert active.tolist() == [False, True, False]  # p0 was sold 40 days before
    assert coverage(np.array([[0, 1], [1, -1]], dtype=np.int32), active) == 1.0
    assert coverage(np.array([[0, -1]], dtype=np.int32), np.array([True, True, False, True])) == pytest.approx(1 / 3)
    assert np.isnan(coverage(np.array([[0]], dtype=np.int32), np.zeros(3, dtype=bool)))


def test_novelty_is_the_mean_self_information_in_bits() -> None:
    lists = np.array([[0, 1], [2, -1]], dtype=np.int32)
    # 7 accounts; buyers 7, 3, 0: -log2(8/8), -log2(4/8), -log2(1/8)
    assert novelty(lists, np.array([7, 3, 0]), 7) == pytest.approx((0 + 1 + 3) / 3)
    assert np.isnan(novelty(np.array([[-1]], dtype=np.int32), np.array([7, 3, 0]), 7))
