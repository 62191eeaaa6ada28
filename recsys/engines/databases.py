"""A table of a database, streamed through Python into DuckDB.

DuckDB could attach SQLite and PostgreSQL through extensions that it downloads; nothing is downloaded here. Every value
comes as text, as from a CSV file, so that one cleaning serves all sources and says which row it could not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from recsys.contracts import columns as c
from recsys.errors import ConfigError, DataError, EmptyDataError, SourceNotFoundError

if TYPE_CHECKING:
    import sqlalchemy as sa

_BATCH_ROWS = 50_000
_EXAMPLES = "sqlite:///shop.db#orders or postgresql://user@host/db#schema.table"


def is_database_url(location: str) -> bool:
    """Return whether a location names a database rather than a path.

    Example:
        >>> is_database_url("postgresql://localhost/shop#sales.orders"), is_database_url("orders.csv")
        (True, False)
    """
    return "://" in location


def shown_url(location: str) -> str:
    """Return a database location that may be shown: its password, if any, is hidden.

    Example:
        >>> shown_url("postgresql://me:secret@localhost/shop#orders")
        'postgresql://me:***@localhost/shop#orders'
    """
    import sqlalchemy as sa

    url, _, table = location.partition("#")
    try:
        shown = sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        shown = url.split("://", 1)[0] + "://..."
    return f"{shown}#{table}"


def load_database_table(connection: Backend, location: str, *, name: str) -> ibis.Table:
    """Return a database table, loaded into DuckDB as text columns and `source_row` (1 is the first row read).

    Raises:
        ConfigError: the location is not `URL#table`, or its database is not supported.
        SourceNotFoundError: no such database or table.
        EmptyDataError: the table has no row.
    """
    import sqlalchemy as sa

    shown = shown_url(location)
    url, _, table = location.partition("#")
    if not table:
        raise ConfigError(f"{shown}: names no table, must be URL#table; write it as {_EXAMPLES}")
    engine = _engine(url, shown)
    try:
        with engine.connect().execution_options(stream_results=True, yield_per=_BATCH_ROWS) as session:
            selected = _selected(session, table, shown)
            batches = _batches(session.execute(sa.select(*selected.columns)), tuple(selected.columns.keys()))
            return _load(connection, batches, name, shown)
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).strip().split("\n", 1)[0]
        raise DataError(f"{shown}: the database refused: {reason}; check the address and your rights") from None
    finally:
        engine.dispose()


def _engine(url: str, shown: str) -> sa.Engine:
    from pathlib import Path

    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except sa.exc.SQLAlchemyError:
        raise ConfigError(f"{shown}: not a database URL; write it as {_EXAMPLES}") from None
    if backend not in {"sqlite", "postgresql"}:
        raise ConfigError(f"{shown}: database {backend!r} is not supported, must be sqlite or postgresql; export it")
    if backend == "sqlite" and not Path(parsed.database or "").is_file():
        raise SourceNotFoundError(f"{shown}: no such file {parsed.database}; write it as {_EXAMPLES}")
    if backend == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return sa.create_engine(parsed)


def _selected(session: sa.Connection, table: str, shown: str) -> sa.TableClause:
    """The table clause with its columns, names quoted by SQLAlchemy."""
    import sqlalchemy as sa

    schema, _, name = table.rpartition(".")
    inspector = sa.inspect(session)
    try:
        found = inspector.get_columns(name, schema=schema or None)
    except sa.exc.NoSuchTableError:
        others = [*inspector.get_table_names(schema=schema or None), *inspector.get_view_names(schema=schema or None)]
        listed = ", ".join(sorted(others)[:10]) or "none"
        raise SourceNotFoundError(f"{shown}: no table {table!r}; it has {listed}") from None
    return sa.table(name, *(sa.column(item["name"]) for item in found), schema=schema or None)


def _batches(rows: sa.CursorResult[Any], names: Sequence[str]) -> Iterator[pa.Table]:
    first = 1
    for part in rows.partitions():
        by_column = zip(names, zip(*part, strict=True), strict=True)
        columns = {name: pa.array(as_texts(values), pa.string()) for name, values in by_column}
        numbers = pa.array(range(first, first + len(part)), pa.int64())
        first += len(part)
        yield pa.table(columns | {c.SOURCE_ROW: numbers})


def _load(connection: Backend, batches: Iterator[pa.Table], name: str, shown: str) -> ibis.Table:
    table: ibis.Table | None = None
    for batch in batches:
        if table is None:
            table = connection.create_table(name, ibis.memtable(batch), temp=True)
        else:
            connection.insert(name, ibis.memtable(batch))
    if table is None:
        raise EmptyDataError(f"{shown}: the table has no row, must have at least one")
    return table


def as_texts(values: Sequence[object]) -> Sequence[str | None]:
    """Return values as text that reads back to the same value; those that are text already pass untouched.

    Example:
        >>> as_texts([13085, "C489", None, datetime(2011, 6, 1)])
        ['13085', 'C489', None, '2011-06-01T00:00:00']
    """
    if set(map(type, values)) <= {str, type(None)}:
        return values  # type: ignore[return-value]
    return [_text(value) for value in values]


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value)
