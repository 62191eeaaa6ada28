"""The same order lines in every format and encoding give the same dataset; the report says what was assumed."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from recsys.data.dataset import Dataset
from recsys.data.sources import connect, open_source
from recsys.errors import ConfigError, DataError, EmptyDataError

pytestmark = pytest.mark.slow

LINES = pd.DataFrame(
    {
        "order_id": ["o1", "o1", "o2", "o3"],
        "account_id": ["0042", "0042", "Müller", "Zoë"],
        "product_id": ["85123A", "22423", "22423", "22424"],
        "ordered_at": ["2024-01-01 10:00:00", "2024-01-01 10:00:00", "2024-01-03 09:30:00", "2024-01-05 00:00:00"],
        "quantity": [2, 1, 4, 1],
        "unit_price": [10.0, 5.5, 9.0, 1.25],
    }
)


def as_csv(separator: str = ",") -> str:
    return LINES.to_csv(index=False, sep=separator)


def as_json_lines() -> str:
    return "\n".join(json.dumps(item, ensure_ascii=False) for item in LINES.to_dict("records")) + "\n"


def _is_plain(cell: object) -> bool:
    return str(cell).isdigit() and not str(cell).startswith("0")


def write_workbook(path: Path, sheets: dict[str, pd.DataFrame], above: tuple[str, ...] = ()) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)  # a new workbook has one sheet
    for name, frame in sheets.items():
        sheet = book.create_sheet(name)
        for title in above:
            sheet.append([title])
        sheet.append(list(frame.columns))
        for row in frame.itertuples(index=False):
            sheet.append([int(cell) if name == "numbers" and _is_plain(cell) else cell for cell in row])
    book.save(path)
    return path


EXPECTED = Dataset.read(LINES).fingerprint


@pytest.mark.parametrize(
    ("name", "text"),
    [("t.csv", as_csv()), ("t.tsv", as_csv("\t")), ("t.jsonl", as_json_lines()), ("t.ndjson", as_json_lines()),
     ("t.json", json.dumps(LINES.to_dict("records"), ensure_ascii=False))],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_text_files_give_the_same_lines(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    for path, written in ((tmp_path / name, text.encode(encoding)), (tmp_path / f"{name}.gz", b"")):
        path.write_bytes(written or gzip.compress(text.encode(encoding)))
        data = Dataset.read(path)
        assert data.fingerprint == EXPECTED
        assert len(data.report.orders.warnings) == (encoding != "utf-8")


def test_an_encoding_that_was_assumed_is_told_with_an_example(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(as_csv().encode("latin-1"))
    (warning,) = Dataset.read(path).report.orders.warnings
    assert warning == (
        "t.csv is not UTF-8 and is read as cp1252: line 4 says 'o2,Müller,22423,2024-01-03 09:30:00,4,9.0'; if that is "
        "wrong, say its encoding (encoding)"
    )
    assert Dataset.read(path, encoding="latin-1").report.orders.warnings == ()


def test_a_header_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("Stück;n\na;1\n".encode("cp1252"))
    assert open_source(connect(), tmp_path / "t.csv", name="orders").columns == ("Stück", "n")


def test_an_encoding_far_down_is_found_and_another_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    frame = pd.concat([LINES[:2], *[LINES[:2]] * 20_000, LINES.assign(account_id="Łódź")], ignore_index=True)
    frame["order_id"] = [f"o{number:07}" for number in range(len(frame))]
    path.write_bytes(frame.to_csv(index=False).encode("cp1250"))
    assert path.stat().st_size > 1 << 20
    assert "Łódź" in set(Dataset.read(path, encoding="cp1250").accounts["account_id"])
    assert "line 40004 says" in Dataset.read(path).report.orders.warnings[0]


def test_two_encodings_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(as_csv().encode() + "o4,Zoë,22424,2024-01-05,1,1.25\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"t\.csv: line 4 is UTF-8 and line 6 is not, a file must have one encoding"):
        Dataset.read(path)


def test_an_encoding_that_is_wrong_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(as_csv().encode("cp1252"))
    with pytest.raises(DataError, match=r"t\.csv: row 3 is not utf-8"):
        Dataset.read(path, encoding="utf-8")
    with pytest.raises(ConfigError, match="encoding == 'klingon', must be one that Python knows"):
        Dataset.read(path, encoding="klingon")
    path.write_bytes(b"id,n\n\x81,1\n")
    with pytest.raises(DataError, match="line 2 is neither UTF-8 nor cp1252"):
        Dataset.read(path)
    with pytest.raises(DataError, match="is not ascii"):
        Dataset.read(path, encoding="ascii")


def test_a_broken_object_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"order_id": "o1"}\n{"order_id": \n{"order_id": "o3"}\n')
    with pytest.raises(DataError, match=r"t\.jsonl: can't be read: .*line [23]"):
        Dataset.read(path)


def test_a_workbook_gives_the_same_lines(tmp_path: Path) -> None:
    timed = LINES.assign(ordered_at=[datetime.fromisoformat(text) for text in LINES["ordered_at"]])
    for name, frame in (("texts", LINES), ("numbers", LINES), ("times", timed)):
        data = Dataset.read(write_workbook(tmp_path / f"{name}.xlsx", {name: frame}))
        assert (data.fingerprint, data.report.orders.warnings) == (EXPECTED, ())


def test_sheets_with_the_same_columns_are_read_on(tmp_path: Path) -> None:
    sheets = {"2023": LINES[:2], "2024": LINES[2:].assign(quantity=["x", 1]), "notes": pd.DataFrame({"by": ["me"]})}
    report = Dataset.read(write_workbook(tmp_path / "t.xlsx", sheets)).report.orders
    assert str(report.dropped[0].examples[0]) == "sheet 2024 row 1: quantity=x"
    assert report.warnings == ("t.xlsx: not read, as their columns differ: sheets notes",)


def test_what_stands_above_a_header_is_told(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "t.xlsx", {"Sales": LINES}, above=("Sales report", "by the week"))
    data = Dataset.read(path)
    assert data.fingerprint == EXPECTED
    (warning,) = data.report.orders.warnings
    assert warning == (
        "t.xlsx, sheet Sales: 'Sales report', 'by the week' above the header is left out; row 1 is the first below the "
        "header"
    )


def test_workbooks_that_cannot_be_read_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"PK no workbook")
    with pytest.raises(DataError, match=r"t\.xlsx: can't be read as a workbook: .*save it again"):
        Dataset.read(tmp_path / "t.xlsx")
    with pytest.raises(EmptyDataError, match="no sheet has a row of data below a header"):
        Dataset.read(write_workbook(tmp_path / "t.xlsx", {"Sales": LINES[:0]}))
    twice = pd.concat([LINES, LINES[["quantity"]]], axis=1)
    with pytest.raises(DataError, match="column 'quantity' stands twice in sheet Sales"):
        Dataset.read(write_workbook(tmp_path / "t.xlsx", {"Sales": twice}))
    (tmp_path / "t.jsonl").write_text(as_json_lines())
    with pytest.raises(DataError, match=r"the folder mixes JSON and workbook \(t\.jsonl, t\.xlsx\)"):
        Dataset.read(tmp_path)
