"""The event store on SQLite (WAL, full synchronisation) and on PostgreSQL, by URL."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple, Protocol

import pyarrow as pa
import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.pool import PoolProxiedConnection

from recsys.contracts.events import Event, EventQuery, FeedPosition, TableName
from recsys.errors import ConfigError, DataError, StoreBusyError, StoreError
from recsys.events.merging import conflict_clause, without_doubles
from recsys.events.migrations import ADDITIONS, MIGRATIONS, check_version, migrate
from recsys.events.rows import StoredRow, rows_by_table
from recsys.events.schema import FED, MERGES, TABLES, TIME_COLUMN, Utc
from recsys.events.sqlite_files import SqliteFiles

BUSY_SECONDS: Final = 5.0
"""How long a writer waits for another process's commit before it gives up."""
WRITE_SECONDS: Final = 8.0
"""How long PostgreSQL may take over one statement of a write: a table that somebody has locked must not hold the writer
for ever. Whoever waited has been refused long before."""
_CONNECTING: Final = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
"""Seconds to connect, and milliseconds until a network that swallows everything counts as dead."""

_REFUSALS: Final = (
    *(sa.exc.DataError, sa.exc.IntegrityError, sa.exc.ProgrammingError),
    *(sqlite3.DataError, sqlite3.IntegrityError, sqlite3.ProgrammingError),
)
"""What the drivers raise where a value does not fit."""
_CHUNK_ROWS: Final = 20_000
_ROWS_A_STATEMENT: Final = 64
"""Of SQLite: what compiles and binds fast; the driver keeps 128 compiled statements."""

_PROBE: Final = (
    "INSERT INTO offer_store_probe (probe_id, content) VALUES (1, {mark}) "
    "ON CONFLICT (probe_id) DO UPDATE SET content = excluded.content"
)
_PROBE_BYTES: Final = 4_096
"""As much as a decision takes, and noise that can't be packed: the database needs room for it, as for a decision."""

_SQLITE_POSITION: Final = "SELECT position + 1, NULL FROM offer_store_feed"
_POSTGRESQL_POSITION: Final = (
    "SELECT CAST(CAST(pg_snapshot_xmax(taken) AS text) AS bigint), "
    "ARRAY(SELECT CAST(CAST(one AS text) AS bigint) FROM pg_snapshot_xip(taken) AS one) "
    "FROM (SELECT pg_current_snapshot() AS taken) AS snapshot"
)

_JSON_COLUMNS: Final = {
    name: tuple(place for place, column in enumerate(table.columns) if isinstance(column.type, sa.JSON))
    for name, table in TABLES.items()
}


class EventStore(Protocol):
    """Where events are kept. Implementations pass `tests/conformance`."""

    def append(self, events: Sequence[Event]) -> None:
        """Keep the events, all or none, durably; an event whose id is kept already is left as it is."""

    def probe(self) -> None:
        """Keep something and take it back, as durably as events, to see whether events could be kept."""

    def read(self, query: EventQuery) -> pa.Table:
        """Return the rows that `query` asks for, in order of time and id; JSON columns are text."""

    def position(self) -> FeedPosition:
        """Return how far a reader gets who begins to read now."""

    def size(self, table: TableName) -> int:
        """Return how many rows a table holds."""

    def close(self) -> None:
        """Give back connections and files."""


