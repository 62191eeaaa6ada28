"""The version of the event store's layout, what was added to it since, and the way forward from an older one.

Servers of two releases run on one store while an installation is upgraded or taken back. So the version is raised only
by what the servers of earlier releases can't work with: they refuse to start on a greater one. What they need not know
of is an addition, recorded by its name beside the version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from recsys.contracts.events import PRESENTING, TableName
from recsys.contracts.offers import LOGGED
from recsys.errors import StoreError
from recsys.events.schema import ADDED, EVENT_TABLES, FED, METADATA, PROBE, TABLES, VERSION

Migration = Callable[[sa.Connection], None]
Addition = Callable[[sa.Engine], None]


def create_tables(connection: sa.Connection) -> None:
    """Version 1: decisions, outcomes, order lines, and the view."""
    METADATA.create_all(connection, tables=[TABLES[name] for name in ("decisions", "outcomes", "order_lines")])
    connection.execute(sa.text(_view(connection.dialect)))


def add_live_state(connection: sa.Connection) -> None:
    """Version 2: overrides, visitors, experiments and erasures; what decisions rested on; rules in the view."""
    others = {"decisions", "outcomes", "order_lines", "experiment_decisions"}
    added = (name for name in EVENT_TABLES if name not in others)
    METADATA.create_all(connection, tables=[TABLES[name] for name in added])
    if "context" not in {column["name"] for column in sa.inspect(connection).get_columns("decisions")}:
        connection.execute(sa.text("ALTER TABLE decisions ADD COLUMN context JSON"))
    connection.execute(sa.text("DROP VIEW decision_offers"))
    connection.execute(sa.text(_view(connection.dialect)))


def keep_every_erasure(connection: sa.Connection) -> None:
    """Version 3: an account that is erased again is one more row, so that servers can tell by their number."""
    if len(sa.inspect(connection).get_pk_constraint("forgotten")["constrained_columns"]) > 1:
        return
    connection.execute(sa.text("CREATE TABLE forgotten_before AS SELECT account_key, recorded_at FROM forgotten"))
    TABLES["forgotten"].drop(connection)
    TABLES["forgotten"].create(connection)
    connection.execute(sa.text("INSERT INTO forgotten SELECT account_key, recorded_at FROM forgotten_before"))
    connection.execute(sa.text("DROP TABLE forgotten_before"))


def drop_unread_index(connection: sa.Connection) -> None:
    """Version 4: no question finds decisions by account alone, and a row's place in that index was half its cost."""
    connection.execute(sa.text("DROP INDEX IF EXISTS ix_decisions_account"))


def add_probe(engine: sa.Engine) -> None:
    """A row to be overwritten by whoever asks whether the store can keep anything."""
    PROBE.create(engine, checkfirst=True)


def present_after_deciding(engine: sa.Engine) -> None:
    """No offer is presented before its decision, so that no purchase before it is credited to it."""
    with engine.begin() as connection:
        connection.execute(sa.text("DROP VIEW decision_offers"))
        connection.execute(sa.text(_view(connection.dialect)))


def add_experiment_decisions(engine: sa.Engine) -> None:
    """What was decided about experiments; servers of earlier releases neither read nor write it."""
    TABLES["experiment_decisions"].create(engine, checkfirst=True)


def add_feed(engine: sa.Engine) -> None:
    """The database numbers what changes, whoever writes: servers of the release before need to know nothing of it.

    PostgreSQL gives the number of the transaction, which a snapshot tells apart into seen and unseen. SQLite, where one
    transaction writes after the other, counts.
    """
    if engine.dialect.name == "postgresql":
        _add_feed_on_postgresql(engine)
    else:
        _add_feed_on_sqlite(engine)


