"""The bodies of asking for offers, one request or many, and of the answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, create_model

from recsys.contracts.decisions import AssignedArm
from recsys.contracts.offers import (
    ANSWERED,
    KINDS,
    CartLine,
    Explain,
    Mix,
    Objective,
    Offer,
    OfferKind,
    OfferRequest,
    Tier,
    Variants,
)
from serving.http.problems import Problem
from serving.schemas.fields import (
    WHOLE,
    Id,
    Label,
    LanguageTag,
    Money,
    Quantity,
    StrictBody,
    answered_fields,
)
from serving.settings import Settings

Kinds = Annotated[list[OfferKind], Field(min_length=1, max_length=2)]
Limit = Annotated[int, Field(ge=1, le=100)]
LANGUAGE_WANTED: Final = (
    "Of the reasons, as `de` or `de-AT`; left out, or not one that the engine speaks: the account's, else the server's."
)
MIX_WANTED: Final = (
    "Of what no more than a share of the ranks is filled: `kinds`, `categories`, `all` of both, or `none`, where "
    "scores alone make the order; left out: as the model was configured. What it moves says so in `moved_by`."
)
VARIANTS_WANTED: Final = (
    "Whether products that differ in a colour or pattern alone are left out of the first offers beside one of them, "
    "there or in the cart; left out: as the model was configured."
)


class CartLineBody(StrictBody):
    """One product in the cart."""

    product_id: Id = Field(description="The product.")
    quantity: Quantity = Field(default=1.0, description="Units in the cart.")


class FiltersBody(StrictBody):
    """Which products may be offered at all."""

    categories: list[Label] = Field(
        default_factory=list, max_length=100, description="Only products of these; empty: of any category."
    )
    min_price: Money | None = Field(
        default=None, description="Only products whose price is this or more, a unit, before discounts."
    )
    max_price: Money | None = Field(
        default=None, description="Only products whose price is this or less, a unit, before discounts."
    )

    def asked(self) -> dict[str, Any]:
        """Return the filters by the names that `OfferRequest` has for them."""
        return {"categories": tuple(self.categories), "min_price": self.min_price, "max_price": self.max_price}


class OffersBody(StrictBody):
    """What a storefront asks."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "account_id": "17850",
                    "cart": [{"product_id": "85123A", "quantity": 6}, {"product_id": "22423"}],
                    "limit": 4,
                    "channel": "web",
                    "surface": "cart",
                },
                {
                    "visitor_id": "v-77",
                    "viewed_product_id": "22423",
                    "kinds": ["upsell"],
                    "exclude": ["22720"],
                    "new_only": True,
                    "objective": "revenue",
                    "explain": "full",
                    "filters": {"categories": ["Tins"], "min_price": 2.0, "max_price": 20.0},
                    "region": "Scotland",
                    "experiment_id": "autumn-cards-1",
                },
            ]
        },
    )

    account_id: Id | None = Field(default=None, description="The account; leave it out for an anonymous visitor.")
    visitor_id: Id | None = Field(default=None, description="The visitor, with an account or without.")
    cart: list[CartLineBody] = Field(
        default_factory=list,
        max_length=200,
        description="The lines in the cart. A product that the model does not know is tolerated and reported.",
    )
    viewed_product_id: Id | None = Field(default=None, description="The product whose page is open.")
    kinds: Kinds = Field(  # a factory: pydantic would copy a list, deeply, for every request
        default_factory=lambda: list(KINDS),
        json_schema_extra={"default": list(KINDS)},
        description="The kinds of offer that are wanted.",
    )
    limit: Annotated[Limit, WHOLE] = Field(default=10, description="How many offers are wanted.")
    exclude: list[Id] = Field(default_factory=list, max_length=1_000, description="Products that must not be offered.")
    new_only: bool = Field(default=False, description="Leave out everything that the account has ever bought.")
    objective: Objective | None = Field(
        default=None, description="What the ranking maximises; the server's own objective where it is left out."
    )
    channel: Label | None = Field(default=None, description="Where the request comes from: web, app, e-mail, phone.")
    surface: Label | None = Field(
        default=None,
        description="The place of the offers: home, product, cart, checkout, e-mail; business rules may ask for it.",
    )
    explain: Explain = Field(default="brief", description="How much evidence comes with each offer.")
    filters: FiltersBody | None = Field(default=None, description="Which products may be offered at all.")
    region: Label | None = Field(default=None, description="Of the buyer; business rules may ask for it.")
    language: LanguageTag | None = Field(default=None, description=LANGUAGE_WANTED, examples=["de"])
    mix: Mix | None = Field(default=None, description=MIX_WANTED, examples=["kinds"])
    variants: Variants | None = Field(default=None, description=VARIANTS_WANTED, examples=["keep"])
    experiment_id: Id | None = Field(
        default=None,
        description="The experiment to take part in; left out, the oldest that runs and has a unit for it. One that "
        "does not run is reported, and the answer is as without experiments.",
    )

    def to_request(self, settings: Settings) -> OfferRequest:
        """Return the question in the engine's words; what it leaves open is the server's."""
        return OfferRequest(
            account_id=self.account_id,
            cart=tuple([CartLine(line.product_id, line.quantity) for line in self.cart]),
            viewed_product_id=self.viewed_product_id,
            kinds=tuple(self.kinds),
            limit=self.limit,
            exclude=frozenset(self.exclude),
            new_only=self.new_only,
            objective=self.objective or settings.objective,
            explain=self.explain,
            channel=self.channel,
            surface=self.surface,
            region=self.region,
            language=self.language,
            default_language=settings.language,
            mix=self.mix,
            variants=self.variants,
            **({} if self.filters is None else self.filters.asked()),
        )


