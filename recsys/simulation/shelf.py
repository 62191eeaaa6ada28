"""What can be bought when: popularity by period as one table of cumulative weights to draw from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.simulation.catalogue import Catalogue
from recsys.simulation.config import MarketConfig
from recsys.simulation.seasonality import PERIOD_DAYS, period_months

# Popularity by month (January first) of products of no, winter and summer season.
SEASONS: Final = (
    (1.0,) * 12,
    (0.4, 0.2, 0.2, 0.2, 0.2, 0.2, 0.3, 0.5, 1.1, 2.2, 4.0, 2.8),
    (0.3, 0.4, 1.0, 1.8, 2.5, 2.3, 1.7, 0.9, 0.5, 0.3, 0.2, 0.2),
)


@dataclass(frozen=True)
class Shelf:
    """Draws products by popularity in a period.

    Attributes:
        until: shape `(n_periods * n_products,)`, cumulative popularity; period p covers `(p, p + 1)`.
        category_until: shape `(n_periods, n_categories + 1)`, the same at the borders of the categories.
        appetite: shape `(n_periods, n_products)`, in [0, 1]: how likely a repeat purchase is kept: 0 when the
            product is not sold, its season's factor over the season's best month otherwise.
    """

    until: FloatArray
    category_until: FloatArray
    appetite: NDArray[np.float32]

    def draw(self, period: IntArray, place: FloatArray) -> IntArray:
        """Return a product for each line of a period, from the whole catalogue."""
        n_products = self.appetite.shape[1]
        row = np.searchsorted(self.until, period + place, side="right")
        return np.asarray(row - period * n_products, dtype=np.int64)

    def draw_in(self, period: IntArray, category: IntArray, place: FloatArray) -> IntArray:
        """Return a product for each line of a period, from one category; from all where it sells nothing then."""
        low, high = self.category_until[period, category], self.category_until[period, category + 1]
        sold = high - low > 1e-12
        return self.draw(period, np.where(sold, low + (high - low) * place, place))


def build_shelf(config: MarketConfig, catalogue: Catalogue) -> Shelf:
    """Return the shelf of a market: with needs on, products of a ladder are bought to replenish only."""
    month = period_months(config)
    n_periods, n_products = len(month), len(catalogue)
    season = np.ones((n_periods, n_products))
    appetite = np.ones((n_periods, n_products))
    weight = np.tile(catalogue.popularity, (n_periods, 1))
    if config.needs:
        weight[:, catalogue.tier > 0] = 0.0
    if config.seasonality:
        factors = np.asarray(SEASONS)
        season = (factors / factors.mean(axis=1, keepdims=True))[catalogue.season][:, month].T
        appetite = (factors / factors.max(axis=1, keepdims=True))[catalogue.season][:, month].T
    if config.drift:
        weight, sold = _drift(config, catalogue, weight)
        appetite = appetite * sold
    weight *= season
    weight /= weight.sum(axis=1, keepdims=True)
    until = np.cumsum(weight, axis=1)
    until /= until[:, -1:]
    edges = np.concatenate([np.zeros((n_periods, 1)), until], axis=1)[:, catalogue.category_start]
    flat = (until + np.arange(n_periods)[:, None]).ravel()
    return Shelf(until=flat, category_until=edges, appetite=appetite.astype(np.float32))


def _drift(config: MarketConfig, catalogue: Catalogue, weight: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    day = (np.arange(len(weight))[:, None] + 0.5) * PERIOD_DAYS
    sold = (day >= catalogue.launched) & (day < catalogue.retired)
    trend = np.exp(catalogue.growth * (day - config.days / 2) / 365.0)
    return weight * trend * sold, sold
