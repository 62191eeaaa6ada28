"""Cart completion: the task, the pair baselines by hand, and the scoring."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from recsys.arrays import RowArray
from recsys.backtesting.cart_completion import complete_carts
from recsys.backtesting.cart_task import (
    CartTask,
    PairCart,
    PopularCart,
    cart_lineup,
    hide_one_line,
    split_carts,
)
from recsys.data.history import History
from recsys.errors import EmptyDataError
from recsys.models.cart import CartConfig, CartModel
from tests.backtesting.cart_comparison import CartWeightsMethod, best_of, hit_rate_gain

CUTOFF = datetime(2024, 6, 1, tzinfo=UTC)

# orders: {p0 p1} {p0 p1 p2} {p0} {p2 p3}
ORDERS = sp.csr_array(np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 1]]))


def task_of(carts: list[list[int]], hidden: list[int], kind: list[str] | None = None) -> CartTask:
    return CartTask(
        carts=sp.csr_array(np.array(carts, dtype=np.float32)),
        hidden=np.array(hidden, dtype=np.int32),
        account=np.full(len(hidden), -1, dtype=np.int32),
        kind=np.array(kind if kind is not None else ["unknown"] * len(hidden)),
    )


def test_confidence_cosine_and_lift_by_hand() -> None:
    # n = 3, 2, 2, 1; n_01 = 2, n_02 = 1, n_12 = 1, n_23 = 1
    confidence = PairCart(ORDERS, "confidence", "sum").weights_.toarray()
    assert confidence[0] == pytest.approx([0, 2 / 3, 1 / 3, 0])
    assert confidence[3] == pytest.approx([0, 0, 1, 0])
    cosine = PairCart(ORDERS, "cosine", "sum").weights_.toarray()
    assert cosine[0] == pytest.approx([0, 2 / np.sqrt(3 * 2), 1 / np.sqrt(3 * 2), 0])
    assert cosine == pytest.approx(cosine.T)
    lift = PairCart(ORDERS, "lift", "sum", min_orders=1).weights_.toarray()
    assert lift[2] == pytest.approx([4 * 1 / (2 * 3), 4 * 1 / (2 * 2), 0, 4 * 1 / (2 * 1)])
    assert PairCart(ORDERS, "lift", "sum", min_orders=2).weights_.toarray()[2] == pytest.approx([0, 0, 0, 0])


def test_a_cart_of_two_takes_the_best_pair_or_the_sum() -> None:
    task = task_of([[1, 0, 0, 1], [0, 0, 0, 1]], [1, 2])
    # from p0: p1 2/3, p2 1/3; from p3: p2 1. Sum p2 4/3, p1 2/3; best p2 1, p1 2/3
    assert PairCart(ORDERS, "confidence", "sum").recommend(task, 3).tolist() == [[2, 1, -1], [2, -1, -1]]
    assert PairCart(ORDERS, "confidence", "best").recommend(task, 3).tolist() == [[2, 1, -1], [2, -1, -1]]
    three = sp.csr_array(np.array([[1, 0, 1, 1]] * 2 + [[0, 1, 1, 0]] * 2 + [[1, 1, 0, 0]] * 3))
    both = task_of([[1, 1, 0, 0]], [2])
    # n_0 = 5, n_1 = 5: p2 2/5 from each, p3 2/5 from p0 alone: the sum parts what the best pair leaves equal
    assert PairCart(three, "confidence", "sum").recommend(both, 2).tolist() == [[2, 3]]
    summed = PairCart(three, "confidence", "sum")._sums(both.carts)[0]
    best = PairCart(three, "confidence", "best")._bests(both.carts)[0]
    assert summed[2:] == pytest.approx([4 / 5, 2 / 5])
    assert best[2:] == pytest.approx([2 / 5, 2 / 5])


def test_popular_leaves_out_the_cart() -> None:
    assert PopularCart(ORDERS).recommend(task_of([[1, 0, 0, 0]], [1]), 3).tolist() == [[1, 2, 3]]


def test_the_hidden_line_is_out_of_the_cart_and_its_kind_is_told() -> None:
    baskets = sp.csr_array(np.array([[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 0, 1]]))
    owned = sp.csr_array(np.array([[1, 1, 0, 0], [0, 0, 0, 0]]))
    task = hide_one_line(baskets, np.array([0, 1, -1], dtype=np.int32), owned, np.random.default_rng(0))
    carts = task.carts.toarray()
    for row, hidden in enumerate(task.hidden):
        assert carts[row, hidden] == 0
        carts[row, hidden] = 1
    assert (carts == baskets.toarray()).all()
    assert task.kind.tolist() == ["repeat", "new", "unknown"]


def test_lines_are_hidden_evenly() -> None:
    baskets = sp.csr_array(np.ones((3_000, 3)))
    nobody = np.full(3_000, -1, dtype=np.int32)
    task = hide_one_line(baskets, nobody, sp.csr_array((1, 3)), np.random.default_rng(1))
    # Exact binomial band (99.9 %) of 3,000 draws at one third: 915 to 1,086.
    assert all(915 <= count <= 1_086 for count in np.bincount(task.hidden, minlength=3))


def history_of(*lines: tuple[str, str | None, str, float]) -> History:
    frame = pd.DataFrame(lines, columns=["order_id", "account_id", "product_id", "day"])
    frame["ordered_at"] = [CUTOFF + timedelta(days=day) for day in frame.pop("day")]
    return History.from_frame(frame.assign(quantity=1.0, unit_price=1.0))


def test_a_split_learns_before_the_cutoff_and_asks_after_it() -> None:
    history = history_of(
        ("o0", "a0", "p0", -20),
        ("o0", "a0", "p1", -20),
        ("o1", "a0", "p0", -0.01),
        ("o1", "a0", "p2", 0.01),  # straddles the cutoff: no later order
        ("o2", "a0", "p0", 3),
        ("o2", "a0", "p2", 3),
        ("o3", "a1", "p2", 4),  # one product: nothing to hide
        ("o4", None, "p1", 40),  # after the horizon
        ("o4", None, "p2", 40),
    )
    split = split_carts(history, CUTOFF, 30, 100, np.random.default_rng(0))
    assert split.orders.toarray().tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert split.age_days[:2] == pytest.approx([20, 0.01], abs=1e-3)
    assert len(split.task) == 1
    assert split.task.account.tolist() == [0]
    with pytest.raises(EmptyDataError, match="0 later orders with two products"):
        split_carts(history, CUTOFF + timedelta(days=60), 30, 100, np.random.default_rng(0))


class Says:
    """Answers the same products for every cart."""

    def __init__(self, name: str, products: list[int]) -> None:
        self.name = name
        self.products = products

    def recommend(self, task: CartTask, k: int) -> RowArray:
        return np.tile(np.array(self.products[:k], dtype=np.int32), (len(task), 1))


def test_hit_rates_are_told_by_kind_of_line() -> None:
    task = task_of([[1, 0, 0, 0]] * 4, [1, 2, 2, 3], ["new", "new", "repeat", "repeat"])
    found = complete_carts(task, [Says("one", [2, -1]), Says("two", [2, 3])], 2, np.random.default_rng(0))
    assert found.n_by_kind == {"new": 2, "repeat": 2}
    assert found.method("one").by_kind == {"new": 1 / 2, "repeat": 1 / 2}
    assert found.method("two").hit_rate.estimate == pytest.approx(3 / 4)
    assert best_of(found, ["one", "two"]).name == "two"
    gain = hit_rate_gain(found, "two", "one", np.random.default_rng(0))
    assert gain.estimate == pytest.approx(1 / 4)
    assert found.to_dict()["methods"][1]["by_kind"] == {"new": 1 / 2, "repeat": 1.0}


def planted_orders(n: int, seed: int) -> sp.csr_array:
    """Bestsellers 0..4 in many orders; each pair (a, b) of rare products together calls for its own third one."""
    rng = np.random.default_rng(seed)
    orders = (rng.random((n, 35)) < np.r_[np.full(5, 0.5), np.full(30, 0.02)]).astype(np.float32)
    group = rng.integers(0, 10, n)
    for member in range(3):
        chosen = rng.random(n) < 0.8
        orders[np.flatnonzero(chosen), 5 + 3 * group[chosen] + member] = 1
    return sp.csr_array(orders)


def test_learned_weights_beat_every_pair_measure_where_bestsellers_drown_it() -> None:
    train, later = planted_orders(3_000, 1), planted_orders(3_000, 9)
    later = later[np.diff(later.indptr) >= 2]
    nobody = np.full(later.shape[0], -1, dtype=np.int32)
    task = hide_one_line(later, nobody, sp.csr_array((1, 35)), np.random.default_rng(3))
    model = CartModel(CartConfig(penalty=0.05, half_life_days=None)).fit(train)
    methods = [*cart_lineup(train), CartWeightsMethod(model)]
    found = complete_carts(task, methods, 3, np.random.default_rng(4))
    rivals = [method.name for method in methods[:-1]]
    best = best_of(found, rivals).name
    assert hit_rate_gain(found, "cart weights", best, np.random.default_rng(5)).low > 0
