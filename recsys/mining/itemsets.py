"""Sets of any length that stand together in orders, found by mlxtend, which nothing else imports."""

from __future__ import annotations

import math

import ibis
import numpy as np
import pandas as pd
import scipy.sparse as sp
from mlxtend.frequent_patterns import fpgrowth

from recsys.contracts import columns as c
from recsys.errors import ConfigError
from recsys.mining.counting import BASKET, PRODUCT_CODE, number_baskets, read_product_ids


def mine_itemsets(held: sp.csr_array, min_count: int, max_length: int | None) -> list[tuple[tuple[int, ...], int]]:
    """Return each itemset in at least `min_count` rows as its sorted columns and its count, in no order.

    Args:
        held: which row holds which column, `(n_rows, n_columns)`, 1 where it does.
        min_count: 1 or more.
        max_length: most columns in an itemset; None for any number.
    """
    n_rows, n_columns = held.shape
    if min_count > n_rows:
        return []
    # mlxtend wants names as text for sparse frames.
    names = [str(column) for column in range(n_columns)]
    frame = pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(held.astype(bool)), columns=names)  # type: ignore[attr-defined]
    # It keeps counts of at least ceil(share * rows): half a count below is free of rounding.
    found = fpgrowth(frame, min_support=(min_count - 0.5) / n_rows, max_len=max_length)
    counts = np.rint(found["support"].to_numpy() * n_rows).astype(int)
    return [(tuple(sorted(itemset)), int(count)) for itemset, count in zip(found["itemsets"], counts, strict=True)]


def frequent_itemsets(orders: ibis.Table, min_support: float, max_length: int | None = None) -> pd.DataFrame:
    """Return the sets of products that stand together in enough orders: `itemset length n_holding support`.

    `itemset` is a tuple of sorted product ids, `n_holding` the orders that hold all of it, `support` their share of
    all orders. Sorted by length, then count (greatest first), then ids. No order gives an empty frame.

    Args:
        orders: contract columns `order_id product_id`.
        min_support: a count of orders (an int, 1 or more) or a share of them (a float in (0, 1]).
        max_length: most products in a set; None for any number.

    Raises:
        ConfigError: `min_support` or `max_length` is out of range.

    Example:
        >>> lines = pd.DataFrame({"order_id": ["1", "1", "2"], "product_id": ["a", "b", "a"]})
        >>> frequent_itemsets(ibis.memtable(lines), min_support=1).itemset.tolist()
        [('a',), ('b',), ('a', 'b')]
    """
    _check(min_support, max_length)
    product_ids = read_product_ids(orders)
    lines = number_baskets(orders).select(BASKET, PRODUCT_CODE).to_pyarrow()
    n_orders = int(lines[BASKET].to_numpy().max(initial=-1)) + 1
    if n_orders == 0:
        return _to_frame([], [], n_orders)
    place = lines[BASKET].to_numpy(), lines[PRODUCT_CODE].to_numpy()
    held = sp.csr_array((np.ones(lines.num_rows, dtype=bool), place), shape=(n_orders, len(product_ids)))
    found = mine_itemsets(held, _least_count(min_support, n_orders), max_length)
    return _to_frame([tuple(product_ids[list(itemset)]) for itemset, _ in found], [n for _, n in found], n_orders)


def _check(min_support: float, max_length: int | None) -> None:
    share = isinstance(min_support, float)
    if min_support <= 0 or (share and min_support > 1):
        raise ConfigError(
            f"min_support == {min_support!r}, must be > 0; give a count (an int) or a share of the orders (at most 1.0)"
        )
    if max_length is not None and max_length < 1:
        raise ConfigError(f"max_length == {max_length}, must be 1 or more; None sets no limit")


def _least_count(min_support: float, n_orders: int) -> int:
    if isinstance(min_support, int):
        return min_support
    # A share that is a whole count but for rounding is that count.
    return max(1, math.ceil(min_support * n_orders - 1e-9 * n_orders))


def _to_frame(itemsets: list[tuple[str, ...]], n_holding: list[int], n_orders: int) -> pd.DataFrame:
    order = sorted(range(len(itemsets)), key=lambda i: (len(itemsets[i]), -n_holding[i], itemsets[i]))
    counts = np.array([n_holding[i] for i in order], dtype=np.int64)
    return pd.DataFrame(
        {
            c.ITEMSET: pd.Series([itemsets[i] for i in order], dtype=object),
            c.LENGTH: np.array([len(itemsets[i]) for i in order], dtype=np.int64),
            c.N_HOLDING: counts,
            c.SUPPORT: counts / max(n_orders, 1),
        }
    )
