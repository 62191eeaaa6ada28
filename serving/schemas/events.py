"""Posting what came of offers, orders, and what has changed about products, accounts and visitors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from recsys.contracts.events import AccountUpdate, LineStatus, Outcome, OutcomeKind, PostedLine, ProductUpdate
from serving.schemas.fields import Currency, Id, Label, Money, Quantity, StrictBody


def _utc(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be a time that exists in UTC") from None


Time = Annotated[AwareDatetime, AfterValidator(_utc)]
Note = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class OutcomeBody(StrictBody):
    """What came of one offer."""

    outcome_id: Id = Field(description="Yours to give. The first outcome with an id counts; sending it again is safe.")
    decision_id: Id = Field(description="From the answer that returned the offer.")
    kind: OutcomeKind = Field(description="`shown` and `pitched` turn a returned offer into a presented one.")
    product_id: Id | None = Field(default=None, description="The offer; left out, every offer of the decision.")
    occurred_at: Time | None = Field(
        default=None, description="When it happened, with its zone; left out, now. Not after now, not before 1990."
    )
    reason: Note | None = Field(default=None, description="Why it was declined or deferred.")
    actor_id: Id | None = Field(default=None, description="The person who acted, where one did.")

    def to_event(self, now: datetime) -> Outcome:
        """Return the event, recorded `now`."""
        return Outcome(
            outcome_id=self.outcome_id,
            decision_id=self.decision_id,
            kind=self.kind,
            occurred_at=self.occurred_at or now,
            recorded_at=now,
            product_id=self.product_id,
            reason=self.reason,
            actor_id=self.actor_id,
        )


class OutcomesBody(StrictBody):
    """A batch of outcomes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "outcomes": [
                        {
                            "outcome_id": "web-8812-shown",
                            "decision_id": "0199f2c4-7d1e-7c3a-9a53-0b0d8f5f3a11",
                            "kind": "shown",
                            "product_id": "22720",
                            "occurred_at": "2026-03-01T12:00:00Z",
                        },
                        {
                            "outcome_id": "crm-104",
                            "decision_id": "0199f2c4-7d1e-7c3a-9a53-0b0d8f5f3a11",
                            "kind": "declined",
                            "product_id": "22720",
                            "reason": "has some left",
                            "actor_id": "rep-7",
                        },
                    ]
                }
            ]
        },
    )

    outcomes: list[OutcomeBody] = Field(min_length=1, max_length=1_000, description="In any order.")


class OutcomesAnswer(BaseModel):
    """The outcomes are in the event store."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "received": 2,
                    "unknown_decisions": [],
                    "not_offered": ["crm-104"],
                    "before_decision": [],
                    "conflicts": [],
                }
            ]
        }
    )

    received: int = Field(description="How many outcomes the request held.")
    unknown_decisions: list[str] = Field(
        description="Decisions that the event store does not hold. Their outcomes are kept; check the ids."
    )
    not_offered: list[str] = Field(
        description="Outcomes about a product that their decision did not offer. They are kept; check the ids."
    )
    before_decision: list[str] = Field(
        description="Outcomes that are dated before their decision was made: a day without its time, or another "
        "decision. They are kept, and count from the decision on; check dates and ids."
    )
    conflicts: list[str] = Field(
        description="Outcomes whose id is kept with other content. The first one counts, these were left out."
    )


class OrderLineBody(StrictBody):
    """One line of an order."""

    product_id: Id = Field(description="The product.")
    quantity: Quantity = Field(default=1.0, description="Units; also of a return, above zero.")
    line_id: Id | None = Field(default=None, description="Left out, the position within the order, from 1.")
    unit_price: Money | None = Field(default=None, description="Money a unit.")
    discount: Money = Field(default=0.0, description="Money off the line, at most its price; needs `unit_price`.")
    status: LineStatus = Field(
        default="completed", description="A `returned` or `cancelled` line takes back its quantity; give it its own id."
    )


class OrderBody(StrictBody):
    """One order."""

    order_id: Id = Field(description="Yours to give. The first line with an order and line id counts.")
    account_id: Id | None = Field(
        default=None, description="Whose order it is; without account and visitor it counts in sales, for nobody."
    )
    visitor_id: Id | None = Field(default=None, description="The visitor, with an account or without.")
    ordered_at: Time | None = Field(
        default=None,
        description="When it was placed, with its zone; left out, now. Not after now, not before 1990.",
    )
    channel: Label | None = Field(default=None, description="Where it was placed.")
    currency: Currency | None = Field(
        default=None, description="ISO 4217: the model's (`GET /v1/models`), where it has one; left out, that one."
    )
    lines: list[OrderLineBody] = Field(min_length=1, max_length=500, description="What was bought or came back.")

    def to_events(self, now: datetime, currency: str | None) -> list[PostedLine]:
        """Return the events, recorded `now`; an order that says no currency is in the model's, and the log says so."""
        return [
            PostedLine(
                order_id=self.order_id,
                line_id=line.line_id or str(position),
                product_id=line.product_id,
                quantity=line.quantity if line.status == "completed" else -line.quantity,
                ordered_at=self.ordered_at or now,
                recorded_at=now,
                account_id=self.account_id,
                visitor_id=self.visitor_id,
                unit_price=line.unit_price,
                currency=self.currency or currency,
                discount=line.discount,
                channel=self.channel,
                status=line.status,
            )
            for position, line in enumerate(self.lines, start=1)
        ]


