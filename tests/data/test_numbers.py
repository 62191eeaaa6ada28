from __future__ import annotations

from pathlib import Path

import ibis
import pyarrow as pa
import pytest

from recsys.data.dataset import Dataset
from recsys.data.numbers import as_number, detect_decimals, parse_decimal
from recsys.data.sources import connect
from recsys.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def connection():
    return connect()


def column(connection, values: list[str | None]) -> ibis.Table:
    return connection.create_table("amounts", ibis.memtable(pa.table({"n": values})), temp=True, overwrite=True)


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["9.90", " 12 ", "1e3", None, ""], [9.9, 12.0, 1000.0, None, None]),
        (["9,90", "12", "1.234", "€ 1.234,50"], [9.9, 12.0, 1234.0, 1234.5]),
        (["$1,234.50", "1,200", "-$3.00", "$ 7"], [1234.5, 1200.0, -3.0, 7.0]),
        (["1 234,50", "9,90 EUR", "1\u00a0000,00 eur"], [1234.5, 9.9, 1000.0]),
        (["1'234.50 CHF", "12.00 CHF"], [1234.5, 12.0]),
        (["0,125", "0,5"], [0.125, 0.5]),
        (["9.90", "8.50", "9,90", "5 kg", "nan", "inf"], [9.9, 8.5, None, None, None, None]),
    ],
    ids=["plain", "comma", "dollars", "gaps", "Swiss", "below one", "mixed"],
)
def test_a_text_becomes_the_number_that_was_meant(
    connection, texts: list[str | None], numbers: list[float | None]
) -> None:
    table = column(connection, texts)
    decimals = detect_decimals(table, ["n"], "f.csv")
    assert table.select(n=as_number(table["n"], decimals.get("n"))).to_pyarrow()["n"].to_pylist() == numbers


def test_a_text_that_can_be_read_both_ways_is_refused(connection) -> None:
    with pytest.raises(DataError, match=r"n == '1,200' can be read as 1200 or as 1\.200.*say decimal"):
        detect_decimals(column(connection, ["1,200", "7"]), ["n"], "f.csv")


def test_another_column_of_the_source_tells_how_it_is_meant(connection) -> None:
    both = ibis.memtable(pa.table({"n": ["1,200", "7"], "price": ["9,90", "1"]}))
    table = connection.create_table("both", both, temp=True, overwrite=True)
    assert detect_decimals(table, ["n", "price"], "f.csv") == {"n": ",", "price": ","}


def test_amounts_in_two_currencies_are_refused(connection) -> None:
    with pytest.raises(DataError, match=r"n has amounts in \$ and in €, must be in one currency"):
        detect_decimals(column(connection, ["€5", "$5"]), ["n"], "f.csv")


def test_the_mark_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("order_id;account_id;product_id;ordered_at;quantity;unit_price\no1;a;p;2024-01-01;1,500;2\n")
    assert Dataset.read(path, decimal=",").lines()["quantity"].tolist() == [1.5]
    assert Dataset.read(path, decimal=".").lines()["quantity"].tolist() == [1500.0]
    with pytest.raises(ConfigError, match=r"decimal == ';', must be \. or ,"):
        parse_decimal(";")
