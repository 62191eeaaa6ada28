"""What is asked of the engine and what it answers: request, offer, slate.

The words mean the same everywhere: a `probability` names its meaning in `probability_of`, `expected_value` is
probability x expected quantity x (margin or price), and `tier` is the source of evidence that answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import Field
from pydantic_core import to_json

if TYPE_CHECKING:
    import pandas as pd

OfferKind = Literal["cross_sell", "upsell"]
Objective = Literal["conversion", "revenue", "margin"]
ProbabilityOf = Literal["buys_within_horizon", "accepts_if_shown"]
Tier = Literal["account", "recent", "cart", "segment", "popular"]
Explain = Literal["none", "brief", "full"]
CandidateSources = Literal["all", "evidence", "popular"]
Mix = Literal["none", "kinds", "categories", "all"]
"""Of what no more than a share of the ranks is filled, as long as others are worth something: an offer of another kind
or category then goes before others of a higher score, and says so in `moved_by`. `none`: scores alone order."""

Variants = Literal["leave_out", "keep"]
"""Whether products that differ in a colour or pattern alone are left out of the first ranks, where one of a group of
variants stands at the most, and none of a group that is in the cart or the page's."""

MovedBy = Literal["kinds", "categories", "rule", "relevance", "exploration", "variants"]
"""Why an offer does not stand where its score would have it:

- `kinds`, `categories`: it goes before offers of a higher score for the mix of kinds, or of categories;
- `rule`: a business rule placed it;
- `relevance`: by revenue or margin, its chance is below a tenth of the best of its kind: no price alone leads a slate;
- `exploration`: it was drawn for the last place;
- `variants`: it had to wait until the first ranks were full, as another variant is among them or in the cart.
"""

ReasonCode = Literal[
    "bought_together",
    "bought_next",
    "upgraded",
    "higher_version",
    "close_to",
    "same_category",
    "popular_with_peers",
    "popular_lately",
    "popular",
    "few_yet",
]
"""Why an offer is made, nearest relation first:

- `bought_together`: counted orders hold it and the product that it goes with;
- `bought_next`: counted accounts that buy that product added it within a window;
- `upgraded`: the same of a higher-value version; `higher_version`: it is one, and too few have changed to it yet;
- `close_to`: of the family of something that the account buys, or of a name like it; `same_category`: of its category;
- `popular_with_peers`: counted accounts of the segment have bought it;
- `popular_lately`, `popular`: counted accounts bought it within a window, or ever;
- `few_yet`: too few have bought it to be counted.
"""

LANGUAGE_TAG: Final = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$"
"""A language as BCP 47 writes it: `de`, `de-AT`. Only what stands before the first hyphen counts."""

NameKind = Literal["product", "segment", "category"]
"""What names and ids that come from outside may be of."""

KINDS: tuple[OfferKind, ...] = ("cross_sell", "upsell")
PROBABILITY_OF: Final[ProbabilityOf] = "buys_within_horizon"
"""What the engine's probabilities are of."""


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
        raw: the ranker's own order and scores: eligibility on; value, diversity and business rules off.
        explain: how much evidence comes with each offer.
        categories: only products of these may be offered; empty: of any.
        min_price: only products whose price is this or more, money a unit, before discounts; one without is left out.
        max_price: only products whose price is this or less, likewise.
        channel: where the request comes from (web, app, e-mail, phone); business rules may ask for it.
        surface: the place of the offers (home, product page, cart, checkout, e-mail); business rules may ask for it.
        region: of the buyer; business rules may ask for it.
        sources: `evidence` leaves out the popular products that fill what account and cart leave open, and what too few
            had in one order with the cart; `popular` offers what sells to everybody, whoever asks and whatever lies in
            the cart; eligibility stays.
        language: of the reasons, a tag as `de` or `de-AT`; None: the account's, else `default_language`.
        mix: of what no more than a share of the ranks is filled; None: as the model's configuration has it.
        variants: what becomes of products that differ in a colour or pattern alone; None: likewise.
        default_language: of the reasons where neither the request nor the account names one that is known.
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
    surface: str | None = None
    region: str | None = None
    sources: CandidateSources = "all"
    language: str | None = None
    default_language: str = "en"
    mix: Mix | None = None
    variants: Variants | None = None