class OrdersBody(StrictBody):
    """A batch of orders."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "orders": [
                        {
                            "order_id": "W-20931",
                            "account_id": "17850",
                            "ordered_at": "2026-03-01T12:30:00Z",
                            "currency": "GBP",
                            "lines": [{"product_id": "22720", "quantity": 6, "unit_price": 4.95, "discount": 1.5}],
                        },
                        {
                            "order_id": "W-20931",
                            "visitor_id": "v-77",
                            "channel": "web",
                            "lines": [{"line_id": "r1", "product_id": "22720", "quantity": 1, "status": "returned"}],
                        },
                    ]
                }
            ]
        },
    )

    orders: list[OrderBody] = Field(min_length=1, max_length=200, description="In any order.")


class LineId(BaseModel):
    """An order line by its identity."""

    order_id: str = Field(description="The order.")
    line_id: str = Field(description="The line; where none was given, its position within the order.")


class OrdersAnswer(BaseModel):
    """The orders are in the event store, and in force for the next request of their accounts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "received_lines": 2,
                    "conflicts": [{"order_id": "W-20931", "line_id": "1"}],
                    "unknown_products": ["22999"],
                    "anonymous_orders": 0,
                    "before_as_of": 0,
                }
            ]
        }
    )

    received_lines: int = Field(description="How many lines the request held.")
    conflicts: list[LineId] = Field(
        description="Lines that are kept with other content. The first one counts, these were left out; a correction "
        "is a line with an id of its own."
    )
    unknown_products: list[str] = Field(
        description="Products that no model knows. Their lines are kept for one that does; check the ids."
    )
    anonymous_orders: int = Field(
        description="Orders with neither account nor visitor. They are kept: they count in sales, and for no account."
    )
    before_as_of: int = Field(
        description="Lines from before the model's `as_of`. They are kept for figures, and change no answer: the model "
        "was trained on what was known then."
    )


Stock = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class ProductBody(StrictBody):
    """New values of one product; what is left out stays as it is."""

    product_id: Id = Field(description="The product.")
    price: Money | None = Field(default=None, description="Money a unit, in the currency of the models.")
    cost: Money | None = Field(default=None, description="Money a unit; what `objective: margin` takes off the price.")
    active: bool | None = Field(default=None, description="False: no longer sold, so never offered.")
    stock: Stock | None = Field(default=None, description="Units at hand; at 0 it is not offered.")
    do_not_offer: bool | None = Field(default=None, description="True: sold, but never offered.")

    def to_event(self, now: datetime) -> ProductUpdate:
        """Return the event, recorded `now`."""
        return ProductUpdate(recorded_at=now, **self.model_dump())


class ProductsBody(StrictBody):
    """A batch of products."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "products": [
                        {"product_id": "22720", "price": 4.95, "cost": 2.1, "stock": 0},
                        {"product_id": "22423", "active": True, "do_not_offer": True},
                    ]
                }
            ]
        },
    )

    products: list[ProductBody] = Field(
        min_length=1, max_length=2_000, description="Of two entries for one product the later values count."
    )


class ProductsAnswer(BaseModel):
    """The values are in the event store, and in force in this worker; in the others within a second."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"received": 2, "unknown_products": ["22999"]}]})

    received: int = Field(description="How many products the request held.")
    unknown_products: list[str] = Field(
        description="Products that no model knows. Their values are kept for one that does; check the ids."
    )


class AccountBody(StrictBody):
    """New values of one account; what is left out stays as it is."""

    account_id: Id = Field(description="The account; the models need not know it.")
    segment: Label | None = Field(default=None, description="Its segment: chooses fallbacks and business rules.")
    region: Label | None = Field(default=None, description="Its region: chooses business rules.")
    do_not_offer: bool | None = Field(default=None, description="True: it wants no offers, and gets none.")

    def to_event(self, now: datetime) -> AccountUpdate:
        """Return the event, recorded `now`."""
        return AccountUpdate(recorded_at=now, **self.model_dump())


class AccountsBody(StrictBody):
    """A batch of accounts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "accounts": [
                        {"account_id": "17850", "segment": "wholesale", "region": "Scotland", "do_not_offer": False}
                    ]
                }
            ]
        },
    )

    accounts: list[AccountBody] = Field(
        min_length=1, max_length=2_000, description="Of two entries for one account the later values count."
    )


class AccountsAnswer(BaseModel):
    """The values are in the event store, and in force in this worker; in the others within a second."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"received": 1, "unknown_segments": ["wholesael"]}]})

    received: int = Field(description="How many accounts the request held.")
    unknown_segments: list[str] = Field(
        description="Segments for which no model has a list of its own: too small, or misspelt. They are kept: "
        "business rules may ask for them, and everyone's list fills their answers."
    )


class LinkBody(StrictBody):
    """A login."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"account_id": "17850"}]})

    account_id: Id = Field(description="The account that the visitor turned out to be.")


class LinkAnswer(BaseModel):
    """The visitor is the account from now on, with all that it did before."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"visitor_id": "v-77", "account_id": "17850"}]})

    visitor_id: str = Field(description="The visitor.")
    account_id: str = Field(description="Its account.")
