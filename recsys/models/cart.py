"""What goes with a cart: ridge regression of each product on the rest of the order, and its score as a probability.

Confidence counts each product of the cart on its own, so that a bestseller is suggested once for every product that
it is bought with. The regression is joint: what one product of the cart explains is not counted again for the next.
At request time the score of a cart is a lookup: the prior plus one short row of weights a cart product.

The weights rank; their sum is no probability. The curve from score to probability is read off orders that the weights
have not seen: each of the latest orders is cut into a cart and a rest, and every product is scored from the cart.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import FloatArray
from recsys.contracts.config import Config
from recsys.errors import DataError, EmptyDataError
from recsys.offer_model.tables import CartCurve

# Cells of a block of rows (antecedents x products); dense only where both are of the head: 160 MB of float64 at most.
_BLOCK_CELLS = 20_000_000


class CartConfig(Config):
    """How the weights of carts are learned."""

    penalty: float = Field(default=0.5, gt=0)
    """Ridge penalty, in weighted orders of the average product: a product with half its orders counts half. Relative,
    so that one value serves 169 grocery items and 4,000 gift articles; 0.25 to 1 rank alike."""
    half_life_days: float | None = Field(default=120.0, gt=0)
    """Days after which an order counts half, because assortments move; None: all orders alike."""
    head_size: int = Field(default=6_000, ge=1)
    """Products that are regressed jointly, those in the most orders; the inverse costs their number cubed."""
    weights_per_product: int = Field(default=100, ge=1)
    """Consequents kept an antecedent, the largest in size; 100 keep all but half a point of the hit rate."""


class CartModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Scores of all products given the products of a cart: `score_j = prior_j + sum over i in cart of B_ij`.

    With `X` the orders x products matrix and a constant column, `W` the orders' weights `0.5 ** (age / half_life) /
    sqrt(size)` (a large order holds more pairs than a small one, and says less about each), over the head
    `P = (X'WX + r I)^-1` and `B_ij = -P_ij / P_jj`, zero on the diagonal; the constant's row is the prior. A
    pair outside the head is regressed alone: `B_ij = (n_ij - n_i prior_j) / (n_i + r)`, n weighted counts, and
    the prior of a tail product is its weighted share of the orders. A score estimates the probability that the order
    holds the product; it is not clipped and not calibrated. `r = penalty * mean n_j` over the products sold: repeating
    all orders changes nothing.

    Source: Steck (2019), Embarrassingly Shallow Autoencoders for Sparse Data, equation 8; with orders as rows, as
    item-to-item regression SLIM (Ning and Karypis 2011) without its constraints.

    Attributes:
        weights_: antecedent x consequent, sparse, sorted indices, shape `(n_products, n_products)`.
        prior_: score of each product for an empty cart, shape `(n_products,)`.
        ridge_: the penalty r in weighted orders.

    Example:
        >>> orders = sp.csr_array(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1]]))
        >>> model = CartModel(CartConfig(penalty=0.1)).fit(orders)
        >>> int(model.score(sp.csr_array([[1.0, 0, 0]]))[0, 1:].argmax()) + 1
        1
    """

    weights_: sp.csr_array
    prior_: NDArray[np.float32]
    ridge_: float

    def __init__(self, config: CartConfig | None = None) -> None:
        self.config = config

    @property
    def _options(self) -> CartConfig:
        return self.config or CartConfig()

    def fit(self, orders: sp.csr_array, age_days: FloatArray | None = None) -> Self:
        """Learn from orders.

        Args:
            orders: 0/1, shape `(n_orders, n_products)`; empty rows are allowed and count for nothing.
            age_days: days from each order to the end of the training data, shape `(n_orders,)`; None: all alike.

        Raises:
            EmptyDataError: no order holds a product.
            DataError: there is not one age an order.
        """
        filled = _checked(orders, age_days)
        weight = self._order_weights(orders, age_days)
        scaled = sp.csr_array(sp.diags_array(np.sqrt(weight[filled])) @ orders[filled].astype(np.float64))
        root = np.sqrt(weight[filled])
        counts = scaled.T @ root
        self.ridge_ = self._options.penalty * float(counts[counts > 0].mean())
        share = counts / (weight.sum() + self.ridge_)
        head = self._head(orders)
        joint, prior = _regress_jointly(scaled[:, head], root, self.ridge_)
        share[head] = prior
        self.prior_ = share.astype(np.float32)
        self.weights_ = self._pruned(scaled, head, joint, share)
        return self

    def score(self, carts: sp.csr_array) -> NDArray[np.float32]:
        """Return the score of every product for each cart, `(n_carts, n_products)`; carts are 0/1 rows."""
        check_is_fitted(self)
        scores: NDArray[np.float32] = (carts.astype(np.float32) @ self.weights_).toarray() + self.prior_[None, :]
        return scores

    def _order_weights(self, orders: sp.csr_array, age_days: FloatArray | None) -> FloatArray:
        size = np.diff(orders.indptr)
        weight: FloatArray = np.where(size > 0, 1.0 / np.sqrt(np.maximum(size, 1)), 0.0)
        half_life_days = self._options.half_life_days
        if age_days is not None and half_life_days is not None:
            weight = weight * 0.5 ** (age_days / half_life_days)
        return weight

    def _head(self, orders: sp.csr_array) -> NDArray[np.intp]:
        counts = np.bincount(orders.indices, minlength=orders.shape[1])
        bought = np.flatnonzero(counts)
        largest = bought[np.argsort(-counts[bought], kind="stable")[: self._options.head_size]]
        return np.sort(largest)

    def _pruned(
        self, scaled: sp.csr_array, head: NDArray[np.intp], joint: FloatArray, prior: FloatArray
    ) -> sp.csr_array:
        """Rows of weights for every antecedent, block by block: only the largest of each row are ever kept."""
        n_products, k = scaled.shape[1], self._options.weights_per_product
        place = np.full(n_products, -1)
        place[head] = np.arange(len(head))
        transposed = sp.csr_array(scaled.T)
        size = max(1, _BLOCK_CELLS // n_products)
        blocks = []
        for start in range(0, n_products, size):
            antecedents = np.arange(start, min(start + size, n_products))
            inside = np.flatnonzero(place[antecedents] >= 0)
            alone = self._alone(transposed[antecedents] @ scaled, antecedents, prior)
            outside = (place[antecedents[alone.rows]] < 0) | (place[alone.columns] < 0)
            among = _largest_cells(joint[place[antecedents[inside]]], k)
            cells = _Cells(
                np.concatenate([alone.rows[outside], inside[among.rows]]),
                np.concatenate([alone.columns[outside], head[among.columns]]),
                np.concatenate([alone.values[outside], among.values]),
            )
            blocks.append(_rows_of(cells, (len(antecedents), n_products), k))
        return sp.csr_array(sp.vstack(blocks))

    def _alone(self, pairs: sp.csr_array, antecedents: NDArray[np.intp], prior: FloatArray) -> _Cells:
        """Weights of the pairs that met; the others' are 0, and most products never met: so they stay sparse."""
        counts = pairs.tocoo()
        rows, columns = counts.row.astype(np.intp), counts.col.astype(np.intp)
        itself = columns == antecedents[rows]
        own = np.zeros(len(antecedents))
        own[rows[itself]] = counts.data[itself]
        met = ~itself & (counts.data > 0)
        rows, columns = rows[met], columns[met]
        values = (counts.data[met] - own[rows] * prior[columns]) / (own[rows] + self.ridge_)
        return _Cells(rows, columns, values)


class _Cells(NamedTuple):
    """Some entries of a matrix, shape `(n_cells,)` each."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: FloatArray


def _largest_cells(block: FloatArray, k: int) -> _Cells:
    """Return the k entries of each row that are largest in size, and those that tie with the last of them."""
    size = np.abs(block)
    place = max(0, block.shape[1] - k)
    threshold = np.partition(size, place, axis=1)[:, place]
    rows, columns = np.nonzero((size >= threshold[:, None]) & (size > 0))
    return _Cells(rows, columns, block[rows, columns])


def _rows_of(cells: _Cells, shape: tuple[int, ...], k: int) -> sp.csr_array:
    size = np.abs(cells.values)
    order = np.lexsort((cells.columns, -size, cells.rows))
    order = order[size[order] > 0]
    rows = cells.rows[order]
    order = order[np.arange(len(rows)) - np.searchsorted(rows, rows) < k]
    values = cells.values[order].astype(np.float32)
    matrix = sp.csr_array(sp.coo_array((values, (cells.rows[order], cells.columns[order])), shape=shape))
    matrix.sort_indices()
    return matrix


def _regress_jointly(scaled: sp.csr_array, root: FloatArray, ridge: float) -> tuple[FloatArray, FloatArray]:
    """Weights between the products of the head, and the constant's weights."""
    n = scaled.shape[1]
    gram = np.empty((n + 1, n + 1))
    gram[:n, :n] = (scaled.T @ scaled).toarray()
    gram[n, :n] = gram[:n, n] = scaled.T @ root
    gram[n, n] = root @ root
    gram[np.diag_indices_from(gram)] += ridge
    inverse = np.linalg.inv(gram).astype(np.float64)
    inverse = inverse / -np.diag(inverse)[None, :]
    np.fill_diagonal(inverse, 0.0)
    return inverse[:n, :n], inverse[n, :n]


def _checked(orders: sp.csr_array, age_days: FloatArray | None) -> NDArray[np.bool_]:
    filled = np.diff(orders.indptr) > 0
    if not filled.any():
        raise EmptyDataError("0 orders with a product, must be 1 or more; is the cutoff before the first order?")
    if age_days is not None and len(age_days) != orders.shape[0]:
        raise DataError(f"{len(age_days)} ages for {orders.shape[0]} orders, must be one an order; align the two")
    return filled


HELD_OUT_SHARE = 0.1
"""Share of the orders, the latest, that the curve is read off."""
MOST_ORDERS = 1_000
"""Orders that are scored at most; with 20 lines each, ten thousand purchases make a steady curve."""
_N_BINS = 2_000
LOWEST, HIGHEST = -0.1, 1.5
"""Scores beyond count as these; a score estimates a probability and seldom leaves [0, 1]."""


def fit_cart_curve(
    orders: sp.csr_array, age_days: FloatArray, config: CartConfig, rng: np.random.Generator
) -> CartCurve | None:
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
    trials, hits = np.zeros(_N_BINS), np.zeros(_N_BINS)
    rows = max(_BLOCK_CELLS // orders.shape[1], 1)
    for start in range(0, len(held), rows):
        block = slice(start, start + rows)
        bins = _bin_of(model.score(cart[block]))
        open_to = cart[block].toarray() == 0
        trials += np.bincount(bins[open_to], minlength=_N_BINS)
        hits += np.bincount(bins[rest[block].toarray() > 0], minlength=_N_BINS)
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
    return np.minimum((share * _N_BINS).astype(np.intp), _N_BINS - 1)


def _steady(trials: FloatArray, hits: FloatArray) -> CartCurve:
    used = np.flatnonzero(trials)
    centre = LOWEST + (used + 0.5) * (HIGHEST - LOWEST) / _N_BINS
    rate = IsotonicRegression().fit(centre, hits[used] / trials[used], sample_weight=trials[used]).predict(centre)
    steps = np.flatnonzero(np.diff(rate, prepend=-1.0, append=2.0)[:-1] > 0)
    ends = np.unique(np.concatenate([steps, np.maximum(steps - 1, 0), [len(rate) - 1]]))
    return CartCurve(score=centre[ends], probability=rate[ends])
