"""Workbooks (.xlsx): the sheets that have the columns of the first one, below what stands above their header."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final, NamedTuple

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from recsys.contracts import columns as c
from recsys.data.files.rows import FileRows
from recsys.engines.databases import as_texts
from recsys.errors import DataError, EmptyDataError
from recsys.extras import require

_Cell = object
_HEADER_WITHIN: Final = 30
_LEAST_FILLED: Final = 0.5  # of the widest row: a title or a date above the header fills a cell or two


class _Sheet(NamedTuple):
    name: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[_Cell]]
    above: tuple[str, ...]


def read_workbook(connection: Backend, file: Path, name: str) -> list[FileRows]:
    """Return the rows of the first sheet that has any, and of the others that have its columns.

    Args:
        connection: where to load them.
        file: the workbook.
        name: what the loaded tables are called after.

    Raises:
        EmptyDataError: no sheet has a row below its header.
        DataError: it is no workbook, or is locked by a password.
        MissingExtraError: what reads workbooks is not installed.
    """
    sheets = [sheet for sheet in _sheets(file) if sheet.rows]
    if not sheets:
        raise EmptyDataError(f"{file}: no sheet has a row of data below a header; export it again")
    alike = [sheet for sheet in sheets if set(sheet.header) == set(sheets[0].header)]
    others = [sheet.name for sheet in sheets if sheet not in alike]
    left_out = (f"{file.name}: not read, as their columns differ: sheets {', '.join(others)}",) if others else ()
    found = []
    for number, sheet in enumerate(alike):
        numbers = pa.array(range(1, len(sheet.rows) + 1), pa.int64())
        table = _typed(sheet, file).append_column(c.SOURCE_ROW, numbers)
        loaded = connection.create_table(f"rows_{name}_{number}", ibis.memtable(table))
        warnings = (*_told(file, sheet), *(() if number else left_out))
        found.append(FileRows(loaded, f"sheet {sheet.name}", (), warnings))
    return found


def _sheets(file: Path) -> list[_Sheet]:
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ModuleNotFoundError:
        require("train", what="reading .xlsx")
        raise
    try:
        with CalamineWorkbook.from_path(file) as book:
            return [_headed(name, book.get_sheet_by_name(name).to_python()) for name in book.sheet_names]
    except CalamineError as error:
        raise DataError(f"{file}: can't be read as a workbook: {error}; save it again, without a password") from None


def _headed(name: str, cells: Sequence[Sequence[_Cell]]) -> _Sheet:
    """A sheet whose header is the first row that is filled about as far as the widest of the first rows."""
    filled = [sum(cell != "" for cell in row) for row in cells[:_HEADER_WITHIN]]
    widest = max(filled, default=0)
    start = next((place for place, n in enumerate(filled) if n and n >= _LEAST_FILLED * widest), 0)
    above = tuple(str(cell) for row in cells[:start] for cell in row if cell != "")
    below = [row for row in cells[start + 1 :] if any(cell != "" for cell in row)]
    header = [str(cell).strip() for cell in cells[start]] if cells else []
    used = [place for place, head in enumerate(header) if head or any(row[place] != "" for row in below)]
    return _Sheet(
        name,
        tuple(header[place] or f"column{place}" for place in used),
        [[row[place] for place in used] for row in below],
        above,
    )


def _told(file: Path, sheet: _Sheet) -> tuple[str, ...]:
    if not sheet.above:
        return ()
    sentence = (
        f"{file.name}, sheet {sheet.name}: {', '.join(map(repr, sheet.above[:3]))} above the header is left out; row 1 "
        "is the first below the header"
    )
    return (sentence,)


def _typed(sheet: _Sheet, file: Path) -> pa.Table:
    twice = sorted({name for name in sheet.header if sheet.header.count(name) > 1})
    if twice:
        raise DataError(
            f"{file}: column {twice[0]!r} stands twice in sheet {sheet.name}, each name must be its own; rename one"
        )
    return pa.table({name: _column([row[at] for row in sheet.rows]) for at, name in enumerate(sheet.header)})


def _column(cells: Sequence[_Cell]) -> pa.Array:
    """Cells of one type keep it; days among times are midnights; all else is text, whole numbers without a fraction."""
    values = [None if cell == "" else cell for cell in cells]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {datetime, date}:
        values = [datetime(value.year, value.month, value.day) if type(value) is date else value for value in values]  # noqa: DTZ001
    elif len(kinds) != 1 or not kinds <= {float, datetime, date, bool, str}:
        whole = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
        return pa.array(as_texts(whole), pa.string())
    return pa.array(values)
