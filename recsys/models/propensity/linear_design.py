"""An encoded table as the columns of a linear model."""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from recsys.arrays import FloatArray
from recsys.models.propensity.encoding import MISSING, EncodedTable


class LinearDesign(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Standardised numbers, quantile bins and one-hot levels.

    A missing number is the median and has a column of its own.

    Args:
        n_levels: of each column of the levels block.
        code_levels: which of them are codes.
        bins: numbers also enter as so many quantile bins; 0 for none.
        codes: whether codes also enter as categories.
        logs: whether skewed numbers enter as `sign(x) log(1 + |x|)`.
    """

    def __init__(
        self, n_levels: list[int], code_levels: NDArray[np.bool_], bins: int = 0, *, codes: bool, logs: bool
    ) -> None:
        self.n_levels = n_levels
        self.code_levels = code_levels
        self.bins = bins
        self.codes = codes
        self.logs = logs

    def fit(self, table: EncodedTable) -> Self:
        """Learn medians, scales and bins."""
        numbers = table.numbers
        self.median_ = np.array([_median(column) for column in numbers.T])
        self.gaps_ = np.isnan(numbers).any(axis=0)
        self.logs_ = np.array([self.logs and _skewed(column) for column in numbers.T], dtype=bool)
        plain = self._plain(numbers)
        self.mean_, scale = plain.mean(axis=0), plain.std(axis=0)
        self.scale_ = np.where(scale > 0, scale, 1.0)
        self.edges_ = [_bin_edges(column, self.bins) for column in numbers.T]
        return self

    def transform(self, table: EncodedTable) -> sp.csr_array:
        """Return the design, `(n_rows, n_columns)`."""
        # The first column is empty, so that a table without any column of use still has a design.
        standard = np.clip((self._plain(table.numbers) - self.mean_) / self.scale_, -8.0, 8.0)
        blocks = [
            sp.csr_array((len(table), 1)),
            sp.csr_array(standard),
            sp.csr_array(np.isnan(table.numbers[:, self.gaps_]).astype(np.float64)),
        ]
        for column, edges in zip(table.numbers.T, self.edges_, strict=True):
            if len(edges):
                bins = np.where(np.isnan(column), MISSING, np.searchsorted(edges, column, side="right"))
                blocks.append(_one_hot(bins, len(edges) + 1))
        for column, n, code in zip(table.levels.T, self.n_levels, self.code_levels, strict=True):
            if self.codes or not code:
                blocks.append(_one_hot(column, n))
        return sp.csr_array(sp.hstack(blocks, format="csr"))

    def _plain(self, numbers: FloatArray) -> FloatArray:
        filled = np.where(np.isnan(numbers), self.median_, numbers)
        plain: FloatArray = np.where(self.logs_, np.sign(filled) * np.log1p(np.abs(filled)), filled)
        return plain


def _median(column: FloatArray) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else 0.0


def _skewed(column: FloatArray) -> bool:
    known = column[~np.isnan(column)]
    spread = known.std() if len(known) else 0.0
    return bool(spread > 0 and abs(float(np.mean(((known - known.mean()) / spread) ** 3))) > 2.0)


def _bin_edges(column: FloatArray, bins: int) -> FloatArray:
    known = column[~np.isnan(column)]
    if bins == 0 or len(known) == 0:
        return np.empty(0)
    edges: FloatArray = np.unique(np.quantile(known, np.arange(1, bins) / bins))
    return np.asarray(edges[edges > known.min()], dtype=np.float64)


def _one_hot(levels: NDArray[np.int_], n: int) -> sp.csr_array:
    """Return one column a level and one for missing, `(n_rows, n + 1)`; a level of `n` or more is the last known."""
    column = np.where(levels == MISSING, n, np.minimum(levels, n - 1))
    rows = np.arange(len(levels))
    return sp.csr_array((np.ones(len(levels)), (rows, column)), shape=(len(levels), n + 1))
