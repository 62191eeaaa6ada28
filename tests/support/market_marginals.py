"""The marginals by which a market resembles a real one, measured the same way on both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c

EARLIER_LINES: Final = (10, 40, 160, 640, 2_560)


@dataclass(frozen=True)
class Marginals:
    """What orders of known accounts look like, each product counted once an order.

    Attributes:
        lines_per_order: shape `(n_orders,)`.
        orders_per_account: shape `(n_accounts,)`, accounts with an order.
        popularity: share of the orders with each product, most popular first, shape `(n_products,)`.
        novel_share: share of the lines of an account's second and later orders that it buys for the first time.
        novel_share_by_earlier: the same by the account's lines in earlier orders: up to each bound of
            `EARLIER_LINES`, and beyond the last, shape `(len(EARLIER_LINES) + 1,)`.
    """

    lines_per_order: IntArray
    orders_per_account: IntArray
    popularity: FloatArray
    novel_share: float
    novel_share_by_earlier: FloatArray

    def gini(self) -> float:
        """Return how unequal the products' popularity is: 0 all the same, 1 one product only."""
        rising = self.popularity[::-1]
        n = len(rising)
        return float((2 * np.arange(1, n + 1) - n - 1) @ rising / (n * rising.sum()))

    def top_share(self, share: float) -> float:
        """Return the share of all lines that the most popular `share` of the products have."""
        return float(self.popularity[: int(share * len(self.popularity))].sum() / self.popularity.sum())


def measure_marginals(lines: pd.DataFrame) -> Marginals:
    """Return the marginals of cleaned order lines: `order_id account_id product_id ordered_at`, accounts known."""
    key = [c.ACCOUNT_ID, c.ORDERED_AT, c.ORDER_ID]
    once = lines[[*key, c.PRODUCT_ID]].drop_duplicates([c.ORDER_ID, c.PRODUCT_ID]).sort_values(key, ignore_index=True)
    size = once.groupby(c.ORDER_ID, sort=False).size()
    orders = once.drop_duplicates(c.ORDER_ID)
    number = once.groupby(c.ACCOUNT_ID).cumcount()
    earlier = number.groupby(once[c.ORDER_ID]).transform("min").to_numpy()
    novel = ~once.duplicated([c.ACCOUNT_ID, c.PRODUCT_ID]).to_numpy()
    band = np.searchsorted(EARLIER_LINES, earlier)
    later = earlier > 0
    counts = np.bincount(band[later], minlength=len(EARLIER_LINES) + 1)
    novel_counts = np.bincount(band[later & novel], minlength=len(counts))
    return Marginals(
        lines_per_order=_counts(size),
        orders_per_account=_counts(orders.groupby(c.ACCOUNT_ID).size()),
        popularity=np.sort(_counts(once.groupby(c.PRODUCT_ID).size()))[::-1] / len(size),
        novel_share=float(novel[later].mean()),
        novel_share_by_earlier=novel_counts / np.maximum(counts, 1),
    )


def _counts(sizes: pd.Series) -> IntArray:
    return np.asarray(sizes.to_numpy(), dtype=np.int64)
