"""Candidates and their features: one builder for training, batch and online, so that they cannot differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import AnyFloatArray, FeatureMatrix, RowArray, unique_sorted
from recsys.contracts.config import Config
from recsys.contracts.plugins import check_unique, fitted_plugin, installed_plugin
from recsys.errors import PluginError
from recsys.models.next_product.account_features import account_feature_matrix
from recsys.models.next_product.pair_features import FeatureMaker, PairFeatures
from recsys.models.next_product.product_features import product_feature_matrix
from recsys.models.retrieval.retriever import OpenScores, Retriever, SharedScores, scores_of, take_head
from recsys.models.snapshot import Snapshot


class FeatureConfig(Config):
    """How many candidates are looked at, and what describes them beside what comes with the engine.

    Attributes:
        per_channel: best products of each channel that become candidates of an account; their union is ranked.
        max_products: products that may become candidates: those that accounts bought last and most. Bounds time and
            memory, which go with accounts times products; few buy what stands beyond.
        time_scale: the windows of features are so many times as long as their names say: `new_30d` counts 90 days at 3.
        plugins: feature makers of other packages, by the names of their entry points in `offer_engine.features`.
    """

    per_channel: int = Field(default=60, ge=1)
    max_products: int = Field(default=5_000, ge=1)
    time_scale: float = Field(default=1.0, gt=0)
    plugins: tuple[Annotated[str, installed_plugin("features")], ...] = ()


WHOLE_PAST: Final = ("long_alike_ever", "ease_owned", "account_cosine", "owners")
"""Channels whose evidence is all that was ever bought, not what is bought just now."""


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
    account's candidates; the product's; the account's; how the two fit (`PairFeatures`); and what other makers say.

    Attributes:
        names: name of each feature, in the order of the columns.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        sources: Sequence[Retriever],
        extra: FeatureMatrix,
        config: FeatureConfig,
        makers: Sequence[FeatureMaker] = (),
    ) -> None:
        """Fit sources and makers on the snapshot.

        Args:
            snapshot: what was known.
            sources: retrievers, not fitted.
            extra: the columns of the accounts table, `(n_accounts, n_columns)`.
            config: how many candidates.
            makers: features beside the engine's own, not fitted.

        Raises:
            PluginError: two channels or features have one name.
        """
        self.config = config
        self.snapshot = snapshot
        self._head = take_head(snapshot, config.max_products).products
        narrow = snapshot.of_products(self._head)
        self.sources = tuple(fitted_plugin(type(source).__name__, source.fit(narrow)) for source in sources)
        self.channels = tuple(name for source in sources for name in source.channels)
        self.products = product_feature_matrix(snapshot)
        self.accounts = account_feature_matrix(snapshot)
        self.extra = extra
        self._owned, self._offerable = narrow.matrix(), narrow.offerable
        self._closed = np.flatnonzero(~narrow.offerable)
        self._fresh = [position for position, name in enumerate(self.channels) if name.endswith("_fresh")]
        makers = (PairFeatures(self.products, self.accounts), *makers)
        self._makers = tuple(fitted_plugin(type(maker).__name__, maker.fit(snapshot)) for maker in makers)
        self.names = self._names()
        self._columns = pd.Index(self.names)

    def _names(self) -> tuple[str, ...]:
        channel = tuple(f"{name}{kind}" for name in self.channels for kind in ("", "_share", "_rank"))
        lift = tuple(f"{self.channels[position]}_lift" for position in self._fresh)
        pair = tuple(name for maker in self._makers for name in maker.names)
        check_unique("channel", self.channels)
        check_unique("feature", channel + lift + self.products.names + self.accounts.names + pair)
        return channel + lift + self.products.names + self.accounts.names + self.extra.names + pair

    def block(self, accounts: RowArray) -> CandidateFeatures:
        """Return the candidates of some accounts with their features."""
        owned = self._owned[accounts]
        scores = [self._open(scores_of(source, accounts, owned.shape[1]), owned) for source in self.sources]
        chosen = np.zeros(owned.shape, dtype=bool)
        for each in scores:
            each.choose(self.config.per_channel, chosen)
        row, place = (found.astype(np.int32) for found in np.nonzero(chosen))
        account, product = accounts[row].astype(np.int32), self._head[place]
        found = np.concatenate([each.at(row, place) for each in scores])
        best = np.concatenate([each.best() for each in scores])
        parts = [_channel_features(found, best, row), self._lifts(found, product)]
        parts += [self.products.values[product], self.accounts.values[account], self.extra.values[account]]
        parts += [_described(maker, account, product) for maker in self._makers]
        return CandidateFeatures(account, product, np.concatenate(parts, axis=1))

    def frame(self, values: AnyFloatArray) -> pd.DataFrame:
        """Return features as a ranker takes them, named; the numbers are not copied."""
        return pd.DataFrame(values, columns=self._columns, copy=False)

    def standing(self) -> RowArray:
        """Return the rows of the accounts that have bought something, ascending."""
        return unique_sorted(self.snapshot.pairs.account).astype(np.int32)

    def account_values(self, accounts: RowArray) -> AnyFloatArray:
        """Return the features of the accounts alone, `(len(accounts), n_account_features)`."""
        return np.concatenate([self.accounts.values[accounts], self.extra.values[accounts]], axis=1)

    def consensus(self, values: AnyFloatArray) -> AnyFloatArray:
        """Return how high the channels rank each candidate that look at all of the past, 0 for the first place, `(n,)`.

        The mean of `-log(1 + rank)`: an order that learned nothing from what was bought in one month.
        """
        ranks = [self.names.index(f"{name}_rank") for name in WHOLE_PAST if name in self.channels]
        if not ranks:
            return np.zeros(len(values), dtype=np.float32)
        mean: AnyFloatArray = -np.log1p(values[:, ranks]).mean(axis=1)
        return mean

    def popularity(self, values: AnyFloatArray) -> AnyFloatArray:
        """Return log first purchases of the last 30 days, ties by owners, `(n,)`: the order without a model."""
        fresh, owners = (values[:, self.names.index(f"product_{name}")] for name in ("new_30d", "owners"))
        return np.log1p(fresh) + 1e-3 * np.log1p(owners)

    def _open(self, scores: AnyFloatArray, owned: sp.csr_array) -> OpenScores | SharedScores:
        """Return a source's scores without what may not be offered or is owned."""
        if scores.strides[1] == 0:  # one row stands for all accounts
            return SharedScores(scores[:, 0] * self._offerable, owned)
        return OpenScores.of(np.require(scores, requirements="W"), self._closed, owned)

    def _lifts(self, found: AnyFloatArray, product: RowArray) -> AnyFloatArray:
        """Return each fresh vote over the product's new owners: above the usual where mine are like this account."""
        new_owners = self.products.column("product_new_30d")[product] + 2.0
        return (found[self._fresh] / new_owners).T.astype(np.float32)


def _described(maker: FeatureMaker, account: RowArray, product: RowArray) -> AnyFloatArray:
    values = np.asarray(maker.transform(account, product), dtype=np.float32)
    wanted = len(account), len(maker.names)
    if values.shape != wanted:
        raise PluginError(
            f"{type(maker).__name__}.transform returned shape {values.shape}, must be {wanted}: pairs, features; see "
            "recsys.testing.FeatureChecks"
        )
    return values


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
