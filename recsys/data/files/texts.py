"""CSV, tab-separated and JSON-lines files, in UTF-8 or another encoding, as text columns.

A file is taken as UTF-8 until it turns out not to be; then it is read as Windows-1252, of which latin-1 is a part, and
the report says so with the first line that shows it. Another encoding has to be said.
"""

from __future__ import annotations

import codecs
import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

import ibis
import ibis.expr.datatypes as dt
from ibis.backends.duckdb import Backend

from recsys.contracts import columns as c
from recsys.data.files.rows import FileRows, MalformedLine
from recsys.errors import ConfigError, DataError

WESTERN: Final = "cp1252"
_UTF_8: Final = "utf-8"
_MARKS: Final = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_CHUNK_BYTES: Final = 1 << 20
_SHOWN: Final = 60
_QUOTING: Final = frozenset(b"\"'\\")
_LOAD_CSV: Final = f"""
    CREATE TABLE "{{table}}" AS
    SELECT COLUMNS(lambda name: lower(name) <> '{c.SOURCE_ROW}'), row_number() OVER () AS {c.SOURCE_ROW}
    FROM read_csv(
        ?, all_varchar = true, header = true,
        store_rejects = true, rejects_table = '{{rejects}}', rejects_scan = '{{scans}}'{{quotes}}
    )
"""


def parse_encoding(given: str | None) -> str | None:
    """Return the name of an encoding as Python has it, None where it is left out.

    Raises:
        ConfigError: there is no such encoding of text.

    Example:
        >>> parse_encoding("latin1"), parse_encoding("UTF8")
        ('iso8859-1', 'utf-8')
    """
    if given is None:
        return None
    try:
        "".encode(given)
        return codecs.lookup(given).name
    except LookupError:
        raise ConfigError(
            f"encoding == {given!r}, must be one that Python knows, as latin-1, cp1252, cp1250 or utf-16; leave it out "
            "to have it found out"
        ) from None


def read_csv(connection: Backend, file: Path, name: str, encoding: str | None) -> FileRows:
    """Return the lines of a file, all columns text, and those that could not be split.

    Args:
        connection: where to load it.
        file: `.csv` or `.tsv`, which may be compressed (`.gz`); what separates the fields is found out.
        name: of the loaded table.
        encoding: of the text; None: UTF-8, or found out.

    Raises:
        DataError: the file is cut off, or its encoding can't be told.
    """
    refuse_cut_gzip(file)
    known = encoding or _encoding_at_start(file)
    if known is not None:
        return _read_recoded(connection, file, name, known, stated=encoding is not None)
    found = _split(connection, file, file.name, name)
    if any("unicode" in line.why for line in found.malformed):
        return _read_recoded(connection, file, f"{name}_again", _western(file), stated=False)
    return found


def read_json_lines(connection: Backend, file: Path, name: str, encoding: str | None) -> FileRows:
    """Return the objects of a file, one a line or all in one list, as rows whose columns are text.

    Args:
        connection: where to load it.
        file: `.jsonl`, `.ndjson` or `.json`, which may be compressed (`.gz`).
        name: of the loaded table.
        encoding: of the text; None: UTF-8, or found out.

    Raises:
        DataError: the file is cut off, or its encoding can't be told.
    """
    refuse_cut_gzip(file)
    # DuckDB takes bytes of other encodings in JSON as they are, so that the file itself is looked at.
    known = encoding or _encoding_at_start(file, whole=True)
    if known is None or known == _UTF_8:
        return _objects(connection, file, file.name, name)
    with _as_utf_8(file, known) as copy:
        found = _objects(connection, copy, file.name, name)
    return FileRows(found.table, found.place, found.malformed, _told(file, known, stated=encoding is not None))


def refuse_cut_gzip(file: Path) -> None:
    """Refuse a compressed file that was cut off, which DuckDB reads up to the cut and says nothing.

    Raises:
        DataError: it is.
    """
    if file.suffix.lower() != ".gz":
        return
    try:
        with gzip.open(file) as stream:
            while stream.read(_CHUNK_BYTES):
                pass
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{file}: can't be read: {error}; copy it again, it is not whole") from None


def _read_recoded(connection: Backend, file: Path, name: str, encoding: str, *, stated: bool) -> FileRows:
    if encoding == _UTF_8:
        found = _split(connection, file, file.name, name)
        for line in found.malformed:
            if "unicode" in line.why:
                raise DataError(f"{file}: row {line.source_row} is not {encoding}; say its encoding (encoding)")
        return found
    with _as_utf_8(file, encoding) as copy:
        found = _split(connection, copy, file.name, name)
    return FileRows(found.table, found.place, found.malformed, _told(file, encoding, stated=stated))


def _split(connection: Backend, path: Path, place: str, name: str) -> FileRows:
    rejects, scans = f"rejects_{name}", f"scans_{name}"
    # One statement, as each that names the file finds its dialect out anew; the rejects are known once it was read.
    # Where nothing is quoted, any quotes will do, and nine tenths of finding out are spared.
    quotes = ", quote = '\"', escape = '\"'" if _is_unquoted(path) else ""
    load = _LOAD_CSV.format(table=f"rows_{name}", rejects=rejects, scans=scans, quotes=quotes)
    connection.raw_sql(load, parameters=[str(path)])
    loaded = connection.table(f"rows_{name}")
    table = connection.table(rejects)
    broken = (
        table.group_by("line").agg(text=table["csv_line"].min(), why=table["error_message"].min()).order_by("line")
    ).to_pyarrow()
    header = 1  # line 1 is the header, so line 2 is row 1
    lines = tuple(MalformedLine(item["line"] - header, item["text"], item["why"]) for item in broken.to_pylist())
    return FileRows(_renumbered(loaded, [line.source_row for line in lines]), place, lines)


