"""What becomes of a row whose key is kept already; the rules stand in `schema.MERGES`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from recsys.contracts.events import TableName
from recsys.events.rows import StoredRow
from recsys.events.schema import MERGES, TABLES


def key_of(name: TableName, row: StoredRow) -> StoredRow:
    """Return the primary key of a row, which stands in its first columns."""
    return row[: len(TABLES[name].primary_key.columns)]


def merge_row(name: TableName, kept: StoredRow, new: StoredRow) -> StoredRow:
    """Return what a kept row and a new one of the same key become.

    Example:
        >>> merge_row("product_overrides", ("P1", 9.0, None, True, None, None, "2026-01-02"),
        ...        ("P1", None, 4.0, False, None, None, "2026-01-01"))
        ('P1', 9.0, 4.0, False, None, None, '2026-01-02')
    """
    how = MERGES.get(name, "first")
    if how == "first":
        return kept
    if how == "fill":
        return tuple(new_one if kept_one is None else kept_one for kept_one, new_one in zip(kept, new, strict=True))
    values = [kept_one if new_one is None else new_one for kept_one, new_one in zip(kept, new, strict=True)]
    values[-1] = max(kept[-1], new[-1])
    return tuple(values)


def without_doubles(name: TableName, rows: Iterable[StoredRow]) -> list[StoredRow]:
    """Return one row a key: PostgreSQL updates no row twice in one statement."""
    found: dict[StoredRow, StoredRow] = {}
    for row in rows:
        key = key_of(name, row)
        found[key] = merge_row(name, found[key], row) if key in found else row
    return list(found.values())


def conflict_clause(name: TableName, dialect: str) -> str:
    """Return `merge_row` as the end of an INSERT."""
    how = MERGES.get(name, "first")
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
