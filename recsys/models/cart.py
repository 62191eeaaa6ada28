"""What goes with a cart: ridge regression of each product on the rest of the order, and its score as a probability.

Confidence counts each product of the cart on its own, so that a bestseller is suggested once for every product that
it is bought with. The regression is joint: what one product of the cart explains is not counted again for the next.
Of a single product the confidence says more, of many the regression; the score takes `share_of_confidence` of the one.
At request time the score of a cart is a lookup: the prior plus one short row of weights a cart product.

The score ranks; `recsys.models.cart_curve` makes a probability of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import FloatArray, sparse_lookup
from recsys.contracts.config import Config
from recsys.errors import DataError, EmptyDataError
from recsys.offer_model.tables import share_of_confidence

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
    """Consequents kept an antecedent, the largest in size; 100 keep all but half a point of the hit rate. As many
    again are kept by confidence."""
    prior_orders: float = Field(default=30.0, gt=0)
    """Orders that a confidence is shrunk by: 30 calibrate what goes with rare products, and rank as 10 do."""


class CartModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Scores of all products given the products of a cart: `score_j = prior_j + sum over i in cart of W_ij`.

    `W_ij = (1 - s) B_ij + s C_ij` with `s = share_of_confidence(products in the cart)`.

    With `X` the orders x products matrix and a constant column, `W` the orders' weights `0.5 ** (age / half_life) /
    sqrt(size)` (a large order holds more pairs than a small one, and says less about each), over the head
    `P = (X'WX + r I)^-1` and `B_ij = -P_ij / P_jj`, zero on the diagonal; the constant's row is the prior. A
    pair outside the head is regressed alone: `B_ij = (n_ij - n_i prior_j) / (n_i + r)`, n weighted counts, and
    the prior of a tail product is its weighted share of the orders. `r = penalty * mean n_j` over the products sold:
    repeating all orders changes nothing. `C_ij = (m_ij - m_i prior_j) / (m_i + prior_orders)` is what the confidence,
    shrunk, says beyond the prior; `m` counts orders by their age alone. A score estimates the probability that the
    order holds the product; it is not clipped and not calibrated.

    Source: Steck (2019), Embarrassingly Shallow Autoencoders for Sparse Data, equation 8; with orders as rows, as
    item-to-item regression SLIM (Ning and Karypis 2011) without its constraints.

    Attributes:
        weights_: B, antecedent x consequent, sparse, sorted indices, shape `(n_products, n_products)`.
        lifts_: C - B, of the same entries.
        prior_: score of each product for an empty cart, shape `(n_products,)`.
        ridge_: the penalty r in weighted orders.

    Example:
        >>> orders = sp.csr_array(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1]]))
        >>> model = CartModel(CartConfig(penalty=0.1, prior_orders=1.0)).fit(orders)
        >>> int(model.score(sp.csr_array([[1.0, 0, 0]]))[0, 1:].argmax()) + 1
        1
    """

    weights_: sp.csr_array
    lifts_: sp.csr_array
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
        decay = self._decay(orders, age_days)
        weight = decay[filled] / np.sqrt(np.diff(orders.indptr)[filled])
        root = np.sqrt(weight)
        scaled = _scaled(orders[filled], root)
        counts = scaled.T @ root
        self.ridge_ = self._options.penalty * float(counts[counts > 0].mean())
        prior = counts / (weight.sum() + self.ridge_)
        head = self._head(orders)
        joint, prior[head] = _regress_jointly(scaled[:, head], root, self.ridge_)
        self.prior_ = prior.astype(np.float32)
        plain = _scaled(orders[filled], np.sqrt(decay[filled]))
        pairs = _Pairs(scaled, plain, prior, _Head(head, joint, orders.shape[1]), self.ridge_, self._options)
        self.weights_, self.lifts_ = pairs.strongest()
        return self

    def score(self, carts: sp.csr_array) -> NDArray[np.float32]:
        """Return the score of every product for each cart, `(n_carts, n_products)`; carts are 0/1 rows."""
        check_is_fitted(self)
        shares = share_of_confidence(np.diff(carts.indptr)).astype(np.float32)
        lifted = sp.diags_array(shares) @ carts.astype(np.float32)
        summed = carts.astype(np.float32) @ self.weights_ + lifted @ self.lifts_
        scores: NDArray[np.float32] = summed.toarray() + self.prior_[None, :]
        return scores

    def _decay(self, orders: sp.csr_array, age_days: FloatArray | None) -> FloatArray:
        half_life_days = self._options.half_life_days
        if age_days is None or half_life_days is None:
            return np.ones(orders.shape[0])
        decayed: FloatArray = 0.5 ** (age_days / half_life_days)
        return decayed

    def _head(self, orders: sp.csr_array) -> NDArray[np.intp]:
        counts = np.bincount(orders.indices, minlength=orders.shape[1])
        bought = np.flatnonzero(counts)
        largest = bought[np.argsort(-counts[bought], kind="stable")[: self._options.head_size]]
        return np.sort(largest)


