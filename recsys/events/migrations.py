"""The version of the event store's layout, and the way forward from an older one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from recsys.contracts.events import PRESENTING, DecisionOffer, TableName
from recsys.errors import StoreError
from recsys.events.schema import (
    ACCOUNT_OVERRIDES,
    ASSIGNMENTS,
    DECISIONS,
    EXPERIMENTS,
    FED,
    FORGOTTEN,
    MERGES,
    METADATA,
    ORDER_LINES,
    OUTCOMES,
    PROBE,
    PRODUCT_OVERRIDES,
    TABLES,
    VERSION,
    VISITOR_LINKS,
)

Migration = Callable[[sa.Connection], None]


def create_tables(connection: sa.Connection) -> None:
    """Version 1: decisions, outcomes, order lines, and the view."""
    METADATA.create_all(connection, tables=[DECISIONS, OUTCOMES, ORDER_LINES])
    connection.execute(sa.text(_view(connection.dialect.name)))


def add_live_state(connection: sa.Connection) -> None:
    """Version 2: overrides, visitors, experiments and erasures; what decisions rested on; rules in the view."""
    added = (PRODUCT_OVERRIDES, ACCOUNT_OVERRIDES, VISITOR_LINKS, ASSIGNMENTS, EXPERIMENTS, FORGOTTEN)
    METADATA.create_all(connection, tables=added)
    if "context" not in {column["name"] for column in sa.inspect(connection).get_columns("decisions")}:
        connection.execute(sa.text("ALTER TABLE decisions ADD COLUMN context JSON"))
    connection.execute(sa.text("DROP VIEW decision_offers"))
    connection.execute(sa.text(_view(connection.dialect.name)))


def keep_every_erasure(connection: sa.Connection) -> None:
    """Version 3: an account that is erased again is one more row, so that servers can tell by their number."""
    if len(sa.inspect(connection).get_pk_constraint("forgotten")["constrained_columns"]) > 1:
        return
    connection.execute(sa.text("CREATE TABLE forgotten_before AS SELECT account_key, recorded_at FROM forgotten"))
    FORGOTTEN.drop(connection)
    FORGOTTEN.create(connection)
    connection.execute(sa.text("INSERT INTO forgotten SELECT account_key, recorded_at FROM forgotten_before"))
    connection.execute(sa.text("DROP TABLE forgotten_before"))


def drop_unread_index(connection: sa.Connection) -> None:
    """Version 4: no question finds decisions by account alone, and a row's place in that index was half its cost."""
    connection.execute(sa.text("DROP INDEX IF EXISTS ix_decisions_account"))


def add_probe(connection: sa.Connection) -> None:
    """Version 5: a row to be overwritten by whoever asks whether the store can keep anything."""
    PROBE.create(connection, checkfirst=True)


def present_after_deciding(connection: sa.Connection) -> None:
    """Version 6: no offer is presented before its decision, so that no purchase before it is credited to it."""
    connection.execute(sa.text("DROP VIEW decision_offers"))
    connection.execute(sa.text(_view(connection.dialect.name)))


def add_feed(connection: sa.Connection) -> None:
    """Version 7: the database numbers what changes, whoever writes; a server of version 6 needs to know nothing of it.

    PostgreSQL gives the number of the transaction, which a snapshot tells apart into seen and unseen. SQLite, where one
    transaction writes after the other, counts.
    """
    postgresql = connection.dialect.name == "postgresql"
    for statement in _POSTGRESQL_FEED if postgresql else _SQLITE_FEED:
        connection.exec_driver_sql(statement)
    for table in FED:
        if "change" not in {column["name"] for column in sa.inspect(connection).get_columns(table)}:
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN change BIGINT")
        where = "presented" if table == "decisions" else "change IS NOT NULL"
        connection.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS ix_{table}_change ON {table} (change) WHERE {where}")
        for statement in _numbered_on_postgresql(table) if postgresql else _numbered_on_sqlite(table):
            connection.exec_driver_sql(statement)


_POSTGRESQL_FEED: Final = (
    """CREATE OR REPLACE FUNCTION offer_store_change() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.change := CAST(CAST(pg_current_xact_id() AS text) AS bigint); RETURN NEW; END'""",
)
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
    if table in MERGES:
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
    if table in MERGES:
        columns = ", ".join(column.name for column in TABLES[table].columns)
        yield f"CREATE TRIGGER IF NOT EXISTS {table}_changed AFTER UPDATE OF {columns} ON {table} BEGIN {number} END"


MIGRATIONS: Final[tuple[Migration, ...]] = (
    create_tables,
    add_live_state,
    keep_every_erasure,
    drop_unread_index,
    add_probe,
    present_after_deciding,
    add_feed,
)
"""Step i brings a store from version i to i + 1. Steps are only ever added."""

_LOCK_KEY: Final = 0x0FFE25


def migrate(engine: sa.Engine, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Return the version of the store after bringing it forward; processes that start together wait for each other.

    Raises:
        StoreError: the store was written by a newer version of this software.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
        VERSION.create(connection, checkfirst=True)
        found = connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() or 0
        if found > len(migrations):
            raise StoreError(
                f"the event store has layout version {found}, this software knows {len(migrations)}; "
                "upgrade offer-engine or name another store"
            )
        for step, migration in enumerate(migrations[found:], start=found + 1):
            migration(connection)
            connection.execute(sa.insert(VERSION).values(version=step))
        if connection.dialect.name == "postgresql":
            _drop_numbers_of_another_server(connection)
    return len(migrations)


def check_version(engine: sa.Engine) -> None:
    """Make sure that a store is there, as new as this software or newer, and change nothing.

    Raises:
        StoreError: it is not.
    """
    with engine.connect() as connection:
        exists = sa.inspect(connection).has_table(VERSION.name)
        found = (connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() if exists else None) or 0
    if found < len(MIGRATIONS):
        raise StoreError(
            f"the event store has layout version {found}, must be {len(MIGRATIONS)}; put back the store that was "
            "there, or start the server again, which makes one"
        )


def _view(dialect: str) -> str:
    """The definition of `decision_offers`: DecisionOffer's fields by position, and when the offer was presented."""
    types: dict[str, Any] = {"rank": "bigint"} | dict.fromkeys(
        ("price", "probability", "expected_quantity", "expected_value", "score", "propensity", "discount"),
        "double precision",
    )
    postgresql = dialect == "postgresql"
    fields = ", ".join(
        f"CAST(o.value ->> {position} AS {types.get(name, 'text')}) AS {name}"
        if postgresql
        else f"o.value ->> {position} AS {name}"
        for position, name in enumerate(DecisionOffer._fields)
    )
    elements = "json_array_elements(d.offers) AS o(value)" if postgresql else "json_each(d.offers) AS o"
    kinds = ", ".join(f"'{kind}'" for kind in PRESENTING)
    no_earlier = f"{'GREATEST' if postgresql else 'max'}(x.occurred_at, d.decided_at)"
    product = f"o.value ->> {DecisionOffer._fields.index('product_id')}"
    return (
        "CREATE VIEW decision_offers AS SELECT d.decision_id, d.decided_at, d.account_id, d.visitor_id, d.shown, "
        f"{fields}, CASE WHEN d.presented THEN d.decided_at ELSE ("
        f"SELECT min({no_earlier}) FROM outcomes x WHERE x.decision_id = d.decision_id "
        f"AND x.kind IN ({kinds}) AND (x.product_id IS NULL OR x.product_id = {product})) END AS presented_at "
        f"FROM decisions d CROSS JOIN {elements}"
    )
