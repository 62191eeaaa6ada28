from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.data.proposal import matching_preset, propose_mapping
from recsys.data.sources import connect, open_source

pytestmark = pytest.mark.slow

ORDERS = 400


def invoices(names: dict[str, str]) -> pd.DataFrame:
    """Lines with the shape of real ones: an order has one time, account, country; a product one name."""
    rng = np.random.default_rng(3)
    order = np.repeat(np.arange(ORDERS), rng.integers(1, 6, ORDERS))
    product = rng.integers(0, 150, len(order))
    account = rng.integers(0, 90, ORDERS)[order]
    frame = pd.DataFrame(
        {
            "order_id": order + 5_000,
            "account_id": account + 100,
            "product_id": [f"K{number:03}" for number in product],
            "ordered_at": (pd.Timestamp("2024-01-01") + pd.to_timedelta(order * 7_777, unit="s")).strftime(
                "%Y-%m-%d %X"
            ),
            "quantity": rng.integers(1, 9, len(order)),
            "unit_price": ((product % 37) * 100 + 99) / 100,
            "name": [f"A thing with a longer name, number {number}" for number in product],
            "region": np.array(["North", "South", "West"])[account % 3],
        }
    )
    return frame.rename(columns=names)


def proposed(folder: Path, frame: pd.DataFrame, given: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    path = folder / "lines.csv"
    frame.to_csv(path, index=False)
    source = open_source(connect(), str(path), name="orders")
    return {item.name: (item.column, item.because) for item in propose_mapping(source, given)}


def test_the_contracts_own_names_are_taken_first(tmp_path: Path) -> None:
    frame = invoices({}).assign(price=1.0, customer="x")
    found = proposed(tmp_path, frame)
    assert {name: column for name, (column, _) in found.items()} == {name: name for name in invoices({}).columns}
    assert {because for _, because in found.values()} == {"same name"}


@pytest.mark.parametrize(
    "names",
    [
        {"order_id": "InvoiceNo", "account_id": "CustomerID", "product_id": "StockCode", "ordered_at": "InvoiceDate",
         "quantity": "Quantity", "unit_price": "UnitPrice", "name": "Description", "region": "Country"},
        {"order_id": "Bestellnummer", "account_id": "Kunde", "product_id": "Artikel", "ordered_at": "Datum",
         "quantity": "Menge", "unit_price": "Preis", "name": "Bezeichnung", "region": "Land"},
    ],
    ids=["invoices", "German"],
)  # fmt: skip
def test_names_of_other_systems_are_known(tmp_path: Path, names: dict[str, str]) -> None:
    found = proposed(tmp_path, invoices(names))
    assert {name: column for name, (column, _) in found.items()} == names
    assert {because for _, because in found.values()} <= {"known name", "same name"}


def test_a_slip_in_a_name_is_forgiven(tmp_path: Path) -> None:
    found = proposed(tmp_path, invoices({"account_id": "custmer_id", "unit_price": "unit_prise"}))
    assert found["account_id"] == ("custmer_id", "similar name")
    assert found["unit_price"] == ("unit_prise", "similar name")


def test_without_names_the_contents_decide(tmp_path: Path) -> None:
    names = {name: f"f{number}" for number, name in enumerate(invoices({}).columns)}
    found = proposed(tmp_path, invoices(names)[sorted(names.values(), reverse=True)])
    required = {"order_id", "account_id", "product_id", "ordered_at", "quantity", "unit_price"}
    assert found == {name: (names[name], "contents") for name in required}


def test_a_name_whose_values_cannot_be_right_is_not_believed(tmp_path: Path) -> None:
    frame = invoices({"quantity": "n"}).assign(quantity="several")
    assert proposed(tmp_path, frame)["quantity"] == ("n", "contents")


def test_what_is_given_stands(tmp_path: Path) -> None:
    frame = invoices({}).assign(other=lambda frame: frame["account_id"])
    assert proposed(tmp_path, frame, {"account_id": "other"})["account_id"] == ("other", "given")


@pytest.mark.data
def test_a_preset_is_recognised_by_its_columns(tmp_path: Path, online_retail_path: Path) -> None:
    assert matching_preset(open_source(connect(), str(online_retail_path), name="orders")) == "online-retail-ii"
    invoices({}).to_parquet(tmp_path / "other.parquet")
    assert matching_preset(open_source(connect(), str(tmp_path / "other.parquet"), name="orders")) is None


def test_a_time_is_no_order_id_and_an_order_is_made_of_account_and_day(tmp_path: Path) -> None:
    frame = invoices({"ordered_at": "transaction_dt"}).drop(columns="order_id")
    frame["transaction_dt"] = frame["transaction_dt"].str[:10]
    found = proposed(tmp_path, frame)
    assert found["ordered_at"] == ("transaction_dt", "known name")
    assert found["order_id"] == ("account+day", "no such column")


def test_a_price_with_a_decimal_comma_is_the_price(tmp_path: Path) -> None:
    frame = invoices({}).assign(other=3.5)
    frame["unit_price"] = frame["unit_price"].map(lambda price: f"€ {price:.2f}".replace(".", ","))
    assert proposed(tmp_path, frame)["unit_price"] == ("unit_price", "same name")


def test_a_price_that_grows_with_the_quantity_is_that_of_the_line(tmp_path: Path) -> None:
    frame = invoices({"unit_price": "sales_price"})
    frame["sales_price"] *= frame["quantity"]
    found = proposed(tmp_path, frame)
    assert found["line_total"] == ("sales_price", "known name")
    assert "unit_price" not in found
