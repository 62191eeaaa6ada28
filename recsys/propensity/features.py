"""Candidates and their features: one builder for training, batch and online, so that they cannot differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from recsys.contracts.config import Config
from recsys.data.history import IntArray
from recsys.propensity.account_features import account_table
from recsys.propensity.pair_features import NAMES as PAIR_NAMES
from recsys.propensity.pair_features import PairFeatures
from recsys.propensity.product_features import product_table
from recsys.propensity.retrieval.head import take_head
from recsys.propensity.retrieval.source import Source, top_k
from recsys.propensity.snapshot import BoolArray, FloatArray, Snapshot
from recsys.propensity.tables import Table


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
class Block:
    """Candidates of some accounts, sorted by account, then product.

    Attributes:
        account: row of the account in the vocabulary, shape `(n_candidates,)`.
        product: row of the product, shape `(n_candidates,)`.
        values: features, shape `(n_candidates, n_features)`.
    """

    account: IntArray
    product: IntArray
    values: FloatArray


class FeatureBuilder:
    """Proposes candidates for accounts and describes them, from one snapshot.

    The features of a candidate: each channel's score, its share of the account's best score and its rank among the
    account's candidates; the product's; the account's; and how the two fit (`PairFeatures`).
    """

    def __init__(self, snapshot: Snapshot, sources: tuple[Source, ...], extra: Table, config: FeatureConfig) -> None:
        """Fit the sources on the snapshot; `extra` holds the columns of the accounts table, `(n_accounts, ...)`."""
        self.config = config
        self.snapshot = snapshot
        self._head = take_head(snapshot, config.max_products).products
        narrow = snapshot.of_products(self._head)
        self.sources = tuple(source.fit(narrow) for source in sources)
        self.channels = tuple(name for source in sources for name in source.channels)
        self.products = product_table(snapshot)
        self.accounts = account_table(snapshot)
        self.extra = extra
        self._owned, self._offerable = narrow.matrix(), narrow.offerable
        self._fresh = [position for position, name in enumerate(self.channels) if name.endswith("_fresh")]
        self._pairs = PairFeatures(snapshot, self.products, self.accounts)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature, in the order of the columns."""
        channel = tuple(f"{name}{kind}" for name in self.channels for kind in ("", "_share", "_rank"))
        lift = tuple(f"{self.channels[position]}_lift" for position in self._fresh)
        return channel + lift + self.products.names + self.accounts.names + self.extra.names + PAIR_NAMES

    def block(self, accounts: IntArray) -> Block:
        """Return the candidates of some accounts with their features."""
        barred = self._barred(accounts)
        scores = np.concatenate([source.score(accounts) for source in self.sources])
        np.multiply(scores, ~barred, out=scores)
        chosen = np.zeros(barred.shape, dtype=bool)
        for channel in scores:
            chosen |= top_k(channel, self.config.per_channel)
        row, place = (found.astype(np.int32) for found in np.nonzero(chosen))
        account, product = accounts[row].astype(np.int32), self._head[place]
        found = scores[:, row, place]
        parts = [self._channel_features(scores, found, row), self._lifts(found, product)]
        parts += [self.products.values[product], self.accounts.values[account], self.extra.values[account]]
        parts.append(self._pairs.of(account, product))
        return Block(account, product, np.concatenate(parts, axis=1))

    def standing(self) -> IntArray:
        """Return the rows of the accounts that have bought something, ascending."""
        return np.unique(self.snapshot.pairs.account).astype(np.int32)

    def account_values(self, accounts: IntArray) -> FloatArray:
        """Return the features of the accounts alone, `(len(accounts), n_account_features)`."""
        return np.concatenate([self.accounts.values[accounts], self.extra.values[accounts]], axis=1)

    def popularity(self, values: FloatArray) -> FloatArray:
        """Return log first purchases of the last 30 days, ties by owners, `(n,)`: the order without a model."""
        fresh, owners = (values[:, self.names.index(f"product_{name}")] for name in ("new_30d", "owners"))
        order: FloatArray = np.log1p(fresh) + 1e-3 * np.log1p(owners)
        return order

    def _barred(self, accounts: IntArray) -> BoolArray:
        barred = np.repeat(~self._offerable[None, :], len(accounts), axis=0)
        owned = self._owned[accounts].tocoo()
        barred[owned.row, owned.col] = True
        return barred

    def _channel_features(self, scores: FloatArray, found: FloatArray, row: IntArray) -> FloatArray:
        """Return score, share of the account's best and rank of each channel, `(n_candidates, 3 * n_channels)`."""
        offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=scores.shape[1]))])
        best = np.maximum(scores.max(axis=2), 0.0)[:, row]
        features = np.empty((len(row), 3 * len(scores)), dtype=np.float32)
        features[:, 0::3] = found.T
        features[:, 1::3] = np.divide(found, best, out=np.zeros_like(found), where=best > 0).T
        for position, values in enumerate(found):
            features[:, 3 * position + 2] = _rank_within(row, values, offsets)
        return features

    def _lifts(self, found: FloatArray, product: IntArray) -> FloatArray:
        """Return each fresh vote over the product's new owners: above the usual where mine are like this account."""
        new_owners = self.products.column("product_new_30d")[product] + 2.0
        lifts: FloatArray = (found[self._fresh] / new_owners).T.astype(np.float32)
        return lifts


def _rank_within(row: IntArray, values: FloatArray, offsets: np.ndarray) -> FloatArray:
    """Return the place of each value within its row, 0 for the highest; ties by position."""
    order = np.lexsort((-values, row))
    rank = np.empty(len(row), dtype=np.float32)
    rank[order] = np.arange(len(row)) - offsets[row[order]]
    return rank
