"""What is reported to the server, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from recsys.contracts.events import LineStatus, OutcomeKind


@dataclass(frozen=True, slots=True)
class ReportedOutcome:
    """What came of an offer.

    Attributes:
        outcome_id: yours to give; sending it again is safe.
        decision_id: from the answer.
        product_id: the offer; None: every offer of the decision.
        occurred_at: with its zone; None: now.
        reason: why it was declined or deferred.
        actor_id: the person who acted.
    """

    outcome_id: str
    decision_id: str
    kind: OutcomeKind
    product_id: str | None = None
    occurred_at: datetime | None = None
    reason: str | None = None
    actor_id: str | None = None


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One line of an order.

    Attributes:
        quantity: units, above zero; `status` says whether they came back.
        line_id: None: the position within the order.
        unit_price: money a unit.
        discount: money off the line.
    """

    product_id: str
    quantity: float = 1.0
    line_id: str | None = None
    unit_price: float | None = None
    discount: float = 0.0
    status: LineStatus = "completed"


@dataclass(frozen=True, slots=True)
class Order:
    """One order.

    Attributes:
        order_id: yours to give; sending it again is safe.
        ordered_at: with its zone; None: now.
        currency: ISO 4217, the model's; None: that one.
    """

    order_id: str
    lines: tuple[OrderLine, ...]
    account_id: str | None = None
    visitor_id: str | None = None
    ordered_at: datetime | None = None
    channel: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class AccountChange:
    """New values of one account; None leaves a value as it is."""

    account_id: str
    segment: str | None = None
    region: str | None = None
    do_not_offer: bool | None = None


class Reported(NamedTuple):
    """What the server says about a batch of outcomes.

    Attributes:
        received: how many it holds.
        unknown_decisions: decisions that nobody knows; check the ids.
        not_offered: outcomes about a product that their decision did not offer; check the ids.
        before_decision: outcomes dated before their decision; check their dates.
        conflicts: outcomes whose id is kept with other content: the first one counts.
        before_decision: outcomes dated before their decision; check their dates.
    """

    received: int
    unknown_decisions: tuple[str, ...] = ()
    not_offered: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    before_decision: tuple[str, ...] = ()


class PostedOrders(NamedTuple):
    """What the server says about a batch of orders.

    Attributes:
        received_lines: how many lines it holds.
        conflicts: (order_id, line_id) of lines that are kept with other content: the first one counts.
        unknown_products: products that no model knows; check the ids.
        anonymous_orders: orders with neither account nor visitor; they count for no account.
        before_as_of: lines from before the model's `as_of`; they change no answer.
    """

    received_lines: int
    conflicts: tuple[tuple[str, str], ...] = ()
    unknown_products: tuple[str, ...] = ()
    anonymous_orders: int = 0
    before_as_of: int = 0


def parse_reported(body: Mapping[str, Any]) -> Reported:
    """Return the answer to outcomes; an older server names only some of it."""
    named = (tuple(body.get(name, ())) for name in Reported._fields[1:])
    return Reported(body["received"], *named)


def parse_posted(body: Mapping[str, Any]) -> PostedOrders:
    """Return the answer to orders; an older server names only some of it."""
    conflicts = tuple((item["order_id"], item["line_id"]) for item in body.get("conflicts", ()))
    counts = (body.get(name, 0) for name in ("anonymous_orders", "before_as_of"))
    return PostedOrders(body["received_lines"], conflicts, tuple(body.get("unknown_products", ())), *counts)
