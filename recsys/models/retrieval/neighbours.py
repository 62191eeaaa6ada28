"""User kNN on decayed, IDF-weighted vectors: what accounts like this one buy now."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, RowArray
from recsys.contracts.config import Config
from recsys.models.retrieval.retriever import account_vectors, latest_accounts, nth_largest
from recsys.models.snapshot import Snapshot

Vote = Literal["fresh", "recent", "ever"]


class NeighboursConfig(Config):
    """How alike accounts are found, and what of theirs counts.

    Attributes:
        name: what its channels are called.
        votes: what of a neighbour counts: fresh (what it bought first, lately), recent (bought last, decayed), ever.
        n_neighbours: the most alike accounts that vote; None: all, which is smoother and needs a higher power.
        power: a vote weighs likeness to this power; higher listens to the most alike.
        idf_power: how much more a rare product says about likeness; 0: as much as any, 1: the usual weight.
        half_life_days: purchases count half after so many days when likeness is measured; None: all alike.
        fresh_window_days: first purchases of a neighbour within it are fresh votes.
        fresh_half_life_days: a fresh vote counts half after so many days.
        recent_half_life_days: any purchase of a neighbour counts half after so many days.
        max_reference_accounts: the accounts that may be neighbours: those that bought last. Bounds time and memory.
    """

    name: str = "neighbours"
    votes: tuple[Vote, ...] = Field(default=("fresh", "recent"), min_length=1)
    n_neighbours: int | None = Field(default=150, ge=1)
    power: float = Field(default=1.0, gt=0)
    idf_power: float = Field(default=0.0, ge=0)
    half_life_days: float | None = Field(default=90.0, gt=0)
    fresh_window_days: float = Field(default=120.0, gt=0)
    fresh_half_life_days: float = Field(default=20.0, gt=0)
    recent_half_life_days: float = Field(default=30.0, gt=0)
    max_reference_accounts: int = Field(default=6_000, ge=1)


class NeighbourRetriever(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    r"""Votes of alike accounts, each weighted by its likeness.

    likeness(u, v) = cosine of `2^(-age / half_life) * log(n_accounts / n_owners)^idf_power` over products;
    score(u, p) = sum over the neighbours v of likeness(u, v)^power * vote(v, p), where a vote is fresh (v's first
    purchase of p, lately), recent (v's last purchase of p, decayed) or ever (v owns p).
    """

    def __init__(self, config: NeighboursConfig | None = None) -> None:
        self.config = config

    @property
    def channels(self) -> tuple[str, ...]:
        """One channel for each kind of vote."""
        config = self.config or NeighboursConfig()
        return tuple(f"{config.name}_{vote}" for vote in config.votes)

    def fit(self, snapshot: Snapshot) -> Self:
        """Weigh every account's purchases and keep the votes of the accounts that bought last."""
        config = self.config or NeighboursConfig()
        self.vectors_ = account_vectors(snapshot, snapshot.decayed(config.half_life_days), config.idf_power)
        self.reference_ = latest_accounts(snapshot, config.max_reference_accounts)
        self.reference_vectors_ = self.vectors_[self.reference_].T.tocsr()
        self.votes_ = tuple(_votes(snapshot, vote, config)[self.reference_] for vote in config.votes)
        return self

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return the votes of each kind."""
        check_is_fitted(self)
        config = self.config or NeighboursConfig()
        alike = sp.csr_array(self.vectors_[accounts] @ self.reference_vectors_)
        row = np.repeat(np.arange(len(accounts)), np.diff(alike.indptr))
        alike.data[self.reference_[alike.indices] == accounts[row]] = 0.0  # nobody is a neighbour of itself
        if config.power != 1.0:
            alike.data **= config.power
        voters = _nearest(alike, config.n_neighbours)
        scores = np.empty((len(self.votes_), len(accounts), self.vectors_.shape[1]), dtype=np.float32)
        for channel, votes in zip(scores, self.votes_, strict=True):
            channel[:] = (voters @ votes).toarray()
        return scores


def _votes(snapshot: Snapshot, vote: Vote, config: NeighboursConfig) -> sp.csr_array:
    if vote == "fresh":
        return snapshot.newly_bought(config.fresh_window_days, config.fresh_half_life_days)
    return snapshot.decayed(config.recent_half_life_days if vote == "recent" else None)


def _nearest(weight: sp.csr_array, k: int | None) -> sp.csr_array:
    """Return the `k` highest weights of each row; ties at the edge are left out together."""
    count = np.diff(weight.indptr)
    if k is not None and len(count) and count.max() > k:
        row = np.repeat(np.arange(len(count)), count)
        place = np.arange(len(row)) - weight.indptr[row]
        padded = np.zeros((len(count), int(count.max())), dtype=weight.dtype)
        padded[row, place] = weight.data
        weight.data[weight.data <= nth_largest(padded, k + 1)[row]] = 0.0
    weight.eliminate_zeros()
    weight.sort_indices()  # so that the votes are added up in one order
    return weight
