"""Products without a sale yet: offered to accounts that own what reads like them, as such products were bought before.

The ranker learns from products that were sold, and knows nothing else. A product that stands in the products table and
was never sold has a name only: its likeness to what an account owns is all there is to go by. How much that is worth is
read off the past: what accounts bought within the horizon after a cutoff of the products that waited at it. Some of
those did not come on sale for months; where the table lists what was not planned yet then, they are too many, and the
probabilities of today's launches too low rather than too high.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, BoolArray, RowArray
from recsys.contracts.config import Config
from recsys.data.history import History, novel_purchases, stands_in
from recsys.models.candidates import NO_PRODUCT, Candidates
from recsys.models.next_product.examples import blocks, sample
from recsys.models.next_product.features import CandidateFeatures
from recsys.models.quantities import Quantities
from recsys.models.retrieval.content import ContentConfig, name_vectors
from recsys.models.retrieval.retriever import scaled_rows
from recsys.models.snapshot import Snapshot, barred, take_snapshot

_BLOCK_CELLS = 4_000_000


class ColdStartConfig(Config):
    """From how much of the past the worth of a launch is learned, and how many are offered.

    Attributes:
        n_windows: horizons before `as_of` that are learned from.
        accounts: accounts of each window that are looked at.
        products: waiting products of each window that are looked at.
        per_account: waiting products that become candidates of an account.
        most_waiting: waiting products that are offered at most, the last by id, because catalogues number upwards;
            bounds the memory, which is a number for each of them and each product.
        min_purchases: with fewer purchases of what waited once nothing is known, and none is offered.
        half_life_days: after which a purchase says half as much of an account's taste.
        fresh_days: in which an account's first purchases count as new to it.
    """

    n_windows: int = Field(default=6, ge=1)
    accounts: int = Field(default=1_000, ge=1)
    products: int = Field(default=200, ge=1)
    per_account: int = Field(default=5, ge=1)
    most_waiting: int = Field(default=2_000, ge=1)
    min_purchases: int = Field(default=20, ge=1)
    half_life_days: float = Field(default=90.0, gt=0)
    fresh_days: float = Field(default=90.0, gt=0)


class ColdStartModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Says how probable it is that an account buys a product within the horizon that nobody has bought yet.

    `log odds = a + b' (nearest name, mean likeness, log(1 + fresh products))`, a logistic regression over the
    pairs of accounts and products that waited in the past. A product without a name, or that may not be offered, is
    left out.
    """

    model_: LogisticRegression | None

    def __init__(self, horizon_days: float, config: ColdStartConfig | None = None) -> None:
        self.horizon_days = horizon_days
        self.config = config

    def fit(self, history: History, products: pd.DataFrame, as_of: datetime, rng: np.random.Generator) -> Self:
        """Learn from the launches before `as_of`; nothing is done where no product waits for its first sale."""
        self.products_, self.model_ = products, None
        past = history.before(as_of)
        if not len(unsold(take_snapshot(past, as_of, products), products)):
            return self
        values, bought = self._past(past, as_of, rng)
        if self._options.min_purchases <= bought.sum() < len(bought):
            self.model_ = LogisticRegression(max_iter=1_000).fit(values, bought)
        return self

    def score(self, history: History, as_of: datetime, accounts: RowArray) -> Candidates:
        """Return the likeliest launches of each account, by account, then probability descending.

        Args:
            history: order lines; what stands at or after `as_of` changes nothing.
            as_of: the moment up to which everything is known.
            accounts: rows of the accounts, ascending.
        """
        check_is_fitted(self)
        snapshot = take_snapshot(history, as_of, self.products_)
        waiting = unsold(snapshot, self.products_)
        pairs, quantities = [_none()], Quantities.of(snapshot)
        if self.model_ is not None and len(waiting):
            latest = waiting[-self._options.most_waiting :]
            pairs += _best_pairs(snapshot, accounts, latest, self.model_, self._options)
        account, product, probability = (np.concatenate(column) for column in zip(*pairs, strict=True))
        return Candidates(
            account=account,
            product=product,
            from_product=np.full(len(account), NO_PRODUCT, dtype=np.int32),
            score=probability,
            probability=probability,
            expected_quantity=quantities.expect(account, product),
        )

    @property
    def _options(self) -> ColdStartConfig:
        return self.config or ColdStartConfig()

    def _past(self, past: History, as_of: datetime, rng: np.random.Generator) -> tuple[AnyFloatArray, BoolArray]:
        values, bought = [np.zeros((0, 3), np.float32)], [np.zeros(0, bool)]
        for number in range(1, self._options.n_windows + 1):
            cutoff = as_of - timedelta(days=number * self.horizon_days)
            snapshot = take_snapshot(past, cutoff, self.products_)
            waited = sample(unsold(snapshot, self.products_), self._options.products, rng)
            standing = sample(np.unique(snapshot.pairs.account).astype(np.int32), self._options.accounts, rng)
            if len(waited) and len(standing):
                pairs = _described(_Likeness.of(snapshot, waited, self._options), standing, waited)
                values.append(pairs.values)
                novel = novel_purchases(past, cutoff, self.horizon_days)
                bought.append(stands_in(novel, pairs.account, pairs.product))
        return np.concatenate(values), np.concatenate(bought)


