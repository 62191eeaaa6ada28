"""Where a table comes from: a file, a folder of files, a database or memory, as an Ibis table on DuckDB.

Text formats (CSV, JSON lines, databases) come as text columns: what is a number is decided by the cleaning, which can
then say which row it could not read. Workbooks keep the types of their cells. Parquet keeps its types and is scanned
where it lies, never loaded as a whole. A folder is read file by file in the order of the names.
"""

from __future__ import annotations

import contextlib
import difflib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import duckdb
import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from recsys.contracts import columns as c
from recsys.data.files.rows import FileRows, MalformedLine
from recsys.data.files.texts import read_csv, read_json_lines
from recsys.data.files.workbooks import read_workbook
from recsys.data.numbers import as_text
from recsys.engines.databases import as_texts, is_database_url, load_database_table, shown_url
from recsys.errors import DataError, EmptyDataError, SourceNotFoundError

Format = Literal["CSV", "JSON", "workbook", "Parquet"]

_TEXT_SUFFIXES: Mapping[str, Format] = {
    ".csv": "CSV", ".tsv": "CSV", ".jsonl": "JSON", ".ndjson": "JSON", ".json": "JSON",
}  # fmt: skip
SUFFIXES: Mapping[str, Format] = {
    **_TEXT_SUFFIXES,
    **{f"{suffix}.gz": kind for suffix, kind in _TEXT_SUFFIXES.items()},
    ".xlsx": "workbook",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}
READABLE = (
    "a .csv, .tsv, .jsonl, .xlsx or .parquet file (text may be compressed, .csv.gz), a folder of one of these, or a "
    "database table (URL#table)"
)

DataSource: TypeAlias = str | Path | pd.DataFrame | pa.Table | ibis.Table
"""What a table is read from: READABLE, or a table that the caller holds."""

# `source_row` tells the rows of several files apart: the file's number above, the row within the file below.
FILE_STRIDE = 2**40

_UTC: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class TableSource:
    """One opened table.

    Attributes:
        table: its columns as they were found, and `source_row`.
        location: what the caller named, without a password.
        columns: the names that were found, in order.
        files: the names of a folder's files; empty for one file or a database.
        malformed: lines that are not in `table`.
        warnings: what should be looked at in how it was read, a sentence each.
    """

    table: ibis.Table
    location: str
    columns: tuple[str, ...]
    files: tuple[str, ...] = ()
    malformed: tuple[MalformedLine, ...] = ()
    warnings: tuple[str, ...] = ()

    def locate(self, source_row: int) -> tuple[str | None, int]:
        """Return the file (None unless a folder was read) and the row in it, where 1 is the first row of data."""
        number, row = divmod(source_row, FILE_STRIDE)
        return (self.files[number] if self.files else None), row


def connect() -> Backend:
    """Return an own in-memory DuckDB whose spilled data go to a temporary folder and leave with it."""
    spill = tempfile.mkdtemp(prefix="offers-duckdb-")
    connection = ibis.duckdb.connect(temp_directory=spill)
    weakref.finalize(connection, shutil.rmtree, spill, ignore_errors=True)
    # DuckDB would draw its progress into the answer of a command; in a notebook without widgets it has none to set.
    with contextlib.suppress(duckdb.InvalidInputException):
        connection.raw_sql("SET enable_progress_bar = false")
    connection.raw_sql("SET TimeZone = 'UTC'")  # a time without a zone is UTC, whatever the machine says
    return connection


def open_source(connection: Backend, given: DataSource, *, name: str, encoding: str | None = None) -> TableSource:
    """Return the table that is given.

    Args:
        connection: where to open it.
        given: what it is read from.
        name: tells the temporary tables of several sources apart.
        encoding: of text files; see `parse_encoding`.

    Raises:
        SourceNotFoundError: nothing is there.
        EmptyDataError: no row, or a folder without a file.
        DataError: the format is unknown, mixed or broken, or no line has the fields of the header.
    """
    if not isinstance(given, str | Path):
        source = _open_held(connection, given, name)
    elif is_database_url(str(given)):
        table = load_database_table(connection, str(given), name=f"raw_{name}")
        found = tuple(column for column in table.columns if column != c.SOURCE_ROW)
        source = TableSource(table, shown_url(str(given)), found)
    else:
        source = _open_path(connection, Path(given).expanduser(), name, encoding)
    with reading(source.location):
        if source.table.limit(1).count().to_pyarrow().as_py() == 0:
            raise EmptyDataError(_nothing_sentence(source))
    return source


