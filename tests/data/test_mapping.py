from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from recsys.contracts.tables import ORDERS, PRODUCTS
from recsys.data.dataset import Dataset
from recsys.data.mapping import parse_map, refuse_unused, resolve_columns, write_map_file
from recsys.errors import ConfigError, MissingColumnError

FOUND = ("Order Number", "customer", "sku", "when", "qty", "price")
MAPPING = {"order_id": "Order Number", "account_id": "customer", "product_id": "sku", "ordered_at": "when"}


def test_pairs_may_name_their_table() -> None:
    expected = {"account_id": "Customer ID", "products.price": "List price"}
    assert parse_map("account_id=Customer ID, products.price = List price") == expected


def test_a_file_reads_back_what_was_written(tmp_path: Path) -> None:
    mapping = {"account_id": 'the "customer"', "products.price": "Grundpreis €", "order_id": "back\\slash"}
    write_map_file(mapping, tmp_path / "map.toml")
    assert parse_map(str(tmp_path / "map.toml")) == mapping
    assert [path.name for path in tmp_path.iterdir()] == ["map.toml"]
    assert "# product_id: what was bought" in (tmp_path / "map.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("account_id=", "mapping account_id == ''"),
        ("account_id=a,b", "mapping 'b': must be name=column"),
        ("acount_id=customer", "no column is called 'acount_id'; did you mean account_id"),
        ("order.account_id=customer", "no column is called 'order.account_id'"),
        ("products.quantity=n", "no column is called 'products.quantity'.* the names are active, category"),
        ("absent.toml", r"absent\.toml: no such mapping file"),
    ],
)
def test_a_wrong_mapping_is_a_sentence(text: str, pattern: str) -> None:
    with pytest.raises(ConfigError, match=pattern):
        parse_map(text)


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        ("[columns", "not a mapping in TOML"),
        ("a = 1", r"no section \[columns\]"),
        ("[columns]\nname = true", "name == True"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, content: str, pattern: str) -> None:
    (tmp_path / "map.toml").write_text(content)
    with pytest.raises(ConfigError, match=pattern):
        parse_map(str(tmp_path / "map.toml"))


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make it first"):
        write_map_file(MAPPING, tmp_path / "absent" / "map.toml")


def test_columns_go_by_the_mapping_or_by_their_own_name() -> None:
    mapping = MAPPING | {"quantity": "qty", "unit_price": "price"}
    assert resolve_columns(ORDERS, FOUND, mapping, location="x") == mapping


def test_a_missing_column_shows_both_lists_and_the_nearest_names() -> None:
    with pytest.raises(MissingColumnError) as caught:
        resolve_columns(ORDERS, FOUND, MAPPING, location="shop.csv")
    sentence = str(caught.value)
    assert sentence.startswith("shop.csv: no column quantity, unit_price. Expected order_id, account_id, product_id")
    assert "found Order Number, customer, sku, when, qty, price" in sentence
    assert "Nearest to quantity: qty; to unit_price: price. " in sentence
    assert "in columns= or the map, as quantity=" in sentence


def test_a_column_that_the_mapping_names_must_be_there() -> None:
    with pytest.raises(MissingColumnError, match="no column Qty"):
        resolve_columns(ORDERS, FOUND, MAPPING | {"quantity": "Qty", "unit_price": "price"}, location="x")


def test_a_name_without_a_table_is_meant_for_tables_that_have_the_column() -> None:
    said = {"product_id": "sku", "price": "list", "name": "Description"}
    assert resolve_columns(PRODUCTS, ("product_id", "list"), said, location="x") == {
        "product_id": "product_id",
        "price": "list",
    }


def test_a_name_with_its_table_must_be_there() -> None:
    with pytest.raises(MissingColumnError, match="no column list"):
        resolve_columns(PRODUCTS, ("product_id",), {"products.price": "list"}, location="x")


def test_a_pair_that_no_table_took_is_refused() -> None:
    taken = {"orders": {"order_id": "o"}, "products": {"product_id": "p"}}
    refuse_unused({"order_id": "o", "owner": "rep"}, taken)  # accounts were not read
    with pytest.raises(MissingColumnError, match="mapping price == 'list': no such column in products"):
        refuse_unused({"price": "list"}, taken)


def test_a_name_written_otherwise_is_the_contracts_own() -> None:
    found = ("OrderID", "Account ID", "product-id", "Ordered At", "QUANTITY", "UnitPrice")
    resolved = resolve_columns(ORDERS, found, {}, location="x")
    assert list(resolved.values()) == list(found)


LINES = pd.DataFrame(
    {
        "who": ["a", "a", "b", None],
        "product_id": ["p", "q", "p", "p"],
        "at": ["2024-01-01 09:00", "2024-01-01 18:00", "2024-01-01 09:00", "2024-01-01 09:00"],
    }
)
WHO_AND_WHEN = {"account_id": "who", "ordered_at": "at"}


@pytest.mark.parametrize(
    ("made_of", "ids"),
    [
        ("account+day", ["a 2024-01-01", "b 2024-01-01", "a 2024-01-01"]),
        ("account+time", ["a 2024-01-01 09:00:00", "b 2024-01-01 09:00:00", "a 2024-01-01 18:00:00"]),
    ],
)
def test_an_order_id_is_made_and_constants_stand_for_columns(made_of: str, ids: list[str]) -> None:
    constants: dict[str, str | float] = {"quantity": 1, "unit_price": 1, "currency": "'eur'"}
    columns = {**WHO_AND_WHEN, **constants, "order_id": made_of}
    data = Dataset.read(LINES, columns=columns)
    lines = data.lines()
    assert lines["order_id"].tolist() == ids
    assert (set(lines["quantity"]), set(lines["unit_price"]), data.currency) == ({1.0}, {1.0}, "EUR")
    dropped = data.report.orders.dropped[0]
    assert (dropped.reason.name, str(dropped.examples[0])) == ("no_order_id", f"row 4: {made_of}=(empty)")


def test_a_map_file_may_have_constants_and_totals(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text('[columns]\norder_id = "account+day"\nquantity = 1\nline_total = "sum"\n')
    assert parse_map(str(path)) == {"order_id": "account+day", "quantity": "1", "line_total": "sum"}


def test_a_constant_that_is_not_quoted_is_sought_as_a_column() -> None:
    with pytest.raises(MissingColumnError, match="no column quantity, unit_price, eur"):
        Dataset.read(LINES, columns=WHO_AND_WHEN | {"order_id": "account+day", "currency": "eur"})


def test_a_total_and_a_price_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="mapping unit_price and line_total: must be one of them"):
        parse_map("unit_price=a,line_total=b")


def test_a_column_of_the_products_may_be_named_beside_orders_that_lack_it() -> None:
    orders = LINES.assign(order_id=["1", "2", "3", "4"], quantity=1, unit_price=2.0)
    products = pd.DataFrame({"product_id": ["p", "q"], "List cost": [1.0, 3.0]})
    data = Dataset.read(orders, products=products, columns=WHO_AND_WHEN | {"cost": "List cost"})
    assert data.products["cost"].tolist() == [1.0, 3.0]
    mapping = WHO_AND_WHEN | {"cost": "unit_price"}  # of the orders, where the products have no such column
    assert Dataset.read(orders, products=products.drop(columns="List cost"), columns=mapping).products["cost"].tolist()
