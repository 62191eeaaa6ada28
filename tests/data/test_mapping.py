from __future__ import annotations

from pathlib import Path

import pytest

from recsys.contracts.tables import ORDERS, PRODUCTS
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
    [("[columns", "not a mapping in TOML"), ("a = 1", r"no section \[columns\]"), ("[columns]\nname = 1", "name == 1")],
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
    assert "--map quantity=" in sentence


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
    refuse_unused({"order_id": "o", "segment": "group"}, taken)  # accounts were not read
    with pytest.raises(MissingColumnError, match="mapping price == 'list': no such column in products"):
        refuse_unused({"price": "list"}, taken)
