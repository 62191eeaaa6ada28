"""What is predicted: the products that an account buys for the first time within the horizon."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import scipy.sparse as sp

from recsys.arrays import BoolArray, RowArray
from recsys.data.history import History, binary


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
