"""The last slot of a slate, drawn now and then from what stands below it, with probabilities that are known."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final, NamedTuple

from recsys.contracts.offers import OfferRequest

DEPTH: Final = 20
"""The last of k offers is drawn from the ranks k to k + 20."""


class Exploration(NamedTuple):
    """How often the last slot shows another offer than the one of its rank: with probability `share`."""

    share: float
    rng: random.Random


class Drawn(NamedTuple):
    """Which offer of a wide slate stands last, by its position from 0, and the probability with which it does."""

    position: int
    propensity: float


def widened(request: OfferRequest) -> OfferRequest:
    """Return the request that brings what the last slot can be drawn from; its first offers are the same."""
    return replace(request, limit=request.limit + DEPTH)


def draw(n_offers: int, limit: int, exploration: Exploration) -> Drawn | None:
    """Draw the last of `limit` offers from a wide slate of `n_offers`; the others stand at their ranks for certain.

    With probability `1 - share` it is the one of rank `limit`, else each of the n below it (n at most 20) with
    `share / n`. None where nothing stands below that rank.
    """
    below = n_offers - limit
    if below < 1:
        return None
    share, rng = exploration
    if rng.random() < share:
        return Drawn(limit + rng.randrange(below), share / below)
    return Drawn(limit - 1, 1.0 - share)
