"""The event store on SQLite (WAL, full synchronisation) and on PostgreSQL, by URL."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol, runtime_checkable

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import PoolProxiedConnection

from recsys.contracts.events import Event, EventQuery, FeedPosition, TableName
from recsys.errors import ConfigError, DataError, StoreBusyError, StoreError
from recsys.events.migrations import ADDITIONS, MIGRATIONS, check_version, migrate
from recsys.events.schema import TABLES, rows_by_table
from recsys.events.sqlite_files import SqliteFiles
from recsys.events.statements import Statement, insert_statements, record_batch, select_statement, wanted_schema

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

_PROBE: Final = (
    "INSERT INTO offer_store_probe (probe_id, content) VALUES (1, {mark}) "
    "ON CONFLICT (probe_id) DO UPDATE SET content = excluded.content"
)
_PROBE_BYTES: Final = 4_096
"""As much as a decision takes, and noise that can't be packed: the database needs room for it, as for a decision."""

SQLITE_POSITION: Final = "SELECT position + 1, NULL FROM offer_store_feed"
_POSTGRESQL_POSITION: Final = (
    "SELECT CAST(CAST(pg_snapshot_xmax(taken) AS text) AS bigint), "
    "ARRAY(SELECT CAST(CAST(one AS text) AS bigint) FROM pg_snapshot_xip(taken) AS one) "
    "FROM (SELECT pg_current_snapshot() AS taken) AS snapshot"
)


@runtime_checkable
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
        with store.answering():
            if create:
                migrate(store.engine)
            else:
                check_version(store.engine)
        if files is not None:
            files.expect()
    except StoreError as error:
        store.close()
        if files is None and isinstance(error.__cause__, sa.exc.OperationalError):  # no such database, or no server
            raise StoreError(f"{error}; create or start that database, or name another store") from error
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
        statements = list(insert_statements(batch, self.engine.dialect.name))
        with self.answering():
            self._writing.run(statements)

    def probe(self) -> None:
        """Overwrite the one row that is there to be overwritten, as durably as events are kept.

        A read would tell nothing of a full disk or a file that may not be written, nor would what is rolled back.

        Raises:
            StoreBusyError: another process held the database for too long.
            StoreError: the database keeps nothing, or does not answer.
        """
        mark = "?" if self.engine.dialect.name == "sqlite" else "%s"
        with self.answering():
            self._writing.run([Statement(_PROBE.format(mark=mark), (os.urandom(_PROBE_BYTES // 2).hex(),))])

    def read(self, query: EventQuery) -> pa.Table:
        """Return the rows that `query` asks for, in order of time and id; JSON columns are text."""
        return pa.Table.from_batches(self.stream(query), schema=wanted_schema(query))

    def stream(self, query: EventQuery) -> Iterator[pa.RecordBatch]:
        """Yield the same rows, some thousand at a time."""
        schema = wanted_schema(query)
        with self.answering(), self._reading.connect() as connection:
            result = connection.execution_options(yield_per=_CHUNK_ROWS).execute(select_statement(query))
            for rows in result.partitions():
                yield record_batch(rows, schema)

    def position(self) -> FeedPosition:
        """Return how far a reader gets who begins to read now.

        What is committed by now and what is read from now on overlap rather than miss something between them: the
        position is taken first.
        """
        sqlite = self.engine.dialect.name == "sqlite"
        with self.answering(), self.autocommit.connect() as connection:
            following, under_way = connection.exec_driver_sql(SQLITE_POSITION if sqlite else _POSTGRESQL_POSITION).one()
        return FeedPosition(following, tuple(under_way or ()))

    def size(self, table: TableName) -> int:
        """Return how many rows a table holds."""
        with self.answering(), self.autocommit.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(TABLES[table])).scalar_one())

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn the driver's errors within the block into ours."""
        try:
            yield
        except _REFUSALS as error:
            raise DataError(f"{self.name} refused the events: {_first_line(error)}") from error
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            text = _first_line(error)
            if "database is locked" in text:
                raise StoreBusyError(
                    f"{self.name} was locked for more than {BUSY_SECONDS:g} s; try again later"
                ) from error
            raise StoreError(f"{self.name} does not answer: {text}") from error

    def close(self) -> None:
        """Close the connections."""
        self._writing.close()
        self.engine.dispose()


class _SqliteWriting:
    """One connection that stays open and writes without SQLAlchemy, whose part of a small commit is the larger one."""

    def __init__(self, engine: sa.Engine, files: SqliteFiles) -> None:
        self._engine = engine
        self._files = files
        self._lock = Lock()
        self._connection: PoolProxiedConnection | None = None

    def run(self, statements: Sequence[Statement]) -> None:
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

    def run(self, statements: Sequence[Statement]) -> None:
        """Run the statements in one transaction; one alone is a transaction already."""
        with self._at_once.connect() if len(statements) == 1 else self._engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(*statement)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


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


def _first_line(error: sa.exc.DBAPIError | sqlite3.Error) -> str:
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return str(original).strip().partition("\n")[0]
