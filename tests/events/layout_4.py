"""A store as the release of 2026-11-28 makes it, and what its servers write: its own statements, not today's code."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

_TABLES: Final = """
CREATE TABLE offer_store_version (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE decisions (decision_id TEXT NOT NULL, decided_at {time} NOT NULL, account_id TEXT, visitor_id TEXT,
  channel TEXT, surface TEXT, request_id TEXT, model_version TEXT NOT NULL, experiment_id TEXT, arm TEXT,
  assignment_probability {double}, objective TEXT NOT NULL, tier TEXT NOT NULL, horizon_days BIGINT NOT NULL,
  requested BIGINT NOT NULL, returned BIGINT NOT NULL, n_considered BIGINT NOT NULL, shortfall TEXT, shown BOOLEAN
  NOT NULL, presented BOOLEAN NOT NULL, unknown_products JSON NOT NULL, request JSON NOT NULL, offers JSON NOT NULL,
  context JSON, PRIMARY KEY (decision_id));
CREATE TABLE outcomes (outcome_id TEXT NOT NULL, decision_id TEXT NOT NULL, product_id TEXT, kind TEXT NOT NULL,
  occurred_at {time} NOT NULL, recorded_at {time} NOT NULL, reason TEXT, actor_id TEXT, PRIMARY KEY (outcome_id));
CREATE INDEX ix_outcomes_decision ON outcomes (decision_id);
CREATE INDEX ix_outcomes_recorded ON outcomes (recorded_at);
CREATE TABLE order_lines (order_id TEXT NOT NULL, line_id TEXT NOT NULL, account_id TEXT, visitor_id TEXT,
  product_id TEXT NOT NULL, ordered_at {time} NOT NULL, quantity {double} NOT NULL, unit_price {double}, discount
  {double} NOT NULL, currency TEXT, channel TEXT, status TEXT NOT NULL, recorded_at {time} NOT NULL, PRIMARY KEY
  (order_id, line_id));
CREATE INDEX ix_order_lines_recorded ON order_lines (recorded_at);
CREATE INDEX ix_order_lines_account ON order_lines (account_id);
CREATE TABLE product_overrides (product_id TEXT NOT NULL, price {double}, cost {double}, active BOOLEAN, stock
  {double}, do_not_offer BOOLEAN, recorded_at {time} NOT NULL, PRIMARY KEY (product_id));
CREATE INDEX ix_product_overrides_recorded ON product_overrides (recorded_at);
CREATE TABLE account_overrides (account_id TEXT NOT NULL, segment TEXT, region TEXT, do_not_offer BOOLEAN,
  recorded_at {time} NOT NULL, PRIMARY KEY (account_id));
CREATE INDEX ix_account_overrides_recorded ON account_overrides (recorded_at);
CREATE TABLE visitor_links (visitor_id TEXT NOT NULL, account_id TEXT NOT NULL, recorded_at {time} NOT NULL, PRIMARY
  KEY (visitor_id));
CREATE INDEX ix_visitor_links_account ON visitor_links (account_id);
CREATE INDEX ix_visitor_links_recorded ON visitor_links (recorded_at);
CREATE TABLE assignments (experiment_id TEXT NOT NULL, version BIGINT NOT NULL, unit_id TEXT NOT NULL, arm TEXT NOT
  NULL, unit TEXT NOT NULL, probability {double} NOT NULL, assigned_at {time} NOT NULL, PRIMARY KEY (experiment_id,
  version, unit_id, arm));
CREATE TABLE experiments (experiment_id TEXT NOT NULL, version BIGINT NOT NULL, "plan" TEXT NOT NULL, plan_hash TEXT
  NOT NULL, started_at {time} NOT NULL, stopped_at {time}, PRIMARY KEY (experiment_id, version));
CREATE TABLE forgotten (account_key TEXT NOT NULL, recorded_at {time} NOT NULL, PRIMARY KEY (account_key,
  recorded_at));
CREATE VIEW decision_offers AS SELECT d.decision_id, d.decided_at FROM decisions d;
INSERT INTO offer_store_version VALUES (1), (2), (3), (4)
"""

_AT: Final = "'2026-03-01 12:00:00.000000'"

WRITES: Final = {
    "decisions": "INSERT INTO decisions (decision_id, decided_at, account_id, model_version, objective, tier, "
    "horizon_days, requested, returned, n_considered, shown, presented, unknown_products, request, offers, context) "
    f"VALUES ('d1', {_AT}, 'A1', '7', 'conversion', 'cart', 30, 1, 1, 1, true, true, '[]', '{{\"limit\":1}}', "
    '\'[[1,"P1","cross_sell",9.5,"GBP",0.25,"buys_within_horizon",2,4.9,0.5,"cart",1,null,null,null]]\', '
    "'{\"refused\":{}}') ON CONFLICT DO NOTHING",
    "outcomes": "INSERT INTO outcomes (outcome_id, decision_id, kind, occurred_at, recorded_at) "
    f"VALUES ('x1', 'd1', 'declined', {_AT}, {_AT}) ON CONFLICT DO NOTHING",
    "order_lines": "INSERT INTO order_lines (order_id, line_id, account_id, product_id, ordered_at, quantity, "
    f"discount, status, recorded_at) VALUES ('o1', '1', 'A1', 'P1', {_AT}, 1, 0, 'completed', {_AT}) "
    "ON CONFLICT DO NOTHING",
    "product_overrides": "INSERT INTO product_overrides (product_id, stock, recorded_at) "
    f"VALUES ('P1', 0, {_AT}) ON CONFLICT (product_id) DO UPDATE SET "
    "stock = COALESCE(excluded.stock, product_overrides.stock)",
    "account_overrides": "INSERT INTO account_overrides (account_id, segment, recorded_at) "
    f"VALUES ('A1', 's', {_AT}) ON CONFLICT (account_id) DO UPDATE SET "
    "segment = COALESCE(excluded.segment, account_overrides.segment)",
    "visitor_links": "INSERT INTO visitor_links (visitor_id, account_id, recorded_at) "
    f"VALUES ('v1', 'A1', {_AT}) ON CONFLICT DO NOTHING",
}
"""What its servers write, by table."""


def make_store(connection: sa.Connection) -> None:
    """Make its tables in an empty database."""
    postgresql = connection.dialect.name == "postgresql"
    time, double = ("timestamptz", "double precision") if postgresql else ("DATETIME", "DOUBLE")
    for statement in _TABLES.format(time=time, double=double).split(";"):
        connection.exec_driver_sql(statement)


def write_everything(connection: sa.Connection) -> None:
    """Write one row to each table."""
    for statement in WRITES.values():
        connection.exec_driver_sql(statement)


def is_accepted(connection: sa.Connection) -> bool:
    """Return whether its servers start on the store: they refuse a version above 4."""
    found: int = connection.exec_driver_sql("SELECT max(version) FROM offer_store_version").scalar_one()
    return found <= 4
