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
from recsys.propensity.retrieval.source import Source, top_k
from recsys.propensity.snapshot import BoolArray, FloatArray, Snapshot
from recsys.propensity.tables import Table


class FeatureConfig(Config):
    """How many candidates are looked at.

    Attributes:
        per_channel: best products of each channel that become candidates of an account; their union is ranked.
    """

    per_channel: int = Field(default=60, ge=1)


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
        self.sources = tuple(source.fit(snapshot) for source in sources)
        self.channels = tuple(name for source in sources for name in source.channels)
        self.products = product_table(snapshot)
        self.accounts = account_table(snapshot)
        self.extra = extra
        self._owned = snapshot.matrix()
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
        chosen = np.zeros(barred.shape, dtype=bool)
        for channel in scores:
            chosen |= top_k(channel, barred, self.config.per_channel)
        row, product = (found.astype(np.int32) for found in np.nonzero(chosen))
        account = accounts[row].astype(np.int32)
        parts = [self._channel_features(scores, barred, row, product), self._lifts(scores, row, product)]
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
        barred = np.repeat(~self.snapshot.offerable[None, :], len(accounts), axis=0)
        owned = self._owned[accounts].tocoo()
        barred[owned.row, owned.col] = True
        return barred

    def _channel_features(self, scores: FloatArray, barred: BoolArray, row: IntArray, product: IntArray) -> FloatArray:
        offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=barred.shape[0]))])
        found = np.empty((len(row), 3 * len(scores)), dtype=np.float32)
        for position, channel in enumerate(scores):
            values = channel[row, product]
            best = np.where(barred, 0.0, channel).max(axis=1, initial=0.0)[row]
            found[:, 3 * position] = values
            found[:, 3 * position + 1] = np.divide(values, best, out=np.zeros_like(values), where=best > 0)
            found[:, 3 * position + 2] = _rank_within(row, values, offsets)
        return found

    def _lifts(self, scores: FloatArray, row: IntArray, product: IntArray) -> FloatArray:
        """Return each fresh vote over the product's new owners: above the usual where mine are like this account."""
        new_owners = self.products.column("product_new_30d")[product] + 2.0
        found = np.empty((len(row), len(self._fresh)), dtype=np.float32)
        for position, channel in enumerate(self._fresh):
            found[:, position] = scores[channel][row, product] / new_owners
        return found


def _rank_within(row: IntArray, values: FloatArray, offsets: np.ndarray) -> FloatArray:
    """Return the place of each value within its row, 0 for the highest; ties by position."""
    order = np.lexsort((-values, row))
    rank = np.empty(len(row), dtype=np.float32)
    rank[order] = np.arange(len(row)) - offsets[row[order]]
    return rank
