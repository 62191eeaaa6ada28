"""Cart completion: one line of a later order is hidden, and the rest of the order is the cart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import values_at
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
    chosen = draw_orders(baskets, max_carts, rng)
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
    kind[known] = np.where(values_at(owned, account[known], hidden[known]) > 0, "repeat", "new")
    return CartTask(carts, hidden, account, kind)


def draw_orders(baskets: sp.csr_array, max_carts: int, rng: np.random.Generator) -> NDArray[np.intp]:
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