class AccountOffersQuery(BaseModel):
    """What a person asks about one account."""

    limit: Limit = Field(default=10, description="How many offers are wanted.", examples=[4])
    kinds: Kinds = Field(
        default_factory=lambda: list(KINDS),
        json_schema_extra={"default": list(KINDS)},
        description="The kinds of offer that are wanted.",
        examples=[["upsell"]],
    )
    objective: Objective | None = Field(default=None, description="What the ranking maximises.", examples=["revenue"])
    explain: Explain = Field(default="full", description="How much evidence comes with each offer.", examples=["brief"])
    new_only: bool = Field(
        default=False, description="Leave out everything that the account has ever bought.", examples=[True]
    )
    channel: Label | None = Field(default=None, description="Where the request comes from.", examples=["phone"])
    surface: Label | None = Field(default=None, description="The place of the offers.", examples=["crm"])
    language: LanguageTag | None = Field(default=None, description=LANGUAGE_WANTED, examples=["de"])
    mix: Mix | None = Field(default=None, description=MIX_WANTED, examples=["kinds"])
    variants: Variants | None = Field(default=None, description=VARIANTS_WANTED, examples=["keep"])


class ProductOffersQuery(BaseModel):
    """What the page of one product asks."""

    limit: Limit = Field(default=10, description="How many offers are wanted.", examples=[4])
    explain: Explain = Field(default="brief", description="How much evidence comes with each offer.", examples=["full"])
    channel: Label | None = Field(default=None, description="Where the request comes from.", examples=["web"])
    surface: Label | None = Field(default=None, description="The place of the offers.", examples=["product"])
    language: LanguageTag | None = Field(default=None, description=LANGUAGE_WANTED, examples=["de"])
    mix: Mix | None = Field(default=None, description=MIX_WANTED, examples=["categories"])
    variants: Variants | None = Field(default=None, description=VARIANTS_WANTED, examples=["keep"])


OfferAnswer = create_model("OfferAnswer", __doc__="One ranked offer.", **answered_fields(Offer, ANSWERED))
"""An offer in an answer, as `Offer` declares it."""


