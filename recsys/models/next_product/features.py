"""Candidates and their features: one builder for training, batch and online, so that they cannot differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import AnyFloatArray, FeatureMatrix, RowArray, unique_sorted
from recsys.contracts.config import Config
from recsys.models.next_product.account_features import account_feature_matrix
from recsys.models.next_product.pair_features import NAMES as PAIR_NAMES
from recsys.models.next_product.pair_features import PairFeatures
from recsys.models.next_product.product_features import product_feature_matrix
from recsys.models.retrieval.retriever import OpenScores, Retriever, SharedScores, take_head
from recsys.models.snapshot import Snapshot


class FeatureConfig(Config):
    """How many candidates are looked at.

    Attributes:
        per_channel: best products of each channel that become candidates of an account; their union is ranked.
        max_products: products that may become candidates: those that accounts bought last and most. Bounds time and
            memory, which go with accounts times products; few buy what stands beyond.
    """

    per_channel: int = Field(default=60, ge=1)
    max_products: int = Field(default=5_000, ge=1)


@dataclass(frozen=True)
class CandidateFeatures:
    """Candidates of some accounts, sorted by account, then product.

    Attributes:
        account: row of the account in the vocabulary, shape `(n_candidates,)`.
        product: row of the product, shape `(n_candidates,)`.
        values: features, shape `(n_candidates, n_features)`.
    """

    account: RowArray
    product: RowArray
    values: AnyFloatArray


class FeatureBuilder:
    """Proposes candidates for accounts and describes them, from one snapshot.

    The features of a candidate: each channel's score, its share of the account's best score and its rank among the
    account's candidates; the product's; the account's; and how the two fit (`PairFeatures`).
    """

    def __init__(
        self, snapshot: Snapshot, sources: tuple[Retriever, ...], extra: FeatureMatrix, config: FeatureConfig
    ) -> None:
        """Fit the sources on the snapshot; `extra` holds the columns of the accounts table, `(n_accounts, ...)`."""
        self.config = config
        self.snapshot = snapshot
        self._head = take_head(snapshot, config.max_products).products
        narrow = snapshot.of_products(self._head)
        self.sources = tuple(source.fit(narrow) for source in sources)
        self.channels = tuple(name for source in sources for name in source.channels)
        self.products = product_feature_matrix(snapshot)
        self.accounts = account_feature_matrix(snapshot)
        self.extra = extra
        self._owned, self._offerable = narrow.matrix(), narrow.offerable
        self._closed = np.flatnonzero(~narrow.offerable)
        self._fresh = [position for position, name in enumerate(self.channels) if name.endswith("_fresh")]
        self._pairs = PairFeatures(snapshot, self.products, self.accounts)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature, in the order of the columns."""
        channel = tuple(f"{name}{kind}" for name in self.channels for kind in ("", "_share", "_rank"))
        lift = tuple(f"{self.channels[position]}_lift" for position in self._fresh)
        return channel + lift + self.products.names + self.accounts.names + self.extra.names + PAIR_NAMES

    def block(self, accounts: RowArray) -> CandidateFeatures:
        """Return the candidates of some accounts with their features."""
        owned = self._owned[accounts]
        scores = [self._open(source.score(accounts), owned) for source in self.sources]
        chosen = np.zeros(owned.shape, dtype=bool)
        for each in scores:
            each.choose(self.config.per_channel, chosen)
        row, place = (found.astype(np.int32) for found in np.nonzero(chosen))
        account, product = accounts[row].astype(np.int32), self._head[place]
        found = np.concatenate([each.at(row, place) for each in scores])
        best = np.concatenate([each.best() for each in scores])
        parts = [_channel_features(found, best, row), self._lifts(found, product)]
        parts += [self.products.values[product], self.accounts.values[account], self.extra.values[account]]
        parts.append(self._pairs.of(account, product))
        return CandidateFeatures(account, product, np.concatenate(parts, axis=1))

    def standing(self) -> RowArray:
        """Return the rows of the accounts that have bought something, ascending."""
        return unique_sorted(self.snapshot.pairs.account).astype(np.int32)

    def account_values(self, accounts: RowArray) -> AnyFloatArray:
        """Return the features of the accounts alone, `(len(accounts), n_account_features)`."""
        return np.concatenate([self.accounts.values[accounts], self.extra.values[accounts]], axis=1)

    def popularity(self, values: AnyFloatArray) -> AnyFloatArray:
        """Return log first purchases of the last 30 days, ties by owners, `(n,)`: the order without a model."""
        fresh, owners = (values[:, self.names.index(f"product_{name}")] for name in ("new_30d", "owners"))
        return np.log1p(fresh) + 1e-3 * np.log1p(owners)

    def _open(self, scores: AnyFloatArray, owned: sp.csr_array) -> OpenScores | SharedScores:
        """Return a source's scores without what may not be offered or is owned."""
        if scores.strides[1] == 0:  # one row stands for all accounts
            return SharedScores(scores[:, 0] * self._offerable, owned)
        return OpenScores.of(scores, self._closed, owned)

    def _lifts(self, found: AnyFloatArray, product: RowArray) -> AnyFloatArray:
        """Return each fresh vote over the product's new owners: above the usual where mine are like this account."""
        new_owners = self.products.column("product_new_30d")[product] + 2.0
        return (found[self._fresh] / new_owners).T.astype(np.float32)


def _channel_features(found: AnyFloatArray, best: AnyFloatArray, row: RowArray) -> AnyFloatArray:
    """Return score, share of the account's best and rank of each channel, `(n_candidates, 3 * n_channels)`.

    Args:
        found: score of each candidate, `(n_channels, n_candidates)`.
        best: highest score of each account, `(n_channels, n_accounts)`.
        row: which account each candidate is of, ascending, `(n_candidates,)`.
    """
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=best.shape[1]))])
    features = np.empty((len(row), 3 * len(found)), dtype=np.float32)
    for position, (values, highest) in enumerate(zip(found, np.maximum(best, 0.0), strict=True)):
        top = highest[row]
        features[:, 3 * position] = values
        features[:, 3 * position + 1] = np.divide(values, top, out=np.zeros_like(values), where=top > 0)
        features[:, 3 * position + 2] = _rank_within(row, values, offsets)
    return features


def _rank_within(row: RowArray, values: AnyFloatArray, offsets: NDArray[np.int64]) -> AnyFloatArray:
    """Return the place of each value within its row, 0 for the highest; ties by position.

    Row, value and position are packed into one whole number, which sorts ten times faster than three keys do.
    """
    place = np.arange(len(row)) - offsets[row]
    if len(row) == 0 or place.max() >= 1 << 16 or row[-1] >= 1 << 16:
        order = np.lexsort((-values, row))
    else:
        bits = (0.0 - values).astype(np.float32).view(np.uint32)  # minus zero would come before zero
        rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
        key = np.sort((row.astype(np.uint64) << 48) | (rising << 16) | place.astype(np.uint64))
        order = offsets[row] + (key & 0xFFFF).astype(np.int64)
    rank = np.empty(len(row), dtype=np.float32)
    rank[order] = place
    return rank
