"""From probability to value, and the order that follows from it.

`value = probability x expected quantity x (margin, or price)`; an upgrade's is the difference to what it displaces::

    cross-sell   p * q * price(B)
    upsell       p * q * (price(B) - price(A))
"""

from __future__ import annotations

import numpy as np

from recsys.contracts.offers import Objective
from recsys.offer_model.tables import Bool, Float64, Int32
from recsys.ranking.live_catalogue import LiveCatalogue
from tests.support.reference_ranker.candidates import Pool
from tests.support.reference_ranker.filters import prices_of


def unit_worth(
    pool: Pool, objective: Objective, catalogue: LiveCatalogue, segment: int, discount: Float64 | None = None
) -> Float64:
    """Return the money of each candidate if it is bought, 0 where a price is not known; by price for `conversion`.

    Under `margin` a product without a cost is taken at the median margin rate of those that have one: at its full price
    it would pass everything whose cost is known. `discount` is the share of its price that comes off each candidate.
    """
    worth = _worth(pool.product, pool.quantity, objective, catalogue, segment)
    if discount is not None:
        worth = worth - discount * prices_of(pool.product, pool.quantity, segment, catalogue)
    climbs = pool.from_product >= 0
    if climbs.any():
        displaced = _worth(np.maximum(pool.from_product, 0), pool.quantity, objective, catalogue, segment)
        worth = np.where(climbs, worth - displaced, worth)
    worth = worth * pool.quantity
    worth[np.isnan(worth)] = 0.0
    return worth


def brings_more(
    upgrades: Pool, objective: Objective, catalogue: LiveCatalogue, segment: int, discount: Float64
) -> Bool:
    """Return which upgrades cost more today than what they displace, and are worth more where money counts."""
    price = prices_of(upgrades.product, upgrades.quantity, segment, catalogue)
    lower = prices_of(upgrades.from_product, upgrades.quantity, segment, catalogue)
    more: Bool = ~(price - discount * price - lower <= 0.0)
    if objective != "conversion":
        more &= unit_worth(upgrades, objective, catalogue, segment, discount) > 0
    return more


def credible(pool: Pool, floor: float, objective: Objective) -> Bool:
    """Return which candidates reach `floor` times the best chance of their kind; all of them without money."""
    if objective == "conversion":
        return np.ones(len(pool), dtype=bool)
    if pool.from_product.max(initial=-1) < 0:
        alike: Bool = pool.chance >= floor * pool.chance.max(initial=0.0)
        return alike
    climbs = pool.from_product >= 0
    best_cross = pool.chance.max(initial=0.0, where=~climbs)
    best_up = pool.chance.max(initial=0.0, where=climbs)
    reached: Bool = pool.chance >= floor * np.where(climbs, best_up, best_cross)
    return reached


def value_order(pool: Pool, worth: Float64, relevant: Bool) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the candidates by relevance, then worth, then the ranker's score; ties go to the smaller id."""
    order = (-worth).argsort(kind="stable")
    if not relevant.all():
        first = relevant[order]
        order = np.concatenate([order[first], order[~first]])
    ranked, leading = worth[order], relevant[order]
    same = ((ranked[1:] == ranked[:-1]) & (leading[1:] == leading[:-1])).nonzero()[0]
    if len(same):  # ties stand at the end of the list mostly: only from the first one on it is sorted by everything
        rest = order[same[0] :]
        order[same[0] :] = rest[
            np.lexsort((pool.from_product[rest], pool.product[rest], -pool.score[rest], -worth[rest], ~relevant[rest]))
        ]
    return order


def raw_order(pool: Pool) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the candidates in the ranker's own order.

    Scores compare within one kind only. The kinds are merged by chance, made non-increasing down each kind's order, so
    that no kind's own order changes.
    """
    climbs = pool.from_product >= 0
    order = np.lexsort((pool.from_product, pool.product, -pool.score, climbs))
    n_cross = len(order) - int(climbs.sum())
    if n_cross in (0, len(order)):
        return order
    level = pool.chance[order]
    level[:n_cross] = np.minimum.accumulate(level[:n_cross])
    level[n_cross:] = np.minimum.accumulate(level[n_cross:])
    merged: np.ndarray[tuple[int], np.dtype[np.intp]] = order[np.argsort(-level, kind="stable")]
    return merged


def _worth(products: Int32, quantity: Float64, objective: Objective, catalogue: LiveCatalogue, segment: int) -> Float64:
    price = prices_of(products, quantity, segment, catalogue)
    if objective != "margin":
        return price
    margin: Float64 = price - catalogue.cost[products]
    return np.where(np.isnan(margin), price * (catalogue.margin_rate or 0.0), margin)
