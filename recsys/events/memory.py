"""The event store in memory: the real thing's fake, for tests and trials; nothing survives the process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from weakref import finalize

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from recsys.contracts.events import Event, EventQuery, FeedPosition, TableName
from recsys.events.migrations import migrate
from recsys.events.schema import TABLES, rows_by_table
from recsys.events.statements import insert_statements, record_batch, select_statement, wanted_schema
from recsys.events.store import SQLITE_POSITION


class MemoryStore:
    """Events in an SQLite database of this process: one connection, which one thread uses at a time."""

    name = "memory"

    def __init__(self) -> None:
        self._engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        self._lock = Lock()
        finalize(self, self._engine.dispose)  # Python warns of a connection that nobody closed
        migrate(self._engine)

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """Yield the connection within a transaction; the next thread waits until it ends."""
        with self._lock, self._engine.begin() as connection:
            yield connection

    def append(self, events: Sequence[Event]) -> None:
        """Keep the events; a row whose key is kept already is merged with it."""
        with self.connection() as connection:
            for statement in insert_statements(rows_by_table(events), "sqlite"):
                connection.exec_driver_sql(*statement)

    def probe(self) -> None:
        """Do nothing: memory keeps whatever it is given."""

    def read(self, query: EventQuery) -> pa.Table:
        """Return the rows that `query` asks for, in order of time and id; JSON columns are text."""
        schema = wanted_schema(query)
        with self.connection() as connection:
            rows = connection.execute(select_statement(query)).all()
        return pa.Table.from_batches([record_batch(rows, schema)] if rows else [], schema=schema)

    def position(self) -> FeedPosition:
        """Return how far a reader gets who begins to read now."""
        with self.connection() as connection:
            return FeedPosition(connection.exec_driver_sql(SQLITE_POSITION).scalar_one())

    def size(self, table: TableName) -> int:
        """Return how many rows a table holds."""
        with self.connection() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(TABLES[table])).scalar_one())

    def close(self) -> None:
        """Forget everything."""
        self._engine.dispose()
