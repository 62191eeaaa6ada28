"""How many units an account would take of a product that it has not bought yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from recsys.arrays import AnyFloatArray, BoolArray, FloatArray, IntArray, RowArray, unique_sorted, weighted_median
from recsys.data.history import History
from recsys.models.snapshot import Snapshot

PRIOR_LINES: Final = 10.0
"""Lines of an account, or of one size of products, that weigh as much as what is expected without them."""
FEW_ORDERS: Final = 10
"""An account with fewer is expected to take no more of a product than nine in ten took at first."""
_FIRST_SHARE: Final = 0.9
_LEAST_BUYERS: Final = 10
"""A product with fewer says little of what is taken at first; no more then than of all products together."""
_SMALLEST: Final = 1e-3
_SIZES: Final = 64
"""Doublings of units, from far below one unit to more than anybody buys."""


def product_quantities(history: History) -> FloatArray:
    """Return the units of a product's median line, a quantity that was bought, `(n_products,)`; 1 without a line.

    Lines of known accounts count, and all where no known account bought the product: those without an account are
    often single units over the counter.
    """
    of_all, of_known = (
        weighted_median(lines.product, lines.quantity, np.ones(len(lines)), history.n_products)
        for lines in (history, history.known())
    )
    return np.nan_to_num(np.where(np.isnan(of_known), of_all, of_known), nan=1.0)


@dataclass(frozen=True)
class FirstQuantities:
    """What new buyers take, and who has ordered too little to be expected to take more.

    Attributes:
        most: units that nine in ten first lines of a product do not exceed, `(n_products,)`.
        has_few: whether an account has fewer than `FEW_ORDERS` orders, `(n_accounts,)`.
    """

    most: FloatArray
    has_few: BoolArray

    @classmethod
    def of(cls, history: History) -> FirstQuantities:
        """Return what the first lines of known accounts say."""
        known = history.known()
        pair = known.account.astype(np.int64) * history.n_products + known.product
        _, first = np.unique(pair, return_index=True)  # lines are sorted by time
        lines = pd.Series(known.quantity[first])
        of_each = lines.groupby(known.product[first]).agg([_most_of, "size"]).reindex(np.arange(history.n_products))
        of_all = _most_of(lines) if len(lines) else np.inf
        is_sure = of_each["size"].to_numpy() >= _LEAST_BUYERS
        own = of_each["_most_of"].to_numpy()
        most = np.where(is_sure, own, np.fmin(own, of_all))
        orders = unique_sorted(known.account.astype(np.int64) * history.n_orders + known.order)
        n_orders = np.bincount(orders // history.n_orders, minlength=history.n_accounts)
        return cls(most, n_orders < FEW_ORDERS)

    def limit(self, account: RowArray, product: RowArray, units: AnyFloatArray) -> AnyFloatArray:
        """Return the units of each pair, no more of them for an account with few orders than new buyers take."""
        limited: AnyFloatArray = np.minimum(units, np.where(self.has_few[account], self.most[product], np.inf))
        return limited


@dataclass(frozen=True)
class Quantities:
    """What is usual for a product, and how far an account departs from the usual.

    The departure of a line is `log(units / usual)`. An account's is the median of its lines, times `n / (n + 10)`; for
    products of one size (usual units within one doubling) the median of what remains comes on top, shrunk likewise:
    who buys cards by the hundred does not buy lamps so.

    Attributes:
        usual: units of a product's median line, `(n_products,)`.
        departure: of each account, `(n_accounts,)`.
        most: units of its largest line, `(n_accounts,)`; an account without a line has 0.
        sized: of accounts and sizes, the rows `account * 64 + size` as index.
        first: what new buyers take.
    """

    usual: FloatArray
    departure: FloatArray
    most: FloatArray
    sized: pd.Series
    first: FirstQuantities

    @classmethod
    def of(cls, snapshot: Snapshot) -> Quantities:
        """Return the quantities of a snapshot."""
        known, n_accounts = snapshot.known, snapshot.shape[0]
        usual = product_quantities(snapshot.lines)
        log_ratio = np.log(np.maximum(known.quantity, _SMALLEST) / np.maximum(usual[known.product], _SMALLEST))
        departure = _shrunk_medians(known.account, log_ratio).reindex(np.arange(n_accounts), fill_value=0.0).to_numpy()
        most = np.zeros(n_accounts)
        np.maximum.at(most, known.account, known.quantity)
        sized = _shrunk_medians(_sized(known.account, usual[known.product]), log_ratio - departure[known.account])
        return cls(usual, departure, most, sized, FirstQuantities.of(snapshot.lines))

    def expect(self, account: RowArray, product: RowArray) -> AnyFloatArray:
        """Return the expected units of each pair, above zero.

        They are no more than the account's largest line, or the usual; nor, after few orders, than new buyers take.
        """
        usual = self.usual[product]
        sized = self.sized.reindex(_sized(account, usual), fill_value=0.0).to_numpy()
        units = usual * np.exp(self.departure[account] + sized)
        units = np.minimum(units, np.maximum(self.most[account], usual))
        expected: AnyFloatArray = np.maximum(self.first.limit(account, product, units), _SMALLEST).astype(np.float32)
        return expected


def _most_of(units: pd.Series) -> float:
    return float(units.quantile(_FIRST_SHARE, interpolation="lower"))


def _shrunk_medians(groups: RowArray | IntArray, values: FloatArray) -> pd.Series:
    found = pd.Series(values).groupby(groups).agg(["median", "size"])
    return found["median"] * found["size"] / (found["size"] + PRIOR_LINES)


def _sized(account: RowArray, usual: FloatArray) -> IntArray:
    doublings = np.floor(np.log2(np.maximum(usual, _SMALLEST))).astype(np.int64)
    return account.astype(np.int64) * _SIZES + np.clip(doublings + _SIZES // 4, 0, _SIZES - 1)
