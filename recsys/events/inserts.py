"""Rows written: a batch as INSERT statements, and what becomes of a row whose key is kept already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from pydantic_core import to_json

from recsys.contracts.events import TableName
from recsys.events.schema import EVENT_TABLES, TABLES, StoredRow, Utc

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
    kinds = {sa.Boolean: "boolean", sa.Double: "double precision", sa.BigInteger: "bigint", sa.JSON: "json"}
    kind = next((sql for base, sql in kinds.items() if isinstance(column.type, base)), "text")
    return f"CAST({value} AS {kind})"
