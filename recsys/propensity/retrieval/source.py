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


def top_k(scores: FloatArray, barred: BoolArray, k: int) -> BoolArray:
    """Return which products are among the `k` best of their account, `(n_accounts, n_products)`.

    Only scores above zero count; barred products never do; ties at the edge are left out together.
    """
    open_scores = np.where(barred, 0.0, scores)
    if k >= scores.shape[1]:
        return open_scores > 0
    edge = np.partition(open_scores, scores.shape[1] - k - 1, axis=1)[:, scores.shape[1] - k - 1]
    best: BoolArray = open_scores > np.maximum(edge, 0.0)[:, None]
    return best
