"""The protocol of a candidate source, the pruning of its scores, and the vectors that sources share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import AnyFloatArray, BoolArray, RowArray, unique_sorted
from recsys.errors import PluginError
from recsys.models.snapshot import Snapshot


class Retriever(Protocol):
    """Scores every product for a block of accounts, in one or more channels (ways to weigh the same evidence).

    A retriever of one's own needs these three names and no base class. A new copy (`sklearn.base.clone`, or a deep copy
    where it has no `get_params`) is fitted at each moment of the past that is learned from, several at a time.
    """

    @property
    def channels(self) -> tuple[str, ...]:
        """Name of each channel, unique over all retrievers; one that ends in `_fresh` counts new owners."""
        ...

    def fit(self, snapshot: Snapshot) -> Self:
        """Learn from what was known at the snapshot, and forget what was learned before."""
        ...

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return `(n_channels, len(accounts), n_products)`; higher is better, 0 is no evidence.

        The array is the caller's to change. The block is dense: its caller bounds the memory by the number of accounts.
        """
        ...


def scores_of(retriever: Retriever, accounts: RowArray, n_products: int) -> AnyFloatArray:
    """Return what a retriever says of a block of accounts, `(n_channels, len(accounts), n_products)`.

    Raises:
        PluginError: it returned no floats, or another shape.
    """
    scores = np.asarray(retriever.score(accounts))
    wanted = len(retriever.channels), len(accounts), n_products
    if scores.shape != wanted or scores.dtype.kind != "f":
        raise PluginError(
            f"{type(retriever).__name__}.score returned {scores.dtype} of shape {scores.shape}, must be floats of "
            f"shape {wanted}: channels, accounts, products; see recsys.testing.RetrieverChecks"
        )
    return scores


def top_k_rows(scores: AnyFloatArray, k: int) -> BoolArray:
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
    return np.sort(scores, axis=1)[:, scores.shape[1] - n]


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
            chosen |= top_k_rows(channel, k)

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
            chosen[:, first] |= top_k_rows(self._of_first(position, first), k)

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


def account_vectors(snapshot: Snapshot, purchases: sp.csr_array, idf_power: float) -> sp.csr_array:
    """Return `purchases` `(n_accounts, n_products)` times `log(n_accounts / n_owners)^idf_power`, rows of length 1."""
    owners = np.bincount(snapshot.pairs.product, minlength=snapshot.shape[1])
    standing = max(len(unique_sorted(snapshot.pairs.account)), 2)
    idf = (np.log(standing / np.maximum(owners, 1)) ** idf_power).astype(np.float32)
    return unit_rows(sp.csr_array(purchases @ sp.diags_array(idf)))


def unit_rows(matrix: sp.csr_array) -> sp.csr_array:
    """Return the matrix with rows of length 1; empty rows stay empty."""
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return scaled_rows(matrix, norm)


def scaled_rows(matrix: sp.csr_array, divisor: np.ndarray) -> sp.csr_array:
    """Return each row divided by its divisor, `(n_rows,)`; rows with a divisor of 0 become 0."""
    inverse = np.divide(1.0, divisor, out=np.zeros(len(divisor)), where=divisor > 0)
    return sp.csr_array(sp.diags_array(inverse.astype(np.float32)) @ matrix)


def latest_accounts(snapshot: Snapshot, limit: int) -> RowArray:
    """Return the rows of the `limit` accounts that bought last, ascending."""
    last_age = np.full(snapshot.shape[0], np.inf, dtype=np.float32)
    np.minimum.at(last_age, snapshot.pairs.account, snapshot.pairs.last_age)
    latest = np.argsort(last_age, kind="stable")[: min(limit, int(np.isfinite(last_age).sum()))]
    return np.sort(latest).astype(np.int32)


@dataclass(frozen=True)
class Head:
    """Some products of the catalogue.

    Attributes:
        products: their rows in the vocabulary, ascending, shape `(n_head,)`.
        n_products: size of the whole vocabulary.
    """

    products: RowArray
    n_products: int

    def of(self, matrix: sp.csr_array) -> sp.csr_array:
        """Return the columns of the head, `(n_rows, n_head)`."""
        return matrix if len(self.products) == self.n_products else matrix[:, self.products]

    def spread(self, scores: AnyFloatArray) -> AnyFloatArray:
        """Return scores of the head over the whole vocabulary, 0 elsewhere, `(n_rows, n_products)`."""
        if len(self.products) == self.n_products:
            return np.asarray(scores, dtype=np.float32)
        wide = np.zeros((scores.shape[0], self.n_products), dtype=np.float32)
        wide[:, self.products] = scores
        return wide


def take_head(snapshot: Snapshot, limit: int) -> Head:
    """Return the `limit` products whose owners bought them last and most (each owner decays with 90 days)."""
    weight = np.bincount(
        snapshot.pairs.product, weights=np.exp2(-snapshot.pairs.last_age / 90.0), minlength=snapshot.shape[1]
    )
    best = np.argsort(-weight, kind="stable")[:limit]
    return Head(np.sort(best).astype(np.int32), snapshot.shape[1])
