"""From the score of a cart to a probability: how often products with that score were in the rest of the order.

The weights of `recsys.models.cart` rank; their sum is no probability. The curve is read off orders that the weights
have not seen: each of the latest orders is cut into a cart and a rest, and every product is scored from the cart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from recsys.arrays import FloatArray
from recsys.models.cart import CartConfig, CartModel

HELD_OUT_SHARE = 0.1
"""Share of the orders, the latest, that the curve is read off."""
MOST_ORDERS = 1_000
"""Orders that are scored at most; with 20 lines each, ten thousand purchases make a steady curve."""
BLOCK_CELLS = 20_000_000
N_BINS = 2_000
LOWEST, HIGHEST = -0.1, 1.5
"""Scores beyond count as these; a score estimates a probability and seldom leaves [0, 1]."""


class Curve(NamedTuple):
    """Knots of a curve that never falls; straight lines between them, constant beyond.

    Attributes:
        score: increasing, `(n_knots,)`.
        probability: in [0, 1], `(n_knots,)`.
    """

    score: FloatArray
    probability: FloatArray


def fit_cart_curve(
    orders: sp.csr_array, age_days: FloatArray, config: CartConfig, rng: np.random.Generator
) -> Curve | None:
    """Return the probability that a product is in the rest of an order, by its score from the cart.

    Args:
        orders: 0/1, shape `(n_orders, n_products)`.
        age_days: days from each order to the end of the data, shape `(n_orders,)`.
        config: of the weights.
        rng: draws the orders and the cut.

    Returns:
        The curve, or None where too few orders hold two products to read one off.
    """
    held, earlier = _split(orders, age_days)
    if len(held) == 0 or orders[earlier].nnz == 0:
        return None
    held = np.sort(rng.permutation(held)[:MOST_ORDERS])
    model = CartModel(config).fit(orders[earlier], age_days[earlier])
    cart, rest = _cut(orders[held], rng)
    trials, hits = np.zeros(N_BINS), np.zeros(N_BINS)
    rows = max(BLOCK_CELLS // orders.shape[1], 1)
    for start in range(0, len(held), rows):
        block = slice(start, start + rows)
        bins = _bin_of(model.score(cart[block]))
        open_to = cart[block].toarray() == 0
        trials += np.bincount(bins[open_to], minlength=N_BINS)
        hits += np.bincount(bins[rest[block].toarray() > 0], minlength=N_BINS)
    return _steady(trials, hits)


def _split(orders: sp.csr_array, age_days: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the latest orders with two products or more, and all orders before them."""
    size = np.diff(orders.indptr)
    filled = np.flatnonzero(size > 0)
    by_age = filled[np.lexsort((filled, age_days[filled]))]
    n_held = int(len(by_age) * HELD_OUT_SHARE)
    held = by_age[:n_held]
    return held[size[held] >= 2], np.sort(by_age[n_held:])


def _cut(orders: sp.csr_array, rng: np.random.Generator) -> tuple[sp.csr_array, sp.csr_array]:
    """Cut each order at random into a cart of half its products, rounded down but one at the least, and the rest."""
    row = np.repeat(np.arange(orders.shape[0]), np.diff(orders.indptr))
    shuffled = np.lexsort((rng.random(len(row)), row))
    place = np.arange(len(row)) - orders.indptr[row]
    in_cart = place < np.maximum(np.diff(orders.indptr)[row] // 2, 1)
    column = orders.indices[shuffled]

    def part(keep: NDArray[np.bool_]) -> sp.csr_array:
        ones = np.ones(int(keep.sum()), dtype=np.float32)
        return sp.coo_array((ones, (row[keep], column[keep])), shape=orders.shape).tocsr()

    return part(in_cart), part(~in_cart)


def _bin_of(score: NDArray[np.float32]) -> NDArray[np.intp]:
    share = (np.clip(score, LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return np.minimum((share * N_BINS).astype(np.intp), N_BINS - 1)


def _steady(trials: FloatArray, hits: FloatArray) -> Curve:
    used = np.flatnonzero(trials)
    centre = LOWEST + (used + 0.5) * (HIGHEST - LOWEST) / N_BINS
    rate = IsotonicRegression().fit(centre, hits[used] / trials[used], sample_weight=trials[used]).predict(centre)
    steps = np.flatnonzero(np.diff(rate, prepend=-1.0, append=2.0)[:-1] > 0)
    ends = np.unique(np.concatenate([steps, np.maximum(steps - 1, 0), [len(rate) - 1]]))
    return Curve(score=centre[ends], probability=rate[ends])
