"""How candidates become a slate, as options."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from recsys.contracts.config import Config
from recsys.contracts.offers import Mix, OfferRequest, Variants

MOST_LIFT: Final = 10.0
"""Times as often in one order as by chance, from which on two products go together well enough."""


class DiversityConfig(Config):
    """How alike the offers of one slate may be.

    Attributes:
        mix: of what no more than a share of the ranks is filled, where a request does not say: `kinds`, `categories`,
            `all` of both, or `none`, where scores alone make the order. Each leaves a place to what is bought less.
        variants: whether products that differ in a colour or pattern alone are left out of the first ranks beside one
            of them, there or in the cart, where a request does not say; another colour is seldom what is missing.
        variant_ranks: the first ranks, of which one of a group of variants has one at the most, and none of a group in
            the cart; who takes one pattern often takes the next, and further down they are offered.
        max_kind_share: of the ranks so far that one kind may fill; 0.75 keeps one offer in four for the other kind.
        max_category_share: of the ranks so far that one category may fill; half leaves the best category its weight.
        free_ranks: offers of one kind or category that are always allowed: a share of two ranks means nothing.
        least_worth: share of the utility of an offer that another must have to go before it for the mix's sake; variety
            that nobody wants is none. At 0.3 the mix costs .0016 of NDCG@10, at 0.1 it cost .005 (Online Retail II).
    """

    mix: Mix = "all"
    variants: Variants = "leave_out"
    variant_ranks: int = Field(default=4, ge=0, le=1_000)
    max_kind_share: float = Field(default=0.75, gt=0, le=1)
    max_category_share: float = Field(default=0.5, gt=0, le=1)
    free_ranks: int = Field(default=2, ge=1, le=1_000)
    least_worth: float = Field(default=0.3, ge=0, le=1)

    def mix_of(self, request: OfferRequest) -> Mix:
        """Return the mix that a request is answered with."""
        return "none" if request.raw else request.mix or self.mix

    def variants_of(self, request: OfferRequest) -> Variants:
        """Return how variants are answered."""
        return "keep" if request.raw else request.variants or self.variants


class RankingConfig(Config):
    """How candidates become a slate.

    Attributes:
        min_probability: below it an offer is not credible and is not made: one in ten thousand wastes a slot.
        relevance_floor: share of the best probability of its kind that a candidate must reach to be ranked by money;
            those below come after all that reach it, so that a high price alone never leads a slate.
        repeat_weight: share of an account's repeat rate that speaks for a product of the cart; what comes back anyway
            needs no offer: 0.3 lifts repeats in cart completion and takes little from what is new.
        repeat_prior_orders: orders that an account's repeat rate is shrunk by; one or two complete real carts best,
            five and more do worse.
        relation_weight: beside a cart a chance counts times the lift of the line that it goes with best, over
            `MOST_LIFT` and at most 1, to this power; 0: chances alone. Bestsellers are likely beside anything: 0.4
            takes two fifths of those of a small lift from the first four and costs no completion.
        recent_purchases: the latest purchases that stand for the account where the bundle does not know it.
        least_buyers: a reason that rests on fewer is not spoken.
        diversity: how alike the offers of one slate may be.
    """

    min_probability: float = Field(default=1e-4, ge=0, lt=1)
    relevance_floor: float = Field(default=0.1, ge=0, le=1)
    repeat_weight: float = Field(default=0.3, ge=0, le=1)
    repeat_prior_orders: float = Field(default=2.0, gt=0, le=1e6)
    relation_weight: float = Field(default=0.4, ge=0, le=1)
    recent_purchases: int = Field(default=10, ge=1, le=1_000)
    least_buyers: int = Field(default=10, ge=5, le=1_000_000)
    diversity: DiversityConfig = DiversityConfig()
