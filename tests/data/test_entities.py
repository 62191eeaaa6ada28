"""Products, accounts and upgrades: read, checked, and completed by the order lines."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.contracts.tables import ACCOUNTS, PRODUCTS, UPGRADES
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.data.report import TableReport
from recsys.errors import MissingColumnError

LINES = """order_id,account_id,product_id,ordered_at,quantity,unit_price,name,category,cost,region
o1,a1,p1,2024-01-01,1,10,Lamp,Light,4,North
o2,a2,p1,2024-01-02,1,11,Lamp ,Light,,South
o3,a1,p1,2024-01-03,1,12,LAMP,,5,North
o4,a3,p2,2024-01-04,1,3,Beta,,,
o5,a3,p2,2024-01-05,1,2,Alpha,,,
"""
PRODUCT_ROWS = """product_id,name,price,List cost,active,stock,tier
p1,The lamp,,4.5,no,7,2
p3,Never sold,8,,yes,,
p1,Again,1,1,yes,1,1
,Nobody,1,1,yes,1,1
p4,Priceless,dear,1,yes,1,1
p5,Negative,-1,1,yes,1,1
"""
ACCOUNT_ROWS = """account_id,segment,is_key_account,created_at,employees,note
a1,B2B,true,2020-05-01,12,x
a4,B2C,,2023-01-01,3,7
a5,B2C,false,2024-06-01,3,y
a2,,maybe,2020-01-01,1,z
"""
UPGRADE_ROWS = "from_product_id,to_product_id\np1,p3\np1,p1\np2,\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("tables")
    tables = {"orders": LINES, "products": PRODUCT_ROWS, "accounts": ACCOUNT_ROWS, "upgrades": UPGRADE_ROWS}
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    paths = {name: str(folder / f"{name}.csv") for name in tables}
    spec = ReadSpec(**paths, mapping={"products.cost": "List cost"}, rejects=folder / "rejects.parquet")
    cleaned = read_dataset(spec)
    rejects = pd.read_parquet(folder / "rejects.parquet")
    assert rejects[[c.SOURCE_TABLE, c.SOURCE_ROW]].to_numpy().tolist() == [
        ["accounts", 4],
        ["products", 3],
        ["products", 4],
        ["products", 5],
        ["products", 6],
        ["upgrades", 2],
        ["upgrades", 3],
    ]
    return cleaned


def counts(report: TableReport) -> dict[str, int]:
    return {item.reason.name: item.rows for item in report.dropped}


def test_every_row_has_one_outcome(data: Dataset) -> None:
    orders, products, accounts, upgrades = data.report.tables
    assert orders.rows_kept == 5
    assert counts(products) == {
        "duplicate_row": 1,
        "no_product_id": 1,
        "unreadable_price": 1,
        "negative_price": 1,
    }
    assert counts(accounts) == {"unreadable_is_key_account": 1, "created_after_as_of": 1}
    assert counts(upgrades) == {"same_product": 1, "no_to_product_id": 1}
    for report in data.report.tables:
        assert report.rows_read == report.rows_kept + report.rows_rejected + report.rows_left_out


def test_what_the_products_table_leaves_open_comes_from_the_orders(data: Dataset) -> None:
    products = PRODUCTS.pandera_frame().validate(data.products).set_index(c.PRODUCT_ID)
    assert list(products.index) == ["p1", "p2", "p3"]
    assert products.loc["p1", [c.NAME, c.CATEGORY, c.TIER]].tolist() == ["The lamp", "Light", "2"]
    assert products.loc["p1", [c.COST, c.STOCK]].tolist() == [4.5, 7.0]
    assert products[c.PRICE].isna().tolist() == [True, True, False]  # what was paid is no list price
    assert products[c.ACTIVE].tolist() == [False, True, True]
    assert products[c.DO_NOT_OFFER].tolist() == [False, False, False]
    assert products.loc["p3", c.PRICE] == 8.0


def test_of_equally_frequent_names_the_first_in_the_alphabet_counts(data: Dataset) -> None:
    assert data.products.set_index(c.PRODUCT_ID).loc["p2", c.NAME] == "Alpha"


def test_accounts_are_those_of_the_table_and_of_the_orders(data: Dataset) -> None:
    accounts = ACCOUNTS.pandera_frame().validate(data.accounts).set_index(c.ACCOUNT_ID)
    assert list(accounts.index) == ["a1", "a2", "a3", "a4"]
    assert accounts.loc["a1", [c.SEGMENT, c.REGION]].tolist() == ["B2B", "North"]
    assert accounts[c.IS_KEY_ACCOUNT].fillna(False).tolist() == [True, False, False, False]
    created = [(2020, 5, 1), (2024, 1, 2), (2024, 1, 4), (2023, 1, 1)]
    assert accounts[c.CREATED_AT].tolist() == [datetime(*day, tzinfo=UTC) for day in created]


def test_further_columns_of_accounts_keep_what_they_are(data: Dataset) -> None:
    accounts = data.accounts.set_index(c.ACCOUNT_ID)
    assert accounts["employees"].dropna().to_dict() == {"a1": 12.0, "a4": 3.0}
    assert accounts["note"].dropna().to_dict() == {"a1": "x", "a4": "7"}


def test_upgrades_lead_to_another_product(data: Dataset) -> None:
    assert data.upgrades is not None
    upgrades = UPGRADES.pandera_frame().validate(data.upgrades)
    assert upgrades[[c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID]].to_numpy().tolist() == [["p1", "p3"]]


def test_without_the_tables_all_comes_from_the_orders(tmp_path: Path, data: Dataset) -> None:
    (tmp_path / "orders.csv").write_text(LINES)
    alone = read_dataset(ReadSpec(orders=str(tmp_path / "orders.csv")))
    products = alone.products.set_index(c.PRODUCT_ID)
    assert products[[c.NAME, c.COST]].loc["p1"].tolist() == ["Lamp", 5.0]
    assert alone.accounts[c.REGION].fillna("").tolist() == ["North", "South", ""]
    assert alone.upgrades is None
    assert alone.fingerprint != data.fingerprint


def test_a_table_without_its_key_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(LINES)
    (tmp_path / "products.csv").write_text("sku,price\np1,1\n")
    spec = ReadSpec(orders=str(tmp_path / "orders.csv"), products=str(tmp_path / "products.csv"))
    with pytest.raises(MissingColumnError, match=r"products\.csv: no column product_id"):
        read_dataset(spec)
