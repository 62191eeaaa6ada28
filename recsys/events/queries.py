"""A query as SQL, its answer as Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from recsys.contracts.events import EventQuery, FeedPosition, TableName
from recsys.errors import ConfigError
from recsys.events.schema import FED, TABLES, TIME_COLUMN, Utc


def arrow_schema(table: TableName) -> pa.Schema:
    """Return the Arrow schema of a table of the store."""
    return pa.schema([(column.name, _arrow_type(column)) for column in TABLES[table].columns])


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
    }
    if query.changed_since is not None and query.table not in FED:
        raise ConfigError(f"{query.table} has no feed of changes; leave changed_since out")
    for name in [name for name, used in filters.items() if used] + list(query.columns):
        if name not in schema.names:
            raise ConfigError(f"{query.table} has no {name}; leave that filter or column out")
    return pa.schema([schema.field(name) for name in query.columns]) if query.columns else schema


def _arrow_type(column: sa.Column[Any]) -> pa.DataType:
    if isinstance(column.type, Utc):
        return pa.timestamp("us", tz="UTC")
    if isinstance(column.type, sa.Boolean):
        return pa.bool_()
    if isinstance(column.type, sa.Double):
        return pa.float64()
    return pa.int64() if isinstance(column.type, sa.BigInteger) else pa.string()


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
    statement = sa.select(*columns)
    if query.since is not None:
        statement = statement.where(time >= query.since)
    if query.until is not None:
        statement = statement.where(time < query.until)
    if query.account_id is not None:
        statement = statement.where(table.c.account_id == query.account_id)
    wanted_ids = {"decision_id": query.decision_ids, "outcome_id": query.outcome_ids, "order_id": query.order_ids}
    for name, ids in wanted_ids.items():
        if ids:
            statement = statement.where(table.c[name].in_(ids))
    if query.from_decision_id is not None:
        statement = statement.where(table.c.decision_id >= query.from_decision_id)
    if query.presented is not None:
        statement = statement.where(table.c.presented == query.presented)
    if query.recorded_since is not None:
        statement = statement.where(table.c.recorded_at >= query.recorded_since)
    if query.changed_since is not None:
        statement = statement.where(_is_unseen(query.table, query.changed_since))
    identity = table.primary_key.columns or [table.c.decision_id, table.c.rank]
    return statement.order_by(time, *identity)


def _is_unseen(table: TableName, position: FeedPosition) -> sa.ColumnElement[bool]:
    """What a position had not seen; the numbers are the database's, so they may stand in the text."""
    condition = f"change >= '{position.following}'"
    if position.under_way:
        numbers = ", ".join(f"'{number}'" for number in position.under_way)
        condition = f"({condition} OR change IN ({numbers}))"
    return sa.text(f"{condition} AND presented" if table == "decisions" else condition)  # type: ignore[return-value]
