"""What is asked of the engine and what it answers: request, offer, slate.

The words mean the same everywhere: a `probability` names its meaning in `probability_of`, `expected_value` is
probability x expected quantity x (margin or price), and `tier` is the source of evidence that answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

OfferKind = Literal["cross_sell", "upsell"]
Objective = Literal["conversion", "revenue", "margin"]
ProbabilityOf = Literal["buys_within_horizon", "accepts_if_shown"]
Tier = Literal["account", "recent", "cart", "segment", "popular"]
Explain = Literal["none", "brief", "full"]

KINDS: tuple[OfferKind, ...] = ("cross_sell", "upsell")


@dataclass(frozen=True, slots=True)
class CartLine:
    """One product in the cart."""

    product_id: str
    quantity: float = 1.0


@dataclass(frozen=True, slots=True)
class OfferRequest:
    """What a storefront or a sales tool asks.

    Attributes:
        account_id: the account, or None for an anonymous visitor.
        cart: the lines in the cart; its products are never offered as cross-sell.
        viewed_product_id: the product whose page is open; evidence like one cart line.
        kinds: the kinds of offer that are wanted.
        limit: how many offers are asked for, 1 or more.
        exclude: product ids that must not be offered.
        new_only: leave out everything the account has ever bought, in a cart answer too.
        objective: what the ranking maximises.
        raw: the ranker's own order: eligibility on; value, diversity and business rules off.
        explain: how much evidence comes with each offer.
    """

    account_id: str | None = None
    cart: tuple[CartLine, ...] = ()
    viewed_product_id: str | None = None
    kinds: tuple[OfferKind, ...] = KINDS
    limit: int = 10
    exclude: frozenset[str] = frozenset()
    new_only: bool = False
    objective: Objective = "conversion"
    raw: bool = False
    explain: Explain = "brief"


@dataclass(frozen=True, slots=True)
class Offer:
    """One ranked offer.

    Attributes:
        rank: 1 is best.
        price: money a unit in `currency`; None when it is not known.
        probability: of `probability_of`, within the slate's horizon, in [0, 1].
        expected_quantity: units, if the offer succeeds.
        expected_value: money under the slate's objective (price based for `conversion`).
        score: what the order was made by; comparable within one slate only.
        reason: one sentence that a person can say aloud.
        evidence: the counts behind the reason; empty unless full evidence was asked for.
        from_product_id: the product an upsell displaces, or the one a cross-sell goes with; None without one.
    """

    rank: int
    product_id: str
    kind: OfferKind
    name: str | None
    price: float | None
    currency: str | None
    probability: float
    probability_of: ProbabilityOf
    expected_quantity: float
    expected_value: float
    score: float
    tier: Tier
    reason: str
    from_product_id: str | None = None
    evidence: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slate:
    """The ranked answer to one request.

    Attributes:
        offers: in order of rank; its length is `returned`.
        requested: how many were asked for.
        shortfall: why fewer came than were asked for; None when all came.
        tier: the best source of evidence that answered (`account`, `cart`, `segment`, `popular`).
        unknown_products: product ids of the request that the model does not know; tolerated and reported.
        n_considered: candidates that were looked at.
        horizon_days: the window of every probability, in days.
    """

    offers: tuple[Offer, ...]
    requested: int
    shortfall: str | None
    tier: Tier
    objective: Objective
    horizon_days: int
    unknown_products: tuple[str, ...] = ()
    n_considered: int = 0

    @property
    def returned(self) -> int:
        """How many offers came."""
        return len(self.offers)
