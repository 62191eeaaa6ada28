"""How many units an account would take of a product that it has not bought yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from recsys.arrays import AnyFloatArray, FloatArray, IntArray, RowArray, weighted_median
from recsys.data.history import History
from recsys.models.snapshot import Snapshot

PRIOR_LINES: Final = 10.0
"""Lines of an account, or of one size of products, that weigh as much as what is expected without them."""
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
    """

    usual: FloatArray
    departure: FloatArray
    most: FloatArray
    sized: pd.Series

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
        return cls(usual, departure, most, sized)

    def expect(self, account: RowArray, product: RowArray) -> AnyFloatArray:
        """Return the expected units of each pair, above zero: no more than the account's largest line, or the usual."""
        usual = self.usual[product]
        sized = self.sized.reindex(_sized(account, usual), fill_value=0.0).to_numpy()
        units = usual * np.exp(self.departure[account] + sized)
        expected: AnyFloatArray = np.clip(units, _SMALLEST, np.maximum(self.most[account], usual)).astype(np.float32)
        return expected


def _shrunk_medians(groups: RowArray | IntArray, values: FloatArray) -> pd.Series:
    found = pd.Series(values).groupby(groups).agg(["median", "size"])
    return found["median"] * found["size"] / (found["size"] + PRIOR_LINES)


def _sized(account: RowArray, usual: FloatArray) -> IntArray:
    doublings = np.floor(np.log2(np.maximum(usual, _SMALLEST))).astype(np.int64)
    return account.astype(np.int64) * _SIZES + np.clip(doublings + _SIZES // 4, 0, _SIZES - 1)
