"""Neighbours: what accounts with a like history bought."""

from __future__ import annotations

from datetime import datetime
from typing import Self

import numpy as np
import scipy.sparse as sp

from recsys.arrays import RowArray
from recsys.backtesting.baseline import (
    BlockBaseline,
    Counted,
    FloatMatrix,
    diagonal,
    half_life_suffix,
    purchase_weights,
    top_k,
)
from recsys.data.history import History


class UserKnn(BlockBaseline):
    """Products by the summed cosine of the nearest accounts that bought them.

    `score_j = sum over the n_neighbours nearest accounts b of cos(a, b) w_bj`, cosine over the account x product
    weights; ties between neighbours go to the lower account row.
    """

    def __init__(
        self, n_neighbours: int = 100, half_life_days: float | None = None, counted: Counted = "every"
    ) -> None:
        self.n_neighbours = n_neighbours
        self.half_life_days = half_life_days
        self.counted = counted
        self.name = f"user kNN {n_neighbours}{half_life_suffix(half_life_days, counted)}"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Scale each account's weights to length one."""
        self.owned_ = history.before(cutoff).owned()
        self.weights_ = purchase_weights(history, cutoff, self.half_life_days, self.counted)
        length = np.sqrt(np.asarray(self.weights_.power(2).sum(axis=1)).ravel())
        self.unit_ = sp.csr_array(diagonal(1.0 / np.where(length > 0, length, 1.0)) @ self.weights_).astype(np.float32)
        self.unit_transposed_ = sp.csr_array(self.unit_.T)
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        # Accounts against accounts is wider than against products: a smaller block keeps the same memory bound.
        size = max(1, len(accounts) * self.owned_.shape[1] // max(1, self.owned_.shape[0]))
        parts = [self._block(accounts[start : start + size]) for start in range(0, len(accounts), size)]
        return np.concatenate(parts)

    def _block(self, accounts: RowArray) -> FloatMatrix:
        likeness = np.asarray((self.unit_[accounts] @ self.unit_transposed_).todense())
        likeness[np.arange(len(accounts)), accounts] = 0.0
        nearest = top_k(likeness, self.n_neighbours)
        rows, places = np.nonzero(nearest >= 0)
        columns = nearest[rows, places]
        kept = sp.csr_array((likeness[rows, columns], (rows, columns)), shape=likeness.shape)
        return np.asarray((kept @ self.weights_).todense())
