"""Popularity sources: what is bought for the first time now, and what sold a year ago in the season to come."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, RowArray
from recsys.contracts.config import Config
from recsys.models.snapshot import Snapshot

DAYS_A_YEAR = 365.0


class PopularityConfig(Config):
    """Which windows of first purchases count.

    Attributes:
        windows_days: days back from the snapshot; one channel each.
        recent_half_life_days: an owner counts half after so many days without an order of the product.
    """

    windows_days: tuple[float, ...] = Field(default=(7.0, 14.0, 30.0), min_length=1)
    recent_half_life_days: float = Field(default=90.0, gt=0)


class PopularityRetriever(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """New owners of each window, and all owners, decayed; the same for every account.

    The second is never empty where anything was sold: what is offered when there is nothing better.
    """

    def __init__(self, config: PopularityConfig | None = None) -> None:
        self.config = config

    @property
    def channels(self) -> tuple[str, ...]:
        """One channel a window, and one for the owners."""
        return (*(f"newly_bought_{days:g}d" for days in (self.config or PopularityConfig()).windows_days), "owners")

    def fit(self, snapshot: Snapshot) -> Self:
        """Count the first purchases of each window, and the owners."""
        config = self.config or PopularityConfig()
        age, product = snapshot.pairs.first_age, snapshot.pairs.product
        n_products = snapshot.shape[1]
        counts = [np.bincount(product[age <= days], minlength=n_products) for days in config.windows_days]
        decay = np.exp2(-snapshot.pairs.last_age / config.recent_half_life_days)
        counts.append(np.bincount(product, weights=decay, minlength=n_products))
        self.counts_ = np.array(counts, dtype=np.float32)
        return self

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return the counts, repeated for each account."""
        check_is_fitted(self)
        return _for_each(self.counts_, len(accounts))


class SeasonConfig(Config):
    """The season to come, seen a year earlier.

    Attributes:
        ahead_days: length of the window that started a year before the snapshot.
    """

    ahead_days: float = Field(default=30.0, gt=0)


class SeasonRetriever(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Lines sold in `[as_of - 365 d, as_of - 365 d + ahead_days)`: what this time of the year brought last time."""

    channels = ("same_season_last_year",)

    def __init__(self, config: SeasonConfig | None = None) -> None:
        self.config = config

    def fit(self, snapshot: Snapshot) -> Self:
        """Count the lines of last year's window; none where the history is younger than a year."""
        ahead_days = (self.config or SeasonConfig()).ahead_days
        within = (snapshot.age <= DAYS_A_YEAR) & (snapshot.age > DAYS_A_YEAR - ahead_days)
        counts = np.bincount(snapshot.lines.product[within], minlength=snapshot.shape[1])
        self.counts_ = counts.astype(np.float32)[None, :]
        return self

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return the counts, repeated for each account."""
        check_is_fitted(self)
        return _for_each(self.counts_, len(accounts))


def _for_each(counts: AnyFloatArray, n_accounts: int) -> AnyFloatArray:
    n_channels, n_products = counts.shape
    return np.broadcast_to(counts[:, None, :], (n_channels, n_accounts, n_products))
