"""A small named matrix: feature names beside their values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.propensity.snapshot import FloatArray


class Table(NamedTuple):
    """Named columns of floats; NaN is missing.

    Attributes:
        names: one a column.
        values: shape `(n_rows, n_columns)`.
    """

    names: tuple[str, ...]
    values: FloatArray

    @classmethod
    def of(cls, columns: dict[str, np.ndarray], n_rows: int) -> Table:
        """Return the table of some columns, each of shape `(n_rows,)`."""
        values = np.empty((n_rows, len(columns)), dtype=np.float32)
        for position, column in enumerate(columns.values()):
            values[:, position] = column
        return cls(tuple(columns), values)

    def column(self, name: str) -> FloatArray:
        """Return one column, shape `(n_rows,)`."""
        return self.values[:, self.names.index(name)]


def informative(values: FloatArray) -> NDArray[np.intp]:
    """Return the columns that hold more than one value (missing apart); the others teach nothing, shape `(n,)`."""
    low = np.fmin.reduce(values, axis=0, initial=np.inf)
    high = np.fmax.reduce(values, axis=0, initial=-np.inf)
    return np.flatnonzero(low < high)
