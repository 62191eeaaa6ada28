from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.contracts.tables import ACCOUNTS, PRODUCTS
from recsys.data.dataset import Dataset
from recsys.data.presets import matching_preset
from recsys.data.proposal import propose_for_table, propose_mapping, sample_ids
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
    assert matching_preset(open_source(connect(), str(online_retail_path), name="orders").columns) == "online-retail-ii"
    invoices({}).to_parquet(tmp_path / "other.parquet")
    assert matching_preset(open_source(connect(), str(tmp_path / "other.parquet"), name="orders").columns) is None


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
    assert found["line_total"] == ("sales_price", "grows with quantity")
    assert "unit_price" not in found


def test_a_time_that_nobody_can_read_loses_no_other_column(tmp_path: Path) -> None:
    names = {name: f"f{number}" for number, name in enumerate(invoices({}).columns)} | {"ordered_at": "datum"}
    frame = invoices(names)
    frame["datum"] = "week " + pd.to_datetime(frame["datum"]).dt.strftime("%j")
    found = proposed(tmp_path, frame)
    expected = {name: (names[name], "contents") for name in ("account_id", "product_id", "quantity", "unit_price")}
    assert {name: found.get(name) for name in expected} == expected
    assert "ordered_at" not in found
    amounts = proposed(tmp_path, frame[[names["quantity"], names["unit_price"]]])
    assert {name: column for name, (column, _) in amounts.items()} == {
        "quantity": names["quantity"],
        "unit_price": names["unit_price"],
    }


@pytest.mark.parametrize(
    ("column", "values"),
    [("state", ["Ohio", "Texas"]), ("rebate", [-1.5, -2.0]), ("line", ["Road", "Mountain"])],
    ids=["a state is no status", "no discount is negative", "a line of products is no line of an order"],
)
def test_a_known_name_whose_values_reading_would_reject_is_not_proposed(
    tmp_path: Path, column: str, values: list[object]
) -> None:
    frame = invoices({})
    frame[column] = np.array(values, dtype=object)[np.arange(len(frame)) % 2]
    found = proposed(tmp_path, frame)
    assert column not in {theirs for theirs, _ in found.values()}
    Dataset.read(frame, columns={name: theirs for name, (theirs, _) in found.items()})


def test_products_and_accounts_are_recognised_by_the_ids_of_the_orders_and_by_names(tmp_path: Path) -> None:
    orders = invoices({"product_id": "sku"})
    ids = sorted(orders["sku"].unique())
    products = pd.DataFrame(
        {"Item": [f"Thing {number}" for number in range(len(ids))], "nr": range(len(ids)), "K": ids,
         "List price": ["9,90", *["19,50"] * (len(ids) - 1)], "Available": "yes"}
    )  # fmt: skip
    accounts = pd.DataFrame(
        {"Customer": [f"Shop {number}" for number in range(90)], "Customer No": range(100, 190), "Country": "DE"}
    )
    for name, frame in (("orders", orders), ("products", products), ("accounts", accounts)):
        frame.to_csv(tmp_path / f"{name}.csv", index=False, sep=";")
    connection = connect()
    lines = open_source(connection, tmp_path / "orders.csv", name="orders")
    found: dict[str, tuple[str, str]] = {}
    for schema, column in ((PRODUCTS, "sku"), (ACCOUNTS, "account_id")):
        table = open_source(connection, tmp_path / f"{schema.name}.csv", name=schema.name)
        found |= {
            item.name: (item.column, item.because)
            for item in propose_for_table(table, schema, {}, ids=sample_ids(lines, column))
        }
    assert found == {
        "products.product_id": ("K", "contents"),
        "products.name": ("Item", "known name"),
        "products.price": ("List price", "known name"),
        "products.active": ("Available", "known name"),
        "accounts.account_id": ("Customer No", "known name"),
        "accounts.name": ("Customer", "known name"),
        "accounts.region": ("Country", "known name"),
    }
    given = propose_for_table(table, ACCOUNTS, {"accounts.segment": "Country"})
    assert [(item.name, item.because) for item in given if item.column == "Country"] == [("accounts.segment", "given")]
    columns = {"product_id": "sku"} | {name: theirs for name, (theirs, _) in found.items()}
    data = Dataset.read(tmp_path / "orders.csv", products=tmp_path / "products.csv", accounts=tmp_path / "accounts.csv",
                        columns=columns)  # fmt: skip
    assert data.products["price"].min() == 9.9
    assert data.accounts["name"].notna().all()
