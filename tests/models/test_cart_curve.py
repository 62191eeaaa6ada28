"""The curve of the cart: read off unseen orders, never falling, and right on orders it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.models.cart import CartConfig, CartModel, _cut, fit_cart_curve

CONFIG = CartConfig(half_life_days=None)


def _orders(n_orders: int, rng: np.random.Generator) -> sp.csr_array:
    """Twenty products in pairs: the second of a pair follows the first in 60 % of its orders."""
    first = rng.random((n_orders, 10)) < np.linspace(0.05, 0.4, 10)
    second = first & (rng.random((n_orders, 10)) < 0.6) | (rng.random((n_orders, 10)) < 0.02)
    return sp.csr_array(np.concatenate([first, second], axis=1).astype(np.float32))


def test_probabilities_hold_on_later_orders() -> None:
    rng = np.random.default_rng(1)
    orders = _orders(9_000, rng)
    curve = fit_cart_curve(orders, np.arange(9_000.0)[::-1], CONFIG, rng)
    assert curve is not None
    assert (np.diff(curve.score) > 0).all()
    assert (np.diff(curve.probability) >= 0).all()
    later = _orders(4_000, rng)
    cart, rest = _cut(later[np.diff(later.indptr) >= 2], rng)
    score = CartModel(CONFIG).fit(orders).score(cart)
    probability = np.interp(score, curve.score, curve.probability)
    open_to = cart.toarray() == 0
    bought = rest.toarray() > 0
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 1.0)):
        here = open_to & (probability >= low) & (probability < high)
        assert bought[here].sum() / probability[here].sum() == pytest.approx(1.0, abs=0.15)


def test_the_cut_loses_and_doubles_nothing() -> None:
    orders = _orders(200, np.random.default_rng(2))
    cart, rest = _cut(orders, np.random.default_rng(3))
    assert ((cart + rest).toarray() == orders.toarray()).all()
    size = np.diff(orders.indptr)
    assert (cart.sum(axis=1)[size > 0] == np.maximum(size[size > 0] // 2, 1)).all()


def test_too_few_orders_give_no_curve() -> None:
    single = sp.csr_array(np.eye(30, dtype=np.float32))
    assert fit_cart_curve(single, np.zeros(30), CONFIG, np.random.default_rng(0)) is None
    few = sp.csr_array(np.ones((5, 3), dtype=np.float32))
    assert fit_cart_curve(few, np.zeros(5), CONFIG, np.random.default_rng(0)) is None
