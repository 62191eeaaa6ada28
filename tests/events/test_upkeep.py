"""Erasing an account, dropping what is old, exporting by day: on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import get_args

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from recsys.contracts.decisions import Decision
from recsys.contracts.events import (
    AccountUpdate,
    Erasure,
    Event,
    EventQuery,
    ExperimentDecision,
    ExperimentRecord,
    Outcome,
    PostedLine,
    ProductUpdate,
    RecordedAssignment,
    TableName,
    VisitorLink,
    forget_key,
)
from recsys.contracts.offers import Offer, OfferRequest
from recsys.errors import ConfigError
from recsys.events import maintenance as upkeep
from recsys.events.maintenance import drop_before, erase_account, export_events
from recsys.events.migrations import MIGRATIONS, migrate
from recsys.events.schema import FED, VERSION
from recsys.events.store import SqlStore, open_store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TABLES_OF_VERSION_2 = (
    "assignments",
    "experiments",
    "forgotten",
    "visitor_links",
    "product_overrides",
    "account_overrides",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    sqlite = request.param == "sqlite"
    made = open_store(f"sqlite:///{tmp_path}/e.db" if sqlite else request.getfixturevalue("postgresql_url"))
    yield made
    made.close()


def decision(decision_id: str, account_id: str | None, visitor_id: str | None = None, days: float = 0) -> Decision:
    return Decision(
        decision_id=decision_id,
        decided_at=NOON + days * DAY,
        request=OfferRequest(account_id=account_id),
        model_version="7",
        objective="conversion",
        tier="popular",
        horizon_days=30,
        n_considered=1,
        visitor_id=visitor_id,
    )


def outcome(outcome_id: str, decision_id: str, days: float = 0) -> Outcome:
    return Outcome(
        outcome_id=outcome_id, decision_id=decision_id, kind="shown", occurred_at=NOON + days * DAY, recorded_at=NOON
    )


def line(order_id: str, account_id: str | None, visitor_id: str | None = None, days: float = 0) -> PostedLine:
    at = NOON + days * DAY
    return PostedLine(
        order_id=order_id,
        line_id="1",
        product_id="P1",
        quantity=1.0,
        ordered_at=at,
        recorded_at=at,
        account_id=account_id,
        visitor_id=visitor_id,
    )


def drop_additions(connection: sa.Connection) -> None:
    """Leave what version 4 was, but for the view."""
    for table in FED:
        if not sa.inspect(connection).has_table(table):
            continue
        if connection.dialect.name == "sqlite":
            for trigger in ("written", "changed"):
                connection.execute(sa.text(f"DROP TRIGGER IF EXISTS {table}_{trigger}"))
        else:
            connection.execute(sa.text(f"DROP TRIGGER IF EXISTS {table}_change ON {table}"))
        connection.execute(sa.text(f"DROP INDEX ix_{table}_change"))
        connection.execute(sa.text(f"ALTER TABLE {table} DROP COLUMN change"))
    for own in ("offer_store_feed", "offer_store_probe", "offer_store_additions"):
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {own}"))


def counts(store: SqlStore) -> dict[str, int]:
    return {table: store.read(EventQuery(table)).num_rows for table in ("decisions", "outcomes", "order_lines")}


def test_an_erased_account_leaves_nothing_but_its_key(store: SqlStore) -> None:
    assigned = RecordedAssignment(
        experiment_id="e1", version=1, unit_id="A1", unit="account", arm="offers", probability=0.5, assigned_at=NOON
    )
    of_a1: list[Event] = [decision("d1", "A1"), decision("d2", None, "v1"), outcome("x1", "d1"), outcome("x2", "d2")]
    of_a2: list[Event] = [decision("d3", "A2"), decision("d4", None, "v2"), outcome("x3", "d3"), line("o3", "A2")]
    store.append(
        [
            *of_a1,
            *of_a2,
            line("o1", "A1"),
            line("o2", None, "v1"),
            AccountUpdate(account_id="A1", recorded_at=NOON, segment="s"),
        ]
    )
    store.append(
        [VisitorLink("v1", "A1", NOON), assigned, replace(assigned, unit_id="v1"), replace(assigned, version=2)]
    )
    gone = erase_account(store, "A1", NOON)
    assert gone == {
        "outcomes": 2,
        "decisions": 2,
        "order_lines": 2,
        "assignments": 3,
        "account_overrides": 1,
        "visitor_links": 1,
    }
    assert store.read(EventQuery("decisions"))["decision_id"].to_pylist() == ["d3", "d4"]
    assert counts(store) == {"decisions": 2, "outcomes": 1, "order_lines": 1}
    assert store.read(EventQuery("forgotten"))["account_key"].to_pylist() == [forget_key("A1")] * 2
    assert set(erase_account(store, "A1", NOON).values()) == {0}


def test_nothing_of_an_erased_account_stays_in_the_file(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/e.db")
    store.append([decision(f"d{i}", "very-private-account") for i in range(50)])
    erase_account(store, "very-private-account", NOON)
    store.close()
    assert not [file for file in tmp_path.iterdir() if b"very-private-account" in file.read_bytes()]


def test_what_is_older_than_a_time_is_dropped_and_the_rest_stays(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_CHUNK_ROWS", 3)
    store.append([decision(f"d{i:02}", "A1", days=i) for i in range(12)])
    assert drop_before(store, "decisions", NOON + 10 * DAY) == 10
    assert store.read(EventQuery("decisions"))["decision_id"].to_pylist() == ["d10", "d11"]
    store.append([VisitorLink(f"v{i}", "A1", NOON + i * DAY) for i in range(2)])
    assert drop_before(store, "visitor_links", NOON + DAY) == 1
    assert store.read(EventQuery("visitor_links"))["visitor_id"].to_pylist() == ["v1"]
    with pytest.raises(ConfigError, match="table == 'experiments', must be one of decisions, outcomes, order_lines"):
        drop_before(store, "experiments", NOON)


def test_a_table_is_exported_by_day_and_a_day_can_be_exported_again(store: SqlStore, tmp_path: Path) -> None:
    out = tmp_path / "lake"
    store.append([line(f"o{i}", "A1", days=i / 2) for i in range(6)])
    assert export_events(store, "order_lines", out) == {
        date(2026, 3, 1): 1,
        date(2026, 3, 2): 2,
        date(2026, 3, 3): 2,
        date(2026, 3, 4): 1,
    }
    file = out / "order_lines" / "day=2026-03-02" / "part.parquet"
    assert (
        pq.ParquetFile(file)
        .read()
        .equals(store.read(EventQuery("order_lines", since=NOON + DAY / 2, until=NOON + 3 * DAY / 2)))
    )
    store.append([line("late", "A1", days=1)])
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    assert export_events(store, "order_lines", out, since=midnight, until=midnight + DAY) == {date(2026, 3, 2): 3}
    assert pq.ParquetFile(file).metadata.num_rows == 3
    assert [path.name for path in out.rglob("*") if path.is_file() and path.name.startswith(".")] == []


def test_every_table_can_be_exported(store: SqlStore, tmp_path: Path) -> None:
    offer = Offer.from_logged((1, "P1", "upsell", 9.5, "GBP", 0.25, "buys_within_horizon", 2.0, 4.9, 0.5, "cart", 1.0))
    store.append(
        [
            decision("d1", "A1")._replace(offers=(offer,)),
            outcome("x1", "d1"),
            line("o1", "A1"),
            ProductUpdate("P1", price=2.0, recorded_at=NOON),
            AccountUpdate(account_id="A1", recorded_at=NOON, segment="s"),
            VisitorLink("v1", "A1", NOON),
            RecordedAssignment(
                experiment_id="e1",
                version=1,
                unit_id="A1",
                unit="account",
                arm="offers",
                probability=0.5,
                assigned_at=NOON,
            ),
            ExperimentRecord("e1", 1, "{}", "hash", NOON),
            ExperimentDecision(
                experiment_id="e1",
                version=1,
                verdict="FLAT",
                rule="r",
                reason="r",
                n_units=2,
                planned_size=1,
                plan_hash="hash",
                as_of=NOON,
                decided_at=NOON,
                signed_by="Ann",
            ),
            Erasure("k1", NOON),
        ]
    )
    for table in get_args(TableName):
        assert export_events(store, table, tmp_path) == {NOON.date(): 1}, table
        file = tmp_path / table / f"day={NOON.date()}" / "part.parquet"
        assert pq.ParquetFile(file).read().equals(store.read(EventQuery(table)))


def test_a_store_of_version_1_comes_forward_with_its_rows(store: SqlStore) -> None:
    """The layout of version 1 as it was, not as today's code would make it."""
    with store.engine.begin() as connection:
        connection.execute(sa.text("DROP VIEW decision_offers"))
        for table in TABLES_OF_VERSION_2:
            connection.execute(sa.text(f"DROP TABLE {table}"))
        drop_additions(connection)
        connection.execute(sa.text("ALTER TABLE decisions DROP COLUMN context"))
        connection.execute(sa.text("CREATE VIEW decision_offers AS SELECT decision_id FROM decisions"))
        connection.execute(sa.delete(VERSION).where(VERSION.c.version > 1))
        connection.execute(
            sa.text(
                "INSERT INTO decisions VALUES ('d0', '2026-03-01 12:00:00.000000', 'A1', NULL, NULL, NULL, NULL, '7', "
                "NULL, NULL, NULL, 'conversion', 'cart', 30, 1, 1, 1, NULL, true, false, '[]', '{}', "
                '\'[[1,"P1","cross_sell",9.5,"GBP",0.25,"buys_within_horizon",2,4.9,0.5,"cart",1,null]]\')'
            ).execution_options()
        )
    assert migrate(store.engine) == max(MIGRATIONS)
    store.append([decision("d1", "A1"), VisitorLink("v1", "A1", NOON)])
    assert counts(store)["decisions"] == 2
    (offer,) = store.read(
        EventQuery("decision_offers", columns=("product_id", "price", "rule", "discount"))
    ).to_pylist()
    assert offer == {"product_id": "P1", "price": 9.5, "rule": None, "discount": None}
    assert store.read(EventQuery("decisions"))["context"].to_pylist() == [None, None]


