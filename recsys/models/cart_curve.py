"""From the score of a cart to a probability, by curves that are read off orders that the weights have not seen.

Each of the latest orders is cut into a cart and a rest: carts of one line, of a few and of half the order. What would
be offered is scored from the cart. Carts of each size have a curve of their own, because the same score means more
where less is known: what goes with one line may be any of the many that follow, what goes with half an order is one of
those that are left. What an account buys in its later orders counts up to the horizon, as in every probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from recsys.arrays import FloatArray
from recsys.models.cart import CartConfig, CartModel
from recsys.offer_model.tables import CartCurve

HELD_OUT_SHARE: Final = 0.1
"""Share of the orders, the latest, that the curves are read off."""
MOST_ORDERS: Final = 1_500
"""Orders that are scored at most; with 20 lines each, ten thousand purchases make a steady curve."""
SIZES: Final = (1, 2, 3, 5, 9, 17)
"""Lines of a cart from which on each curve holds."""
CUTS: Final = ((1, 2), (3, 4), (None, 4))
"""Lines of the carts that orders are cut into, None for half of them, and how many an order must have for it."""
OFFERED: Final = 50
"""Products of each cart that the curves are read off, the best by score: nobody sees those below."""
_N_BINS: Final = 2_000
_LOWEST, _HIGHEST = -0.1, 1.5
"""Scores beyond count as these; a score estimates a probability and seldom leaves [0, 1]."""
_LEAST_HITS: Final = 100
"""A size with fewer purchases in what would be offered shares the curve of the sizes before it."""
_BLOCK_CELLS: Final = 20_000_000


@dataclass(frozen=True)
class PlacedOrders:
    """Orders, and who placed them when.

    Attributes:
        products: 0/1, shape `(n_orders, n_products)`.
        age_days: days from each order to the end of the data, shape `(n_orders,)`.
        account: row of each order's account, -1 where it has none, shape `(n_orders,)`.
    """

    products: sp.csr_array
    age_days: FloatArray
    account: NDArray[np.integer]

    def bought_later(self, rows: NDArray[np.intp], horizon_days: float) -> sp.csr_array:
        """Return what the accounts of some orders bought in other orders, up to a horizon after each; not 0/1."""
        by_account = np.lexsort((-self.age_days, self.account))
        first = np.searchsorted(self.account[by_account], self.account[rows])
        last = np.searchsorted(self.account[by_account], self.account[rows], side="right")
        pairs = [
            (position, other)
            for position, (row, begin, end) in enumerate(zip(rows, first, last, strict=True))
            if self.account[row] >= 0
            for other in by_account[begin:end].tolist()
            if other != row and 0 <= self.age_days[row] - self.age_days[other] <= horizon_days
        ]
        position, other = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        links = sp.csr_array(
            (np.ones(len(other), dtype=np.float32), (position, other)), shape=(len(rows), len(self.age_days))
        )
        return sp.csr_array(links @ self.products)


def fit_cart_curve(
    orders: PlacedOrders, horizon_days: float, config: CartConfig, rng: np.random.Generator
) -> CartCurve | None:
    """Return the probability that a product is bought with a cart, by its score from the cart and the cart's size.

    Bought is what is in the rest of the order, or in another of the account's orders up to a horizon later.

    Args:
        orders: of the history; where any has an account, the curves are read off those that have one.
        horizon_days: the window of every probability, days.
        config: of the weights.
        rng: draws the orders and the cuts.

    Returns:
        The curves, or None where too few orders hold two products to read one off.
    """
    held, earlier = _split(orders, horizon_days)
    if len(held) == 0 or orders.products[earlier].nnz == 0:
        return None
    chosen = np.sort(rng.permutation(held)[:MOST_ORDERS])
    model = CartModel(config).fit(orders.products[earlier], orders.age_days[earlier])
    baskets, later = orders.products[chosen], orders.bought_later(chosen, horizon_days)
    trials, hits = np.zeros((len(SIZES), _N_BINS)), np.zeros((len(SIZES), _N_BINS))
    for n_lines, least in CUTS:
        enough = np.diff(baskets.indptr) >= least
        cart, rest = cut(baskets[enough], n_lines, rng)
        bought = sp.csr_array(rest + later[enough])
        size = np.searchsorted(SIZES, np.diff(cart.indptr), side="right") - 1
        rows = max(_BLOCK_CELLS // cart.shape[1], 1)
        for start in range(0, cart.shape[0], rows):
            block = slice(start, start + rows)
            _count(model, cart[block], bought[block], size[block], trials, hits)
    return _curves(trials, hits)


def cut(orders: sp.csr_array, n_lines: int | None, rng: np.random.Generator) -> tuple[sp.csr_array, sp.csr_array]:
    """Cut each order at random into a cart of `n_lines` products, or half of them, and the rest.

    The cart of half an order is rounded down, but is one at the least; one of several leaves one at the least.
    """
    size = np.diff(orders.indptr)
    taken = np.maximum(size // 2 if n_lines is None else np.minimum(n_lines, size - 1), 1)
    row = np.repeat(np.arange(orders.shape[0]), size)
    shuffled = np.lexsort((rng.random(len(row)), row))
    in_cart = np.arange(len(row)) - orders.indptr[row] < taken[row]
    column = orders.indices[shuffled]

    def part(keep: NDArray[np.bool_]) -> sp.csr_array:
        ones = np.ones(int(keep.sum()), dtype=np.float32)
        return sp.coo_array((ones, (row[keep], column[keep])), shape=orders.shape).tocsr()

    return part(in_cart), part(~in_cart)


def _split(orders: PlacedOrders, horizon_days: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the latest orders with two products or more of which it is known what came after, and all before them."""
    size = np.diff(orders.products.indptr)
    is_known = orders.account >= 0
    least_age = horizon_days if is_known.any() and orders.age_days.max() > horizon_days else 0.0
    filled = np.flatnonzero((size > 0) & (orders.age_days >= least_age))
    by_age = filled[np.lexsort((filled, orders.age_days[filled]))]
    n_held = int(len(by_age) * HELD_OUT_SHARE)
    held = by_age[:n_held]
    wanted = (size[held] >= 2) & (is_known[held] | ~is_known.any())
    return held[wanted], np.sort(by_age[n_held:])


