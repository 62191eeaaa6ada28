"""The last slot of a slate, drawn now and then from what stands below it, with probabilities that are known."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from recsys.contracts.offers import OfferRequest, Slate

DEPTH: Final = 20
"""The last of k offers is drawn from the ranks k to k + 20."""


def widened(request: OfferRequest) -> OfferRequest:
    """Return the request that brings what the last slot can be drawn from; its first offers are the same."""
    return replace(request, limit=request.limit + DEPTH)


def draw(wide: Slate, limit: int, share: float, rng: random.Random) -> Slate | None:
    """Return the first `limit` offers of a wide slate, the last one drawn, each with its propensity.

    With probability `1 - share` it is the one of rank k, else each of the n below it (n at most 20) with `share / n`.
    None where nothing stands below rank k.
    """
    below = len(wide.offers) - limit
    if below < 1:
        return None
    explores = rng.random() < share
    last = wide.offers[limit + rng.randrange(below)] if explores else wide.offers[limit - 1]
    drawn = replace(last, rank=limit, propensity=share / below if explores else 1.0 - share)
    return replace(wide, offers=(*wide.offers[: limit - 1], drawn), requested=limit, shortfall=None)