@dataclass(frozen=True, slots=True)
class AccountState:
    """What is known of an account beyond the bundle.

    Attributes:
        bought: product ids bought since the bundle's `as_of`, latest first; owned at once, and the evidence for an
            account that the bundle does not know.
        suppressed: product id -> why it is held back now (declined lately, shown too often).
        segment: the account's segment, where it is newer than the bundle's.
        region: the account's region.
        do_not_offer: the account wants no offers; None leaves the bundle's flag.
        opt_out_reason: why the account gets no offer at all now; None where it may.
        is_forgotten: its data were erased: what the bundle still holds of it is not used.
    """

    bought: tuple[str, ...] = ()
    suppressed: Mapping[str, str] = field(default_factory=dict)
    segment: str | None = None
    region: str | None = None
    do_not_offer: bool | None = None
    opt_out_reason: str | None = None
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
class AccountChange:
    """New values of one account; None leaves a value as it is."""

    account_id: str
    segment: str | None = None
    region: str | None = None
    do_not_offer: bool | None = None


@dataclass(frozen=True, slots=True)
class PriceBreak:
    """A price that holds from so many units on."""

    quantity: Annotated[float, Field(description="Units from which it holds.")]
    price: Annotated[float, Field(description="Money a unit.")]


class Offer(NamedTuple):
    """One ranked offer: as it is ranked, answered, kept and read again.

    This is the only declaration of its fields. The answer's schema, the values that a store keeps, the columns of the
    view `decision_offers` and the client's offers are made of it, by the names in `ANSWERED` and `LOGGED`.
    """

    rank: Annotated[int, Field(description="1 is best.")]
    product_id: Annotated[str, Field(description="The product that is offered.")]
    kind: Annotated[
        OfferKind, Field(description="`cross_sell`: a complement. `upsell`: a higher version that costs more today.")
    ]
    name: Annotated[str | None, Field(description="Its name.")]
    price: Annotated[
        float | None,
        Field(description="Money a unit in `currency` at the expected quantity; null when it is not known."),
    ]
    currency: Annotated[str | None, Field(description="ISO 4217; null when the orders did not state one.")]
    probability: Annotated[
        float,
        Field(ge=0, le=1, description="Of what `probability_of` names, within `horizon_days`, whichever the kind."),
    ]
    probability_of: Annotated[ProbabilityOf, Field(description="What the probability is of.")]
    expected_quantity: Annotated[float, Field(description="Units, if the offer succeeds.")]
    expected_value: Annotated[
        float,
        Field(
            description="Money: probability x quantity x price after a discount, or margin where that is the aim; an "
            "upsell's is the difference to what it displaces."
        ),
    ]
    score: Annotated[
        float,
        Field(
            description="What the order was made by: `rank_probability` x `boost`; by revenue or margin also x "
            "`expected_value` / `probability`. Offers without `moved_by` stand in its order, those of the tiers "
            "`segment` and `popular` after the others."
        ),
    ]
    tier: Annotated[Tier, Field(description="The source of evidence for this offer.")]
    reason: Annotated[
        str,
        Field(description="One sentence with counts that a sales person can say aloud; empty with `explain: none`."),
    ]
    from_product_id: Annotated[str | None, Field(description="What an upsell displaces, or a cross-sell goes with.")]
    evidence: Annotated[
        dict[str, float | int | str], Field(description="The counts behind the reason, with `explain: full`.")
    ]
    rule: Annotated[
        str | None, Field(description="The business rule that placed, lifted or discounted it; null without one.")
    ] = None
    discount: Annotated[
        float | None, Field(description="Money off a unit, already taken off the value; null without one.")
    ] = None
    text: Annotated[str | None, Field(description="What the rule wants said with it; null without one.")] = None
    reason_code: Annotated[ReasonCode | None, Field(description="What kind of reason it is.")] = None
    reason_for_shopper: Annotated[
        str, Field(description="The reason as a shop can show it, without counts; empty with `explain: none`.")
    ] = ""
    from_product_name: Annotated[str | None, Field(description="The name of `from_product_id`.")] = None
    url: Annotated[str | None, Field(description="Of the product's page; null where the products table has none.")] = (
        None
    )
    image_url: Annotated[str | None, Field(description="Of its picture; likewise.")] = None
    attributes: Annotated[
        dict[str, str | float | int | bool],
        Field(description="The further columns of the products table that training was told to pass on, by name."),
    ] = {}  # noqa: RUF012 - never changed
    price_breaks: Annotated[
        tuple[PriceBreak, ...],
        Field(description="Every price and the units from which it holds; empty where the quantity does not decide."),
    ] = ()
    price_to_pay: Annotated[
        float | None,
        Field(description="Money a unit after the discount, in the currency's digits; null without a discount."),
    ] = None
    rank_probability: Annotated[
        float | None,
        Field(
            description="The probability that made the score: `probability` without a cart. Beside one it is the "
            "chance by which offers are ordered, and may be above: that of a visitor with this cart, together with the "
            "account's own for this order; null in what older releases kept."
        ),
    ] = None
    boost: Annotated[
        float,
        Field(
            description="Factor of the score: of business rules, times what holds a product back that too many "
            "accounts would be shown first, or that goes with nothing in the cart; 1 without."
        ),
    ] = 1.0
    moved_by: Annotated[
        MovedBy | None,
        Field(
            description="Why it does not stand where its score would have it; null where it does.", examples=["kinds"]
        ),
    ] = None
    price_difference: Annotated[
        float | None,
        Field(
            description="Of an upsell: what a unit costs more than one of `from_product_id`, at the expected quantity, "
            "before a discount (the reason tells it after one); null when a price is not known, and of a cross-sell.",
            examples=[2.1],
        ),
    ] = None
    propensity: Annotated[
        float,
        Field(description="The probability with which the policy returned this offer at this rank."),
    ] = 1.0  # without exploration

    @classmethod
    def from_logged(cls, values: Sequence[Any]) -> Self:
        """Return the offer that a store kept as `values`, by the positions of `LOGGED`.

        An older store has fewer values, and what a newer one has beyond them is left out; fields that no store keeps
        are empty.
        """
        return cls(**{**_EMPTY, "evidence": {}, **dict(zip(LOGGED, values, strict=False))})

    def answered(self) -> dict[str, Any]:
        """Return the fields of an answer by name."""
        return dict(zip(ANSWERED, self))  # noqa: B905 - the propensity, which is last, is not answered

    def logged(self) -> tuple[Any, ...]:
        """Return the values that a store keeps, by the positions of `LOGGED`."""
        return _LOGGED_OF(self)