def open_store(url: str, *, create: bool = True) -> SqlStore:
    """Return the store at a database URL, created or brought forward where it needs be.

    Args:
        url: `sqlite:///FILE` or `postgresql://HOST/NAME`.
        create: False where the store was there before: one that is empty or gone by now is refused.

    Raises:
        ConfigError: the URL is not one of SQLite (a file) or PostgreSQL.
        StoreError: the database does not answer, or a newer version wrote it.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigError(f"store == {url!r}, must be sqlite:///FILE or postgresql://HOST/NAME") from None
    if parsed.get_backend_name() not in {"sqlite", "postgresql"} or not parsed.database:
        raise ConfigError(f"store == {_shown(parsed)!r}, must be sqlite:///FILE or postgresql://HOST/NAME")
    is_file = parsed.get_backend_name() == "sqlite"
    files = SqliteFiles(Path(parsed.database), max(MIGRATIONS), frozenset(ADDITIONS)) if is_file else None
    store = SqlStore(_engine(parsed), files)
    try:
        if create and files is not None:
            files.create()
        if files is not None:
            files.listen(store.engine)
            sa.event.listen(store.engine, "begin", _begin_sqlite)
        with _sentences(store.name):
            if create:
                migrate(store.engine)
            else:
                check_version(store.engine)
        if files is not None:
            files.expect()
    except StoreError as error:
        store.close()
        if files is None and isinstance(error.__cause__, sa.exc.OperationalError):  # no such database, or no server
            raise StoreError(f"{error}; create or start that database, or name another with --store") from error
        raise
    return store


class SqlStore:
    """Events in a SQL database. One batch is one transaction, and as few statements as may be.

    A statement a row would hand the interpreter lock to and fro for every row: SQLite takes many rows in one INSERT,
    PostgreSQL one JSON document that it takes apart itself.
    """

    def __init__(self, engine: sa.Engine, files: SqliteFiles | None) -> None:
        self.engine = engine
        self.name = _shown(engine.url)
        dialect = engine.dialect.name
        self._writing = _PostgresqlWriting(engine.url) if files is None else _SqliteWriting(engine, files)
        single = {"without_begin": True} if dialect == "sqlite" else {"isolation_level": "AUTOCOMMIT"}
        self.autocommit = engine.execution_options(**single)
        # PostgreSQL streams rows within a transaction only; on SQLite a reader must not take the writer's lock.
        self._reading = self.autocommit if dialect == "sqlite" else engine

    def append(self, events: Sequence[Event]) -> None:
        """Keep the events, all or none, durably; an event whose id is kept already is left as it is.

        Raises:
            DataError: a value does not fit the database (a NUL character on PostgreSQL).
            StoreBusyError: another process held the database for too long.
            StoreError: the database does not answer.
        """
        batch = rows_by_table(events)
        if not batch:
            return
        statements = list(self._statements(batch))
        with _sentences(self.name):
            self._writing.run(statements)

    def probe(self) -> None:
        """Overwrite the one row that is there to be overwritten, as durably as events are kept.

        A read would tell nothing of a full disk or a file that may not be written, nor would what is rolled back.

        Raises:
            StoreBusyError: another process held the database for too long.
            StoreError: the database keeps nothing, or does not answer.
        """
        mark = "?" if self.engine.dialect.name == "sqlite" else "%s"
        with _sentences(self.name):
            self._writing.run([_Statement(_PROBE.format(mark=mark), (os.urandom(_PROBE_BYTES // 2).hex(),))])

    def read(self, query: EventQuery) -> pa.Table:
        """Return the rows that `query` asks for, in order of time and id; JSON columns are text."""
        return pa.Table.from_batches(self.stream(query), schema=wanted_schema(query))

    def stream(self, query: EventQuery) -> Iterator[pa.RecordBatch]:
        """Yield the same rows, some thousand at a time."""
        schema = wanted_schema(query)
        with _sentences(self.name), self._reading.connect() as connection:
            result = connection.execution_options(yield_per=_CHUNK_ROWS).execute(_select(query))
            for rows in result.partitions():
                yield _record_batch(rows, schema)

    def position(self) -> FeedPosition:
        """Return how far a reader gets who begins to read now.

        What is committed by now and what is read from now on overlap rather than miss something between them: the
        position is taken first.
        """
        sqlite = self.engine.dialect.name == "sqlite"
        with _sentences(self.name), self.autocommit.connect() as connection:
            following, under_way = connection.exec_driver_sql(
                _SQLITE_POSITION if sqlite else _POSTGRESQL_POSITION
            ).one()
        return FeedPosition(following, tuple(under_way or ()))

    def size(self, table: TableName) -> int:
        """Return how many rows a table holds."""
        with _sentences(self.name), self.autocommit.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(TABLES[table])).scalar_one())

    def answering(self) -> AbstractContextManager[None]:
        """Return a block in which the driver's errors become ours."""
        return _sentences(self.name)

    def close(self) -> None:
        """Close the connections."""
        self._writing.close()
        self.engine.dispose()

    def _statements(self, batch: dict[TableName, list[StoredRow]]) -> Iterator[_Statement]:
        """What writes a batch: on SQLite some rows a statement, on PostgreSQL one JSON document a table."""
        for name, rows in batch.items():
            if name in MERGES:
                rows = without_doubles(name, rows)
            if self.engine.dialect.name == "sqlite":
                for start in range(0, len(rows), _ROWS_A_STATEMENT):
                    some = rows[start : start + _ROWS_A_STATEMENT]
                    yield _Statement(_insert_rows(name, len(some)), _values(name, some))
            else:
                yield _Statement(_insert_document(name), (to_json(rows, inf_nan_mode="null").decode(),))