def _nothing_sentence(source: TableSource) -> str:
    if not source.malformed:
        return f"{source.location}: no row of data, must have at least one; export it again"
    first = source.malformed[0]
    return (
        f"{source.location}: none of its {len(source.malformed):,} rows has the {len(source.columns)} fields of the "
        f"header (row {source.locate(first.source_row)[1]}: {first.text}); use one separator throughout, and quotes "
        "around a value that holds it"
    )


@contextmanager
def reading(location: str) -> Iterator[None]:
    """Turn what DuckDB says about a broken file into a sentence.

    Raises:
        DataError: the file could not be read.
    """
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        raise DataError(f"{location}: can't be read: {_first_line(error)}; repair it or export it again") from None


def _open_held(connection: Backend, given: pd.DataFrame | pa.Table | ibis.Table, name: str) -> TableSource:
    """A table that the caller holds, loaded as it is now; row 1 is its first."""
    location = _location_of(given, name)
    with reading(location):
        table = arrow_table(given.to_pyarrow() if isinstance(given, ibis.Table) else given, location)
        found = tuple(column for column in table.column_names if column != c.SOURCE_ROW)
        numbered = table.select(found).append_column(c.SOURCE_ROW, pa.array(range(1, len(table) + 1), pa.int64()))
        loaded = connection.create_table(f"raw_{name}", ibis.memtable(numbered), temp=True)
    return TableSource(loaded, location, found)


_HELD: Mapping[type, str] = {pd.DataFrame: "pandas frame", pa.Table: "Arrow table", ibis.Table: "Ibis table"}


def _location_of(given: object, name: str) -> str:
    for kind, called in _HELD.items():
        if isinstance(given, kind):
            return f"{name} ({called})"
    raise DataError(
        f"{name}: a {type(given).__name__}, must be {READABLE}, or a pandas frame, an Arrow table or an Ibis table; "
        "make a frame of it"
    )