OFFERS_EXAMPLE: Final[dict[str, Any]] = {
    "decision_id": "0199f2c4-7d1e-7c3a-9a53-0b0d8f5f3a11",
    "logged": True,
    "model_version": "3f0a51c2b9de",
    "as_of": "2011-06-01T00:00:00Z",
    "horizon_days": 30,
    "objective": "conversion",
    "experiment": "autumn-cards-1",
    "arm": "treatment",
    "assignments": [{"experiment_id": "autumn-cards-1", "arm": "treatment"}],
    "tier": "account",
    "language": "en",
    "mix": "all",
    "variants": "leave_out",
    "offers": [
        {
            "rank": 1,
            "product_id": "22720",
            "kind": "cross_sell",
            "name": "SET OF 3 CAKE TINS PANTRY DESIGN",
            "price": 4.95,
            "currency": "GBP",
            "probability": 0.18,
            "probability_of": "buys_within_horizon",
            "expected_quantity": 6.0,
            "expected_value": 4.811,
            "score": 0.18,
            "tier": "cart",
            "reason": "SET OF 3 CAKE TINS PANTRY DESIGN was in 412 of 2,005 orders with REGENCY CAKESTAND 3 TIER; "
            "8 % overall",
            "from_product_id": "22423",
            "evidence": {},
            "rule": "autumn tins",
            "discount": 0.49,
            "text": "This week only",
            "reason_code": "bought_together",
            "reason_for_shopper": "You chose REGENCY CAKESTAND 3 TIER; others order SET OF 3 CAKE TINS PANTRY DESIGN "
            "with it",
            "from_product_name": "REGENCY CAKESTAND 3 TIER",
            "url": "https://shop.example/22720",
            "image_url": "https://shop.example/22720.jpg",
            "attributes": {"colour": "cream"},
            "price_breaks": [{"quantity": 1.0, "price": 4.95}, {"quantity": 12.0, "price": 4.25}],
            "price_to_pay": 4.46,
            "rank_probability": 0.18,
            "boost": 1.0,
            "moved_by": None,
            "price_difference": None,
        }
    ],
    "requested": 4,
    "returned": 1,
    "shortfall": "only 1 product is credible for this request",
    "unknown_products": [],
    "unknown_categories": [],
    "unknown_experiment": None,
}


AssignmentAnswer = create_model(
    "AssignmentAnswer",
    __doc__="An experiment that a request fell into.",
    **answered_fields(AssignedArm, ("experiment_id", "arm")),
)


class OffersAnswer(BaseModel):
    """The ranked answer to one request. It was in the event store before it was sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [OFFERS_EXAMPLE]})

    decision_id: str = Field(description="UUIDv7; report outcomes against it.")
    logged: bool = Field(description="Whether the decision is in the event store.")
    model_version: str = Field(description="The model that answered.")
    as_of: datetime = Field(description="No purchase at or after this time was used in training.")
    horizon_days: int = Field(description="The window of every probability.")
    objective: Objective = Field(description="What the ranking maximised.")
    experiment: str | None = Field(description="The experiment that the request fell into.")
    arm: str | None = Field(description="Its arm.")
    assignments: list[AssignmentAnswer] = Field(
        description="Every experiment that the request fell into; `experiment` and `arm` are the first. Empty without."
    )
    tier: Tier = Field(description="The best source of evidence that answered; an unknown account gets a fallback.")
    language: str = Field(description="The language of the reasons.")
    mix: Mix = Field(description="Of what no more than a share of the ranks was filled; see `moved_by` of the offers.")
    variants: Variants = Field(description="What became of products that differ in a colour or pattern alone.")
    offers: list[OfferAnswer] = Field(description="In order of rank.")
    requested: int = Field(description="How many were asked for.")
    returned: int = Field(description="How many came.")
    shortfall: str | None = Field(description="Why fewer came than were asked for; null when all came.")
    unknown_products: list[str] = Field(
        description="Products of the cart, and the viewed one, that the model does not know."
    )
    unknown_categories: list[str] = Field(
        description="Categories of `filters` that the model does not know; of only such ones nothing is offered."
    )
    unknown_experiment: str | None = Field(
        examples=["spring-cards-1"],
        description="The experiment that the request names, where it does not run: it has ended, or the id is wrong.",
    )


class OffersBatchBody(StrictBody):
    """Many questions."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"requests": [{"account_id": "17850", "limit": 3}, {"account_id": "13089"}]}]},
    )

    requests: list[OffersBody] = Field(min_length=1, max_length=500, description="Each as `POST /v1/offers`.")


class BatchLine(BaseModel):
    """One line of the answer, as soon as it is ready."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"index": 0, "status": 200, "answer": OFFERS_EXAMPLE, "problem": None},
                {
                    "index": 1,
                    "status": 503,
                    "answer": None,
                    "problem": {
                        "type": "about:blank",
                        "title": "Temporarily unavailable",
                        "status": 503,
                        "detail": "the event store can't take the request now; try again",
                        "request_id": "shop-42",
                        "errors": [],
                    },
                },
            ]
        }
    )

    index: int = Field(description="Position of its question in the request, from 0.")
    status: int = Field(description="The HTTP status that the question would have had alone.")
    answer: OffersAnswer | None = Field(description="Null where it could not be answered.")
    problem: Problem | None = Field(description="Null where it was answered.")
