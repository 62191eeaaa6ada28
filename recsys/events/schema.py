"""The tables of the event store, the version of their layout, and the way forward from an older one.

A decision is one row, its returned offers packed into the JSON column `offers` (one array an offer, by the positions of
`DecisionOffer`); the view `decision_offers` unpacks them, one row a returned offer, with the time when it was
presented. Writing one row a response instead of eleven is what keeps the durable write off the request's critical path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from recsys.contracts.events import PRESENTING, DecisionOffer, TableName
from recsys.errors import StoreError


class Utc(sa.types.TypeDecorator[datetime]):
    """A point in time: `timestamptz` on PostgreSQL; on SQLite the UTC time as sortable text, with microseconds."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the time as the driver wants it."""
        if value is None:
            return None
        moved = value.astimezone(UTC)
        return moved.replace(tzinfo=None) if dialect.name == "sqlite" else moved

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


METADATA: Final = sa.MetaData()

VERSION: Final = sa.Table(
    "offer_store_version",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True),
)

DECISIONS: Final = sa.Table(
    "decisions",
    METADATA,
    sa.Column("decision_id", sa.Text, primary_key=True),
    sa.Column("decided_at", Utc, nullable=False),
    sa.Column("account_id", sa.Text),
    sa.Column("visitor_id", sa.Text),
    sa.Column("channel", sa.Text),
    sa.Column("surface", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("experiment_id", sa.Text),
    sa.Column("arm", sa.Text),
    sa.Column("assignment_probability", sa.Double),
    sa.Column("objective", sa.Text, nullable=False),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("horizon_days", sa.BigInteger, nullable=False),
    sa.Column("requested", sa.BigInteger, nullable=False),
    sa.Column("returned", sa.BigInteger, nullable=False),
    sa.Column("n_considered", sa.BigInteger, nullable=False),
    sa.Column("shortfall", sa.Text),
    sa.Column("shown", sa.Boolean, nullable=False),
    sa.Column("presented", sa.Boolean, nullable=False),
    sa.Column("unknown_products", sa.JSON, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("offers", sa.JSON, nullable=False),
    sa.Index("ix_decisions_account", "account_id"),
)

OUTCOMES: Final = sa.Table(
    "outcomes",
    METADATA,
    sa.Column("outcome_id", sa.Text, primary_key=True),
    sa.Column("decision_id", sa.Text, nullable=False),
    sa.Column("product_id", sa.Text),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("occurred_at", Utc, nullable=False),
    sa.Column("recorded_at", Utc, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("actor_id", sa.Text),
    sa.Index("ix_outcomes_decision", "decision_id"),
    sa.Index("ix_outcomes_recorded", "recorded_at"),
)

ORDER_LINES: Final = sa.Table(
    "order_lines",
    METADATA,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("line_id", sa.Text, primary_key=True),
    sa.Column("account_id", sa.Text),
    sa.Column("visitor_id", sa.Text),
    sa.Column("product_id", sa.Text, nullable=False),
    sa.Column("ordered_at", Utc, nullable=False),
    sa.Column("quantity", sa.Double, nullable=False),
    sa.Column("unit_price", sa.Double),
    sa.Column("discount", sa.Double, nullable=False),
    sa.Column("currency", sa.Text),
    sa.Column("channel", sa.Text),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("recorded_at", Utc, nullable=False),
    sa.Index("ix_order_lines_account", "account_id"),
    sa.Index("ix_order_lines_recorded", "recorded_at"),
)

DECISION_OFFERS: Final = sa.Table(
    "decision_offers",
    sa.MetaData(),  # a view: `create_all` must not make a table of it
    sa.Column("decision_id", sa.Text, nullable=False),
    sa.Column("decided_at", Utc, nullable=False),
    sa.Column("account_id", sa.Text),
    sa.Column("visitor_id", sa.Text),
    sa.Column("shown", sa.Boolean, nullable=False),
    sa.Column("rank", sa.BigInteger, nullable=False),
    sa.Column("product_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("price", sa.Double),
    sa.Column("currency", sa.Text),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("probability_of", sa.Text, nullable=False),
    sa.Column("expected_quantity", sa.Double, nullable=False),
    sa.Column("expected_value", sa.Double, nullable=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("propensity", sa.Double, nullable=False),
    sa.Column("from_product_id", sa.Text),
    sa.Column("presented_at", Utc),
)

TABLES: Final[dict[TableName, sa.Table]] = {
    "decisions": DECISIONS,
    "decision_offers": DECISION_OFFERS,
    "outcomes": OUTCOMES,
    "order_lines": ORDER_LINES,
}
WRITTEN: Final[tuple[TableName, ...]] = ("decisions", "outcomes", "order_lines")
"""What is a table; `decision_offers` is a view."""

TIME_COLUMN: Final[dict[TableName, str]] = {
    "decisions": "decided_at",
    "decision_offers": "decided_at",
    "outcomes": "occurred_at",
    "order_lines": "ordered_at",
}

Migration = Callable[[sa.Connection], None]


def create_tables(connection: sa.Connection) -> None:
    """Version 1: the tables and the view."""
    METADATA.create_all(connection)
    connection.execute(sa.text(_view(connection.dialect.name)))


MIGRATIONS: Final[tuple[Migration, ...]] = (create_tables,)
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
    return len(migrations)


def _view(dialect: str) -> str:
    """The definition of `decision_offers`: DecisionOffer's fields by position, and when the offer was presented."""
    types: dict[str, Any] = {"rank": "bigint"} | dict.fromkeys(
        ("price", "probability", "expected_quantity", "expected_value", "score", "propensity"), "double precision"
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
    product = f"o.value ->> {DecisionOffer._fields.index('product_id')}"
    return (
        "CREATE VIEW decision_offers AS SELECT d.decision_id, d.decided_at, d.account_id, d.visitor_id, d.shown, "
        f"{fields}, CASE WHEN d.presented THEN d.decided_at ELSE ("
        "SELECT min(x.occurred_at) FROM outcomes x WHERE x.decision_id = d.decision_id "
        f"AND x.kind IN ({kinds}) AND (x.product_id IS NULL OR x.product_id = {product})) END AS presented_at "
        f"FROM decisions d CROSS JOIN {elements}"
    )
