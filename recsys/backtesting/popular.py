"""Popularity: what most accounts have bought, or have lately begun to buy."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

import numpy as np

from recsys.arrays import RowArray
from recsys.backtesting.baseline import BlockBaseline, FloatMatrix
from recsys.data.history import History


class Popular(BlockBaseline):
    """Products by the number of accounts that bought them before the cutoff."""

    name = "popular"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Count the accounts of each product."""
        self.owned_ = history.before(cutoff).owned()
        self.counts_ = np.bincount(self.owned_.indices, minlength=history.n_products).astype(np.float32)
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        return np.tile(self.counts_, (len(accounts), 1))


class RecentlyPopular(BlockBaseline):
    """Products by the number of accounts that bought them for the first time in the last days before the cutoff."""

    def __init__(self, window_days: int = 30) -> None:
        self.window_days = window_days
        self.name = f"recently popular, {window_days} d"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Count the first purchases of each product within the window."""
        past = history.before(cutoff)
        self.owned_ = past.owned()
        recent = past.first_purchases().between(cutoff - timedelta(days=self.window_days), self.window_days)
        self.counts_ = np.bincount(recent.product, minlength=history.n_products).astype(np.float32)
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        return np.tile(self.counts_, (len(accounts), 1))
