"""An event store's tables exported as Parquet, one folder a day, and rows deleted by age or by account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from recsys.contracts.events import Erasure, EventQuery, TableName, forget_key
from recsys.errors import ConfigError
from recsys.events.schema import TABLES, TIME_COLUMN
from recsys.events.statements import arrow_schema
from recsys.events.store import SqlStore

FILE: Final = "part.parquet"


def export_events(
    store: SqlStore, table: TableName, out: str | Path, since: datetime | None = None, until: datetime | None = None
) -> dict[date, int]:
    """Write a table to `out/TABLE/day=YYYY-MM-DD/part.parquet` (UTC days); return the rows of each day.

    A day that stands there already is replaced in one step: export a day again when it is over. JSON columns are text.
    """
    counts: dict[date, int] = {}
    schema = arrow_schema(table)
    writer: pq.ParquetWriter | None = None
    place = beside = Path(out)
    try:
        for day, batch in _by_day(store.stream(EventQuery(table, since=since, until=until)), TIME_COLUMN[table]):
            if day not in counts:
                _finish(writer, beside, place)
                place = Path(out) / table / f"day={day.isoformat()}" / FILE
                beside = place.with_name(f".{FILE}")
                place.parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(beside, schema, compression="zstd")
                counts[day] = 0
            assert writer is not None
            writer.write_batch(batch)
            counts[day] += batch.num_rows
        _finish(writer, beside, place)
    except BaseException:
        if writer is not None:
            writer.close()
            beside.unlink(missing_ok=True)
        raise
    return counts


def _finish(writer: pq.ParquetWriter | None, beside: Path, place: Path) -> None:
    if writer is not None:
        writer.close()
        beside.replace(place)


def _by_day(batches: Iterator[pa.RecordBatch], column: str) -> Iterator[tuple[date, pa.RecordBatch]]:
    """Cut batches, which come in order of time, at midnight UTC."""
    for batch in batches:
        times = batch.column(column)
        begun = 0
        while begun < batch.num_rows:
            day = times[begun].as_py().date()
            midnight = datetime.combine(day + timedelta(days=1), datetime.min.time(), times[begun].as_py().tzinfo)
            rest = times.slice(begun)
            n_rows = int(pc.sum(pc.less(rest, pa.scalar(midnight, rest.type))).as_py())
            yield day, batch.slice(begun, n_rows)
            begun += n_rows


RETAINED: Final[tuple[TableName, ...]] = ("decisions", "outcomes", "order_lines", "visitor_links")
"""What grows with every request or login, and may be dropped by age; the next login links a visitor again."""

_CHUNK_ROWS: Final = 5_000
"""Rows of one transaction, so that a server that shares the database waits for milliseconds."""

_KEYS_AT_ONCE: Final = 500


def erase_account(
    store: SqlStore, account_id: str, now: datetime, settle: Callable[[], None] | None = None
) -> dict[TableName, int]:
    """Erase one account from the store; return how many rows of each table went.

    Its linked visitors go with it. What remains is a keyed hash of the id, by which servers know that nothing that a
    bundle still holds of the account may be used. It is kept before anything goes, and once more when all has gone: a
    server that has read a row that was on its way out drops it then.

    Args:
        store: that every server writes to.
        account_id: the account.
        now: UTC; tells this erasure from an earlier one of the same account.
        settle: waits until every server has heard of the erasure; what one still wrote until then goes too.
    """
    key = forget_key(account_id)
    store.append([Erasure(key, now)])
    gone = _erase(store, account_id)
    if settle is not None:
        settle()
        late = _erase(store, account_id)
        gone = {table: count + late[table] for table, count in gone.items()}
    store.append([Erasure(key, now + timedelta(microseconds=1))])
    if store.engine.dialect.name == "sqlite":
        with store.answering(), store.autocommit.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")  # the journal holds the old pages
    return gone


def _erase(store: SqlStore, account_id: str) -> dict[TableName, int]:
    """Delete what belongs to an account, the links that name its visitors last: a second run finds what is left."""
    decisions, units, links = TABLES["decisions"], TABLES["assignments"].c.unit_id, TABLES["visitor_links"].c
    visitors = sa.select(links.visitor_id).where(links.account_id == account_id)
    own = sa.select(decisions.c.decision_id).where(_belongs(decisions, account_id, visitors))
    steps: dict[TableName, sa.ColumnElement[bool]] = {
        "outcomes": TABLES["outcomes"].c.decision_id.in_(own),
        "decisions": _belongs(decisions, account_id, visitors),
        "order_lines": _belongs(TABLES["order_lines"], account_id, visitors),
        "assignments": (units == account_id) | units.in_(visitors),
        "account_overrides": TABLES["account_overrides"].c.account_id == account_id,
        "visitor_links": links.account_id == account_id,
    }
    return {name: _delete(store, TABLES[name], what) for name, what in steps.items()}


def _delete(store: SqlStore, table: sa.Table, what: sa.ColumnElement[bool]) -> int:
    """Delete rows that are looked up first: a search may take minutes, and must not hold the writers' lock."""
    identity = list(table.primary_key.columns)
    with store.answering(), store.autocommit.connect() as connection:
        keys = [tuple(row) for row in connection.execute(sa.select(*identity).where(what))]
    n_rows = 0
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        wanted = sa.tuple_(*identity).in_(keys[start : start + _KEYS_AT_ONCE])
        with store.answering(), store.engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete=ON")  # else the values stay in free pages
            n_rows += connection.execute(sa.delete(table).where(wanted)).rowcount
    return n_rows


def drop_before(store: SqlStore, table: TableName, before: datetime) -> int:
    """Drop the rows of a table from before a time, some thousand a transaction; return how many.

    Raises:
        ConfigError: the table is not one that is dropped by age.
    """
    if table not in RETAINED:
        raise ConfigError(f"table == {table!r}, must be one of {', '.join(RETAINED)}; the others hold state")
    rows = TABLES[table]
    address: sa.ColumnClause[Any] = sa.literal_column("rowid" if store.engine.dialect.name == "sqlite" else "ctid")
    old = sa.select(address).select_from(rows).where(rows.c[TIME_COLUMN[table]] < before).limit(_CHUNK_ROWS)
    dropped = 0
    while True:
        with store.answering(), store.engine.begin() as connection:
            n_rows = connection.execute(sa.delete(rows).where(address.in_(old.scalar_subquery()))).rowcount
        dropped += n_rows
        if n_rows < _CHUNK_ROWS:
            return dropped


def _belongs(table: sa.Table, account_id: str, visitors: sa.Select[Any]) -> sa.ColumnElement[bool]:
    return (table.c.account_id == account_id) | table.c.visitor_id.in_(visitors)
