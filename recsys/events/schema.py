"""The tables of the event store: the columns of each are the fields of the event that it keeps.

A decision is one row, its returned offers packed into the JSON column `offers` (one array an offer, by the positions of
`LOGGED`); the view `decision_offers` unpacks them, one row a returned offer, with the time when it was presented.
Writing one row a response instead of eleven is what keeps the durable write off the request's critical path.

Rows of events are plain tuples in the order of the table's columns, with times as text, so that a batch of them is
one JSON document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import sqlalchemy as sa

from recsys.contracts.decisions import Decision, DecisionRow, record_decision, time_text
from recsys.contracts.events import (
    AccountUpdate,
    Erasure,
    Event,
    ExperimentDecision,
    ExperimentRecord,
    Outcome,
    PostedLine,
    ProductUpdate,
    RecordedAssignment,
    TableName,
    VisitorLink,
)
from recsys.contracts.offers import LOGGED, Offer


class Utc(sa.types.TypeDecorator[datetime]):
    """A point in time: `timestamptz` on PostgreSQL; on SQLite the UTC time as sortable text, with microseconds."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the time as the driver wants it."""
        if value is None:
            return None
        moved = value.astimezone(UTC)
        return moved.replace(tzinfo=None) if dialect.name == "sqlite" else moved

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Merge = Literal["first", "latest", "fill"]
"""What becomes of a row whose key is kept already.

`first`: the kept row stays. `latest`: a new value replaces the kept one, a null leaves it, `recorded_at` is the later
of both. `fill`: a new value fills a null and replaces nothing.
"""


class EventTable(NamedTuple):
    """How one kind of event is kept.

    Attributes:
        event: the declaration of its columns, the key first.
        n_key: how many columns are the primary key.
        time: the column that rows are ordered and filtered by.
        indexes: columns with an index of their own.
        merge: what becomes of a row whose key is kept already.
        is_fed: whether the table has a column `change`, no part of its rows: the number of the change that last wrote a
            row. The database gives it, so that servers read what others wrote whatever their clocks say.
    """

    event: type
    n_key: int
    time: str
    indexes: tuple[str, ...] = ()
    merge: Merge = "first"
    is_fed: bool = False


EVENT_TABLES: Final[dict[TableName, EventTable]] = {
    "decisions": EventTable(DecisionRow, 1, "decided_at", is_fed=True),
    "outcomes": EventTable(Outcome, 1, "occurred_at", ("decision_id", "recorded_at"), is_fed=True),
    "order_lines": EventTable(PostedLine, 2, "ordered_at", ("account_id", "recorded_at"), is_fed=True),
    "product_overrides": EventTable(ProductUpdate, 1, "recorded_at", ("recorded_at",), "latest", is_fed=True),
    "account_overrides": EventTable(AccountUpdate, 1, "recorded_at", ("recorded_at",), "latest", is_fed=True),
    "visitor_links": EventTable(VisitorLink, 1, "recorded_at", ("account_id", "recorded_at"), is_fed=True),
    "assignments": EventTable(RecordedAssignment, 4, "assigned_at"),  # in two arms is two rows: the readout must see it
    "experiments": EventTable(ExperimentRecord, 2, "started_at", merge="fill"),
    "experiment_decisions": EventTable(ExperimentDecision, 2, "decided_at"),  # decided once: the first stays
    "forgotten": EventTable(Erasure, 2, "recorded_at"),
}

_TYPES: Final[dict[type, type[sa.types.TypeEngine[Any]]]] = {
    str: sa.Text,
    float: sa.Double,
    int: sa.BigInteger,
    bool: sa.Boolean,
    datetime: Utc,
    dict: sa.JSON,
}


def declared_columns(declaration: type, names: Sequence[str] | None = None) -> Iterator[sa.Column[Any]]:
    """Yield a column for each field of a dataclass or NamedTuple; one that may be None may be null.

    Args:
        declaration: a type in the metadata of an annotation is what the column holds in place of the field's own.
        names: of the fields, in the order of the columns; None: all.
    """
    hints = get_type_hints(declaration, include_extras=True)
    for name in names or hints:
        held = set(_held_types(hints[name]))
        (kind,) = held - {NoneType}
        yield sa.Column(name, _TYPES[kind], nullable=NoneType in held)


def _held_types(hint: Any) -> Iterator[type]:  # noqa: ANN401 - an annotation
    """Yield the types that a column may hold, None among them."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        stored = [extra for extra in parts[1:] if isinstance(extra, type)]
        yield from stored or _held_types(parts[0])
    elif origin in {Union, UnionType}:
        for part in parts:
            yield from _held_types(part)
    else:
        yield str if origin is Literal else hint


METADATA: Final = sa.MetaData()

VERSION: Final = sa.Table(
    "offer_store_version",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True),
)

ADDED: Final = sa.Table(
    "offer_store_additions",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
)
"""What was added to the layout of that version since, which servers of earlier releases need not know of."""

PROBE: Final = sa.Table(
    "offer_store_probe",
    METADATA,
    sa.Column("probe_id", sa.Integer, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
)
"""One row at the most, overwritten whenever somebody asks whether the store can keep anything."""


def _table(name: TableName, kept: EventTable) -> sa.Table:
    columns = list(declared_columns(kept.event))
    indexes = [sa.Index(f"ix_{name}_{column.rpartition('_')[0]}", column) for column in kept.indexes]
    return sa.Table(name, METADATA, *columns, sa.PrimaryKeyConstraint(*columns[: kept.n_key]), *indexes)


_VIEW: Final = sa.Table(
    "decision_offers",
    sa.MetaData(),  # a view: `create_all` must not make a table of it
    *declared_columns(DecisionRow, ("decision_id", "decided_at", "account_id", "visitor_id", "shown")),
    *declared_columns(Offer, LOGGED),
    sa.Column("presented_at", Utc),
)

FED: Final[tuple[TableName, ...]] = tuple(name for name, kept in EVENT_TABLES.items() if kept.is_fed)
TIME_COLUMN: Final[dict[TableName, str]] = {name: kept.time for name, kept in EVENT_TABLES.items()} | {
    "decision_offers": "decided_at"
}
TABLES: Final[dict[TableName, sa.Table]] = {name: _table(name, kept) for name, kept in EVENT_TABLES.items()} | {
    "decision_offers": _VIEW
}


StoredRow = tuple[Any, ...]

_TABLE_OF: Final[dict[type, TableName]] = {kept.event: name for name, kept in EVENT_TABLES.items()}
_VALUES_OF: Final[dict[type, Callable[[Event], StoredRow]]] = {
    kept.event: attrgetter(*TABLES[name].columns.keys()) for name, kept in EVENT_TABLES.items()
}


def rows_by_table(events: Iterable[Event]) -> dict[TableName, list[StoredRow]]:
    """Return the rows of `events` under the table that each belongs to."""
    batch: dict[TableName, list[StoredRow]] = {}
    for event in events:
        kept = record_decision(event) if isinstance(event, Decision) else event
        batch.setdefault(_TABLE_OF[type(kept)], []).append(_row(kept))
    return batch


def _row(event: Event) -> StoredRow:
    if isinstance(event, DecisionRow):  # which has its times as text, and is one of many a second
        return tuple(event)
    values = _VALUES_OF[type(event)](event)
    return tuple([time_text(value) if isinstance(value, datetime) else value for value in values])
