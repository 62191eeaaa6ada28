"""`offers check` and `offers simulate` as a person types them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from recsys.cli import main
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.data.mapping import parse_map

pytestmark = pytest.mark.slow

HEADER = ("Order No", "Customer", "SKU", "Date", "Qty", "Price")
ROWS = (
    ("1", "a", "p", "31/01/2024", "2", "1.5"),
    ("1", "a", "q", "31/01/2024", "x", "1.5"),
    ("2", "b", "p", "02/02/2024", "1", "1.5"),
)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    printed = capsys.readouterr()
    return int(done.value.code or 0), " ".join(printed.out.split()), " ".join(printed.err.split())


def test_check_proposes_shows_and_writes(write_orders, tmp_path: Path, capsys) -> None:
    path = write_orders(ROWS, HEADER)
    map_path, rejects = tmp_path / "map.toml", tmp_path / "rejects.csv"
    code, out, err = run(capsys, "check", "--orders", path, "--write-map", str(map_path), "--rejects", str(rejects))
    assert (code, err) == (0, "")
    assert "account_id Customer known name a, b" in out
    assert "3 read" in out
    assert "1 rejected quantity_not_a_number: the quantity is not a finite number row 2: Qty=x" in out
    assert "before 2024-02-03 00:00 UTC" in out
    assert pd.read_csv(rejects)["drop_reason"].tolist() == ["quantity_not_a_number"]
    mapping = parse_map(str(map_path))
    assert mapping["ordered_at"] == "Date"
    assert read_dataset(ReadSpec(orders=path, mapping=mapping)).report.orders.rows_kept == 2


def test_check_proposes_for_products_and_accounts_and_reads_by_its_proposal(
    write_orders, tmp_path: Path, capsys
) -> None:
    orders = write_orders(ROWS, HEADER)
    products = write_orders([("Pea", "p"), ("Quince", "q")], ("Product", "Product No"), "products.csv")
    accounts = write_orders([("a", "retail"), ("b", "trade")], ("Customer", "Customer type"), "accounts.csv")
    tables = ("--orders", orders, "--products", products, "--accounts", accounts)
    map_path = tmp_path / "map.toml"
    code, out, err = run(capsys, "check", *tables, "--write-map", str(map_path))
    assert (code, err) == (0, "")
    assert "products.name Product known name Pea, Quince" in out
    assert "accounts.segment Customer type known name retail, trade" in out
    spec = ReadSpec(orders=orders, products=products, accounts=accounts, mapping=parse_map(str(map_path)))
    data = read_dataset(spec)
    assert data.products["name"].tolist() == ["Pea", "Quince"]
    assert data.accounts["segment"].tolist() == ["retail", "trade"]


def test_check_takes_what_is_said_before_what_it_proposes(write_orders, capsys) -> None:
    path = write_orders([(*row, "z") for row in ROWS], (*HEADER, "payer"))
    code, out, _ = run(capsys, "check", "--orders", path, "--map", "account_id=payer", "--as-of", "2024-02-01")
    assert code == 0
    assert "account_id payer given z" in out
    assert "at_or_after_as_of" in out
    assert "1 accounts, 1 products" in out


def test_check_names_the_columns_that_it_cannot_find(write_orders, capsys) -> None:
    path = write_orders([("1", "a"), ("2", "b")], ("Order No", "Customer"))
    code, out, err = run(capsys, "check", "--orders", path)
    assert code == 1
    assert "order_id Order No known name" in out
    assert "no column product_id, ordered_at, quantity, unit_price. Expected order_id" in err


@pytest.mark.data
def test_check_recognises_a_preset(online_retail_path: Path, tmp_path: Path, capsys) -> None:
    rows = tmp_path / "rows.parquet"
    pd.read_parquet(online_retail_path).head(3_000).to_parquet(rows)
    assert "This is the layout of preset online-retail-ii" in run(capsys, "check", "--orders", str(rows))[1]
    code, out, _ = run(capsys, "check", "--orders", str(rows), "--preset", "online-retail-ii")
    assert code == 0
    assert "not_a_product: the stock code does not start with five digits" in out


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (("--preset", "online-retail"), "preset == 'online-retail', must be one of online-retail-ii; did you mean"),
        (("--as-of", "June"), "'June' is not a moment"),
        (("--as-of", "2020-01-01"), "none of its 3 rows can be used"),
        (("--map", "acount_id=Customer"), "no column is called 'acount_id'"),
        (("--rejects", "rejects.xlsx"), "unknown format '.xlsx', must be .csv or .parquet"),
        (("--rejects", "absent/rejects.csv"), "no folder absent; make it first"),
        (("--write-map", "map.toml", "--preset", "online-retail-ii"), "a preset needs no mapping"),
        (("--products", "absent.csv"), "absent.csv: no such file or folder"),
        (("--time-format", "%Y"), "no row has a time that can be read"),
    ],
)
def test_a_wrong_option_is_a_sentence(write_orders, capsys, extra: tuple[str, ...], sentence: str) -> None:
    code, _, err = run(capsys, "check", "--orders", write_orders(ROWS, HEADER), *extra)
    assert code == 1
    assert err.startswith("Error: ")
    assert sentence in err


def test_a_preset_on_another_layout_is_a_sentence(write_orders, capsys) -> None:
    code, _, err = run(capsys, "check", "--orders", write_orders(), "--preset", "online-retail-ii")
    assert code == 1
    assert "no column Invoice, Customer ID, StockCode" in err


def test_simulate_writes_a_market_that_check_reads(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "market"
    code, out, _ = run(capsys, "simulate", "--accounts", "30", "--products", "200", "--seed", "1", "--out", str(folder))
    assert code == 0
    assert f"of 30 accounts to {folder}" in out.replace(" /", " /")
    tables = ("orders", "products", "accounts", "upgrades")
    paths = {name: str(folder / f"{name}.parquet") for name in tables}
    report = read_dataset(ReadSpec(**paths)).report
    assert [table.rows_rejected for table in report.tables] == [0, 0, 0, 0]


def test_a_market_without_accounts_is_a_sentence(tmp_path: Path, capsys) -> None:
    code, _, err = run(capsys, "simulate", "--accounts", "0", "--out", str(tmp_path / "market"))
    assert code == 1
    assert "n_accounts == 0" in err
