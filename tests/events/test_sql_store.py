"""The SQL store's own business: URLs, settings of the database, versions, locks."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.contracts.events import Event, EventQuery, PostedLine, VisitorLink
from recsys.errors import ConfigError, StoreBusyError, StoreError
from recsys.events import store as store_module
from recsys.events.migrations import MIGRATIONS, migrate
from recsys.events.schema import VERSION
from recsys.events.store import open_store

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def line(order_id: str) -> PostedLine:
    return PostedLine(order_id=order_id, line_id="1", product_id="P1", quantity=1.0, ordered_at=NOW, recorded_at=NOW)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("offers.db", "must be sqlite:///FILE or postgresql://HOST/NAME"),
        ("mysql://u:secret@host/db", "must be sqlite:///FILE or postgresql://HOST/NAME"),
        ("sqlite://", "must be sqlite:///FILE"),
        ("", "must be sqlite:///FILE"),
    ],
)
def test_a_url_that_is_no_store_is_answered_with_the_forms(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("this is no database, it is a text of more than sixteen bytes" * 100)
    with pytest.raises(StoreError, match=r"notes\.db does not answer: file is not a database"):
        open_store(f"sqlite:///{tmp_path}/notes.db")


def test_a_server_that_is_not_there_is_an_error_without_the_password() -> None:
    with pytest.raises(StoreError, match="does not answer") as caught:
        open_store("postgresql://somebody:hush@127.0.0.1:1/offers")
    assert "hush" not in str(caught.value)


def test_sqlite_runs_in_wal_with_full_synchronisation(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/e.db")
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    store.close()


def test_a_store_opens_again_with_what_it_holds(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/e.db"
    first = open_store(url)
    first.append([line("o1")])
    first.close()
    second = open_store(url)
    assert second.read(EventQuery("order_lines")).num_rows == 1
    second.close()


def test_a_store_moves_forward_and_keeps_its_rows(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/e.db")
    store.append([line("o1")])

    def add_note(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE order_lines ADD COLUMN note TEXT DEFAULT 'none'")

    assert migrate(store.engine, {**MIGRATIONS, 8: add_note}) == 8
    assert migrate(store.engine, {**MIGRATIONS, 8: add_note}) == 8
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT order_id, note FROM order_lines").all() == [("o1", "none")]
    store.close()


def test_a_migration_that_fails_leaves_the_old_layout(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/e.db")

    def half(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE order_lines ADD COLUMN note TEXT")
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        migrate(store.engine, {**MIGRATIONS, 8: half})
    assert "note" not in {column["name"] for column in sa.inspect(store.engine).get_columns("order_lines")}
    assert migrate(store.engine) == max(MIGRATIONS)
    store.close()


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/e.db"
    store = open_store(url)
    with store.engine.begin() as connection:
        connection.execute(sa.insert(VERSION).values(version=99))
    store.close()
    with pytest.raises(StoreError, match=r"layout version 99, this software knows \d+; upgrade"):
        open_store(url)


def test_a_lock_that_stays_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    store = open_store(f"sqlite:///{tmp_path}/e.db")
    other = sqlite3.connect(tmp_path / "e.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError, match="was locked"):
        store.append([line("o1")])
    other.execute("COMMIT")
    store.append([line("o1")])
    assert store.read(EventQuery("order_lines")).num_rows == 1
    other.close()
    store.close()


_WRITER = """
import sys
from datetime import UTC, datetime
from recsys.contracts.events import PostedLine
from recsys.events.store import open_store
now = datetime(2026, 3, 1, tzinfo=UTC)
store = open_store(sys.argv[1])
for i in range(150):
    rest = {"product_id": "P", "quantity": 1.0, "ordered_at": now, "recorded_at": now}
    keys = (f"o{i}", "1"), (sys.argv[2], str(i))
    store.append([PostedLine(order_id=order_id, line_id=line_id, **rest) for order_id, line_id in keys])
store.close()
"""


def test_processes_that_start_and_write_together_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/e.db"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, url, name]) for name in ("W1", "W2", "W3")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    store = open_store(url)
    orders = store.read(EventQuery("order_lines"))["order_id"].to_pylist()
    assert len(orders) == 150 + 3 * 150
    assert sum(order.startswith("o") for order in orders) == 150
    store.close()


def test_a_table_that_somebody_has_locked_is_an_error_and_no_wait_for_ever(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "WRITE_SECONDS", 0.3)
    store = open_store(postgresql_url)
    with store.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE order_lines IN ACCESS EXCLUSIVE MODE"))
        refused: tuple[list[Event], ...] = ([line("o1")], [VisitorLink("v1", "A1", NOW), line("o1")])
        for events in refused:
            with pytest.raises(StoreError, match="statement timeout"):
                store.append(events)
    store.append([line("o2")])
    assert store.read(EventQuery("order_lines"))["order_id"].to_pylist() == ["o2"]
    assert store.size("visitor_links") == 0
    store.close()
