"""What `read_dataset` makes of whole sources: folders, malformed lines, the report and its numbers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from recsys.contracts import columns as c
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.data.presets import PRESETS, find_preset
from recsys.errors import ConfigError, MissingColumnError

HEADER = "order_id,account_id,product_id,ordered_at,quantity,unit_price\n"
FIRST = "o1,a,p,2024-01-01,1,1\no2,a,p,2024-01-02,x,1\no3,a,p\n"
SECOND = "o4,a,p,2024-01-03,1,1\no5,a,,2024-01-04,1,1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "lines"
    path.mkdir()
    (path / "1.csv").write_text(HEADER + FIRST)
    (path / "2.csv").write_text(HEADER + SECOND)
    return path


def test_rows_of_a_folder_are_named_by_file_and_row(folder: Path, tmp_path: Path) -> None:
    data = read_dataset(ReadSpec(orders=str(folder), rejects=tmp_path / "rejects.parquet"))
    report = data.report.orders
    assert (report.rows_read, report.rows_kept, report.rows_rejected) == (5, 2, 3)
    examples = {item.reason.name: str(item.examples[0]) for item in report.dropped}
    assert examples["quantity_not_a_number"] == "1.csv row 2: quantity=x"
    assert examples["no_product_id"] == "2.csv row 2: product_id=(empty)"
    assert examples["malformed_line"].startswith("1.csv row 3: line=o3,a,p, found=")
    rejects = pd.read_parquet(tmp_path / "rejects.parquet")
    assert rejects[[c.SOURCE_FILE, c.SOURCE_ROW, c.DROP_REASON]].to_numpy().tolist() == [
        ["1.csv", 2, "quantity_not_a_number"],
        ["1.csv", 3, "malformed_line"],
        ["2.csv", 2, "no_product_id"],
    ]
    assert rejects["malformed_line"].dropna().tolist() == ["o3,a,p"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["rejects.parquet"]


def test_the_report_goes_into_json_and_onto_a_screen(folder: Path) -> None:
    report = read_dataset(ReadSpec(orders=str(folder))).report
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["tables"]["orders"]["reasons"]["no_product_id"]["examples"] == [
        {"file": "2.csv", "row": 2, "values": {"product_id": None}}
    ]
    assert (plain["as_of"], plain["currency"], plain["preset"]) == (
        "2024-01-04T00:00:00+00:00",
        None,
        None,
    )  # the day after the last good line
    console = Console(width=70, record=True, file=io.StringIO())
    console.print(report)
    screen = console.export_text()
    assert max(map(len, screen.splitlines())) <= 70
    assert "no_product_id: the product id is empty" in screen


def test_a_column_that_is_called_as_ours_of_the_row_is_not_read(tmp_path: Path) -> None:
    header, *lines = (HEADER + FIRST).splitlines()
    marked = [f"Source_Row,{header}", *(f"{100 - place},{line}" for place, line in enumerate(lines))]
    (tmp_path / "orders.csv").write_text("\n".join(marked))
    dropped = read_dataset(ReadSpec(orders=str(tmp_path / "orders.csv"))).report.orders.dropped
    assert [example.row for item in dropped for example in item.examples] == [3, 2]


def test_a_table_of_clean_lines_is_read_in_few_statements(folder: Path) -> None:
    """Each costs ten milliseconds, which is most of what reading a small table takes."""
    (folder / "1.csv").write_text(HEADER + "o1,a,p,2024-01-01,1,1\n")
    backend = read_dataset(ReadSpec(orders=str(folder / "1.csv"))).orders.get_backend()
    ((statements,),) = backend.raw_sql("SELECT txid_current()").fetchall()  # each is a transaction of its own
    assert statements < 130


def test_a_missing_column_shows_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text("order,customer_id,product_id,ordered_at,quantity,unit_price\n1,2,3,4,5,6\n")
    with pytest.raises(
        MissingColumnError,
        match=r"no column order_id, account_id\. .*Nearest to order_id: order.*account_id: customer_id",
    ):
        read_dataset(ReadSpec(orders=str(tmp_path / "orders.csv")))


def test_presets_are_found_by_name() -> None:
    assert [find_preset(preset.name) for preset in PRESETS] == list(PRESETS)
    with pytest.raises(ConfigError, match="preset == 'online_retail', must be one of online-retail-ii; did you mean"):
        find_preset("online_retail")
