"""A model's tables as Arrow files: read by any tool, mapped without a copy, the same bytes for the same table."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
import pyarrow as pa

from recsys.errors import BundleCorruptError
from recsys.ranking.strings import Strings

T = TypeVar("T")


def write_table(table: object, path: Path) -> None:
    """Write a table, a frozen dataclass of equally long arrays and strings, uncompressed and in one batch."""
    columns = {field.name: _to_arrow(getattr(table, field.name)) for field in fields(table)}  # type: ignore[arg-type]
    batch = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_table(batch, max_chunksize=max(batch.num_rows, 1))


def read_table(kind: type[T], path: Path) -> T:
    """Return the table of class `kind` that `path` holds, its arrays mapped from the file.

    Raises:
        BundleCorruptError: the file is no Arrow file, or its columns are not those of `kind`.
    """
    try:
        # Opened, the file stays mapped for as long as an array of it lives.
        data = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, pa.ArrowIOError, OSError) as error:
        raise BundleCorruptError(f"{path}: not a readable Arrow file ({error}); write the bundle again") from None
    expected = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if data.column_names != expected:
        raise BundleCorruptError(
            f"{path}: columns {data.column_names}, must be {expected}; write the bundle again with this version"
        )
    hints = get_type_hints(kind)
    return kind(**{name: _from_arrow(data.column(name), hints[name], f"{path}: {name}") for name in expected})


def _to_arrow(values: Any) -> pa.Array:  # noqa: ANN401
    if isinstance(values, Strings):
        buffers = [None, pa.py_buffer(values.offsets), pa.py_buffer(values.data)]
        return pa.Array.from_buffers(pa.large_utf8(), len(values), buffers)
    if values.dtype == np.bool_:
        values = values.view(np.uint8)  # Arrow packs booleans into bits, which can't be mapped as an array
    return pa.array(np.ascontiguousarray(values))


def _from_arrow(column: pa.ChunkedArray, hint: object, where: str) -> Any:  # noqa: ANN401
    chunks = column.chunks
    if len(chunks) > 1 or column.null_count:
        raise BundleCorruptError(f"{where}: {len(chunks)} chunks, {column.null_count} nulls, must be 1 and 0")
    array = chunks[0] if chunks else pa.array([], column.type)
    if hint is Strings:
        return _strings(array, where)
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        raise BundleCorruptError(f"{where}: type {array.type}, must be a number; write the bundle again")
    values = array.to_numpy(zero_copy_only=True)
    wanted = hint.__args__[-1].__args__[0]  # type: ignore[attr-defined]
    if wanted is np.bool_:
        return values.view(np.bool_)
    if values.dtype != np.dtype(wanted):
        raise BundleCorruptError(f"{where}: type {values.dtype}, must be {np.dtype(wanted)}; write the bundle again")
    return values


def _strings(array: pa.Array, where: str) -> Strings:
    if array.type != pa.large_utf8():
        raise BundleCorruptError(f"{where}: type {array.type}, must be large_string; write the bundle again")
    if not len(array):
        return Strings.of([])
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return Strings(starts, np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8))
