"""The tables of the event store, and how a row meets one that is kept already.

A decision is one row, its returned offers packed into the JSON column `offers` (one array an offer, by the positions of
`LOGGED`); the view `decision_offers` unpacks them, one row a returned offer, with the time when it was
presented. Writing one row a response instead of eleven is what keeps the durable write off the request's critical path.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

import sqlalchemy as sa

from recsys.contracts.events import TableName


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

ADDED: Final = sa.Table(
    "offer_store_additions",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
)
"""What was added to the layout of that version since, which servers of earlier releases need not know of."""

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
    sa.Column("context", sa.JSON),
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
    sa.Column("rule", sa.Text),
    sa.Column("discount", sa.Double),
    sa.Column("presented_at", Utc),
)

PRODUCT_OVERRIDES: Final = sa.Table(
    "product_overrides",
    METADATA,
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("price", sa.Double),
    sa.Column("cost", sa.Double),
    sa.Column("active", sa.Boolean),
    sa.Column("stock", sa.Double),
    sa.Column("do_not_offer", sa.Boolean),
    sa.Column("recorded_at", Utc, nullable=False),
    sa.Index("ix_product_overrides_recorded", "recorded_at"),
)

ACCOUNT_OVERRIDES: Final = sa.Table(
    "account_overrides",
    METADATA,
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("segment", sa.Text),
    sa.Column("region", sa.Text),
    sa.Column("do_not_offer", sa.Boolean),
    sa.Column("recorded_at", Utc, nullable=False),
    sa.Index("ix_account_overrides_recorded", "recorded_at"),
)

VISITOR_LINKS: Final = sa.Table(
    "visitor_links",
    METADATA,
    sa.Column("visitor_id", sa.Text, primary_key=True),
    sa.Column("account_id", sa.Text, nullable=False),
    sa.Column("recorded_at", Utc, nullable=False),
    sa.Index("ix_visitor_links_account", "account_id"),
    sa.Index("ix_visitor_links_recorded", "recorded_at"),
)

ASSIGNMENTS: Final = sa.Table(
    "assignments",
    METADATA,
    sa.Column("experiment_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("unit_id", sa.Text, primary_key=True),
    sa.Column("arm", sa.Text, primary_key=True),  # a unit in two arms is two rows: the readout must see it
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("assigned_at", Utc, nullable=False),
)

EXPERIMENTS: Final = sa.Table(
    "experiments",
    METADATA,
    sa.Column("experiment_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("plan_hash", sa.Text, nullable=False),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("stopped_at", Utc),
)

FORGOTTEN: Final = sa.Table(
    "forgotten",
    METADATA,
    sa.Column("account_key", sa.Text, primary_key=True),
    sa.Column("recorded_at", Utc, primary_key=True),
)

PROBE: Final = sa.Table(
    "offer_store_probe",
    METADATA,
    sa.Column("probe_id", sa.Integer, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
)
"""One row at the most, overwritten whenever somebody asks whether the store can keep anything."""

FED: Final[tuple[TableName, ...]] = (
    *("decisions", "outcomes", "order_lines", "product_overrides", "account_overrides", "visitor_links"),
)
"""Tables with a column `change`, no part of their rows: the number of the change that last wrote a row. The database
gives it, so that servers read what others wrote whatever their clocks say."""

TABLES: Final[dict[TableName, sa.Table]] = {
    "decisions": DECISIONS,
    "decision_offers": DECISION_OFFERS,
    "outcomes": OUTCOMES,
    "order_lines": ORDER_LINES,
    "product_overrides": PRODUCT_OVERRIDES,
    "account_overrides": ACCOUNT_OVERRIDES,
    "visitor_links": VISITOR_LINKS,
    "assignments": ASSIGNMENTS,
    "experiments": EXPERIMENTS,
    "forgotten": FORGOTTEN,
}
WRITTEN: Final[tuple[TableName, ...]] = tuple(name for name in TABLES if name != "decision_offers")
"""What is a table; `decision_offers` is a view."""

TIME_COLUMN: Final[dict[TableName, str]] = {
    "decisions": "decided_at",
    "decision_offers": "decided_at",
    "outcomes": "occurred_at",
    "order_lines": "ordered_at",
    "product_overrides": "recorded_at",
    "account_overrides": "recorded_at",
    "visitor_links": "recorded_at",
    "assignments": "assigned_at",
    "experiments": "started_at",
    "forgotten": "recorded_at",
}

Merge = Literal["first", "latest", "fill"]

MERGES: Final[dict[TableName, Merge]] = {
    "product_overrides": "latest",
    "account_overrides": "latest",
    "experiments": "fill",
}
"""What becomes of a row whose key is kept already. `first` (where nothing stands here): the kept row stays.

`latest`: a new value replaces the kept one, a null leaves it, `recorded_at` is the later of both. `fill`: a new value
fills a null and replaces nothing.
"""
