"""The protocol of a candidate source, and the pruning of its scores."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np

from recsys.data.history import IntArray
from recsys.propensity.snapshot import BoolArray, FloatArray, Snapshot


class Source(Protocol):
    """Scores every product for a block of accounts, in one or more channels (ways to weigh the same evidence)."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Name of each channel, unique over all sources."""
        ...

    def fit(self, snapshot: Snapshot) -> Self:
        """Learn from what was known at the snapshot."""
        ...

    def score(self, accounts: IntArray) -> FloatArray:
        """Return `(n_channels, len(accounts), n_products)`; higher is better, 0 is no evidence.

        The block is dense: its caller bounds the memory by the number of accounts in it.
        """
        ...


def top_k(scores: FloatArray, k: int) -> BoolArray:
    """Return which products are among the `k` best of their account, `(n_accounts, n_products)`.

    Only scores above zero count; ties at the edge are left out together.
    """
    best: BoolArray = scores > 0
    rows = np.flatnonzero(np.count_nonzero(best, axis=1) > k)  # few accounts have so many in a sparse channel
    if len(rows):
        crowded = scores[rows]
        edge = np.partition(crowded, scores.shape[1] - k - 1, axis=1)[:, scores.shape[1] - k - 1]
        best[rows] = crowded > edge[:, None]
    return best
