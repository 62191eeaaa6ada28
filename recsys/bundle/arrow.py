"""A model's tables as Arrow files: read by any tool, mapped without a copy, the same bytes for the same table."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from recsys.errors import BundleCorruptError, BundleVersionError
from recsys.offer_model.column_rules import StoredColumn, columns_of
from recsys.offer_model.tables import OfferModel
from recsys.offer_model.utf8_column import Utf8Column

_T = TypeVar("_T")


def write_table(table: object, path: Path) -> None:
    """Write a table, a frozen dataclass of equally long arrays and strings, uncompressed and in one batch."""
    columns = {field.name: _to_arrow(getattr(table, field.name)) for field in fields(table)}  # type: ignore[arg-type]
    batch = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_table(batch, max_chunksize=max(batch.num_rows, 1))


def lifetime_value_table(model: OfferModel) -> pa.Table:
    """Return `account_id lifetime_value lifetime_value_low lifetime_value_high`, money; null without an order.

    Raises:
        BundleVersionError: the model was trained by a release that knew no lifetime values.
    """
    if model.facts.lifetime_value is None:
        raise BundleVersionError("the model holds no lifetime values: an earlier release trained it; train again")
    accounts = model.accounts
    names = ("lifetime_value", "lifetime_value_low", "lifetime_value_high")
    values = {name: pa.array(getattr(accounts, name), from_pandas=True) for name in names}
    return pa.table({"account_id": _to_arrow(accounts.ids)} | values)


def read_arrow_table(kind: type[_T], path: Path) -> _T:
    """Return the table of class `kind` that `path` holds, its arrays mapped from the file.

    Raises:
        BundleCorruptError: the file is no Arrow file, its columns are not those of `kind`, or they can't be mapped. It
            may lack columns that were added later.
    """
    try:
        # Opened, the file stays mapped for as long as an array of it lives.
        with pa.memory_map(str(path)) as file:
            mapped = file.read_buffer()
            data = pa.ipc.open_file(mapped).read_all()
        for column in data.columns:
            column.validate()  # Arrow's reader believes the lengths that the file states
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BundleCorruptError(f"{path}: not a readable Arrow file ({error}); write the bundle again") from None
    found = set(data.column_names)
    expected = [column.name for column in columns_of(kind) if column.name in found or not column.is_optional]
    if data.column_names != expected:
        raise BundleCorruptError(
            f"{path}: columns {data.column_names}, must be {expected}; write the bundle again with this version"
        )
    values = {
        column.name: _from_arrow(data.column(column.name), column, mapped, f"{path}: {column.name}")
        if column.name in found
        else column.empty(data.num_rows)
        for column in columns_of(kind)
    }
    return kind(**values)


def _to_arrow(values: Any) -> pa.Array:  # noqa: ANN401
    if isinstance(values, Utf8Column):
        buffers = [None, pa.py_buffer(values.offsets), pa.py_buffer(values.data)]
        return pa.Array.from_buffers(pa.large_utf8(), len(values), buffers)
    # Arrow packs booleans into bits, which can't be mapped as an array.
    return pa.array(np.ascontiguousarray(values).view(_stored(values.dtype)))


def _from_arrow(chunked: pa.ChunkedArray, column: StoredColumn, mapped: pa.Buffer, where: str) -> Any:  # noqa: ANN401
    chunks = chunked.chunks
    if len(chunks) > 1 or chunked.null_count:
        raise BundleCorruptError(f"{where}: {len(chunks)} chunks, {chunked.null_count} nulls, must be 1 and 0")
    wanted = pa.large_utf8() if column.dtype is None else pa.from_numpy_dtype(_stored(column.dtype))
    if chunked.type != wanted:
        raise BundleCorruptError(f"{where}: type {chunked.type}, must be {wanted}; write the bundle again")
    if not len(chunked):
        return Utf8Column.of([]) if column.dtype is None else np.zeros(0, dtype=column.dtype)
    if not all(_lies_in(buffer, mapped) for buffer in chunks[0].buffers()):
        raise BundleCorruptError(
            f"{where}: compressed, or not aligned, must be as it is mapped; write the bundle again"
        )
    if column.dtype is None:
        return _strings(chunks[0])
    return chunks[0].to_numpy(zero_copy_only=True).view(column.dtype)


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype


def _lies_in(buffer: pa.Buffer | None, mapped: pa.Buffer) -> bool:
    """Whether a buffer is a piece of the file; one that had to be decompressed or moved is memory of its own."""
    if buffer is None or not buffer.size:
        return True
    return bool(mapped.address <= buffer.address and buffer.address + buffer.size <= mapped.address + mapped.size)


def _strings(array: pa.Array) -> Utf8Column:
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64, count=array.offset + len(array) + 1)[array.offset :]
    return Utf8Column(starts, np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8))
