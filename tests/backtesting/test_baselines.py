"""Every baseline against arithmetic written out by hand, and the law that all of them keep."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from recsys.backtesting.baselines import (
    AccountCosineBaseline,
    EaseBaseline,
    PopularBaseline,
    RecentlyPopularBaseline,
    RuleConfidenceBaseline,
    UserKnnBaseline,
    default_baselines,
    ease_weights,
    order_confidence,
    purchase_weights,
    top_k_mask,
)
from recsys.data.history import History

CUTOFF = datetime(2024, 6, 1, tzinfo=UTC)


def history_of(*lines: tuple[str, str | None, str, float]) -> History:
    """Lines of (order, account, product, days before the cutoff); negative days lie after it."""
    frame = pd.DataFrame(lines, columns=["order_id", "account_id", "product_id", "age"])
    frame["ordered_at"] = [CUTOFF - timedelta(days=age) for age in frame.pop("age")]
    return History.from_frame(frame.assign(quantity=1.0, unit_price=1.0))


# Four accounts, four products p0..p3; the last line lies after the cutoff.
SMALL = history_of(
    ("o1", "a0", "p0", 180),
    ("o1", "a0", "p1", 180),
    ("o2", "a1", "p0", 90),
    ("o2", "a1", "p1", 90),
    ("o2", "a1", "p2", 90),
    ("o3", "a2", "p1", 10),
    ("o3", "a2", "p3", 10),
    ("o4", "a3", "p0", 5),
    ("o5", None, "p0", 5),
    ("o5", None, "p3", 5),
    ("o6", "a3", "p2", -1),
)
EVERYBODY = np.arange(4, dtype=np.int32)


def test_top_k_breaks_ties_by_the_lower_product_and_leaves_out_what_has_no_score() -> None:
    scores = np.array([[1, 3, 3, 0, 2], [0, 0, 0, -1, 0], [1, 1, 1, 1, 1]], dtype=np.float32)
    assert top_k_mask(scores, 3).tolist() == [[1, 2, 4], [-1, -1, -1], [0, 1, 2]]
    assert top_k_mask(scores, 7)[0].tolist() == [1, 2, 4, 0, -1, -1, -1]


def test_a_half_life_halves_the_weight_of_each_purchase_or_of_the_latest_alone() -> None:
    twice = history_of(("o1", "a0", "p0", 180), ("o2", "a0", "p0", 90), ("o2", "a0", "p1", 90), ("o3", "a1", "p1", 0.5))
    every = purchase_weights(twice, CUTOFF, 90).toarray()
    assert every == pytest.approx(np.array([[0.25 + 0.5, 0.5], [0.0, 0.5 ** (0.5 / 90)]]))
    latest = purchase_weights(twice, CUTOFF, 90, "latest").toarray()
    assert latest == pytest.approx(np.array([[0.5, 0.5], [0.0, 0.5 ** (0.5 / 90)]]))
    assert purchase_weights(twice, CUTOFF, None).toarray().tolist() == [[1, 1], [0, 1]]


def test_the_lineup_holds_both_readings_of_a_half_life() -> None:
    names = [baseline.name for baseline in default_baselines()]
    assert len(names) == len(set(names)) == 17
    assert {"user kNN 100", "user kNN 100, decay 90 d", "user kNN 100, latest 90 d"} < set(names)


def test_popular_counts_accounts_and_not_orders() -> None:
    # buyers: p0 {a0, a1, a3}, p1 {a0, a1, a2}, p2 {a1}, p3 {a2}; the order without account is nobody's
    lists = PopularBaseline().fit(SMALL, CUTOFF).recommend(EVERYBODY, 3)
    assert lists.tolist() == [[2, 3, -1], [3, -1, -1], [0, 2, -1], [1, 2, 3]]


def test_recently_popular_counts_first_purchases_of_the_window() -> None:
    # within 30 days: p1 by a2, p3 by a2, p0 by a3
    lists = RecentlyPopularBaseline(window_days=30).fit(SMALL, CUTOFF).recommend(EVERYBODY, 3)
    assert lists.tolist() == [[3, -1, -1], [3, -1, -1], [0, -1, -1], [1, 3, -1]]
    again = history_of(("o1", "a0", "p0", 40), ("o2", "a0", "p0", 3), ("o3", "a1", "p1", 3))
    assert RecentlyPopularBaseline(30).fit(again, CUTOFF).counts_.tolist() == [0, 1]  # a0 knew p0 already


def test_rule_confidence_is_over_orders_with_anonymous_ones() -> None:
    # orders: {p0 p1} {p0 p1 p2} {p1 p3} {p0} {p0 p3}
    rules = RuleConfidenceBaseline(min_orders=1).fit(SMALL, CUTOFF).rules_.toarray()
    assert rules[0] == pytest.approx([0, 2 / 4, 1 / 4, 1 / 4])
    assert rules[1] == pytest.approx([2 / 3, 0, 1 / 3, 1 / 3])
    assert rules[3] == pytest.approx([1 / 2, 1 / 2, 0, 0])
    lists = RuleConfidenceBaseline(min_orders=1).fit(SMALL, CUTOFF).recommend(EVERYBODY, 2)
    # a0 owns p0, p1: p2 max(1/4, 1/3), p3 max(1/4, 1/3), tie to p2; a2 owns p1, p3: p0 2/3, p2 1/3; a3 owns p0
    assert lists.tolist() == [[2, 3], [3, -1], [0, 2], [1, 2]]


def test_rules_of_too_few_orders_are_left_out() -> None:
    rules = RuleConfidenceBaseline(min_orders=2).fit(SMALL, CUTOFF).rules_.toarray()
    expected = np.zeros((4, 4))
    expected[0, 1], expected[1, 0] = 2 / 4, 2 / 3
    assert rules == pytest.approx(expected)
    assert order_confidence(SMALL.before(CUTOFF).owned(), 1).toarray()[3] == pytest.approx([0, 1, 0, 0])


@pytest.mark.parametrize("alpha", [0.5, 0.7])
def test_account_cosine_is_asymmetric_in_alpha(alpha: float) -> None:
    # accounts x products: a0 110 0, a1 111 0, a2 010 1, a3 100 0; n = 3, 3, 1, 1; n_02 = 1, n_12 = 1, n_13 = 1
    model = AccountCosineBaseline(alpha).fit(SMALL, CUTOFF)
    likeness = model.likeness_.toarray()
    assert likeness[0, 2] == pytest.approx(1 / (3**alpha * 1 ** (1 - alpha)))
    assert likeness[2, 0] == pytest.approx(1 / (1**alpha * 3 ** (1 - alpha)))
    assert likeness[0, 1] == pytest.approx(2 / 3)
    # a0: p2 = n_02 + n_12 = 2 / 3**alpha, p3 = 1 / 3**alpha
    assert model.recommend(EVERYBODY[:1], 2).tolist() == [[2, 3]]


def test_account_cosine_with_a_half_life_weighs_both_sides() -> None:
    history = history_of(("o1", "a0", "p0", 90), ("o2", "a1", "p0", 90), ("o2", "a1", "p1", 90))
    model = AccountCosineBaseline(0.5, half_life_days=90).fit(history, CUTOFF)
    # column p0 = (.5, .5), p1 = (0, .5): cosine = .25 / (sqrt(.5) * .5)
    assert model.likeness_.toarray()[0, 1] == pytest.approx(0.25 / (np.sqrt(0.5) * 0.5))


def test_user_knn_sums_the_likeness_of_the_nearest() -> None:
    # cos(a0, a1) = 2 / (sqrt 2 sqrt 3), cos(a0, a2) = 1 / 2, cos(a0, a3) = 1 / sqrt 2
    model = UserKnnBaseline(n_neighbours=3).fit(SMALL, CUTOFF)
    scores = model._scores(EVERYBODY[:1])[0]
    a1, a2, a3 = 2 / np.sqrt(6), 1 / 2, 1 / np.sqrt(2)
    assert scores == pytest.approx([a1 + a3, a1 + a2, a1, a2])
    assert model.recommend(EVERYBODY[:1], 2).tolist() == [[2, 3]]
    nearest = UserKnnBaseline(n_neighbours=2).fit(SMALL, CUTOFF)
    assert nearest.recommend(EVERYBODY[:1], 2).tolist() == [[2, -1]]  # a2 is third


def test_user_knn_with_a_half_life_prefers_what_neighbours_bought_lately() -> None:
    history = history_of(
        ("o1", "a0", "p0", 5),
        ("o2", "a1", "p0", 5),
        ("o2", "a1", "p2", 5),
        ("o3", "a2", "p0", 5),
        ("o4", "a2", "p1", 360),
    )
    plain = UserKnnBaseline(10).fit(history, CUTOFF).recommend(EVERYBODY[:1], 2)
    decayed = UserKnnBaseline(10, half_life_days=90).fit(history, CUTOFF).recommend(EVERYBODY[:1], 2)
    assert plain.tolist() == [[1, 2]]  # a tie, to the lower row
    assert decayed.tolist() == [[2, 1]]


def test_ease_of_two_products_is_ridge_regression_by_hand() -> None:
    # columns p0, p1 of three accounts: (1, 1), (1, 1), (1, 0); gram [[3, 2], [2, 2]]
    # leaving itself out, p1 on p0 alone: weight = <p0, p1> / (<p0, p0> + penalty) = 2 / (3 + 1)
    history = history_of(
        ("o1", "a0", "p0", 9),
        ("o1", "a0", "p1", 9),
        ("o2", "a1", "p0", 9),
        ("o2", "a1", "p1", 9),
        ("o3", "a2", "p0", 9),
    )
    weights = ease_weights(history.owned(), penalty=1.0)
    assert weights == pytest.approx(np.array([[0, 2 / 4], [2 / 3, 0]]))
    model = EaseBaseline(penalty=1.0).fit(history, CUTOFF)
    assert model._scores(EVERYBODY[2:3])[0] == pytest.approx([0, 0.5])
    assert model.recommend(np.array([2], dtype=np.int32), 2).tolist() == [[1, -1]]


def test_ease_solves_the_ridge_regression_of_each_product_on_the_others() -> None:
    rng = np.random.default_rng(3)
    purchases = (rng.random((40, 6)) < 0.4).astype(np.float32)
    weights = ease_weights(sp.csr_array(purchases), penalty=2.0)
    for target in range(6):
        others = [product for product in range(6) if product != target]
        x, y = purchases[:, others].astype(float), purchases[:, target].astype(float)
        ridge = np.linalg.solve(x.T @ x + 2.0 * np.eye(5), x.T @ y)
        assert weights[others, target] == pytest.approx(ridge, abs=1e-6)


def test_ease_ranks_the_head_of_the_catalogue_only() -> None:
    lists = EaseBaseline(penalty=1.0, head_size=2).fit(SMALL, CUTOFF).recommend(EVERYBODY, 4)
    assert set(lists[lists >= 0].tolist()) <= {0, 1}


def test_nobody_asked_gets_an_empty_answer() -> None:
    assert PopularBaseline().fit(SMALL, CUTOFF).recommend(EVERYBODY[:0], 3).shape == (0, 3)
