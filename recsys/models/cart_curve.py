"""From the score of a cart to a probability, by curves that are read off orders that the weights have not seen.

Each of the latest orders is cut into a cart and a rest: carts of one line, of a few and of half the order. What would
be offered is scored from the cart. Carts of each size have a curve of their own, because the same score means more
where less is known: what goes with one line may be any of the many that follow, what goes with half an order is one of
those that are left. What an account buys in its later orders counts up to the horizon, as in every probability.

Three more curves are read off the same carts: what an account buys that never bought it before, what it bought before,
and what the cart's weights do not speak for, by how many bought it lately. Half of what accounts buy with a cart they
bought before; of what they never bought, a product that goes with the cart is bought half as often as the curve of all
carts says.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from recsys.arrays import AnyFloatArray, BoolArray, FloatArray, unique_sorted
from recsys.models.cart import CartConfig, CartModel
from recsys.offer_model.tables import REPEAT_PRIOR_ORDERS, REPEAT_SCORE, STRONGEST_CONFIDENCE, CartCurve

HELD_OUT_SHARE: Final = 0.1
"""Share of the orders, the latest, that the curves are read off."""
MOST_ORDERS: Final = 1_500
"""Orders that are scored at most; with 20 lines each, ten thousand purchases make a steady curve."""
SIZES: Final = (1, 2, 3, 5, 9, 17)
"""Lines of a cart from which on each curve holds."""
CUTS: Final = ((1, 2), (3, 4), (None, 4))
"""Lines of the carts that orders are cut into, None for half of them, and how many an order must have for it."""
POPULAR: Final = 20
"""Products of each cart that no weight speaks for, those that most bought lately: what fills an answer."""
OFFERED: Final = 50
"""Products of each cart that the curves are read off, the best by score: nobody sees those below."""
_N_BINS: Final = 2_000
_LOWEST, _HIGHEST = -0.1, 1.5
"""Scores beyond count as these; a score estimates a probability and seldom leaves [0, 1]."""
_LEAST_HITS: Final = 100
"""A size with fewer purchases in what would be offered shares the curve of the sizes before it."""
_BLOCK_CELLS: Final = 20_000_000
_ALL, _NEW, _BOUGHT, _UNLINKED = range(4)


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
        return self._products_of(pairs, len(rows))

    def bought_before(self, rows: NDArray[np.intp]) -> tuple[sp.csr_array, FloatArray]:
        """Return in how many earlier orders of their accounts some orders' products were, and how many those are."""
        by_account = np.lexsort((-self.age_days, self.account))
        first = np.searchsorted(self.account[by_account], self.account[rows])
        last = np.searchsorted(self.account[by_account], self.account[rows], side="right")
        is_filled = np.diff(self.products.indptr) > 0
        pairs = [
            (position, other)
            for position, (row, begin, end) in enumerate(zip(rows, first, last, strict=True))
            if self.account[row] >= 0
            for other in by_account[begin:end].tolist()
            if is_filled[other] and self.age_days[other] > self.age_days[row]
        ]
        n_orders = np.bincount([position for position, _ in pairs], minlength=len(rows)).astype(np.float64)
        return self._products_of(pairs, len(rows)), n_orders

    def popularity(self, until_age: float, horizon_days: float) -> FloatArray:
        """Return the share of accounts that bought each product in a horizon before a moment, `(n_products,)`.

        Of all accounts that had ordered by then; where no order has one, the share of the orders in that horizon.
        """
        is_late = (self.age_days > until_age) & (self.age_days <= until_age + horizon_days)
        is_known = (self.account >= 0).any()
        rows = np.flatnonzero(is_late & (self.account >= 0) if is_known else is_late)
        buyer = self.account[rows] if is_known else np.arange(len(rows))
        earlier = self.account[(self.age_days > until_age) & (self.account >= 0)]
        n_buyers = len(unique_sorted(earlier)) if is_known else len(rows)
        ones = np.ones(len(rows), dtype=np.float32)
        links = sp.csr_array((ones, (buyer, np.arange(len(rows)))), shape=(int(buyer.max(initial=0)) + 1, len(rows)))
        bought = sp.csc_array(links @ self.products[rows])
        return np.diff(bought.indptr) / max(n_buyers, 1)

    def _products_of(self, pairs: list[tuple[int, int]], n_rows: int) -> sp.csr_array:
        position, other = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        ones = np.ones(len(other), dtype=np.float32)
        links = sp.csr_array((ones, (position, other)), shape=(n_rows, len(self.age_days)))
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
    before, n_before = orders.bought_before(chosen)
    popularity = orders.popularity(float(orders.age_days[held].max()), horizon_days)
    counts = _Counts(np.zeros((4, len(SIZES), _N_BINS)), np.zeros((4, len(SIZES), _N_BINS)))
    for n_lines, least in CUTS:
        enough = np.flatnonzero(np.diff(baskets.indptr) >= least)
        cart, rest = cut(baskets[enough], n_lines, rng)
        rows = max(_BLOCK_CELLS // cart.shape[1], 1)
        for start in range(0, cart.shape[0], rows):
            block, of_block = slice(start, start + rows), enough[start : start + rows]
            bought = rest[block].toarray() + later[of_block].toarray() > 0
            share = before[of_block].toarray() / (n_before[of_block] + REPEAT_PRIOR_ORDERS)[:, None]
            counts.add(model, cart[block], bought, share, n_before[of_block] > 0, popularity)
    return _curves(counts.trials, counts.hits)


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


@dataclass(frozen=True)
class _Counts:
    """What would be offered, and what of it was bought, `(n_kinds, n_sizes, n_bins)`: all, new, bought, unlinked."""

    trials: FloatArray
    hits: FloatArray

    def add(
        self,
        model: CartModel,
        cart: sp.csr_array,
        bought: BoolArray,
        share: FloatArray,
        known: BoolArray,
        popularity: FloatArray,
    ) -> None:
        """Count carts: what was `bought` beside them, the `share` of its account's orders, whether there were any.

        `popularity` is that of each product without a cart.
        """
        size = np.searchsorted(SIZES, np.diff(cart.indptr), side="right") - 1
        is_open = cart.toarray() == 0
        score = np.where(is_open, model.score(cart), -np.inf)
        row, column = _best(score, OFFERED)
        is_bought, part = bought[row, column], share[row, column]
        for kind, lift, kept in (
            (_ALL, 0.0, np.ones(len(row), dtype=bool)),
            (_NEW, 0.0, known[row] & (part == 0)),
            (_BOUGHT, REPEAT_SCORE, part > 0),
        ):
            self._count(kind, size[row[kept]], (score[row, column] + lift * part)[kept], is_bought[kept])
        linked = (cart @ abs(model.weights_)).toarray() > 0
        row, column = _best(np.where(is_open & ~linked & (popularity > 0), popularity, -np.inf), POPULAR)
        self._count(_UNLINKED, size[row], popularity[column], bought[row, column])

    def _count(self, kind: int, size: NDArray[np.intp], score: AnyFloatArray, is_bought: BoolArray) -> None:
        bins, shape = size * _N_BINS + _bin_of(score), self.trials.shape[1:]
        n_cells = shape[0] * shape[1]
        self.trials[kind] += np.bincount(bins, minlength=n_cells).reshape(shape)
        self.hits[kind] += np.bincount(bins[is_bought], minlength=n_cells).reshape(shape)


def _best(score: AnyFloatArray, k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the k largest of each row, and of those that tie with the last of them."""
    place = max(score.shape[1] - k, 0)
    row, column = np.nonzero((score >= np.partition(score, place, axis=1)[:, place][:, None]) & np.isfinite(score))
    return row, column


def _bin_of(score: AnyFloatArray) -> NDArray[np.intp]:
    share = (np.clip(score, _LOWEST, _HIGHEST) - _LOWEST) / (_HIGHEST - _LOWEST)
    return np.minimum((share * _N_BINS).astype(np.intp), _N_BINS - 1)


def _curves(trials: FloatArray, hits: FloatArray) -> CartCurve | None:
    """Return one curve after the other; sizes with few purchases are joined to the size before them."""
    first = [0]
    for size in range(1, len(SIZES)):
        if hits[_ALL, size:].sum() >= _LEAST_HITS and hits[_ALL, first[-1] : size].sum() >= _LEAST_HITS:
            first.append(size)
    curves = [
        _curve(SIZES[begin], trials, hits, slice(begin, end))
        for begin, end in zip(first, [*first[1:], len(SIZES)], strict=True)
    ]
    names = [field.name for field in fields(CartCurve)]
    return CartCurve(**{name: np.concatenate([getattr(curve, name) for curve in curves]) for name in names})


def _curve(lines: int, trials: FloatArray, hits: FloatArray, sizes: slice) -> CartCurve:
    """The curve of some sizes; a kind with few purchases takes those of all sizes, or else what holds for all kinds."""
    knots = [_steady(trials[_ALL, sizes].sum(axis=0), hits[_ALL, sizes].sum(axis=0))]
    for kind in (_NEW, _BOUGHT, _UNLINKED):
        enough = hits[kind, sizes].sum() >= _LEAST_HITS
        own = sizes if enough else slice(None)
        is_told = hits[kind, own].sum() >= _LEAST_HITS
        knots.append(_steady(trials[kind, own].sum(axis=0), hits[kind, own].sum(axis=0)) if is_told else knots[_ALL])
    score = np.unique(np.concatenate([x for x, _ in knots]))
    return CartCurve(
        score,
        np.interp(score, *knots[_ALL]),
        np.full(len(score), lines, dtype=np.int32),
        *(np.interp(score, *knots[kind]) for kind in (_NEW, _BOUGHT, _UNLINKED)),
    )


def _steady(trials: FloatArray, hits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Scores and rates of a curve that never falls, each level stretch drawn together, so that it rises throughout.

    On a level stretch all scores would get one probability; the order of the scores, which ranks the cart's additions,
    must not be lost on it. Above its last knot a curve goes on with its last slope.
    """
    used = np.flatnonzero(trials)
    centre = _LOWEST + (used + 0.5) * (_HIGHEST - _LOWEST) / _N_BINS
    rate = IsotonicRegression().fit(centre, hits[used] / trials[used], sample_weight=trials[used]).predict(centre)
    first = np.flatnonzero(np.diff(rate, prepend=-1.0) > 0)
    last = np.append(first[1:], len(rate)) - 1
    score, level = np.round((centre[first] + centre[last]) / 2, 6), rate[first]
    if len(score) < 2:
        return score, level
    slope = (level[-1] - level[-2]) / (score[-1] - score[-2])
    room = max(STRONGEST_CONFIDENCE - level[-1], 0.0)
    return np.append(score, score[-1] + 1.0), np.append(level, level[-1] + min(slope, room))