def test_a_store_of_version_2_comes_forward_with_its_erasures(store: SqlStore) -> None:
    store.append([decision("d1", "A1")])
    with store.engine.begin() as connection:
        kind = "timestamptz" if store.engine.dialect.name == "postgresql" else "DATETIME"
        connection.execute(sa.text("DROP TABLE forgotten"))
        connection.execute(
            sa.text(f"CREATE TABLE forgotten (account_key TEXT PRIMARY KEY, recorded_at {kind} NOT NULL)")
        )
        zone = "+00" if store.engine.dialect.name == "postgresql" else ""
        connection.execute(sa.text(f"INSERT INTO forgotten VALUES ('k1', '2026-03-01 12:00:00.000000{zone}')"))
        connection.execute(sa.delete(VERSION).where(VERSION.c.version > 2))
    assert migrate(store.engine) == max(MIGRATIONS)
    store.append([Erasure("k1", NOON), Erasure("k1", NOON + DAY)])
    rows = store.read(EventQuery("forgotten")).to_pylist()
    assert [(row["account_key"], row["recorded_at"]) for row in rows] == [("k1", NOON), ("k1", NOON + DAY)]
    assert counts(store)["decisions"] == 1


def test_a_store_of_version_3_loses_the_index_that_nothing_reads(store: SqlStore) -> None:
    def indexes() -> set[str | None]:
        return {index["name"] for index in sa.inspect(store.engine).get_indexes("decisions")}

    store.append([decision("d1", "A1")])
    with store.engine.begin() as connection:
        connection.execute(sa.text("CREATE INDEX ix_decisions_account ON decisions (account_id)"))
        connection.execute(sa.delete(VERSION).where(VERSION.c.version > 3))
    assert "ix_decisions_account" in indexes()
    assert migrate(store.engine) == max(MIGRATIONS)
    assert "ix_decisions_account" not in indexes()
    assert counts(store)["decisions"] == 1