def _values(name: TableName, rows: Sequence[StoredRow]) -> tuple[Any, ...]:
    """The values of some rows one after the other, JSON columns as text."""
    as_json = _JSON_COLUMNS[name]
    values: list[Any] = []
    for row in rows:
        begin = len(values)
        values += row
        for position in as_json:
            value = row[position]
            if value is not None and type(value) is not str:  # text is JSON already
                values[begin + position] = to_json(value, inf_nan_mode="null").decode()
    return tuple(values)


class _Statement(NamedTuple):
    """SQL in the driver's own form, and its parameters."""

    sql: str
    parameters: tuple[Any, ...]


class _SqliteWriting:
    """One connection that stays open and writes without SQLAlchemy, whose part of a small commit is the larger one."""

    def __init__(self, engine: sa.Engine, files: SqliteFiles) -> None:
        self._engine = engine
        self._files = files
        self._lock = Lock()
        self._connection: PoolProxiedConnection | None = None

    def run(self, statements: Sequence[_Statement]) -> None:
        """Run the statements in one transaction; after an error the next ones find a new connection."""
        with self._lock:
            if self._connection is None:
                self._connection = self._engine.raw_connection()
            opened, info = self._connection.driver_connection, self._connection.info
            assert opened is not None
            cursor = self._connection.cursor()
            try:
                self._files.check(opened, info)
                if len(statements) > 1:
                    cursor.execute("BEGIN IMMEDIATE")
                for statement in statements:
                    cursor.execute(*statement)
                if len(statements) > 1:
                    cursor.execute("COMMIT")
                self._files.check(opened, info)
            except BaseException as error:
                if isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error):
                    opened.rollback()
                    self._files.make_room(opened)
                self._connection.invalidate()  # which closes it, and undoes what was begun
                self._connection = None
                raise
            cursor.close()

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class _PostgresqlWriting:
    """Connections to PostgreSQL for writing alone: a table that somebody has locked must not hold requests for ever."""

    def __init__(self, url: sa.URL) -> None:
        self._engine = _engine(url)
        sa.event.listen(self._engine, "connect", _limit_statements)
        self._at_once = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def run(self, statements: Sequence[_Statement]) -> None:
        """Run the statements in one transaction; one alone is a transaction already."""
        with self._at_once.connect() if len(statements) == 1 else self._engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(*statement)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


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


def _record_batch(rows: Sequence[sa.Row[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _select(query: EventQuery) -> sa.Select[Any]:
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


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
        return sa.create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=_CONNECTING)
    return sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)


def _limit_statements(connection: Any, _record: Any) -> None:  # noqa: ANN401 - the driver's own types
    connection.execute(f"SET statement_timeout = {WRITE_SECONDS * 1_000:.0f}")
    connection.commit()


def _begin_sqlite(connection: sa.Connection) -> None:
    if not connection.get_execution_options().get("without_begin"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # a deferred one may fail half-way, where the timeout can't help


def _shown(url: sa.URL) -> str:
    return url.render_as_string(hide_password=True)


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except _REFUSALS as error:
        raise DataError(f"{name} refused the events: {_first_line(error)}") from error
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        text = _first_line(error)
        if "database is locked" in text:
            raise StoreBusyError(f"{name} was locked for more than {BUSY_SECONDS:g} s; try again later") from error
        raise StoreError(f"{name} does not answer: {text}") from error


def _first_line(error: sa.exc.DBAPIError | sqlite3.Error) -> str:
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return str(original).strip().partition("\n")[0]
