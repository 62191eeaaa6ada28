"""Tables of a real SQLite file and of a real PostgreSQL server."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from recsys.contracts import columns as c
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.data.sources import connect, open_source
from recsys.engines.databases import shown_url
from recsys.errors import ConfigError, DataError, EmptyDataError, SourceNotFoundError

CREATE = """
CREATE TABLE {table} (
    order_id VARCHAR(20), account_id INTEGER, product_id VARCHAR(20), ordered_at {time}, quantity INTEGER,
    unit_price {price}
)
"""
LINES = [
    ("o1", 7, "p1", "2024-01-01 10:00:00", 2, 0.1 + 0.2),
    ("o1", 7, "p2", "2024-01-01 10:00:00", 1, 5.5),
    ("o2", None, "p1", "2024-01-03 09:30:00", 4, 9.0),
    ("o3", 8, "p2", "2024-01-04 00:00:00", -1, 5.5),
]


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute(CREATE.format(table="lines", time="TEXT", price="REAL"))
        database.executemany("INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?)", LINES)
        database.execute("CREATE TABLE empty_one (order_id TEXT)")
    database.close()
    return path


@pytest.fixture
def sales_url(postgresql_url: str) -> str:
    """A database with the order lines in a schema of their own."""
    _fill(postgresql_url)
    return postgresql_url


def _fill(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("CREATE SCHEMA sales")
        database.execute(CREATE.format(table="sales.lines", time="TIMESTAMPTZ", price="NUMERIC(20, 17)"))
        with database.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO sales.lines VALUES (%s, %s, %s, %s::timestamp AT TIME ZONE 'Europe/Berlin', %s, %s)", LINES
            )


def kept(location: str) -> list[tuple[object, ...]]:
    frame = read_dataset(ReadSpec(orders=location)).lines()
    frame[c.ACCOUNT_ID] = frame[c.ACCOUNT_ID].astype(object).where(frame[c.ACCOUNT_ID].notna(), None)
    columns = [c.ORDER_ID, c.LINE_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.QUANTITY, c.UNIT_PRICE]
    return list(frame[columns].itertuples(index=False, name=None))


def test_sqlite_values_come_back_exactly(sqlite_path: Path) -> None:
    assert kept(f"sqlite:///{sqlite_path}#lines") == [
        ("o1", "1", "7", "p1", datetime(2024, 1, 1, 10, tzinfo=UTC), 2.0, 0.1 + 0.2),
        ("o1", "2", "7", "p2", datetime(2024, 1, 1, 10, tzinfo=UTC), 1.0, 5.5),
        ("o2", "1", None, "p1", datetime(2024, 1, 3, 9, 30, tzinfo=UTC), 4.0, 9.0),
    ]


def test_sqlite_text_in_a_number_column_is_one_rejected_row(sqlite_path: Path) -> None:
    with sqlite3.connect(sqlite_path) as database:
        database.execute("INSERT INTO lines VALUES ('o9', 7, 'p1', '2024-01-01', 'many', 1.0)")
    database.close()
    report = read_dataset(ReadSpec(orders=f"sqlite:///{sqlite_path}#lines")).report.orders
    assert [item.rows for item in report.dropped if item.reason.name == "quantity_not_a_number"] == [1]
    example = next(item for item in report.dropped if item.reason.name == "quantity_not_a_number").examples[0]
    assert (example.row, example.values) == (5, {"quantity": "many"})


def test_postgresql_times_with_a_zone_become_utc(sales_url: str) -> None:
    found = kept(f"{sales_url}#sales.lines")
    assert [row[4] for row in found] == [
        datetime(2024, 1, 1, 10 - 1, tzinfo=UTC),
        datetime(2024, 1, 1, 10 - 1, tzinfo=UTC),
        datetime(2024, 1, 3, 9 - 1, 30, tzinfo=UTC),
    ]
    assert [row[6] for row in found] == [0.3, 5.5, 9.0]  # numeric keeps 15 digits of a float
    assert [row[2] for row in found] == ["7", "7", None]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_table_that_is_not_there_names_those_that_are(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        location, pattern = (
            f"sqlite:///{request.getfixturevalue('sqlite_path')}#line",
            "no table 'line'; it has empty_one, lines",
        )
    else:
        location = f"{request.getfixturevalue('sales_url')}#sales.line"
        pattern = r"no table 'sales\.line'; it has lines"
    with pytest.raises(SourceNotFoundError, match=pattern):
        open_source(connect(), location, name="orders")


def test_a_table_without_rows_is_refused(sqlite_path: Path) -> None:
    with pytest.raises(EmptyDataError, match="the table has no row"):
        open_source(connect(), f"sqlite:///{sqlite_path}#empty_one", name="orders")


def test_a_database_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such file"):
        open_source(connect(), f"sqlite:///{tmp_path}/absent.db#lines", name="orders")
    assert not (tmp_path / "absent.db").exists()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop.db").write_text("this is not a database, whatever its name says" * 10)
    with pytest.raises(DataError, match="the database refused: file is not a database"):
        open_source(connect(), f"sqlite:///{tmp_path}/shop.db#lines", name="orders")


def test_a_server_that_is_not_there_is_a_sentence_without_the_password() -> None:
    with pytest.raises(DataError, match="the database refused") as caught:
        open_source(connect(), "postgresql://me:secret@127.0.0.1:1/shop#lines", name="orders")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "pattern"),
    [
        ("sqlite:///shop.db", "names no table, must be URL#table"),
        ("mysql://localhost/shop#lines", "'mysql' is not supported, must be sqlite or postgresql"),
        ("://#lines", "not a database URL"),
    ],
)
def test_other_urls_are_refused(location: str, pattern: str) -> None:
    with pytest.raises(ConfigError, match=pattern):
        open_source(connect(), location, name="orders")


def test_a_password_is_not_shown() -> None:
    assert shown_url("postgresql://me:secret@db/shop#a.b") == "postgresql://me:***@db/shop#a.b"
