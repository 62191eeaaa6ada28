"""The planted ladders: families whose products are rungs, and the law by which an account climbs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.simulation import names

MAX_RUNGS = len(names.RUNGS)
_NONE = -1
# Logarithm of the climbing rate a day: base + price step + edge + segment + tenure + quantity.
BASE = -5.9
PRICE_STEP_EFFECT = -2.2  # a unit of log price ratio of the edge
EDGE_SD = 0.05
SEGMENT_EFFECT = (0.0, 1.0, -1.0, 0.5, -1.5)  # in the order of names.SEGMENTS
TENURE_EFFECT = 1.8  # at a year on the rung and later, linear before
QUANTITY_EFFECT = 1.8  # a unit of the log of the account's usual quantity over the family's
QUANTITY_LIMIT = 1.5


@dataclass(frozen=True)
class Ladders:
    """Families of rungs; F families.

    Attributes:
        rungs: products from the lowest rung up, shape `(F, MAX_RUNGS)`, -1 beyond the top.
        category: of each family, shape `(F,)`, sorted.
        weight: how often accounts need it, shape `(F,)`.
        inclusion: probability that an order of an account with the need replenishes it, shape `(F,)`.
        quantity: usual units a replenishment, shape `(F,)`.
        log_edge: base log rate a day of the edge from each rung to the next, shape `(F, MAX_RUNGS)`; -inf at the top.
    """

    rungs: IntArray
    category: IntArray
    weight: FloatArray
    inclusion: FloatArray
    quantity: FloatArray
    log_edge: FloatArray

    def __len__(self) -> int:
        return len(self.category)

    def edges(self) -> tuple[IntArray, IntArray]:
        """Return family and lower rung (0 first) of each upgrade edge."""
        family, rung = np.nonzero(np.isfinite(self.log_edge))
        return family, rung


def build_ladders(
    category: IntArray,
    family: IntArray,
    tier: IntArray,
    price: FloatArray,
    popularity: FloatArray,
    rng: np.random.Generator,
) -> Ladders:
    """Return the ladders of a catalogue whose arrays have shape `(n_products,)`."""
    lowest = np.flatnonzero(tier == 1)
    size = np.bincount(family[tier > 0], minlength=int(family[-1]) + 1)[family[lowest]]
    steps = np.arange(MAX_RUNGS)
    rungs = np.where(steps < size[:, None], lowest[:, None] + steps, _NONE)
    has_next = steps < size[:, None] - 1
    upper = np.where(has_next, rungs + 1, rungs)
    ratio = np.log(price[upper] / price[rungs])
    noise = rng.normal(0.0, EDGE_SD, rungs.shape)
    return Ladders(
        rungs=rungs,
        category=category[lowest],
        weight=popularity[lowest],
        inclusion=rng.uniform(0.45, 0.70, len(lowest)),
        quantity=np.exp(rng.normal(2.4, 0.15, len(lowest))),
        log_edge=np.where(has_next, BASE + PRICE_STEP_EFFECT * ratio + noise, -np.inf),
    )


def climb_rate(log_base: FloatArray, tenure_days: FloatArray, log_quantity_ratio: FloatArray) -> FloatArray:
    """Return the hazard of wanting the next rung, a day.

    exp(log_base + TENURE_EFFECT min(tenure / 365, 1) + QUANTITY_EFFECT clip(log_quantity_ratio)), where `log_base`
    is the edge's log rate plus the segment's effect, tenure is the whole days on the rung, and `log_quantity_ratio`
    the log of the account's usual quantity over the family's, clipped at `QUANTITY_LIMIT` on both sides.
    """
    tenure = TENURE_EFFECT * np.minimum(tenure_days / 365.0, 1.0)
    quantity = QUANTITY_EFFECT * np.clip(log_quantity_ratio, -QUANTITY_LIMIT, QUANTITY_LIMIT)
    return np.exp(log_base + tenure + quantity)


def segment_effect(segment: IntArray) -> FloatArray:
    """Return the segment's part of the log rate."""
    effects: NDArray[np.float64] = np.asarray(SEGMENT_EFFECT)
    return effects[segment]