def with_cold_starts(candidates: Candidates, launches: Candidates) -> Candidates:
    """Return both, sorted as candidates are; a launch stands where its probability puts it in the account's order.

    Scores of the two come from different models, so a launch gets the score of its equal in probability, found on the
    straight line between the account's candidates; at the ends it stands beside the first or the last.
    """
    if not len(launches):
        return candidates
    score = launches.score.astype(np.float64)
    n_accounts = int(max(candidates.account.max(initial=-1), launches.account.max())) + 1
    mine, theirs = candidates.offsets(n_accounts), launches.offsets(n_accounts)
    for account in np.unique(launches.account):
        own, new = slice(mine[account], mine[account + 1]), slice(theirs[account], theirs[account + 1])
        if own.start < own.stop:
            level = np.minimum.accumulate(candidates.probability[own])[::-1]
            score[new] = np.interp(launches.probability[new], level, candidates.score[own][::-1])
    both = [candidates, replace(launches, score=score.astype(np.float32))]
    whole = Candidates(*(np.concatenate(column) for column in zip(*(vars(one).values() for one in both), strict=True)))
    order = np.lexsort((whole.product, -whole.probability, -whole.score, whole.account))
    return Candidates(*(column[order] for column in vars(whole).values()))


def unsold(snapshot: Snapshot, products: pd.DataFrame) -> RowArray:
    """Return the rows of the products that have a name, may be offered, and were never sold, ascending."""
    sold = np.bincount(snapshot.lines.product, minlength=snapshot.shape[1]) > 0
    named = np.array([bool(str(name).strip()) for name in snapshot.names], dtype=bool)
    return np.flatnonzero(named & ~sold & ~barred(products, snapshot.lines.product_ids)).astype(np.int32)


class _Likeness(NamedTuple):
    """What accounts own, and how alike it is to what waits.

    Attributes:
        profile: each account's purchases, decayed, adding up to 1, `(n_accounts, n_products)`.
        alike: cosine of the names of all products and of those that wait, `(n_products, n_waiting)`.
        n_fresh: products that each account bought first in the last `fresh_days`, `(n_accounts,)`.
    """

    profile: sp.csr_array
    alike: AnyFloatArray
    n_fresh: NDArray[np.int64]

    @classmethod
    def of(cls, snapshot: Snapshot, waiting: RowArray, config: ColdStartConfig) -> Self:
        sold = np.bincount(snapshot.lines.product, minlength=snapshot.shape[1]) > 0
        vectors = name_vectors(snapshot.names, sold, ContentConfig().max_terms)
        decayed, pairs = snapshot.decayed(config.half_life_days), snapshot.pairs
        return cls(
            profile=scaled_rows(decayed, np.asarray(decayed.sum(axis=1)).ravel()),
            alike=(vectors @ vectors[waiting].T.tocsr()).toarray(),
            n_fresh=np.bincount(pairs.account[pairs.first_age <= config.fresh_days], minlength=snapshot.shape[0]),
        )

    def to(self, accounts: RowArray) -> tuple[AnyFloatArray, AnyFloatArray]:
        """Return the likeness of the nearest owned name and the mean likeness, `(len(accounts), n_waiting)` each."""
        mine = self.profile[accounts]
        nearest = np.zeros((len(accounts), self.alike.shape[1]), dtype=np.float32)
        owners = np.diff(mine.indptr) > 0
        if owners.any():
            nearest[owners] = np.maximum.reduceat(self.alike[mine.indices], mine.indptr[:-1][owners], axis=0)
        return nearest, np.asarray(mine @ self.alike)


def _described(likeness: _Likeness, accounts: RowArray, products: RowArray) -> CandidateFeatures:
    """Return all pairs: likeness of the nearest owned name, mean likeness, log(1 + fresh products)."""
    nearest, taste = likeness.to(accounts)
    added = np.repeat(np.log1p(likeness.n_fresh[accounts]), len(products))
    values = np.column_stack([nearest.ravel(), taste.ravel(), added]).astype(np.float32)
    return CandidateFeatures(np.repeat(accounts, len(products)), np.tile(products, len(accounts)), values)


def _best_pairs(
    snapshot: Snapshot, accounts: RowArray, waiting: RowArray, model: LogisticRegression, config: ColdStartConfig
) -> list[tuple[RowArray, RowArray, AnyFloatArray]]:
    """Return, block by block, account, product and probability of each account's likeliest launches."""
    likeness, size = _Likeness.of(snapshot, waiting, config), max(1, _BLOCK_CELLS // len(waiting))
    found = []
    for block in blocks(accounts, size):
        pairs = _described(likeness, block, waiting)
        odds = model.decision_function(pairs.values).reshape(len(block), len(waiting))
        best = np.argsort(-odds, axis=1, kind="stable")[:, : config.per_account]  # ties by product, which rises
        probability = expit(np.take_along_axis(odds, best, axis=1)).astype(np.float32)
        found.append((np.repeat(block, best.shape[1]), waiting[best.ravel()], probability.ravel()))
    return found


def _none() -> tuple[RowArray, RowArray, NDArray[np.float32]]:
    return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