def _is_unquoted(path: Path) -> bool:
    """Whether a small file, read as it lies there, has no character that quotes a value or escapes another."""
    is_small = path.suffix.lower() != ".gz" and path.stat().st_size <= _CHUNK_BYTES
    return is_small and _QUOTING.isdisjoint(path.read_bytes())


def _renumbered(loaded: ibis.Table, missing: Sequence[int]) -> ibis.Table:
    """Number the rows as they stand in the file, where the rows `missing` were not loaded."""
    if not missing:
        return loaded
    row = loaded[c.SOURCE_ROW]
    # The j-th missing row m_j (from 0) pushes every loaded row from m_j - j on by one more.
    starts = [0, *(number - j for j, number in enumerate(missing))]
    shifts = ibis.memtable({"__start": starts, "__shift": list(range(len(starts)))})
    shifts = shifts.group_by("__start").agg(__shift=shifts["__shift"].max())
    joined = loaded.asof_join(shifts, row >= shifts["__start"])
    return joined.mutate((joined[c.SOURCE_ROW] + joined["__shift"]).name(c.SOURCE_ROW)).drop("__start", "__shift")


@ibis.udf.scalar.builtin(name="json_extract_string", signature=((dt.json, dt.string), dt.string))  # type: ignore[untyped-decorator]
def _json_text(value: object, path: str) -> str: ...  # type: ignore[empty-body]


def _objects(connection: Backend, path: Path, place: str, name: str) -> FileRows:
    lines = path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
    view = connection.read_json(
        str(path),
        table_name=f"file_{name}",
        format="newline_delimited" if lines else "auto",
        maximum_depth=1,  # each value stays as it is written, so that 007 and 7 are two ids
        sample_size=-1,  # an object far down may have a key that no earlier one has
    )
    texts = {column: _json_text(view[column], "$") for column in view.columns}
    rows = view.select(**texts, **{c.SOURCE_ROW: ibis.row_number() + 1})
    return FileRows(connection.create_table(f"rows_{name}", rows), place)


def _open(file: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(file)) if file.suffix.lower() == ".gz" else file.open("rb")


def _encoding_at_start(file: Path, *, whole: bool = False) -> str | None:
    """The encoding of a file whose start, or which as a whole, is not UTF-8; None where it is.

    DuckDB drops a header that is not UTF-8 without a word; what comes later it tells.
    """
    decoder = codecs.getincrementaldecoder(_UTF_8)()
    with _open(file) as stream:
        chunk = stream.read(_CHUNK_BYTES)
        for mark, encoding in _MARKS.items():
            if chunk.startswith(mark):
                return encoding
        while chunk:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                return _western(file)
            chunk = stream.read(_CHUNK_BYTES) if whole else b""
    return None


def _western(file: Path) -> str:
    """Windows-1252, where no line speaks against it.

    Raises:
        DataError: other lines are UTF-8 and not ASCII, or a byte has no meaning in Windows-1252.
    """
    first_other: int | None = None
    first_utf_8: int | None = None
    for number, line in _not_ascii(file):
        try:
            line.decode(_UTF_8)
        except UnicodeDecodeError:
            first_other = first_other or number
            try:
                line.decode(WESTERN)
            except UnicodeDecodeError:
                raise DataError(
                    f"{file}: line {number} is neither UTF-8 nor {WESTERN}; say the encoding of the file (encoding)"
                ) from None
        else:
            first_utf_8 = first_utf_8 or number
        if first_other and first_utf_8:
            raise DataError(
                f"{file}: line {first_utf_8} is UTF-8 and line {first_other} is not, a file must have one encoding; "
                "save it as UTF-8"
            )
    return WESTERN


def _not_ascii(file: Path) -> Iterator[tuple[int, bytes]]:
    with _open(file) as stream:
        yield from ((number, line) for number, line in enumerate(stream, 1) if not line.isascii())


def _told(file: Path, encoding: str, *, stated: bool) -> tuple[str, ...]:
    """What the report says of an encoding that was found out: an example, so that a person sees whether it is right."""
    if stated:
        return ()
    if encoding != WESTERN:
        return (f"{file.name} is read as {encoding}, as its first bytes say",)
    number, line = next(_not_ascii(file))
    text = line.decode(encoding).strip()
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    sentence = (
        f"{file.name} is not UTF-8 and is read as {encoding}: line {number} says {shown!r}; if that is wrong, say its "
        "encoding (encoding)"
    )
    return (sentence,)


@contextmanager
def _as_utf_8(file: Path, encoding: str) -> Iterator[Path]:
    """A copy in UTF-8 in a temporary folder, which leaves with the context.

    Raises:
        DataError: a byte has no meaning in the encoding.
    """
    with tempfile.TemporaryDirectory(prefix="offers-text-") as folder:
        copy = Path(folder) / file.name.lower().removesuffix(".gz")
        try:
            with (
                _open(file) as stream,
                codecs.getreader(encoding)(stream) as text,
                copy.open("w", encoding=_UTF_8, newline="") as out,
            ):
                shutil.copyfileobj(text, out, _CHUNK_BYTES)
        except UnicodeError as error:
            raise DataError(f"{file}: is not {encoding}: {error}; say another encoding or save it as UTF-8") from None
        yield copy
