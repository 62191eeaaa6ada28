"""Cart completion: a hidden line of later orders to be found, and the pair counts that rank candidates for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import RowArray, sparse_lookup
from recsys.backtesting.baselines import BLOCK_CELLS, FloatMatrix, top_k_mask, without_owned
from recsys.data.history import SECONDS_A_DAY, UNKNOWN_ACCOUNT, History, binary, epoch_seconds
from recsys.errors import EmptyDataError

LineKind = Literal["new", "repeat", "unknown"]

LINE_KINDS: tuple[LineKind, ...] = ("new", "repeat", "unknown")


@dataclass(frozen=True)
class CartTask:
    """Carts and the line that each one misses.

    Attributes:
        carts: 0/1, `(n_carts, n_products)`: the order without its hidden line.
        hidden: row of the hidden product, `(n_carts,)`.
        account: row of the account, -1 where the order has none, `(n_carts,)`.
        kind: of the hidden line, `(n_carts,)`: `new` to the account, `repeat` if it bought the product before the
            cutoff, `unknown` without an account.
    """

    carts: sp.csr_array
    hidden: NDArray[np.int32]
    account: NDArray[np.int32]
    kind: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.hidden)


@dataclass(frozen=True)
class CartSplit:
    """What is known before the cutoff, and the task after it.

    Attributes:
        orders: the earlier orders, 0/1, `(n_orders, n_products)`; rows of later orders are empty.
        age_days: days from each order to the cutoff, `(n_orders,)`.
        task: carts of later orders.
    """

    orders: sp.csr_array
    age_days: NDArray[np.float64]
    task: CartTask


def split_carts(
    history: History, cutoff: datetime, horizon_days: float, max_carts: int, rng: np.random.Generator
) -> CartSplit:
    """Return the orders before the cutoff and carts of at most `max_carts` orders in the horizon after it.

    An order needs two distinct products. Which line is hidden is drawn evenly over the lines of the order.

    Raises:
        EmptyDataError: no later order has two products.
    """
    past, later = history.before(cutoff), history.between(cutoff, horizon_days)
    shape = (history.n_orders, history.n_products)
    placed, account = np.zeros(history.n_orders), np.full(history.n_orders, UNKNOWN_ACCOUNT, dtype=np.int32)
    placed[past.order] = past.seconds
    account[later.order] = later.account
    baskets = binary(later.order, later.product, shape)
    # An order that straddles the cutoff is no later order: part of it was learned from.
    baskets = without_rows(baskets, past.order)
    chosen = sample_orders(baskets, max_carts, rng)
    task = hide_one_line(baskets[chosen], account[chosen], past.owned(), rng)
    age_days = np.where(placed > 0, (epoch_seconds(cutoff) - placed) / SECONDS_A_DAY, 0.0)
    return CartSplit(binary(past.order, past.product, shape), age_days, task)


def hide_one_line(
    baskets: sp.csr_array, account: NDArray[np.int32], owned: sp.csr_array, rng: np.random.Generator
) -> CartTask:
    """Return each basket with one line hidden, drawn evenly.

    Args:
        baskets: 0/1, two products a row or more, `(n, n_products)`.
        account: row of each basket's account in `owned`, -1 without one.
        owned: 1 where an account has bought a product before, `(n_accounts, n_products)`.
        rng: draws the lines.
    """
    size = np.diff(baskets.indptr)
    place = baskets.indptr[:-1] + np.floor(rng.random(len(size)) * size).astype(np.int64)
    hidden = baskets.indices[place].astype(np.int32)
    kept = np.ones(baskets.nnz, dtype=bool)
    kept[place] = False
    row = np.repeat(np.arange(len(size), dtype=np.int32), size)
    carts = binary(row[kept], baskets.indices[kept], baskets.shape)
    kind = np.full(len(size), "unknown", dtype="<U7")
    known = account != UNKNOWN_ACCOUNT
    kind[known] = np.where(sparse_lookup(owned, account[known], hidden[known]) > 0, "repeat", "new")
    return CartTask(carts, hidden, account, kind)


def sample_orders(baskets: sp.csr_array, max_carts: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the rows of at most `max_carts` baskets of two products or more, ascending.

    Raises:
        EmptyDataError: there is no such basket.
    """
    rows = np.flatnonzero(np.diff(baskets.indptr) >= 2)
    if len(rows) == 0:
        raise EmptyDataError("0 later orders with two products, must be 1 or more; choose an earlier cutoff")
    return np.sort(rng.choice(rows, min(max_carts, len(rows)), replace=False))


def without_rows(baskets: sp.csr_array, rows: NDArray[np.integer]) -> sp.csr_array:
    """Return the baskets with the given rows emptied."""
    keep = np.ones(baskets.shape[0], dtype=bool)
    keep[rows] = False
    row = np.repeat(np.arange(baskets.shape[0], dtype=np.int32), np.diff(baskets.indptr))
    return binary(row[keep[row]], baskets.indices[keep[row]], baskets.shape)


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


def cart_lineup(orders: sp.csr_array) -> tuple[CartMethod, ...]:
    """Return the baselines of cart completion, learned from `orders`, 0/1, `(n_orders, n_products)`."""
    pairs = tuple(PairCart(orders, measure, join) for measure in MEASURES for join in JOINS)
    return (PopularCart(orders), *pairs)


def in_blocks(carts: sp.csr_array, k: int, score: Callable[[sp.csr_array], FloatMatrix]) -> RowArray:
    """Return the k best products of each cart by `score`, a bounded block of carts at a time."""
    size = max(1, BLOCK_CELLS // max(1, carts.shape[1]))
    blocks = [carts[start : start + size] for start in range(0, carts.shape[0], size)]
    lists = [top_k_mask(without_owned(score(block), block), k) for block in blocks]
    return np.concatenate(lists) if lists else np.empty((0, k), dtype=np.int32)


def _measured(pairs: sp.csr_array, n: NDArray[np.float64], n_orders: int, measure: Measure) -> sp.csr_array:
    left, right = {
        "confidence": (1.0 / n, np.ones_like(n)),
        "cosine": (n**-0.5, n**-0.5),
        "lift": (n_orders / n, 1.0 / n),
    }[measure]
    return sp.csr_array(sp.diags_array(left, dtype=np.float32) @ pairs @ sp.diags_array(right, dtype=np.float32))
