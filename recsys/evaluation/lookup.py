"""Single cells of a sparse matrix as a dense array."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def values_at(matrix: sp.csr_array, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the cells `(rows[i], columns[i])`, shape `(n,)`.

    Example:
        >>> values_at(sp.csr_array([[0, 2], [3, 0]]), np.array([1, 0]), np.array([0, 0]))
        array([3., 0.])
    """
    # scipy answers an empty index with a sparse array of another shape, so that it never gets one.
    if len(rows) == 0:
        return np.zeros(0)
    return np.asarray(matrix[rows, columns], dtype=np.float64).ravel()
