"""Item-to-item associations counted over accounts: owned products speak for products that accounts add to them."""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, RowArray
from recsys.contracts.config import Config
from recsys.models.retrieval.retriever import Head, take_head
from recsys.models.snapshot import Snapshot


class AssociationsConfig(Config):
    """How pairs of products are counted and normalised.

    Attributes:
        half_life_days: a purchase counts half after so many days, as evidence and in the account's profile.
        alpha: share of the normalisation that falls on the owned product; .5 is the cosine.
        follow_window_days: a follow-on is a first purchase at most so many days old.
        follow_alpha: `alpha` of the follow-ons: above .5 the popular may be offered more.
        damping: accounts added to each count before dividing, so that rare pairs do not win by chance.
        max_products: products of the head that are paired; bounds the matrix to its square.
    """

    half_life_days: float = Field(default=90.0, gt=0)
    alpha: float = Field(default=0.5, ge=0, le=1)
    follow_window_days: float = Field(default=45.0, gt=0)
    follow_alpha: float = Field(default=0.6, ge=0, le=1)
    damping: float = Field(default=3.0, ge=0)
    max_products: int = Field(default=5_000, ge=1)


class AssociationRetriever(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    r"""Asymmetric account cosine and follow-ons.

    together: score(u, j) = sum_i x_ui * c_ij / (n_i^alpha * n_j^(1 - alpha)), with c, n and x decayed by age;
    follow_on: the same, but c_ij counts only accounts that own i and bought j first within the follow window.
    Asymmetric cosine: Aiolli, Efficient top-N recommendation for very large scale binary rated datasets, 2013, eq. 4.
    """

    channels = ("account_cosine", "follow_on")

    def __init__(self, config: AssociationsConfig | None = None) -> None:
        self.config = config

    def fit(self, snapshot: Snapshot) -> Self:
        """Count the pairs of the head."""
        config = self.config or AssociationsConfig()
        self.head_: Head = take_head(snapshot, config.max_products)
        decayed = self.head_.of(snapshot.decayed(config.half_life_days))
        owned = self.head_.of(snapshot.matrix())
        fresh = self.head_.of(snapshot.newly_bought(config.follow_window_days, np.inf))
        self.together_ = normalised_pairs(decayed, decayed, config.alpha, 0.0)
        self.follows_ = normalised_pairs(owned, fresh, config.follow_alpha, config.damping)
        self.profile_ = decayed
        return self

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return both channels; products outside the head score 0."""
        check_is_fitted(self)
        profile = self.profile_[accounts]
        return np.stack([self.head_.spread(profile @ pairs) for pairs in (self.together_, self.follows_)])


def normalised_pairs(first: sp.csr_array, second: sp.csr_array, alpha: float, damping: float) -> AnyFloatArray:
    """Return `c_ij / ((n_i + damping)^alpha * (n_j + damping)^(1 - alpha))` with a zero diagonal, `(n, n)`."""
    counts: AnyFloatArray = (first.T @ second).toarray(order="C").astype(np.float32)
    n_first = np.asarray(first.sum(axis=0)).ravel() + damping
    n_second = np.asarray(second.sum(axis=0)).ravel() + damping
    counts /= np.maximum(n_first, 1e-6).astype(np.float32)[:, None] ** alpha
    counts /= np.maximum(n_second, 1e-6).astype(np.float32)[None, :] ** (1.0 - alpha)
    np.fill_diagonal(counts, 0.0)
    return counts
