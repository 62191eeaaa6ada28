"""Purchase history as arrays, and the products that an account buys for the first time within a horizon.

The relational plane (Ibis) ends here: `History.from_frame` takes the cleaned order lines once, and from then on
accounts and products are row numbers into sorted id arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import BoolArray, RowArray
from recsys.contracts import columns as c
from recsys.errors import DataError

SECONDS_A_DAY = 86_400
UNKNOWN_ACCOUNT = -1


@dataclass(frozen=True)
class History:
    """Order lines as parallel arrays of shape `(n_lines,)`, sorted by time, then order, then line.

    Attributes:
        account_ids: shape `(n_accounts,)`, sorted; `account` points into it.
        product_ids: shape `(n_products,)`, sorted; `product` points into it.
        n_orders: how many distinct orders the vocabulary has; `order` is in `[0, n_orders)`.
        account: row of the account, -1 where the line has none.
        product: row of the product.
        order: number of the order.
        seconds: time of the line, seconds since 1970-01-01 UTC.
        quantity: units, above zero (reversals were matched or dropped by the cleaning).
        unit_price: money a unit.
        revenue: `unit_price * quantity - discount`, money.
    """

    account_ids: NDArray[np.object_]
    product_ids: NDArray[np.object_]
    n_orders: int
    account: RowArray
    product: RowArray
    order: RowArray
    seconds: NDArray[np.int64]
    quantity: NDArray[np.float64]
    unit_price: NDArray[np.float64]
    revenue: NDArray[np.float64]

    @classmethod
    def from_frame(
        cls,
        lines: pd.DataFrame,
        *,
        account_ids: NDArray[np.object_] | None = None,
        product_ids: NDArray[np.object_] | None = None,
    ) -> History:
        """Return the history of a frame of cleaned order lines.

        Args:
            lines: columns `order_id account_id product_id ordered_at quantity unit_price` and, where known,
                `discount`; `account_id` may be null; `ordered_at` is UTC.
            account_ids: a vocabulary to use, a superset of the accounts in `lines`; default: those in `lines`.
            product_ids: the same for products.

        Raises:
            DataError: a product of `lines` is not in `product_ids`.
        """
        seconds = seconds_of_times(lines[c.ORDERED_AT])
        order_key = lines[c.ORDER_ID].astype(str).to_numpy(dtype=object)
        order, order_vocabulary = pd.factorize(order_key, sort=True)
        rank = np.lexsort((np.arange(len(lines)), order, seconds))
        accounts = _vocabulary(lines[c.ACCOUNT_ID], account_ids)
        products = _vocabulary(lines[c.PRODUCT_ID], product_ids)
        product = codes_of(lines[c.PRODUCT_ID], products)
        if (product < 0).any():
            missing = lines[c.PRODUCT_ID].to_numpy(dtype=object)[product < 0][0]
            raise DataError(f"product_id == {missing!r} is not among the product_ids given; give a superset")
        quantity = lines[c.QUANTITY].to_numpy(dtype=np.float64)
        price = lines[c.UNIT_PRICE].to_numpy(dtype=np.float64)
        discount = lines[c.DISCOUNT].fillna(0).to_numpy(dtype=np.float64) if c.DISCOUNT in lines else 0.0
        return cls(
            account_ids=accounts,
            product_ids=products,
            n_orders=len(order_vocabulary),
            account=codes_of(lines[c.ACCOUNT_ID], accounts)[rank],
            product=product[rank],
            order=order.astype(np.int32)[rank],
            seconds=seconds[rank],
            quantity=quantity[rank],
            unit_price=price[rank],
            revenue=(quantity * price - discount)[rank],
        )

    @property
    def n_accounts(self) -> int:
        """Size of the account vocabulary."""
        return len(self.account_ids)

    @property
    def n_products(self) -> int:
        """Size of the product vocabulary."""
        return len(self.product_ids)

    def __len__(self) -> int:
        return len(self.account)

    def select(self, keep: NDArray[np.bool_]) -> History:
        """Return the lines where `keep` is true, shape `(n_lines,)`, over the same vocabularies."""
        if keep.all():  # no copy: ten million lines take half a gigabyte, and none is ever changed
            return self
        return replace(
            self,
            account=self.account[keep],
            product=self.product[keep],
            order=self.order[keep],
            seconds=self.seconds[keep],
            quantity=self.quantity[keep],
            unit_price=self.unit_price[keep],
            revenue=self.revenue[keep],
        )

    def before(self, cutoff: datetime) -> History:
        """Return the lines strictly before `cutoff`: nothing at or after it can leak."""
        return self.select(self.seconds < epoch_seconds(cutoff))

    def between(self, start: datetime, days: float) -> History:
        """Return the lines in `[start, start + days)`."""
        low = epoch_seconds(start)
        high = epoch_seconds(start + timedelta(days=days))
        return self.select((self.seconds >= low) & (self.seconds < high))

    def known(self) -> History:
        """Return the lines that have an account."""
        return self.select(self.account != UNKNOWN_ACCOUNT)

    def owned(self) -> sp.csr_array:
        """Return which account has bought which product, `(n_accounts, n_products)`, 1 where it has."""
        return binary(self.known().account, self.known().product, (self.n_accounts, self.n_products))

    def first_purchases(self) -> History:
        """Return, for each account and product, the first line only."""
        lines = self.known()
        key = lines.account.astype(np.int64) * lines.n_products + lines.product
        _, first = np.unique(key, return_index=True)  # lines are sorted by time: the first index is the first purchase
        keep = np.zeros(len(lines), dtype=bool)
        keep[first] = True
        return lines.select(keep)


def binary(rows: RowArray, columns: RowArray, shape: tuple[int, int]) -> sp.csr_array:
    """Return a sparse 0/1 matrix with sorted indices from (possibly repeated) coordinates."""
    matrix = sp.coo_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape).tocsr()
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def epoch_seconds(moment: datetime) -> int:
    """Return seconds since 1970-01-01 UTC; a moment without a zone is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int(aware.timestamp())


