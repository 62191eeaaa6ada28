"""Scores of a block of accounts over the products still open to them: the best of each channel become candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import AnyFloatArray, BoolArray, RowArray
from recsys.models.retrieval.retriever import top_k


@dataclass(frozen=True)
class OpenScores:
    """Scores that differ by account.

    Attributes:
        scores: `(n_channels, n_accounts, n_products)`, 0 where the product is owned or may not be offered.
    """

    scores: AnyFloatArray

    @classmethod
    def of(cls, scores: AnyFloatArray, closed: NDArray[np.intp], owned: sp.csr_array) -> Self:
        """Return the scores of a source, which are changed in place, without what is closed or owned.

        Args:
            scores: fresh from the source.
            closed: products that may not be offered.
            owned: `(n_accounts, n_products)`.
        """
        scores[:, :, closed] = 0.0
        scores[:, np.repeat(np.arange(owned.shape[0]), np.diff(owned.indptr)), owned.indices] = 0.0
        return cls(scores)

    def choose(self, k: int, chosen: BoolArray) -> None:
        """Mark the `k` best products of each account and channel in `chosen`, `(n_accounts, n_products)`."""
        for channel in self.scores:
            chosen |= top_k(channel, k)

    def at(self, row: RowArray, place: RowArray) -> AnyFloatArray:
        """Return the scores of some products, each of the account in `row`, `(n_channels, n)`."""
        return np.stack([channel[row, place] for channel in self.scores])

    def best(self) -> AnyFloatArray:
        """Return the highest score of each account, `(n_channels, n_accounts)`."""
        best: AnyFloatArray = self.scores.max(axis=2)
        return best


class SharedScores:
    """Scores that are the same for every account, but for what it owns: sorted once for a whole block."""

    def __init__(self, scores: AnyFloatArray, owned: sp.csr_array) -> None:
        """Take scores `(n_channels, n_products)`, 0 where a product may not be offered, and `owned` as `OpenScores`."""
        self._scores, self._owned = scores, owned
        self._order = np.argsort(-scores, axis=1, kind="stable")

    def choose(self, k: int, chosen: BoolArray) -> None:
        """Mark the `k` best products of each account and channel in `chosen`, `(n_accounts, n_products)`."""
        for position, order in enumerate(self._order):
            first = order[: k + 1 + self._most_owned()]
            chosen[:, first] |= top_k(self._of_first(position, first), k)

    def at(self, row: RowArray, place: RowArray) -> AnyFloatArray:  # noqa: ARG002 - the same of every account
        """Return the scores of some products, none owned by its account, `(n_channels, n)`."""
        return self._scores[:, place]

    def best(self) -> AnyFloatArray:
        """Return the highest score of each account, `(n_channels, n_accounts)`."""
        most = self._most_owned()
        return np.stack(
            [self._of_first(position, order[: most + 1]).max(axis=1) for position, order in enumerate(self._order)]
        )

    def _most_owned(self) -> int:
        """Return how many products an account owns at most: as many of the first may be closed to it."""
        return int(np.diff(self._owned.indptr).max(initial=0))

    def _of_first(self, position: int, first: NDArray[np.intp]) -> AnyFloatArray:
        scores = np.repeat(self._scores[position, first][None, :], self._owned.shape[0], axis=0)
        place = np.full(self._scores.shape[1], -1)
        place[first] = np.arange(len(first))
        row = np.repeat(np.arange(self._owned.shape[0]), np.diff(self._owned.indptr))
        here = place[self._owned.indices]
        scores[row[here >= 0], here[here >= 0]] = 0.0
        return scores
