"""What is asked of the engine and what it answers: request, offer, slate.

The words mean the same everywhere: a `probability` names its meaning in `probability_of`, `expected_value` is
probability x expected quantity x (margin or price), and `tier` is the source of evidence that answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

OfferKind = Literal["cross_sell", "upsell"]
Objective = Literal["conversion", "revenue", "margin"]
ProbabilityOf = Literal["buys_within_horizon", "accepts_if_shown"]
Tier = Literal["account", "recent", "cart", "segment", "popular"]
Explain = Literal["none", "brief", "full"]
CandidateSources = Literal["all", "evidence", "popular"]

NameKind = Literal["product", "segment", "category"]
"""What names and ids that come from outside may be of."""

KINDS: tuple[OfferKind, ...] = ("cross_sell", "upsell")


class CartLine(NamedTuple):
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
        categories: only products of these may be offered; empty: of any.
        min_price: only products that cost this much or more, money a unit; a product without a price is left out.
        max_price: only products that cost this much or less.
        channel: where the request comes from (web, app, e-mail, phone); business rules may ask for it.
        region: of the buyer; business rules may ask for it.
        sources: `evidence` leaves out the popular products that fill what account and cart leave open, and what too few
            had in one order with the cart; `popular` offers what sells to everybody, whoever asks and whatever lies in
            the cart; eligibility stays.
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
    categories: tuple[str, ...] = ()
    min_price: float | None = None
    max_price: float | None = None
    channel: str | None = None
    region: str | None = None
    sources: CandidateSources = "all"


@dataclass(frozen=True, slots=True)
class AccountState:
    """What is known of an account beyond the bundle.

    Attributes:
        bought: product ids bought since the bundle's `as_of`, latest first; owned at once, and the evidence for an
            account that the bundle does not know.
        withheld: product id -> why it is held back now (declined lately, shown too often).
        segment: the account's segment, where it is newer than the bundle's.
        region: the account's region.
        do_not_offer: the account wants no offers; None leaves the bundle's flag.
        silence: why the account gets no offer at all now; None where it may.
        is_forgotten: its data were erased: what the bundle still holds of it is not used.
    """

    bought: tuple[str, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)
    segment: str | None = None
    region: str | None = None
    do_not_offer: bool | None = None
    silence: str | None = None
    is_forgotten: bool = False


EMPTY_STATE = AccountState()


@dataclass(frozen=True, slots=True)
class ProductChange:
    """New values of one product; None leaves a value as it is."""

    product_id: str
    price: float | None = None
    cost: float | None = None
    active: bool | None = None
    stock: float | None = None
    do_not_offer: bool | None = None


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
        rule: the business rule that placed, lifted or discounted it; None without one.
        discount: money off a unit; it is taken off the value. None without one.
        text: what the rule wants said with it; None without one.
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
    rule: str | None = None
    discount: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Slate:
    """The ranked answer to one request.

    Attributes:
        offers: in order of rank; its length is `returned`.
        requested: how many were asked for.
        shortfall: why fewer came than were asked for; None when all came.
        tier: the best source of evidence that answered (`account`, `cart`, `segment`, `popular`).
        unknown_products: product ids of the request that the model does not know; tolerated and reported.
        unknown_categories: categories of the request that the model does not know; likewise.
        n_considered: candidates that were looked at.
        horizon_days: the window of every probability, in days.
        refused: product id -> why a candidate was not offered, for reasons that change: stock, flags, business rules.
    """

    offers: tuple[Offer, ...]
    requested: int
    shortfall: str | None
    tier: Tier
    objective: Objective
    horizon_days: int
    unknown_products: tuple[str, ...] = ()
    unknown_categories: tuple[str, ...] = ()
    n_considered: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def returned(self) -> int:
        """How many offers came."""
        return len(self.offers)
