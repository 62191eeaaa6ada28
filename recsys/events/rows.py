"""Events as rows of their tables, and decisions back from rows.

Rows are plain tuples in the order of the table's columns, with times as text and JSON columns as Python values, so
that a batch of them is one JSON document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from recsys.contracts.events import Decision, DecisionOffer, Event, Outcome, PostedLine, TableName
from recsys.contracts.offers import CartLine, OfferRequest

Row = tuple[Any, ...]

_DEFAULTS = OfferRequest()
_ASKED = tuple(item.name for item in fields(OfferRequest) if item.name != "account_id")


def rows_by_table(events: Iterable[Event]) -> dict[TableName, list[Row]]:
    """Return the rows of `events` under the table that each belongs to."""
    batch: dict[TableName, list[Row]] = {}
    for event in events:
        if isinstance(event, Decision):
            batch.setdefault("decisions", []).append(decision_row(event))
        elif isinstance(event, Outcome):
            batch.setdefault("outcomes", []).append(outcome_row(event))
        else:
            batch.setdefault("order_lines", []).append(line_row(event))
    return batch


def decision_row(event: Decision) -> Row:
    """Return the row of a decision."""
    return (
        event.decision_id,
        _text(event.decided_at),
        event.request.account_id,
        event.visitor_id,
        event.channel,
        event.surface,
        event.request_id,
        event.model_version,
        event.experiment_id,
        event.arm,
        event.assignment_probability,
        event.objective,
        event.tier,
        event.horizon_days,
        event.request.limit,
        len(event.offers),
        event.n_considered,
        event.shortfall,
        event.shown,
        event.presented,
        event.unknown_products,
        _asked(event.request),
        event.offers,
    )


def outcome_row(event: Outcome) -> Row:
    """Return the row of an outcome."""
    return (
        event.outcome_id,
        event.decision_id,
        event.product_id,
        event.kind,
        _text(event.occurred_at),
        _text(event.recorded_at),
        event.reason,
        event.actor_id,
    )


def line_row(event: PostedLine) -> Row:
    """Return the row of an order line."""
    return (
        event.order_id,
        event.line_id,
        event.account_id,
        event.visitor_id,
        event.product_id,
        _text(event.ordered_at),
        event.quantity,
        event.unit_price,
        event.discount,
        event.currency,
        event.channel,
        event.status,
        _text(event.recorded_at),
    )


def decision_of(row: Mapping[str, Any]) -> Decision:
    """Return the decision that was written as `row`, a mapping from column to value with JSON columns decoded."""
    asked = dict(row["request"])
    if "cart" in asked:
        asked["cart"] = tuple(CartLine(*line) for line in asked["cart"])
    if "kinds" in asked:
        asked["kinds"] = tuple(asked["kinds"])
    if "exclude" in asked:
        asked["exclude"] = frozenset(asked["exclude"])
    same = ("decision_id", "decided_at", "model_version", "objective", "tier", "horizon_days", "n_considered")
    optional = ("shortfall", "visitor_id", "channel", "surface", "request_id", "experiment_id", "arm")
    return Decision(
        **{name: row[name] for name in (*same, *optional, "assignment_probability", "shown", "presented")},
        request=OfferRequest(account_id=row["account_id"], **asked),
        offers=tuple(DecisionOffer(*offer) for offer in row["offers"]),
        unknown_products=tuple(row["unknown_products"]),
    )


def _asked(request: OfferRequest) -> dict[str, Any]:
    """The request without its account and without what has its default value."""
    asked: dict[str, Any] = {}
    for name in _ASKED:
        value = getattr(request, name)
        if value != getattr(_DEFAULTS, name):
            asked[name] = value
    if "cart" in asked:
        asked["cart"] = [(line.product_id, line.quantity) for line in request.cart]
    if "exclude" in asked:
        asked["exclude"] = sorted(request.exclude)
    return asked


def _text(when: datetime) -> str:
    """UTC with microseconds, as both databases read it and as SQLite sorts it."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