ANSWERED: Final = Offer._fields[:-1]
"""The fields of an offer in an answer, in its order: all but the propensity."""

LOGGED: Final = (
    *("rank", "product_id", "kind", "price", "currency", "probability", "probability_of", "expected_quantity"),
    *("expected_value", "score", "tier", "propensity", "from_product_id", "rule", "discount"),
)
"""The fields of an offer in the event store, which keeps them by position: new ones go to the end."""

_LOGGED_OF: Final[Callable[[Offer], tuple[Any, ...]]] = itemgetter(*map(Offer._fields.index, LOGGED))
_EMPTY: Final = {"name": None, "reason": "", "from_product_id": None}
_PRODUCT: Final = LOGGED.index("product_id")


def logged_products(offers: str) -> list[str]:
    """Return the products of the offers that a store keeps as this JSON, in order of rank."""
    return [values[_PRODUCT] for values in json.loads(offers)]


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
        language: of the reasons.
        mix: of what no more than a share of the ranks is filled.
        variants: what became of products that differ in a colour or pattern alone.
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
    language: str = "en"
    mix: Mix = "none"
    variants: Variants = "keep"

    @property
    def returned(self) -> int:
        """How many offers came."""
        return len(self.offers)

    def to_frame(self) -> pd.DataFrame:
        """Return one row an offer, in order of rank, with the fields of an answer as columns."""
        import pandas as pd

        return pd.DataFrame.from_records(self.offers, columns=Offer._fields)[list(ANSWERED)]


def json_text(value: Any) -> str:  # noqa: ANN401 - whatever is part of an answer or of a row
    """Return a value as JSON, as answers and the event store have it; a number that JSON has not is null."""
    return to_json(value, inf_nan_mode="null").decode()
