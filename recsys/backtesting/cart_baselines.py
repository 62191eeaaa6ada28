"""What ranks cart add-ons by counts of pairs alone: confidence, cosine and lift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import RowArray
from recsys.backtesting.baseline import BLOCK_CELLS, FloatMatrix, diagonal, top_k, without_owned
from recsys.backtesting.cart_task import CartTask
from recsys.models.cart import CartModel

Measure = Literal["confidence", "cosine", "lift"]
Join = Literal["best", "sum"]

MEASURES: tuple[Measure, ...] = ("confidence", "cosine", "lift")
JOINS: tuple[Join, ...] = ("best", "sum")


class CartMethod(Protocol):
    """Ranks what goes with a cart."""

    name: str

    def recommend(self, task: CartTask, k: int) -> RowArray:
        """Return the best k products that are not in the cart, rows `(n_carts, k)`, -1 where there are fewer."""
        ...


class PairCart:
    """Products by one measure of the pair (product of the cart, product), joined over the cart.

    With `n_ij` orders that hold both and `n` orders: confidence `n_ij / n_i`, cosine `n_ij / sqrt(n_i n_j)`, lift
    `n n_ij / (n_i n_j)`. `best` takes the strongest pair, `sum` adds all pairs of the cart. Lift is of pairs in
    `min_orders` orders or more: without that it ranks coincidences first.
    """

    def __init__(self, orders: sp.csr_array, measure: Measure, join: Join, min_orders: int = 10) -> None:
        self.name = f"{measure}, {join}"
        self.join = join
        pairs = sp.csr_array(orders.T @ orders).astype(np.float64)
        n = np.maximum(pairs.diagonal(), 1.0)
        pairs.setdiag(0.0)
        if measure == "lift":
            pairs.data[pairs.data < min_orders] = 0.0
        pairs.eliminate_zeros()
        self.weights_ = _measured(pairs, n, orders.shape[0], measure)

    def recommend(self, task: CartTask, k: int) -> RowArray:
        """Return the best k products that are not in the cart, rows `(n_carts, k)`, -1 where there are fewer."""
        score = self._sums if self.join == "sum" else self._bests
        return in_blocks(task.carts, k, score)

    def _sums(self, carts: sp.csr_array) -> FloatMatrix:
        scores: FloatMatrix = (carts @ self.weights_).toarray().astype(np.float32)
        return scores

    def _bests(self, carts: sp.csr_array) -> FloatMatrix:
        scores = np.zeros(carts.shape, dtype=np.float32)
        for row in range(carts.shape[0]):
            rules = self.weights_[carts.indices[carts.indptr[row] : carts.indptr[row + 1]]]
            np.maximum.at(scores[row], rules.indices, rules.data.astype(np.float32))
        return scores


class PopularCart:
    """Products by the number of orders that hold them, whatever is in the cart."""

    name = "popular"

    def __init__(self, orders: sp.csr_array) -> None:
        self.counts_ = np.bincount(orders.indices, minlength=orders.shape[1]).astype(np.float32)

    def recommend(self, task: CartTask, k: int) -> RowArray:
        """Return the best k products that are not in the cart, rows `(n_carts, k)`, -1 where there are fewer."""
        return in_blocks(task.carts, k, lambda carts: np.tile(self.counts_, (carts.shape[0], 1)))


class CartWeightsMethod:
    """Products by the learned cart weights: prior and the sum of the rows of the cart's products."""

    name = "cart weights"

    def __init__(self, model: CartModel) -> None:
        self.model = model

    def recommend(self, task: CartTask, k: int) -> RowArray:
        """Return the best k products that are not in the cart, rows `(n_carts, k)`, -1 where there are fewer."""
        return in_blocks(task.carts, k, self.model.score)


def cart_lineup(orders: sp.csr_array) -> tuple[CartMethod, ...]:
    """Return the baselines of cart completion, learned from `orders`, 0/1, `(n_orders, n_products)`."""
    pairs = tuple(PairCart(orders, measure, join) for measure in MEASURES for join in JOINS)
    return (PopularCart(orders), *pairs)


def in_blocks(carts: sp.csr_array, k: int, score: Callable[[sp.csr_array], FloatMatrix]) -> RowArray:
    """Return the k best products of each cart by `score`, a bounded block of carts at a time."""
    size = max(1, BLOCK_CELLS // max(1, carts.shape[1]))
    blocks = [carts[start : start + size] for start in range(0, carts.shape[0], size)]
    lists = [top_k(without_owned(score(block), block), k) for block in blocks]
    return np.concatenate(lists) if lists else np.empty((0, k), dtype=np.int32)


def _measured(pairs: sp.csr_array, n: NDArray[np.float64], n_orders: int, measure: Measure) -> sp.csr_array:
    left, right = {
        "confidence": (1.0 / n, np.ones_like(n)),
        "cosine": (n**-0.5, n**-0.5),
        "lift": (n_orders / n, 1.0 / n),
    }[measure]
    return sp.csr_array(diagonal(left) @ pairs @ diagonal(right))