def codes_of(values: pd.Series | NDArray[np.object_], vocabulary: NDArray[np.object_]) -> RowArray:
    """Return the row of each value in a sorted vocabulary, -1 where it is null or not in it."""
    return pd.Index(vocabulary).get_indexer(pd.Index(values.astype(object))).astype(np.int32)


def _vocabulary(values: pd.Series, given: NDArray[np.object_] | None) -> NDArray[np.object_]:
    if given is not None:
        return given
    return np.array(sorted(values.dropna().astype(str).unique()), dtype=object)


def seconds_of_times(times: pd.Series) -> NDArray[np.int64]:
    """Return seconds since 1970-01-01 UTC; times without a zone are UTC."""
    utc = pd.to_datetime(times, utc=True)
    return utc.dt.tz_localize(None).astype("datetime64[s]").to_numpy().astype(np.int64)


def novel_purchases(history: History, cutoff: datetime, horizon_days: float) -> sp.csr_array:
    """Return which product each account bought first in `[cutoff, cutoff + horizon_days)`, `(n_accounts, n_products)`.

    Only accounts with a line before the cutoff count: an account's first order is no cross-sell.
    """
    standing = np.zeros(history.n_accounts, dtype=bool)
    standing[history.before(cutoff).known().account] = True
    first = history.first_purchases().between(cutoff, horizon_days)
    novel = first.select(standing[first.account])
    return binary(novel.account, novel.product, (history.n_accounts, history.n_products))


def stands_in(matrix: sp.csr_array, rows: RowArray, columns: RowArray) -> BoolArray:
    """Return whether each coordinate is stored in the matrix, shape `(n,)`.

    scipy's own indexing answers with a sparse array when the matrix is empty and with a dense one when it is not.
    """
    width = matrix.shape[1]
    row_of_stored = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    stored = np.sort(row_of_stored * width + matrix.indices)
    wanted = rows.astype(np.int64) * width + columns
    if len(stored) == 0:
        return np.zeros(len(wanted), dtype=bool)
    found: BoolArray = stored[np.minimum(np.searchsorted(stored, wanted), len(stored) - 1)] == wanted
    return found
