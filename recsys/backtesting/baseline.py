"""What every baseline does: fit on the lines before a cutoff, then rank products that the account does not own."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import RowArray
from recsys.data.history import SECONDS_A_DAY as DAY
from recsys.data.history import History, epoch_seconds

FloatMatrix = NDArray[np.float32]
Counted = Literal["every", "latest"]
"""Which lines of an account and product count under a half-life: all of them, or the latest alone."""

# Cells of a dense block of scores (accounts x products): 80 MB of float32.
BLOCK_CELLS = 20_000_000


class Baseline(Protocol):
    """One method of the ladder."""

    name: str

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Learn from the lines before `cutoff` only."""
        ...

    def recommend(self, accounts: RowArray, k: int) -> RowArray:
        """Return the best k products that each account does not own, rows `(n, k)`, -1 where there are fewer.

        Ties go to the product with the lower row, so that equal data give equal lists.
        """
        ...


class BlockBaseline:
    """A baseline that scores a block of accounts against all products at once.

    A subclass sets `owned_` in `fit` and gives `_scores`. A score of zero or less means "no evidence": such a
    product is not recommended.
    """

    name: str
    owned_: sp.csr_array

    def recommend(self, accounts: RowArray, k: int) -> RowArray:
        """Return the best k products that each account does not own, rows `(n, k)`, -1 where there are fewer."""
        size = max(1, BLOCK_CELLS // max(1, self.owned_.shape[1]))
        blocks = [accounts[start : start + size] for start in range(0, len(accounts), size)]
        lists = [top_k_mask(without_owned(self._scores(block), self.owned_[block]), k) for block in blocks]
        return np.concatenate(lists) if lists else np.empty((0, k), dtype=np.int32)

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        """Return the scores of all products, `(n, n_products)`."""
        raise NotImplementedError


def without_owned(scores: FloatMatrix, owned: sp.csr_array) -> FloatMatrix:
    """Return `scores` with what the account owns at zero, `(n, n_products)`."""
    rows, columns = owned.nonzero()
    scores[rows, columns] = 0.0
    return scores


def top_k_mask(scores: FloatMatrix, k: int) -> RowArray:
    """Return the columns of the k best positive scores of each row, best first, `(n, k)`, -1 where there are fewer.

    Ties go to the lower column.

    Example:
        >>> top_k_mask(np.array([[0.5, 0.0, 0.9, 0.5]], dtype=np.float32), 3)
        array([[2, 0, 3]], dtype=int32)
    """
    n, width = scores.shape
    place = max(0, width - k)
    threshold = np.partition(scores, place, axis=1)[:, place] if width else np.zeros(n, dtype=scores.dtype)
    # Everything at the threshold stays in, so that the sort below, not the partition, breaks the ties.
    rows, columns = np.nonzero((scores >= threshold[:, None]) & (scores > 0))
    order = np.lexsort((columns, -scores[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    lists = np.full((n, k), -1, dtype=np.int32)
    keep = rank < k
    lists[rows[keep], rank[keep]] = columns[keep]
    return lists


def purchase_weights(
    history: History, cutoff: datetime, half_life_days: float | None, counted: Counted = "every"
) -> sp.csr_array:
    """Return how much each account's purchases of each product count, `(n_accounts, n_products)`.

    1 without a half-life; with one `sum of 0.5 ** (age / half_life_days)` over the lines of the account and product,
    age being days from the line to the cutoff; or the value of the latest line alone, at most 1, which is the better
    ranker where products are bought again and again.
    """
    past = history.before(cutoff).known()
    shape = (history.n_accounts, history.n_products)
    if half_life_days is None:
        return past.owned()
    age_days = (epoch_seconds(cutoff) - past.seconds) / DAY
    weight = (0.5 ** (age_days / half_life_days)).astype(np.float32)
    if counted == "every":
        return sp.csr_array(sp.coo_array((weight, (past.account, past.product)), shape=shape))
    key = past.account.astype(np.int64) * shape[1] + past.product
    # Lines are sorted by time: read backwards, the first index of a key is its latest purchase.
    unique, latest = np.unique(key[::-1], return_index=True)
    rows, columns = np.divmod(unique, shape[1])
    return sp.csr_array(sp.coo_array((weight[::-1][latest], (rows, columns)), shape=shape))


def diagonal(values: NDArray[np.float64]) -> sp.dia_array:
    """Return the square matrix with `values` on its diagonal: rows or columns are scaled by a product with it."""
    return sp.dia_array((values[None, :].astype(np.float32), [0]), shape=(len(values), len(values)))


def half_life_suffix(half_life_days: float | None, counted: Counted = "every") -> str:
    """Return how a half-life reads in a baseline's name: `""`, `", decay 90 d"` or `", latest 90 d"`."""
    if half_life_days is None:
        return ""
    return f", {'decay' if counted == 'every' else 'latest'} {half_life_days:g} d"
