"""How accounts respond to offers: options and three worlds."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from recsys.contracts.config import Config

World = Literal["adds", "moves_only", "harm"]


class OfferPolicy(Config):
    """What one arm of an experiment shows."""

    limit: int = Field(default=3, ge=0, le=6)
    """Offers at a visit; 0: none, and no decision is logged."""
    relevance: float = Field(default=0.8, ge=0, le=1)
    """Weight of the account's true need in the order of offers, the rest is noise; 0 is a random policy."""
    discount: float = Field(default=0.0, ge=0, lt=1)
    """Share of the price that an accepted offer saves; it raises acceptance through the price effect."""
    shown: bool = True
    """False for a holdout: its decisions are logged as not shown, and nobody responds to them."""


class ResponseConfig(Config):
    """The experiment's length and the planted response; the defaults let offers add sales."""

    start: datetime | None = None
    """First moment of the run, UTC; default: the end of the market."""
    days: int = Field(default=28, ge=1, le=365)
    """Length of the run."""
    before_days: int = Field(default=84, ge=1, le=730)
    """Length of the history before it, for covariates and for what accounts own."""
    orders_per_account: float = Field(default=1.2, gt=0, le=20)
    """Mean organic orders of an account in the run; the spread over accounts is the market's own."""
    browses_per_order: float = Field(default=1.0, ge=0, le=20)
    """Visits without an order, for each organic order: offers are shown there too."""
    basket_lines: float = Field(default=5.0, ge=1, le=50)
    """Mean ordinary lines of an order."""
    wish_rate: float = Field(default=0.015, ge=0, le=1)
    """Organic wishes a day for a product of the highest need; a wish is met at the next order."""
    base_logit: float = -2.6
    """Logit of accepting an offer of no need, mean price, first rank, before any other."""
    need_effect: float = 2.0
    """On that logit, for the highest need."""
    price_effect: float = -0.3
    """On that logit, a unit of the log of the price above the mean."""
    rank_effect: float = -0.25
    """On that logit, a unit of log2(rank)."""
    fatigue_effect: float = -0.06
    """On that logit, each offer that the account saw before."""
    adds: float = Field(default=1.0, ge=0, le=1)
    """Factor on accepting what the account would not have bought in the run anyway; 0: purchases are only moved."""
    displaced_share: float = Field(default=0.15, ge=0, le=1)
    """Added purchases beside which an ordinary line of the order is left out."""
    lost_share: float = Field(default=0.0, ge=0, le=1)
    """Orders that are abandoned because offers were shown at them."""
    leaves_share: float = Field(default=0.0, ge=0, le=1)
    """Chance at each visit with offers that the account leaves for good."""
    lapse_share: float = Field(default=0.15, ge=0, le=1)
    """Organic chance of leaving after an order, as a share of the account's own in the market (over a longer time)."""
    window_days: int = Field(default=30, ge=1)
    """Attribution window of the true attributed revenue."""


WORLDS: Final[dict[World, ResponseConfig]] = {
    "adds": ResponseConfig(),
    "moves_only": ResponseConfig(adds=0.0, displaced_share=0.0, base_logit=-0.5, wish_rate=0.03),
    "harm": ResponseConfig(adds=0.3, lost_share=0.10, leaves_share=0.02),
}
"""Offers add sales; offers only move purchases, so that attributed revenue looks fine and nothing is earned; offers
cost orders and customers."""
HOLDOUT: Final = OfferPolicy(shown=False)
"""Shows nothing, and logs what it would have shown."""