def _count(
    model: CartModel,
    cart: sp.csr_array,
    bought: sp.csr_array,
    size: NDArray[np.intp],
    trials: FloatArray,
    hits: FloatArray,
) -> None:
    """Add what would be offered beside some carts, and what of it was bought, to the bins of their sizes."""
    score = np.where(cart.toarray() == 0, model.score(cart), -np.inf)
    place = max(score.shape[1] - OFFERED, 0)
    offered = (score >= np.partition(score, place, axis=1)[:, place][:, None]) & np.isfinite(score)
    row, column = np.nonzero(offered)
    bins = size[row] * _N_BINS + _bin_of(score[row, column])
    is_bought = bought.toarray()[row, column] > 0
    trials += np.bincount(bins, minlength=trials.size).reshape(trials.shape)
    hits += np.bincount(bins[is_bought], minlength=hits.size).reshape(hits.shape)


def _bin_of(score: NDArray[np.float32]) -> NDArray[np.intp]:
    share = (np.clip(score, _LOWEST, _HIGHEST) - _LOWEST) / (_HIGHEST - _LOWEST)
    return np.minimum((share * _N_BINS).astype(np.intp), _N_BINS - 1)


def _curves(trials: FloatArray, hits: FloatArray) -> CartCurve | None:
    """Return one curve after the other; sizes with few purchases are joined to the size before them."""
    first = [0]
    for size in range(1, len(SIZES)):
        if hits[size:].sum() >= _LEAST_HITS and hits[first[-1] : size].sum() >= _LEAST_HITS:
            first.append(size)
    curves = [
        _steady(SIZES[begin], trials[begin:end].sum(axis=0), hits[begin:end].sum(axis=0))
        for begin, end in zip(first, [*first[1:], len(SIZES)], strict=True)
    ]
    names = ("score", "probability", "lines")
    return CartCurve(**{name: np.concatenate([getattr(curve, name) for curve in curves]) for name in names})


def _steady(lines: int, trials: FloatArray, hits: FloatArray) -> CartCurve:
    used = np.flatnonzero(trials)
    centre = _LOWEST + (used + 0.5) * (_HIGHEST - _LOWEST) / _N_BINS
    rate = IsotonicRegression().fit(centre, hits[used] / trials[used], sample_weight=trials[used]).predict(centre)
    steps = np.flatnonzero(np.diff(rate, prepend=-1.0, append=2.0)[:-1] > 0)
    ends = np.unique(np.concatenate([steps, np.maximum(steps - 1, 0), [len(rate) - 1]]))
    return CartCurve(centre[ends], rate[ends], np.full(len(ends), lines, dtype=np.int32))
