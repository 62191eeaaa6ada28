"""A pandas frame, an Arrow table or an Ibis table is read as the file that it was written to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.dataset import Dataset
from recsys.data.sources import DataSource
from recsys.errors import ConfigError, CurrencyError, DataError, EmptyDataError, MissingColumnError, SourceNotFoundError
from recsys.simulation.market import Market, simulate_market

pytestmark = pytest.mark.slow

AS_OF = datetime(2025, 7, 1, tzinfo=UTC)
TABLES = ("orders", "products", "accounts", "upgrades")


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate_market(n_accounts=40, n_products=100, seed=5)


@pytest.fixture(scope="module")
def folder(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("market")
    market.write(folder)
    return folder


@pytest.fixture(scope="module")
def from_files(folder: Path) -> Dataset:
    return read({name: folder / f"{name}.parquet" for name in TABLES})


def read(sources: dict[str, Any]) -> Dataset:
    return Dataset.read(sources.pop("orders"), **sources, as_of=AS_OF)


def as_pandas(market: Market, _folder: Path, name: str) -> pd.DataFrame:
    frame: pd.DataFrame = getattr(market, name)
    return frame


def as_pandas_of_old(market: Market, _folder: Path, name: str) -> pd.DataFrame:
    """As older code leaves it: objects, nanoseconds, categories, and an index that means nothing."""
    frame = getattr(market, name)
    old = frame.astype(dict.fromkeys(frame.select_dtypes("str"), object))
    for time in old.select_dtypes("datetimetz"):
        old[time] = old[time].dt.tz_convert("Europe/Berlin").astype("datetime64[ns, Europe/Berlin]")
    for text in {"category", "segment", "channel"} & set(old):
        old[text] = old[text].astype("category")
    return old.set_index(np.arange(len(old)) * 7)


def as_arrow(_market: Market, folder: Path, name: str) -> pa.Table:
    """With a column of every table in a dictionary, as pandas writes categories."""
    table = pq.read_table(folder / f"{name}.parquet")
    return table.set_column(0, table.column_names[0], table.column(0).dictionary_encode())


def as_ibis(_market: Market, folder: Path, name: str) -> ibis.Table:
    return ibis.duckdb.connect().read_parquet(folder / f"{name}.parquet")


@pytest.mark.parametrize("form", [as_pandas, as_pandas_of_old, as_arrow, as_ibis])
def test_tables_in_memory_give_the_dataset_of_their_files(
    market: Market, folder: Path, from_files: Dataset, form: Callable[[Market, Path, str], DataSource]
) -> None:
    data = read({name: form(market, folder, name) for name in TABLES})
    assert data.fingerprint == from_files.fingerprint
    pd.testing.assert_frame_equal(data.products, from_files.products)
    pd.testing.assert_frame_equal(data.accounts, from_files.accounts)
    assert data.report.orders.rows_read == from_files.report.orders.rows_read


def test_a_dataset_reads_its_sources_again_at_an_earlier_moment(market: Market, from_files: Dataset) -> None:
    orders = market.orders.copy()
    data = Dataset.read(orders, as_of=AS_OF)
    orders["quantity"] = -1.0  # what the owner does later is not read
    early = data.at("2025-01-01")
    assert early.as_of == datetime(2025, 1, 1, tzinfo=UTC) == data.at(date(2025, 1, 1)).as_of
    assert 0 < len(early.lines()) < len(data.lines())
    assert early.lines()["ordered_at"].max() < pd.Timestamp(early.as_of)
    assert len(from_files.at(early.as_of).lines()) == len(early.lines())


LINES = {
    "order_id": ["C489", 490, 491.0, 492],
    "account_id": [13085, 13085, None, "x"],
    "product_id": ["p1", "p2", "p1", "p2"],
    "ordered_at": [datetime(2025, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)],
    "quantity": [1, 2, 3, 4],
    "unit_price": ["1.5", "2", "free", "4"],
}


def test_a_column_of_several_types_is_text_and_a_bad_value_is_told_with_its_row() -> None:
    data = Dataset.read(pd.DataFrame(LINES))
    assert data.lines()["order_id"].tolist() == ["C489", "490", "492"]
    assert data.accounts["account_id"].tolist() == ["13085", "x"]
    report = data.report.orders
    assert report.location == "orders (pandas frame)"
    assert str(report.dropped[0].examples[0]) == "row 3: unit_price=free"


def test_columns_are_mapped_by_name() -> None:
    theirs = pd.DataFrame(LINES).rename(columns={"account_id": "who", "quantity": "units"})
    data = Dataset.read(theirs, columns={"account_id": "who", "quantity": "units"})
    assert data.report.orders.rows_kept == 3
    with pytest.raises(ConfigError, match="'acount_id'"):
        Dataset.read(theirs, columns={"account_id": "who", "quantity": "units", "acount_id": "who"})


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (pd.DataFrame(LINES).drop(columns="product_id"), MissingColumnError, r"orders \(pandas frame\).*product_id"),
        (pd.DataFrame(LINES)[:0], EmptyDataError, r"orders \(pandas frame\): no row of data"),
        (
            pd.DataFrame(LINES).set_axis([*list(LINES)[:-1], "quantity"], axis=1),
            DataError,
            r"orders \(pandas frame\): column 'quantity' stands twice, each name must be its own",
        ),
        ([1, 2], DataError, "orders: a list, must be a .csv.* a pandas frame, an Arrow table or an Ibis table"),
        ("orders.parquet", SourceNotFoundError, "orders.parquet: no such file or folder"),
    ],
)
def test_what_can_not_be_read_is_told(source: DataSource, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Dataset.read(source)


def test_a_wrong_moment_or_option_is_told() -> None:
    with pytest.raises(ConfigError, match="'tomorrow' is not a moment, must be as 2011-06-01"):
        Dataset.read(pd.DataFrame(LINES), as_of="tomorrow")
    with pytest.raises(ConfigError, match="currency == 3: must be a valid string"):
        Dataset.read(pd.DataFrame(LINES), currency=3)  # type: ignore[arg-type]


def test_a_currency_is_believed_where_the_lines_say_none() -> None:
    assert Dataset.read(pd.DataFrame(LINES), currency="eur").currency == "EUR"
    assert Dataset.read(pd.DataFrame(LINES)).currency is None
    with pytest.raises(CurrencyError, match="currency == 'EUR', must be one of GBP"):
        Dataset.read(pd.DataFrame(LINES).assign(currency="GBP"), currency="EUR")