def _add_feed_on_sqlite(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for statement in _SQLITE_FEED:
            connection.exec_driver_sql(statement)
        for table in FED:
            _add_number(connection, table)
            connection.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS {_index_of_numbers(table)}")
            for statement in _numbered_on_sqlite(table):
                connection.exec_driver_sql(statement)


def _add_feed_on_postgresql(engine: sa.Engine) -> None:
    """A table at a time, so that no lock is held while another is waited for; the index without a lock on writers."""
    at_once = engine.execution_options(isolation_level="AUTOCOMMIT")
    with at_once.connect() as connection:
        connection.exec_driver_sql(_POSTGRESQL_FEED)
    for table in FED:
        _number_on_postgresql(engine, table)
        with at_once.connect() as connection:
            broken = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid"
            if connection.exec_driver_sql(broken, (f"ix_{table}_change",)).scalar():  # its making was interrupted
                connection.exec_driver_sql(f"DROP INDEX ix_{table}_change")
            connection.exec_driver_sql(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {_index_of_numbers(table)}")


def _number_on_postgresql(engine: sa.Engine, table: TableName) -> None:
    """Wait for the table in short turns: whoever writes waits behind us, and has a second.

    Raises:
        StoreError: somebody held the table all the time.
    """
    for _ in range(_LOCK_TURNS):
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
                _add_number(connection, table)
                for statement in _numbered_on_postgresql(table):
                    connection.exec_driver_sql(statement)
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return
    raise StoreError(
        f"the table {table} was in use for {_LOCK_TURNS * _LOCK_PAUSE_SECONDS:g} s without a pause; end what reads it "
        "(an export, a backup), then start again"
    )


def _add_number(connection: sa.Connection, table: TableName) -> None:
    if "change" not in {column["name"] for column in sa.inspect(connection).get_columns(table)}:
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN change BIGINT")


def _index_of_numbers(table: TableName) -> str:
    where = "presented" if table == "decisions" else "change IS NOT NULL"
    return f"ix_{table}_change ON {table} (change) WHERE {where}"


_LOCK_MILLISECONDS: Final = 200
_LOCK_PAUSE_SECONDS: Final = 0.5
_LOCK_TURNS: Final = 240
_LOCK_NOT_AVAILABLE: Final = "55P03"
"""How long a change waits for its table, how long it then lets others go on, how often; what PostgreSQL calls it."""

_POSTGRESQL_FEED: Final = """CREATE OR REPLACE FUNCTION offer_store_change() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.change := CAST(CAST(pg_current_xact_id() AS text) AS bigint); RETURN NEW; END'"""
_SQLITE_FEED: Final = (
    "CREATE TABLE IF NOT EXISTS offer_store_feed (feed_id INTEGER PRIMARY KEY, position INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO offer_store_feed VALUES (1, 0)",
)


def _drop_numbers_of_another_server(connection: sa.Connection) -> None:
    """A restored copy has numbers that this server has yet to give, and would be read again and again until then."""
    for table in FED:
        connection.exec_driver_sql(
            f"UPDATE {table} SET change = NULL "
            "WHERE change >= CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)"
        )


def _numbered_on_postgresql(table: TableName) -> Iterator[str]:
    yield f"ALTER TABLE {table} ALTER COLUMN change SET DEFAULT CAST(CAST(pg_current_xact_id() AS text) AS bigint)"
    if EVENT_TABLES[table].merge != "first":
        yield f"DROP TRIGGER IF EXISTS {table}_change ON {table}"
        yield (
            f"CREATE TRIGGER {table}_change BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION offer_store_change()"
        )


def _numbered_on_sqlite(table: TableName) -> Iterator[str]:
    number = (
        "UPDATE offer_store_feed SET position = position + 1; "
        f"UPDATE {table} SET change = (SELECT position FROM offer_store_feed) WHERE rowid = NEW.rowid; "
    )
    when = "WHEN NEW.presented" if table == "decisions" else ""
    yield f"CREATE TRIGGER IF NOT EXISTS {table}_written AFTER INSERT ON {table} {when} BEGIN {number} END"
    if EVENT_TABLES[table].merge != "first":
        columns = ", ".join(column.name for column in TABLES[table].columns)
        yield f"CREATE TRIGGER IF NOT EXISTS {table}_changed AFTER UPDATE OF {columns} ON {table} BEGIN {number} END"


MIGRATIONS: Final[Mapping[int, Migration]] = {
    1: create_tables,
    2: add_live_state,
    3: keep_every_erasure,
    4: drop_unread_index,
}
"""Step i brings a store to version i. Steps are only ever added, and only where earlier releases can't go on: they
refuse the store from then on. The next one is 8."""

_UNRELEASED: Final = (5, 6, 7)
"""Versions that no release had; what made them are the additions, and the stores that have them are put right."""

ADDITIONS: Final[Mapping[str, Addition]] = {
    "probe": add_probe,
    "presented_after_decision": present_after_deciding,
    "change_feed": add_feed,
    "experiment_decisions": add_experiment_decisions,
}
"""What servers of earlier releases go on without. Each may run again on a store that has it, or has half of it."""

_LOCK_KEY: Final = 0x0FFE25
_ADDITIONS_LOCK_KEY: Final = 0x0FFE26
"""Another one than for migrations: servers of earlier releases wait for that within a transaction, for which the making
of an index waits in turn."""


def migrate(engine: sa.Engine, migrations: Mapping[int, Migration] = MIGRATIONS) -> int:
    """Return the version of the store after bringing it forward; processes that start together wait for each other.

    Raises:
        StoreError: the store was written by a newer version of this software, which this one can't work with.
    """
    newest = max(migrations)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
        VERSION.create(connection, checkfirst=True)
        found = connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() or 0
        if found in _UNRELEASED:
            connection.execute(sa.delete(VERSION).where(VERSION.c.version.in_(_UNRELEASED)))
            found = min(_UNRELEASED) - 1
        if found > newest:
            raise StoreError(
                f"the event store has layout version {found}, this software knows {newest}; "
                "upgrade offer-engine or name another store"
            )
        for version in range(found + 1, newest + 1):
            if version in migrations:
                migrations[version](connection)
                connection.execute(sa.insert(VERSION).values(version=version))
    with _one_at_a_time(engine):
        _add_missing(engine)
    return newest


def _add_missing(engine: sa.Engine) -> None:
    ADDED.create(engine, checkfirst=True)
    for name in missing_additions(engine):
        ADDITIONS[name](engine)
        with engine.begin() as connection:
            kept = sa.text(f"INSERT INTO {ADDED.name} VALUES (:name) ON CONFLICT DO NOTHING")
            connection.execute(kept, {"name": name})
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            _drop_numbers_of_another_server(connection)


@contextmanager
def _one_at_a_time(engine: sa.Engine) -> Iterator[None]:
    """Keep other processes out on PostgreSQL; outside of a transaction, for which the making of an index would wait."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        while not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_ADDITIONS_LOCK_KEY))).scalar():
            time.sleep(_LOCK_PAUSE_SECONDS)
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(_ADDITIONS_LOCK_KEY)))


def missing_additions(engine: sa.Engine) -> list[str]:
    """Return what this software needs and the store has not, in the order in which it is added."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(ADDED.name):
            return list(ADDITIONS)
        known = set(connection.execute(sa.select(ADDED.c.name)).scalars())
    return [name for name in ADDITIONS if name not in known]


def check_version(engine: sa.Engine) -> None:
    """Make sure that a store is there, as new as this software or newer, and change nothing.

    Raises:
        StoreError: it is not.
    """
    with engine.connect() as connection:
        exists = sa.inspect(connection).has_table(VERSION.name)
        found = (connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() if exists else None) or 0
    newest, lacking = max(MIGRATIONS), missing_additions(engine)
    if found < newest or lacking:
        raise StoreError(
            f"the event store has layout version {found}, must be {newest}; it lacks {', '.join(lacking)}; put back "
            "the store that was there, or start the server again, which makes one"
        )


def _view(dialect: sa.Dialect) -> str:
    """The definition of `decision_offers`: what is kept of an offer by position, and when the offer was presented."""
    columns, postgresql = TABLES["decision_offers"].c, dialect.name == "postgresql"
    fields = ", ".join(
        f"CAST(o.value ->> {position} AS {columns[name].type.compile(dialect)}) AS {name}"
        if postgresql
        else f"o.value ->> {position} AS {name}"
        for position, name in enumerate(LOGGED)
    )
    elements = "json_array_elements(d.offers) AS o(value)" if postgresql else "json_each(d.offers) AS o"
    kinds = ", ".join(f"'{kind}'" for kind in PRESENTING)
    no_earlier = f"{'GREATEST' if postgresql else 'max'}(x.occurred_at, d.decided_at)"
    product = f"o.value ->> {LOGGED.index('product_id')}"
    return (
        "CREATE VIEW decision_offers AS SELECT d.decision_id, d.decided_at, d.account_id, d.visitor_id, d.shown, "
        f"{fields}, CASE WHEN d.presented THEN d.decided_at ELSE ("
        f"SELECT min({no_earlier}) FROM outcomes x WHERE x.decision_id = d.decision_id "
        f"AND x.kind IN ({kinds}) AND (x.product_id IS NULL OR x.product_id = {product})) END AS presented_at "
        f"FROM decisions d CROSS JOIN {elements}"
    )
