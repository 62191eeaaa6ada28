"""Array types, and the few array tools that several rooms share."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
AnyFloatArray = NDArray[np.floating[Any]]
"""Of 32 or 64 bits: features and scores of many accounts are kept in the smaller."""
IntArray = NDArray[np.int64]
RowArray = NDArray[np.int32]
"""Rows of a table: positions in its columns; -1 where there is none."""
BoolArray = NDArray[np.bool_]

_Whole = TypeVar("_Whole", bound=np.integer)


def unique_sorted(values: NDArray[_Whole]) -> NDArray[_Whole]:
    """Return the distinct values, rising; what `np.unique` returns, which hashes and takes twenty times as long.

    Example:
        >>> unique_sorted(np.array([3, 1, 3]))
        array([1, 3])
    """
    rising = np.sort(values, axis=None)
    keep = np.ones(len(rising), dtype=bool)
    keep[1:] = rising[1:] != rising[:-1]
    return rising[keep]


def sparse_lookup(matrix: sp.csr_array, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the cells `(rows[i], columns[i])`, shape `(n,)`.

    Example:
        >>> sparse_lookup(sp.csr_array([[0, 2], [3, 0]]), np.array([1, 0]), np.array([0, 0]))
        array([3., 0.])
    """
    # scipy answers an empty index with a sparse array of another shape, so that it never gets one.
    if len(rows) == 0:
        return np.zeros(0)
    return np.asarray(matrix[rows, columns], dtype=np.float64).ravel()


def weighted_median(groups: NDArray[np.integer], values: FloatArray, weights: FloatArray, n_groups: int) -> FloatArray:
    """Return the lower weighted median of each group, one of its values, shape `(n_groups,)`; NaN without a weight.

    Example:
        >>> weighted_median(np.array([0, 0, 0]), np.array([9.0, 5.0, 1.0]), np.array([1.0, 1.0, 3.0]), 2)
        array([ 1., nan])
    """
    medians = np.full(n_groups, np.nan)
    if len(groups) == 0:
        return medians
    order = np.lexsort((values, groups))
    group = groups[order]
    first = np.concatenate([[True], group[1:] != group[:-1]])
    begin = np.flatnonzero(first)
    running = np.cumsum(weights[order])
    before = np.where(begin > 0, running[begin - 1], 0.0)
    counts = np.diff(np.append(begin, len(group)))
    total = running[begin + counts - 1] - before
    # A sum of many weights is off in its last digits, so that half of it is reached within a hair's breadth.
    reached = running - np.repeat(before, counts) >= np.repeat(total * (0.5 - 1e-9), counts)
    found, at = np.unique(group[reached], return_index=True)
    medians[found] = values[order][reached][at]
    medians[group[begin[total <= 0]]] = np.nan
    return medians


def row_of_entry(counts: IntArray) -> IntArray:
    """Return the row of each entry, shape `(sum(counts),)`.

    >>> row_of_entry(np.array([2, 0, 3])).tolist()
    [0, 0, 2, 2, 2]
    """
    return np.repeat(np.arange(len(counts)), counts)


def starts(counts: IntArray) -> IntArray:
    """Return where each row begins in the flat array.

    >>> starts(np.array([2, 0, 3])).tolist()
    [0, 2, 2]
    """
    return np.cumsum(counts) - counts


def positions(counts: IntArray) -> IntArray:
    """Return the position of each entry within its row.

    >>> positions(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(int(counts.sum())) - np.repeat(starts(counts), counts)


def running_sums(values: FloatArray, counts: IntArray) -> FloatArray:
    """Return the cumulative sum within each row.

    Summed row by row position, so that a row's result does not depend on the rows before it.

    >>> running_sums(np.array([1.0, 2.0, 5.0]), np.array([2, 1])).tolist()
    [1.0, 3.0, 5.0]
    """
    sums = values.copy()
    first = starts(counts)
    for position in range(1, int(counts.max(initial=0))):
        index = first[counts > position] + position
        sums[index] += sums[index - 1]
    return sums


class FeatureMatrix(NamedTuple):
    """Named columns of floats; NaN is missing.

    Attributes:
        names: one a column.
        values: shape `(n_rows, n_columns)`.
    """

    names: tuple[str, ...]
    values: AnyFloatArray

    @classmethod
    def of(cls, columns: dict[str, np.ndarray], n_rows: int) -> FeatureMatrix:
        """Return the table of some columns, each of shape `(n_rows,)`."""
        values = np.empty((n_rows, len(columns)), dtype=np.float32)
        for position, column in enumerate(columns.values()):
            values[:, position] = column
        return cls(tuple(columns), values)

    def column(self, name: str) -> AnyFloatArray:
        """Return one column, shape `(n_rows,)`."""
        return self.values[:, self.names.index(name)]


def informative(values: AnyFloatArray) -> NDArray[np.intp]:
    """Return the columns that hold more than one value (missing apart); the others teach nothing, shape `(n,)`."""
    low = np.fmin.reduce(values, axis=0, initial=np.inf)
    high = np.fmax.reduce(values, axis=0, initial=-np.inf)
    return np.flatnonzero(low < high)