class _Head:
    """The joint weights of the products of the head, by row of all products."""

    def __init__(self, products: NDArray[np.intp], joint: FloatArray, n_products: int) -> None:
        self.products, self.joint = products, joint
        self.place = np.full(n_products, -1)
        self.place[products] = np.arange(len(products))

    def holds(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which products belong to it."""
        inside: NDArray[np.bool_] = self.place[rows] >= 0
        return inside


@dataclass(frozen=True)
class _Pairs:
    """Weights and confidences of the pairs of products, block by block: only the strongest are ever kept."""

    scaled: sp.csr_array
    plain: sp.csr_array
    prior: FloatArray
    head: _Head
    ridge: float
    options: CartConfig

    def strongest(self) -> tuple[sp.csr_array, sp.csr_array]:
        """Return the weights B and lifts C - B of each antecedent's strongest consequents, by either."""
        n_products = len(self.prior)
        turned = sp.csr_array(self.scaled.T), sp.csr_array(self.plain.T)
        size = max(1, _BLOCK_CELLS // n_products)
        parts = []
        for start in range(0, n_products, size):
            antecedents = np.arange(start, min(start + size, n_products))
            parts.append(
                self._block(antecedents, turned[0][antecedents] @ self.scaled, turned[1][antecedents] @ self.plain)
            )
        weights, lifts = (sp.csr_array(sp.vstack(blocks)) for blocks in zip(*parts, strict=True))
        return weights, lifts

    def _block(
        self, antecedents: NDArray[np.intp], sized: sp.csr_array, plain: sp.csr_array
    ) -> tuple[sp.csr_array, sp.csr_array]:
        k, n_products = self.options.weights_per_product, len(self.prior)
        alone = self._beyond(sized, antecedents, self.ridge)
        inside = np.flatnonzero(self.head.holds(antecedents))
        outside = ~(self.head.holds(antecedents[alone.rows]) & self.head.holds(alone.columns))
        among = _largest_cells(self.head.joint[self.head.place[antecedents[inside]]], k)
        joint = _Cells(
            np.concatenate([alone.rows[outside], inside[among.rows]]),
            np.concatenate([alone.columns[outside], self.head.products[among.columns]]),
            np.concatenate([alone.values[outside], among.values]),
        )
        confident = self._beyond(plain, antecedents, self.options.prior_orders)
        chosen = [cells.largest_of_rows(k) for cells in (joint, confident)]
        key = np.unique(np.concatenate([cells.rows * n_products + cells.columns for cells in chosen]))
        rows, columns = key // n_products, key % n_products
        weight = self._at(sized, antecedents, rows, columns, self.ridge)
        both = self.head.holds(antecedents[rows]) & self.head.holds(columns)
        places = self.head.place[antecedents[rows[both]]], self.head.place[columns[both]]
        weight[both] = self.head.joint[places]
        confidence = self._at(plain, antecedents, rows, columns, self.options.prior_orders)
        shape = (len(antecedents), n_products)
        return _matrix(rows, columns, weight, shape), _matrix(rows, columns, confidence - weight, shape)

    def _beyond(self, pairs: sp.csr_array, antecedents: NDArray[np.intp], shrunk_by: float) -> _Cells:
        """What each pair that met says beyond the prior; the others say nothing, and most never met."""
        counts = pairs.tocoo()
        rows, columns = counts.row.astype(np.intp), counts.col.astype(np.intp)
        met = (columns != antecedents[rows]) & (counts.data > 0)
        rows, columns = rows[met], columns[met]
        own = _own(pairs, antecedents)[rows]
        return _Cells(rows, columns, (counts.data[met] - own * self.prior[columns]) / (own + shrunk_by))

    def _at(
        self,
        pairs: sp.csr_array,
        antecedents: NDArray[np.intp],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        shrunk_by: float,
    ) -> FloatArray:
        own, both = _own(pairs, antecedents)[rows], sparse_lookup(pairs, rows, columns)
        beyond: FloatArray = (both - own * self.prior[columns]) / (own + shrunk_by)
        return beyond


def _own(pairs: sp.csr_array, antecedents: NDArray[np.intp]) -> FloatArray:
    return sparse_lookup(pairs, np.arange(len(antecedents)), antecedents)


def _scaled(orders: sp.csr_array, root: FloatArray) -> sp.csr_array:
    return sp.csr_array(sp.diags_array(root) @ orders.astype(np.float64))


def _matrix(
    rows: NDArray[np.intp], columns: NDArray[np.intp], values: FloatArray, shape: tuple[int, int]
) -> sp.csr_array:
    """Zeros are kept: the matrices of weights and lifts have the same entries."""
    matrix = sp.csr_array(sp.coo_array((values.astype(np.float32), (rows, columns)), shape=shape))
    matrix.sort_indices()
    return matrix


class _Cells(NamedTuple):
    """Some entries of a matrix, shape `(n_cells,)` each."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: FloatArray

    def largest_of_rows(self, k: int) -> _Cells:
        """Return the k of each row that are largest in size, ties to the smaller column; none that is zero."""
        size = np.abs(self.values)
        order = np.lexsort((self.columns, -size, self.rows))
        order = order[size[order] > 0]
        rows = self.rows[order]
        order = order[np.arange(len(rows)) - np.searchsorted(rows, rows) < k]
        return _Cells(self.rows[order], self.columns[order], self.values[order])


def _largest_cells(block: FloatArray, k: int) -> _Cells:
    """Return the k entries of each row that are largest in size, and those that tie with the last of them."""
    size = np.abs(block)
    place = max(0, block.shape[1] - k)
    threshold = np.partition(size, place, axis=1)[:, place]
    rows, columns = np.nonzero((size >= threshold[:, None]) & (size > 0))
    return _Cells(rows, columns, block[rows, columns])


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
