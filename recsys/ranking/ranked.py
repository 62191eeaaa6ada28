"""What the ranking of one request comes to, as rows of the model's tables.

With exploration, its last offer is drawn now and then from what stands below it, with probabilities that are known.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final, NamedTuple

from recsys.contracts.offers import OfferRequest, Tier
from recsys.ranking.kernel.layout import BY_EXPLORATION
from recsys.ranking.request import ResolvedRequest

TIERS: Final[tuple[Tier, ...]] = ("account", "recent", "cart", "segment", "popular")
"""By number, best evidence first."""


class RankedOffer(NamedTuple):
    """One ranked offer: rows of tables, -1 for none, and numbers, as `kernel.layout.OFFER` has them."""

    product: int
    from_product: int
    evidence: int
    tier: int
    rule: int
    antecedent: int
    price: float
    probability: float
    quantity: float
    expected_value: float
    utility: float
    rank_probability: float
    boost: float
    moved_by: int


N_ROWS: Final = RankedOffer._fields.index("price")
"""Of the fields of a ranked offer: rows stand before it, numbers from it on up to the last, `moved_by`."""


class Watched(NamedTuple):
    """What became of a watched product.

    Attributes:
        state: `NOT_A_CANDIDATE` to `WAS_OFFERED` of `layout`.
        filter: what removed it, or let it be passed over: one of `FILTERS`.
        place: from 1, among `n_eligible`, where others went before it.
        utility: of it there.
        probability: of it, where a filter looked at that.
    """

    state: int
    filter: str
    place: int
    n_eligible: int
    utility: float
    probability: float


class RankedSlate(NamedTuple):
    """The ranked answer to one request.

    Attributes:
        offers: in order of rank.
        account: row of the account; -1 where there is none or the model does not know it.
        segment: row of the segment that was answered.
        tier: position in `TIERS` of the best evidence; without offers, of what would have been asked first.
        requested: how many were asked for.
        shortfall: why fewer came than were asked for; None when all came.
        is_opted_out: whether it is short because no offer may be made.
        n_considered: candidates that were looked at.
        refused: product id -> why a candidate was not offered, for reasons that change.
        resolved: what was asked.
        watched: what became of the watched product; None without one.
        last_propensity: the probability with which the last offer stands there.
    """

    offers: list[RankedOffer]
    account: int
    segment: int
    tier: int
    requested: int
    shortfall: str | None
    is_opted_out: bool
    n_considered: int
    refused: dict[str, str]
    resolved: ResolvedRequest
    watched: Watched | None
    last_propensity: float = 1.0

    def with_last(self, wide: RankedSlate, drawn: Drawn) -> RankedSlate:
        """Return this slate with the last offer that was drawn from a wider slate of the same request."""
        last = wide.offers[drawn.position]
        if drawn.position >= len(self.offers):
            last = last._replace(moved_by=BY_EXPLORATION)
        offers = [*self.offers[:-1], last]
        tier = min(offer.tier for offer in offers)
        return self._replace(offers=offers, tier=tier, last_propensity=drawn.propensity)


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
