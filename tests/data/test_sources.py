from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.data.sources import connect, open_source
from recsys.errors import DataError, EmptyDataError, SourceNotFoundError

FRAME = pd.DataFrame({"id": ["a", "b", "c"], "n": [1, 2, 3]})


def rows(location: Path) -> tuple[list[dict[str, object]], list[tuple[str | None, int]]]:
    source = open_source(connect(), str(location), name="orders")
    found = source.table.order_by(c.SOURCE_ROW).to_pandas().to_dict("records")
    return found, [source.locate(row.pop(c.SOURCE_ROW)) for row in found]


TEXT = [{"id": "a", "n": "1"}, {"id": "b", "n": "2"}, {"id": "c", "n": "3"}]
TYPED = [{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "c", "n": 3}]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "T.CSV"])
def test_csv_comes_as_text_with_row_numbers(tmp_path: Path, name: str) -> None:
    FRAME.to_csv(tmp_path / name, index=False)
    assert rows(tmp_path / name) == (TEXT, [(None, 1), (None, 2), (None, 3)])


@pytest.mark.parametrize("name", ["t.parquet", "t.pq"])
def test_parquet_keeps_its_types(tmp_path: Path, name: str) -> None:
    FRAME.to_parquet(tmp_path / name)
    assert rows(tmp_path / name) == (TYPED, [(None, 1), (None, 2), (None, 3)])


@pytest.mark.parametrize(("ending", "expected"), [("csv", TEXT), ("csv.gz", TEXT), ("parquet", TYPED)])
def test_a_folder_is_read_file_by_file_in_the_order_of_names(tmp_path: Path, ending: str, expected: list[Any]) -> None:
    write = {"csv": "to_csv", "csv.gz": "to_csv", "parquet": "to_parquet"}[ending]
    for name, part in (("part-2", FRAME[2:]), ("part-1", FRAME[:2])):
        getattr(part, write)(tmp_path / f"{name}.{ending}", index=False)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".hidden.txt").touch()
    places = [(f"part-1.{ending}", 1), (f"part-1.{ending}", 2), (f"part-2.{ending}", 1)]
    assert rows(tmp_path) == (expected, places)


def test_a_column_order_that_differs_between_files_does_not_matter(tmp_path: Path) -> None:
    FRAME[:1].to_csv(tmp_path / "1.csv", index=False)
    FRAME[1:][["n", "id"]].to_csv(tmp_path / "2.csv", index=False)
    assert rows(tmp_path)[0] == TEXT


def test_other_delimiters_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("﻿id;n\na;1\nb;2\nc;3\n", encoding="utf-8")
    assert rows(path)[0] == TEXT


def test_lines_that_cannot_be_split_are_kept_apart_and_leave_their_number_free(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,n\na,1\nb,2,too,many\n"c\nd",3\ne\nf,4\n', encoding="utf-8")
    source = open_source(connect(), str(path), name="orders")
    kept = source.table.order_by(c.SOURCE_ROW).to_pandas()
    assert kept[c.SOURCE_ROW].tolist() == [1, 3, 5]
    assert kept["id"].tolist() == ["a", "c\nd", "f"]
    assert [(line.source_row, line.text) for line in source.malformed] == [(2, "b,2,too,many"), (4, "e")]


def test_nothing_there_names_what_is_near(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "orders.csv", index=False)
    with pytest.raises(SourceNotFoundError, match=r"order\.csv: no such file.*did you mean .*orders\.csv"):
        open_source(connect(), str(tmp_path / "order.csv"), name="orders")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").touch()
    with pytest.raises(EmptyDataError, match=r"t\.csv: the file is empty \(0 bytes\)"):
        open_source(connect(), str(tmp_path / "t.csv"), name="orders")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_header_without_rows_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    FRAME[:0].to_csv(path, index=False) if ending == "csv" else FRAME[:0].to_parquet(path)
    with pytest.raises(EmptyDataError, match="no row of data"):
        open_source(connect(), str(path), name="orders")


def test_a_folder_with_nothing_to_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no data")
    with pytest.raises(EmptyDataError, match="a folder without a file to read"):
        open_source(connect(), str(tmp_path), name="orders")


def test_a_folder_that_mixes_formats_is_refused(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "1.csv", index=False)
    FRAME.to_parquet(tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"mixes CSV and Parquet \(1\.csv, 2\.parquet\)"):
        open_source(connect(), str(tmp_path), name="orders")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files_of_a_folder_with_other_columns_are_refused(tmp_path: Path, ending: str) -> None:
    write = "to_csv" if ending == "csv" else "to_parquet"
    getattr(FRAME, write)(tmp_path / f"1.{ending}", index=False)
    getattr(FRAME.rename(columns={"n": "m"}), write)(tmp_path / f"2.{ending}", index=False)
    with pytest.raises(DataError, match=rf"2\.{ending}: its columns differ from those of 1\.{ending} in m, n"):
        open_source(connect(), str(tmp_path), name="orders")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.docx").write_text("x")
    with pytest.raises(DataError, match=r"unknown format '\.docx', must be a \.csv"):
        open_source(connect(), str(tmp_path / "t.docx"), name="orders")


def test_a_corrupt_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 this is not parquet")
    with pytest.raises(DataError, match=r"t\.parquet: can't be read"):
        open_source(connect(), str(tmp_path / "t.parquet"), name="orders")


def test_a_corrupt_gzip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(FRAME.to_csv(index=False).encode() * 1000)[:60])
    with pytest.raises(DataError, match=r"t\.csv\.gz: can't be read"):
        open_source(connect(), str(tmp_path / "t.csv.gz"), name="orders")
