"""The protocol of a candidate source, and the pruning of its scores."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np

from recsys.arrays import AnyFloatArray, BoolArray, RowArray
from recsys.models.snapshot import Snapshot


class Source(Protocol):
    """Scores every product for a block of accounts, in one or more channels (ways to weigh the same evidence)."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Name of each channel, unique over all sources."""
        ...

    def fit(self, snapshot: Snapshot) -> Self:
        """Learn from what was known at the snapshot."""
        ...

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return `(n_channels, len(accounts), n_products)`; higher is better, 0 is no evidence.

        The block is dense: its caller bounds the memory by the number of accounts in it.
        """
        ...


def top_k(scores: AnyFloatArray, k: int) -> BoolArray:
    """Return which products are among the `k` best of their account, `(n_accounts, n_products)`.

    Only scores above zero count; ties at the edge are left out together.
    """
    best: BoolArray = scores > 0
    rows = np.flatnonzero(np.count_nonzero(best, axis=1) > k)  # few accounts have so many in a sparse channel
    if len(rows):
        crowded = scores if len(rows) == len(scores) else scores[rows]
        best[rows] = crowded > nth_largest(crowded, k + 1)[:, None]
    return best


def nth_largest(scores: AnyFloatArray, n: int) -> AnyFloatArray:
    """Return the `n`-th largest value of each row, shape `(n_rows,)`; rows hold at least `n` values.

    The `n`-th largest of the maxima of disjoint parts of a row is no larger: what lies below it need not be looked at.
    """
    n_parts = _PARTS_A_PLACE * n
    width = scores.shape[1] // n_parts
    if width < _PARTS_A_PLACE:
        return _nth_of_few(scores, n)
    parts = scores[:, : width * n_parts].reshape(len(scores), width, n_parts)
    bound = _nth_of_few(parts.max(axis=1), n)
    row, column = np.nonzero(scores >= bound[:, None])
    stops = np.cumsum(np.bincount(row, minlength=len(scores)))
    place = np.arange(len(row)) - np.concatenate([[0], stops[:-1]])[row]
    few = np.full((len(scores), int(place.max(initial=-1)) + 1), -np.inf, dtype=scores.dtype)
    few[row, place] = scores[row, column]
    return _nth_of_few(few, n)


_PARTS_A_PLACE = 4  # so many parts a wanted place: little of a row then lies above the bound that should not


def _nth_of_few(scores: AnyFloatArray, n: int) -> AnyFloatArray:
    # Sorted, not partitioned: where many values are equal, as zeros are, np.partition takes twenty times as long.
    found: AnyFloatArray = np.sort(scores, axis=1)[:, scores.shape[1] - n]
    return found
