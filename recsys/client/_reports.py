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
        currency: ISO 4217.
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
        conflicts: outcomes whose id is kept with other content: the first one counts.
    """

    received: int
    unknown_decisions: tuple[str, ...] = ()
    not_offered: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()


class PostedOrders(NamedTuple):
    """What the server says about a batch of orders.

    Attributes:
        received_lines: how many lines it holds.
        conflicts: (order_id, line_id) of lines that are kept with other content: the first one counts.
    """

    received_lines: int
    conflicts: tuple[tuple[str, str], ...] = ()


def parse_reported(body: Mapping[str, Any]) -> Reported:
    """Return the answer to outcomes; an older server names neither what was not offered nor conflicts."""
    named = (tuple(body.get(name, ())) for name in ("unknown_decisions", "not_offered", "conflicts"))
    return Reported(body["received"], *named)


def parse_posted(body: Mapping[str, Any]) -> PostedOrders:
    """Return the answer to orders; an older server names no conflicts."""
    conflicts = tuple((item["order_id"], item["line_id"]) for item in body.get("conflicts", ()))
    return PostedOrders(body["received_lines"], conflicts)
