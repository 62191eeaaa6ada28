"""The curve of the cart: read off unseen orders, never falling, and right on orders it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.models.cart import CartConfig, CartModel
from recsys.models.cart_curve import PlacedOrders, cut, fit_cart_curve
from recsys.offer_model.tables import CartCurve

CONFIG = CartConfig(half_life_days=None)


def _orders(n_orders: int, rng: np.random.Generator) -> sp.csr_array:
    """Twenty products in pairs: the second of a pair follows the first in 60 % of its orders."""
    first = rng.random((n_orders, 10)) < np.linspace(0.05, 0.4, 10)
    second = first & (rng.random((n_orders, 10)) < 0.6) | (rng.random((n_orders, 10)) < 0.02)
    return sp.csr_array(np.concatenate([first, second], axis=1).astype(np.float32))


def test_probabilities_hold_on_later_orders() -> None:
    rng = np.random.default_rng(1)
    orders = _orders(9_000, rng)
    curve = fit_cart_curve(_placed(orders), 30, CONFIG, rng)
    assert curve is not None
    assert [part.lines[0] for part in curve.of_sizes()] == [1, 2, 3]
    for part in curve.of_sizes():
        assert (np.diff(part.score) > 0).all()
        inside = (part.probability > part.probability[0]) & (part.probability < part.probability[-1])
        assert (np.diff(part.probability[inside]) > 0).all()  # no two scores have one probability
    later = _orders(4_000, rng)
    model = CartModel(CONFIG).fit(orders)
    for n_lines, least in ((1, 2), (None, 4)):
        cart, rest = cut(later[np.diff(later.indptr) >= least], n_lines, rng)
        probability = _probability(curve, model.score(cart), np.diff(cart.indptr))
        open_to, bought = cart.toarray() == 0, rest.toarray() > 0
        for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 1.0)):
            here = open_to & (probability >= low) & (probability < high)
            assert bought[here].sum() / probability[here].sum() == pytest.approx(1.0, abs=0.3)


def _probability(curve: CartCurve, score: NDArray[np.float32], size: NDArray[np.integer]) -> NDArray[np.float64]:
    rows = []
    for values, n_lines in zip(score, size, strict=True):
        part = [part for part in curve.of_sizes() if part.lines[0] <= n_lines][-1]
        rows.append(np.interp(values, part.score, part.probability))
    return np.array(rows)


def test_the_cut_loses_and_doubles_nothing() -> None:
    orders = _orders(200, np.random.default_rng(2))
    cart, rest = cut(orders, None, np.random.default_rng(3))
    assert ((cart + rest).toarray() == orders.toarray()).all()
    size = np.diff(orders.indptr)
    assert (cart.sum(axis=1)[size > 0] == np.maximum(size[size > 0] // 2, 1)).all()


def _placed(orders: sp.csr_array) -> PlacedOrders:
    """One order a day, of nobody known."""
    n_orders = orders.shape[0]
    return PlacedOrders(orders, np.arange(float(n_orders))[::-1], np.full(n_orders, -1))


def test_what_an_account_buys_in_the_horizon_counts_too() -> None:
    orders = sp.csr_array(np.eye(5, dtype=np.float32))
    placed = PlacedOrders(orders, np.array([50.0, 40.0, 10.0, 30.0, 20.0]), np.array([0, 0, 0, 1, -1]))
    later = placed.bought_later(np.array([0, 1, 3, 4]), 30.0)
    assert later.toarray().tolist() == [
        [0, 1, 0, 0, 0],  # after ten days; the order after forty is too late
        [0, 0, 1, 0, 0],  # after thirty days; the one before does not count
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_one_line_of_a_large_order_says_more_than_half_of_a_small_one() -> None:
    """The same products, bought in large orders: the chance beside one line is higher, as more is still to come."""
    rng = np.random.default_rng(4)
    large, later = (sp.csr_array((rng.random((n, 30)) < 0.4).astype(np.float32)) for n in (4_000, 500))
    curve = fit_cart_curve(_placed(large), 30, CONFIG, rng)
    assert curve is not None
    model = CartModel(CONFIG).fit(large)
    for n_lines, expected in ((1, 0.4), (None, 0.4 * 0.5 / (1 - 0.4 * 0.5))):
        cart, _ = cut(later, n_lines, rng)
        probability = _probability(curve, model.score(cart), np.diff(cart.indptr))
        assert probability[cart.toarray() == 0].mean() == pytest.approx(expected, rel=0.2)


def test_too_few_orders_give_no_curve() -> None:
    single = sp.csr_array(np.eye(30, dtype=np.float32))
    assert fit_cart_curve(_placed(single), 30, CONFIG, np.random.default_rng(0)) is None
    few = sp.csr_array(np.ones((5, 3), dtype=np.float32))
    assert fit_cart_curve(_placed(few), 30, CONFIG, np.random.default_rng(0)) is None


def test_what_an_account_bought_before_is_told_apart() -> None:
    """Each account buys the same five of thirty products again and again, whatever they go with."""
    rng = np.random.default_rng(6)
    n_orders, n_accounts = 6_000, 300
    habits = np.array([rng.permutation(30)[:5] for _ in range(n_accounts)])
    account = np.arange(n_orders) % n_accounts
    orders = rng.random((n_orders, 30)) < 0.02
    orders[np.arange(n_orders)[:, None], habits[account]] |= rng.random((n_orders, 5)) < 0.5
    placed = PlacedOrders(sp.csr_array(orders.astype(np.float32)), np.arange(float(n_orders))[::-1] / 20, account)
    curve = fit_cart_curve(placed, 0.5, CONFIG, rng)
    assert curve is not None
    one = curve.of_sizes()[0]
    at = np.searchsorted(one.score, 0.2)
    assert one.of_bought[at] > 1.3 * one.probability[at] > 2 * one.of_new[at]


def test_earlier_orders_of_the_account_count_and_no_others() -> None:
    orders = sp.csr_array(np.array([[1, 0], [1, 1], [0, 1], [1, 1]], dtype=np.float32))
    placed = PlacedOrders(orders, np.array([40.0, 30.0, 20.0, 10.0]), np.array([0, 0, 0, 1]))
    before, n_orders = placed.bought_before(np.array([0, 2, 3]))
    assert before.toarray().tolist() == [[0, 0], [2, 1], [0, 0]]
    assert n_orders.tolist() == [0, 2, 0]


def test_popularity_is_the_share_of_all_accounts_so_far_that_bought_lately() -> None:
    orders = sp.csr_array(np.array([[1, 0], [1, 1], [0, 1], [0, 1], [1, 1]], dtype=np.float32))
    age = np.array([90.0, 40.0, 35.0, 20.0, 5.0])
    placed = PlacedOrders(orders, age, np.array([3, 0, 0, 1, 2]))
    assert placed.popularity(10.0, 30.0) == pytest.approx([1 / 3, 2 / 3])  # accounts 0, 1 and 3 have ordered by then
    nobody = PlacedOrders(orders, age, np.full(5, -1))
    assert nobody.popularity(10.0, 30.0) == pytest.approx([1 / 3, 3 / 3])  # of orders


def test_what_fills_an_answer_has_the_chance_that_carts_had_it() -> None:
    """One account in ten orders in a horizon: what three in a hundred bought is in three of ten orders."""
    rng = np.random.default_rng(8)
    n_orders = 6_000
    orders = rng.random((n_orders, 40)) < 0.3
    placed = PlacedOrders(
        sp.csr_array(orders.astype(np.float32)),
        np.arange(float(n_orders))[::-1] / 100,
        rng.integers(0, 1_000, n_orders),
    )
    curve = fit_cart_curve(placed, 1.0, CartConfig(half_life_days=None, weights_per_product=2), rng)
    assert curve is not None
    one = curve.of_sizes()[0]
    assert np.interp(0.03, one.score, one.of_unlinked) == pytest.approx(0.3, rel=0.2)
