"""Histories of a grocer, of households and of resellers get in with a map of five lines at most."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from recsys.data.dataset import Dataset
from recsys.data.proposal import propose_mapping
from recsys.data.sources import connect, open_source
from recsys.errors import DataError
from tests.conftest import real_file

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "your_data.md"


class History(NamedTuple):
    """A real history, the map that reads it, and what is kept before the moment."""

    file: str
    columns: Mapping[str, str]
    as_of: str
    n_lines: int
    proposed: Mapping[str, str]


TAFENG = History(
    "tafeng.parquet",
    {"order_id": "account+day", "account_id": "customer_id", "ordered_at": "transaction_dt", "quantity": "amount",
     "line_total": "sales_price"},
    "2001-01-01",
    401_838,
    {},
)  # fmt: skip
COMPLETE_JOURNEY = History(
    "complete_journey/transactions.parquet",
    {"order_id": "basket_id", "account_id": "household_id", "ordered_at": "transaction_timestamp",
     "line_total": "sales_value", "discount": "coupon_disc"},
    "2017-07-01",
    724_237,
    {"order_id": "basket_id", "account_id": "household_id", "ordered_at": "transaction_timestamp",
     "line_total": "sales_value"},
)  # fmt: skip
ADVENTURE_WORKS = History(
    "adventureworks/sales.parquet",
    {"order_id": "SalesOrderNumber", "account_id": "ResellerKey", "product_id": "ProductKey",
     "ordered_at": "OrderDate", "line_cost": "Cost"},
    "2019-10-01",
    39_829,
    {},
)  # fmt: skip
HISTORIES = {"tafeng": TAFENG, "complete_journey": COMPLETE_JOURNEY, "adventure_works": ADVENTURE_WORKS}


@pytest.fixture(params=HISTORIES)
def history(request: pytest.FixtureRequest) -> History:
    return HISTORIES[request.param]


@pytest.fixture
def path(history: History) -> Path:
    return real_file(history.file)


@pytest.mark.data
def test_five_lines_of_a_map_let_it_in(history: History, path: Path) -> None:
    assert len(history.columns) <= 5
    data = Dataset.read(path, columns=history.columns, as_of=history.as_of)
    assert data.report.orders.rows_kept == history.n_lines
    assert data.report.orders.warnings == ()


@pytest.mark.data
def test_check_proposes_the_map(history: History, path: Path) -> None:
    proposed = {item.name: item.column for item in propose_mapping(open_source(connect(), str(path), name="orders"))}
    expected = history.proposed or history.columns
    assert {name: proposed.get(name) for name in expected} == dict(expected)
    assert Dataset.read(path, columns=proposed, as_of=history.as_of).report.orders.rows_kept


@pytest.mark.data
@pytest.mark.parametrize("history", [TAFENG, ADVENTURE_WORKS], ids=["price", "cost"])
def test_totals_given_as_values_a_unit_are_refused(history: History, path: Path) -> None:
    unit = {"line_total": "unit_price", "line_cost": "cost"}
    columns = {unit.get(name, name): column for name, column in history.columns.items()}
    with pytest.raises(DataError, match=r"grows with the quantity in .* map it as line_(total|cost)="):
        Dataset.read(path, columns=columns, as_of=history.as_of)


def test_the_guide_shows_the_maps(history: History) -> None:
    shown = ",".join(f"{name}={column}" for name, column in history.columns.items())
    assert f"--map {shown}" in GUIDE.read_text(encoding="utf-8")
