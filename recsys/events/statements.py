"""The SQL of a store: a batch of rows as INSERT statements, a query as a SELECT, its answer as Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

import pyarrow as pa
import sqlalchemy as sa
from pydantic_core import to_json

from recsys.contracts.decisions import assignment_mark
from recsys.contracts.events import EventQuery, FeedPosition, TableName
from recsys.errors import ConfigError
from recsys.events.schema import EVENT_TABLES, FED, TABLES, TIME_COLUMN, StoredRow, Utc

_ROWS_A_STATEMENT: Final = 64
"""Of SQLite: what compiles and binds fast; the driver keeps 128 compiled statements."""


class Statement(NamedTuple):
    """SQL in the driver's own form, and its parameters."""

    sql: str
    parameters: tuple[Any, ...]


def insert_statements(batch: Mapping[TableName, Sequence[StoredRow]], dialect: str) -> Iterator[Statement]:
    """Yield what writes a batch: on SQLite some rows a statement, on PostgreSQL one JSON document a table."""
    for name, rows in batch.items():
        if EVENT_TABLES[name].merge != "first":
            rows = without_doubles(name, rows)
        if dialect == "sqlite":
            for start in range(0, len(rows), _ROWS_A_STATEMENT):
                some = rows[start : start + _ROWS_A_STATEMENT]
                yield Statement(_insert_rows(name, len(some)), tuple(chain.from_iterable(some)))
        else:
            yield Statement(_insert_document(name), (to_json(rows, inf_nan_mode="null").decode(),))


def merge_row(name: TableName, kept: StoredRow, new: StoredRow) -> StoredRow:
    """Return what a kept row and a new one of the same key become, where a new one changes anything.

    Example:
        >>> merge_row("product_overrides", ("P1", 9.0, None, True, None, None, "2026-01-02"),
        ...        ("P1", None, 4.0, False, None, None, "2026-01-01"))
        ('P1', 9.0, 4.0, False, None, None, '2026-01-02')
    """
    if EVENT_TABLES[name].merge == "fill":
        return tuple(new_one if kept_one is None else kept_one for kept_one, new_one in zip(kept, new, strict=True))
    values = [kept_one if new_one is None else new_one for kept_one, new_one in zip(kept, new, strict=True)]
    values[-1] = max(kept[-1], new[-1])
    return tuple(values)


def without_doubles(name: TableName, rows: Iterable[StoredRow]) -> list[StoredRow]:
    """Return one row a key: PostgreSQL updates no row twice in one statement."""
    found: dict[StoredRow, StoredRow] = {}
    for row in rows:
        key = row[: EVENT_TABLES[name].n_key]
        found[key] = merge_row(name, found[key], row) if key in found else row
    return list(found.values())


def conflict_clause(name: TableName, dialect: str) -> str:
    """Return `merge_row` as the end of an INSERT."""
    how = EVENT_TABLES[name].merge
    if how == "first":
        return "ON CONFLICT DO NOTHING"
    table = TABLES[name]
    keys = [column.name for column in table.primary_key.columns]
    values = [_value(column, how, dialect) for column in table.columns if column.name not in keys]
    return f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(values)}"


def _value(column: sa.Column[Any], how: str, dialect: str) -> str:
    new, kept = f"excluded.{column.name}", f"{column.table.name}.{column.name}"
    if how == "fill":
        return f"{column.name} = COALESCE({kept}, {new})"
    if column.name == "recorded_at":
        return f"{column.name} = {'max' if dialect == 'sqlite' else 'GREATEST'}({kept}, {new})"
    return f"{column.name} = COALESCE({new}, {kept})"


@cache
def _insert_rows(name: TableName, n_rows: int) -> str:
    """INSERT of some rows on SQLite, a parameter a value."""
    columns = [column.name for column in TABLES[name].columns]
    row = f"({', '.join('?' * len(columns))})"
    values = ", ".join([row] * n_rows)
    return f"INSERT INTO {name} ({', '.join(columns)}) VALUES {values} {conflict_clause(name, 'sqlite')}"


@cache
def _insert_document(name: TableName) -> str:
    """INSERT ... SELECT on PostgreSQL from one JSON array of rows, each an array in the order of the columns."""
    table = TABLES[name]
    names = ", ".join(column.name for column in table.columns)
    values = ", ".join(_postgresql_value(column, position) for position, column in enumerate(table.columns))
    source = "json_array_elements(CAST(%s AS json)) AS t(value)"
    return f"INSERT INTO {name} ({names}) SELECT {values} FROM {source} {conflict_clause(name, 'postgresql')}"


def _postgresql_value(column: sa.Column[Any], position: int) -> str:
    value = f"(value ->> {position})"
    if isinstance(column.type, Utc):
        return f"CAST({value} || '+00' AS timestamptz)"
    kinds: dict[type, str] = {
        sa.Boolean: "boolean",
        sa.Double: "double precision",
        sa.BigInteger: "bigint",
        sa.JSON: "json",
    }
    return f"CAST({value} AS {kinds.get(type(column.type), 'text')})"


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
        "experiment_id": query.experiment_id is not None,
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
    found = sa.select(*columns).where(*_conditions(query, table, time))
    order = [time, *identity]
    return found.order_by(*(column.desc() for column in order)).limit(1) if query.newest else found.order_by(*order)


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
    """Whether a row has an experiment in its columns; a decision also among several in its context."""
    if "context" not in table.c:
        return table.c.experiment_id == experiment_id
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
