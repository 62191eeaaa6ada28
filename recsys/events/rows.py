"""Events as rows of their tables, and decisions back from rows.

Rows are plain tuples in the order of the table's columns, with times as text and JSON columns as Python values, so
that a batch of them is one JSON document; a value that is text already stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

from recsys.contracts.events import (
    NO_CONTEXT,
    AccountUpdate,
    Context,
    Decision,
    DecisionRow,
    Erasure,
    Event,
    ExperimentRecord,
    Outcome,
    PostedLine,
    ProductUpdate,
    RecordedAssignment,
    TableName,
    VisitorLink,
)
from recsys.contracts.offers import EMPTY_STATE, AccountState, CartLine, Offer, OfferRequest

StoredRow = tuple[Any, ...]

_DEFAULTS = OfferRequest()
_ASKED = tuple(item.name for item in fields(OfferRequest) if item.name != "account_id")
_ASKED_OF = attrgetter(*_ASKED)
_USUAL = _ASKED_OF(_DEFAULTS)
_STATE = tuple(item.name for item in fields(AccountState))


def rows_by_table(events: Iterable[Event]) -> dict[TableName, list[StoredRow]]:
    """Return the rows of `events` under the table that each belongs to."""
    batch: dict[TableName, list[StoredRow]] = {}
    for event in events:
        table, row_of = _ROWS[type(event)]
        batch.setdefault(table, []).append(row_of(event))
    return batch


def decision_row(event: Decision) -> StoredRow:
    """Return the row of a decision."""
    return (
        event.decision_id,
        time_text(event.decided_at),
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
        request_json(event.request),
        [offer.logged() for offer in event.offers],
        None if event.context is NO_CONTEXT else context_json(event.context),
    )


def outcome_row(event: Outcome) -> StoredRow:
    """Return the row of an outcome."""
    return (
        event.outcome_id,
        event.decision_id,
        event.product_id,
        event.kind,
        time_text(event.occurred_at),
        time_text(event.recorded_at),
        event.reason,
        event.actor_id,
    )


def line_row(event: PostedLine) -> StoredRow:
    """Return the row of an order line."""
    return (
        event.order_id,
        event.line_id,
        event.account_id,
        event.visitor_id,
        event.product_id,
        time_text(event.ordered_at),
        event.quantity,
        event.unit_price,
        event.discount,
        event.currency,
        event.channel,
        event.status,
        time_text(event.recorded_at),
    )


def product_row(event: ProductUpdate) -> StoredRow:
    """Return the row of a product's new values."""
    new = event.change
    recorded = time_text(event.recorded_at)
    return (new.product_id, new.price, new.cost, new.active, new.stock, new.do_not_offer, recorded)


def account_row(event: AccountUpdate) -> StoredRow:
    """Return the row of an account's new values."""
    return (event.account_id, event.segment, event.region, event.do_not_offer, time_text(event.recorded_at))


def link_row(event: VisitorLink) -> StoredRow:
    """Return the row of a visitor's login."""
    return (event.visitor_id, event.account_id, time_text(event.recorded_at))


def assignment_row(event: RecordedAssignment) -> StoredRow:
    """Return the row of an assignment."""
    assigned = time_text(event.assigned_at)
    return (event.experiment_id, event.version, event.unit_id, event.arm, event.unit, event.probability, assigned)


def experiment_row(event: ExperimentRecord) -> StoredRow:
    """Return the row of an experiment."""
    stopped = None if event.stopped_at is None else time_text(event.stopped_at)
    return (event.experiment_id, event.version, event.plan, event.plan_hash, time_text(event.started_at), stopped)


def forgotten_row(event: Erasure) -> StoredRow:
    """Return the row of an erased account."""
    return (event.account_key, time_text(event.recorded_at))


_ROWS: Final[dict[type, tuple[TableName, Callable[[Any], StoredRow]]]] = {
    Decision: ("decisions", decision_row),
    DecisionRow: ("decisions", tuple),
    Outcome: ("outcomes", outcome_row),
    PostedLine: ("order_lines", line_row),
    ProductUpdate: ("product_overrides", product_row),
    AccountUpdate: ("account_overrides", account_row),
    VisitorLink: ("visitor_links", link_row),
    RecordedAssignment: ("assignments", assignment_row),
    ExperimentRecord: ("experiments", experiment_row),
    Erasure: ("forgotten", forgotten_row),
}


def decision_of(row: Mapping[str, Any]) -> Decision:
    """Return the decision that was written as `row`, a mapping from column to value with JSON columns decoded."""
    asked = dict(row["request"])
    if "cart" in asked:
        asked["cart"] = tuple(CartLine(*line) for line in asked["cart"])
    if "kinds" in asked:
        asked["kinds"] = tuple(asked["kinds"])
    if "exclude" in asked:
        asked["exclude"] = frozenset(asked["exclude"])
    if "categories" in asked:
        asked["categories"] = tuple(asked["categories"])
    same = ("decision_id", "decided_at", "model_version", "objective", "tier", "horizon_days", "n_considered")
    optional = ("shortfall", "visitor_id", "channel", "surface", "request_id", "experiment_id", "arm")
    return Decision(
        **{name: row[name] for name in (*same, *optional, "assignment_probability", "shown", "presented")},
        request=OfferRequest(account_id=row["account_id"], **asked),
        offers=tuple(Offer.from_logged(offer) for offer in row["offers"]),
        unknown_products=tuple(row["unknown_products"]),
        context=_context_of(row["context"]),
    )


def request_json(request: OfferRequest) -> dict[str, Any]:
    """Return the request without its account and without what has its default value."""
    values = zip(_ASKED, _ASKED_OF(request), _USUAL)  # noqa: B905 - as many of each
    unusual: dict[str, Any] = {name: value for name, value, usual in values if value is not usual and value != usual}
    if "exclude" in unusual:
        unusual["exclude"] = sorted(request.exclude)
    if "cart" in unusual:  # plain tuples are written five times as fast as named ones
        unusual["cart"] = [tuple(line) for line in request.cart]
    return unusual


def context_json(context: Context) -> dict[str, Any]:
    """Return the context without what has its default value."""
    known = {name: getattr(context.state, name) for name in _STATE}
    kept: dict[str, Any] = {name: value for name, value in known.items() if value != getattr(EMPTY_STATE, name)}
    if context.refused:
        kept["refused"] = context.refused
    if context.rules_version is not None:
        kept["rules_version"] = context.rules_version
    if context.unknown_experiment is not None:
        kept["unknown_experiment"] = context.unknown_experiment
    return kept


def _context_of(kept: Mapping[str, Any] | None) -> Context:
    if kept is None:
        return NO_CONTEXT
    state = {name: kept[name] for name in _STATE if name in kept}
    if "bought" in state:
        state["bought"] = tuple(state["bought"])
    others = {name: kept[name] for name in ("refused", "rules_version", "unknown_experiment") if name in kept}
    return Context(AccountState(**state), **others)


def time_text(when: datetime) -> str:
    """Return a time as rows have it: UTC with microseconds, as both databases read it and as SQLite sorts it."""
    if when.tzinfo is not UTC:
        when = when.astimezone(UTC)
    return when.isoformat(" ", "microseconds")[:-6]  # without its +00:00