def arrow_table(given: pd.DataFrame | pa.Table, place: str = "frame") -> pa.Table:
    """Return a table as plain Arrow columns without pandas' metadata; the index of a frame is left out.

    Categories become their values and zoned times UTC; a column without any value, or whose values are of several
    types, is text.

    Args:
        given: the table, which is not changed.
        place: what errors call it.

    Raises:
        DataError: two columns have one name.
    """
    names = [str(name) for name in (given.columns if isinstance(given, pd.DataFrame) else given.column_names)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{place}: column {twice[0]!r} stands twice, each name must be its own; rename one of them")
    if isinstance(given, pd.DataFrame):
        columns = [_array(given.iloc[:, position]) for position in range(len(names))]
    else:
        columns = [_plain(column) for column in given.columns]
    return pa.table(dict(zip(names, columns, strict=True)))


def _array(values: pd.Series) -> pa.Array:
    if isinstance(values.dtype, pd.DatetimeTZDtype):  # naive UTC: pyarrow reads `.values`, which pandas deprecates
        return pa.array(values.dt.tz_convert(None).to_numpy(), type=_UTC)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    text = pd.api.types.is_object_dtype(values.dtype) or pd.api.types.is_string_dtype(values.dtype)
    try:
        return pa.array(values.array, type=pa.string() if text else None, from_pandas=True)
    except pa.ArrowException:  # objects that are not text, or not all of them
        return _array_of_objects(values.astype(object).where(values.notna(), None).tolist())


def _array_of_objects(values: Sequence[object]) -> pa.Array:
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.array(as_texts(values), pa.string())


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def _open_path(connection: Backend, path: Path, name: str, encoding: str | None) -> TableSource:
    if not path.exists():
        raise SourceNotFoundError(f"{path}: no such file or folder; {_nearest_sibling(path)}give {READABLE}")
    files = _files_of(path)
    for file in files:
        if file.stat().st_size == 0:
            raise EmptyDataError(f"{file}: the file is empty (0 bytes), must have a header and rows; export it again")
    if _format_of(files[0]) == "Parquet":
        return _open_parquet(connection, path, files, name)
    return _open_loaded(connection, path, files, name, encoding)


def _format_of(path: Path) -> Format | None:
    lower = path.name.lower()
    return next((kind for suffix, kind in SUFFIXES.items() if lower.endswith(suffix)), None)


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        if _format_of(path) is None:
            raise DataError(f"{path}: unknown format {path.suffix!r}, must be {READABLE}")
        return [path]
    visible = [file for file in sorted(path.iterdir()) if file.is_file() and file.name[0] not in "._"]
    files = [file for file in visible if _format_of(file) is not None]
    if not files:
        raise EmptyDataError(f"{path}: a folder without a file to read; put .csv, .xlsx or .parquet files into it")
    kinds = sorted({str(_format_of(file)) for file in files})
    if len(kinds) > 1:
        shown = ", ".join(file.name for file in files[:4])
        raise DataError(f"{path}: the folder mixes {' and '.join(kinds)} ({shown}), must hold one; separate them")
    return files


def _nearest_sibling(path: Path) -> str:
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"did you mean {path.parent / near[0]}? else " if near else ""


def _open_parquet(connection: Backend, path: Path, files: Sequence[Path], name: str) -> TableSource:
    headers: dict[Path, tuple[str, ...]] = {}
    for file in files:
        with reading(str(file)):
            headers[file] = tuple(pq.read_schema(file).names)
    _refuse_different_headers(headers)
    file_column = "__file"
    with reading(str(path)):
        raw = connection.read_parquet(
            [str(file) for file in files],
            table_name=f"raw_{name}",
            file_row_number=True,
            filename=file_column,
            union_by_name=len(files) > 1,
        )
    row = raw["file_row_number"] + 1
    if len(files) > 1:
        numbers = ibis.memtable({file_column: [str(file) for file in files], "__number": list(range(len(files)))})
        raw = raw.join(numbers, file_column)
        row = raw["file_row_number"] + 1 + raw["__number"] * FILE_STRIDE
        raw = raw.mutate(row.name(c.SOURCE_ROW)).drop("__number")
    else:
        raw = raw.mutate(row.name(c.SOURCE_ROW))
    table = raw.drop("file_row_number", file_column)
    return TableSource(table, str(path), headers[files[0]], _file_names(path, files))


def _open_loaded(
    connection: Backend, path: Path, files: Sequence[Path], name: str, encoding: str | None
) -> TableSource:
    """The rows of all files, loaded one after the other."""
    parts: list[FileRows] = []
    headers: dict[Path, tuple[str, ...]] = {}
    for number, file in enumerate(files):
        with reading(str(file)):
            found = _rows_of(connection, file, f"{name}_{number}", encoding)
        headers[file] = tuple(found[0].table.columns)
        _refuse_different_headers(headers)
        several = path.is_dir() and len(found) > 1
        parts += [replace(part, place=f"{file.name} {part.place}") if several else part for part in found]
    shared = headers[files[0]]
    tables = list(_numbered_apart(parts, shared))
    malformed = (
        replace(line, source_row=line.source_row + number * FILE_STRIDE)
        for number, part in enumerate(parts)
        for line in part.malformed
    )
    return TableSource(
        tables[0] if len(tables) == 1 else ibis.union(*tables),
        str(path),
        tuple(column for column in shared if column != c.SOURCE_ROW),
        tuple(part.place for part in parts) if path.is_dir() or len(parts) > 1 else (),
        tuple(malformed),
        tuple(sentence for part in parts for sentence in part.warnings),
    )


def _rows_of(connection: Backend, file: Path, name: str, encoding: str | None) -> Sequence[FileRows]:
    kind = _format_of(file)
    if kind == "workbook":
        return read_workbook(connection, file, name)
    return [(read_json_lines if kind == "JSON" else read_csv)(connection, file, name, encoding)]


def _numbered_apart(parts: Sequence[FileRows], columns: Sequence[str]) -> Iterator[ibis.Table]:
    """The rows of each part as text where another part has text, numbered so that no two parts share a number."""
    for number, part in enumerate(parts):
        rows = part.table.select(columns)
        mixed = [name for name in columns if len({other.table[name].type() for other in parts}) > 1]
        texts = {name: as_text(rows[name]) for name in mixed}
        yield rows.mutate(**texts, **{c.SOURCE_ROW: rows[c.SOURCE_ROW] + number * FILE_STRIDE})


def _file_names(path: Path, files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(file.name for file in files) if path.is_dir() else ()


def _refuse_different_headers(headers: Mapping[Path, tuple[str, ...]]) -> None:
    first, *others = headers
    for other in others:
        difference = sorted(set(headers[other]) ^ set(headers[first]))
        if difference:
            raise DataError(
                f"{other}: its columns differ from those of {first.name} in {', '.join(difference)}; "
                "all files of a folder must have the same columns"
            )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
