"""A query as SQL, its answer as Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import sqlalchemy as sa

from recsys.contracts.decisions import assignment_mark
from recsys.contracts.events import EventQuery, FeedPosition, TableName
from recsys.errors import ConfigError
from recsys.events.schema import FED, TABLES, TIME_COLUMN, Utc

_ARROW_TYPES: Final[dict[type, pa.DataType]] = {
    Utc: pa.timestamp("us", tz="UTC"),
    sa.Boolean: pa.bool_(),
    sa.Double: pa.float64(),
    sa.BigInteger: pa.int64(),
}
"""Of columns; all others are text."""


def arrow_schema(table: TableName) -> pa.Schema:
    """Return the Arrow schema of a table of the store."""
    return pa.schema(
        [(column.name, _ARROW_TYPES.get(type(column.type), pa.string())) for column in TABLES[table].columns]
    )


def wanted_schema(query: EventQuery) -> pa.Schema:
    """Return the Arrow schema of what `query` asks for.

    Raises:
        ConfigError: the table has no such column, or can't answer one of the filters.
    """
    schema = arrow_schema(query.table)
    filters = {
        "account_id": query.account_id is not None,
        "decision_id": bool(query.decision_ids) or query.from_decision_id is not None,
        "outcome_id": bool(query.outcome_ids),
        "order_id": bool(query.order_ids),
        "recorded_at": query.recorded_since is not None,
        "presented": query.presented is not None,
        "context": query.experiment_id is not None,
    }
    if query.changed_since is not None and query.table not in FED:
        raise ConfigError(f"{query.table} has no feed of changes; leave changed_since out")
    for name in [name for name, used in filters.items() if used] + list(query.columns):
        if name not in schema.names:
            raise ConfigError(f"{query.table} has no {name}; leave that filter or column out")
    return pa.schema([schema.field(name) for name in query.columns]) if query.columns else schema


def record_batch(rows: Sequence[sa.Row[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as Arrow, in the types of `schema`."""
    columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def select_statement(query: EventQuery) -> sa.Select[Any]:
    """Return the SELECT that answers `query`, in order of time and id."""
    table = TABLES[query.table]
    time = table.c[TIME_COLUMN[query.table]]
    wanted = [table.c[name] for name in query.columns] if query.columns else list(table.columns)
    columns = [sa.cast(item, sa.Text) if isinstance(item.type, sa.JSON) else item for item in wanted]
    identity = table.primary_key.columns or [table.c.decision_id, table.c.rank]
    return sa.select(*columns).where(*_conditions(query, table, time)).order_by(time, *identity)


def _conditions(query: EventQuery, table: sa.Table, time: sa.Column[Any]) -> Iterator[sa.ColumnElement[bool]]:
    if query.since is not None:
        yield time >= query.since
    if query.until is not None:
        yield time < query.until
    equal = {"account_id": query.account_id, "presented": query.presented}
    yield from (table.c[name] == value for name, value in equal.items() if value is not None)
    least = {"decision_id": query.from_decision_id, "recorded_at": query.recorded_since}
    yield from (table.c[name] >= value for name, value in least.items() if value is not None)
    ids = {"decision_id": query.decision_ids, "outcome_id": query.outcome_ids, "order_id": query.order_ids}
    yield from (table.c[name].in_(some) for name, some in ids.items() if some)
    if query.experiment_id is not None:
        yield _is_part_of(table, query.experiment_id)
    if query.changed_since is not None:
        yield _is_unseen(query.table, query.changed_since)


def _is_part_of(table: sa.Table, experiment_id: str) -> sa.ColumnElement[bool]:
    """Whether a decision has an experiment in its columns, or among several in its context."""
    context = sa.cast(table.c.context, sa.Text)
    without = sa.func.replace(context, assignment_mark(experiment_id), "")  # LIKE would take e for E on SQLite
    return (table.c.experiment_id == experiment_id) | (context != without)


def _is_unseen(table: TableName, position: FeedPosition) -> sa.ColumnElement[bool]:
    """What a position had not seen; the numbers are the database's, so they may stand in the text."""
    condition = f"change >= '{position.following}'"
    if position.under_way:
        numbers = ", ".join(f"'{number}'" for number in position.under_way)
        condition = f"({condition} OR change IN ({numbers}))"
    return sa.text(f"{condition} AND presented" if table == "decisions" else condition)  # type: ignore[return-value]
