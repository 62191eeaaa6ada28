"""What must hold of a column of a model: each rule stands at the column that it is about, as its annotation.

The compiled ranking reads columns by address and looks no bounds up: whatever these rules let through must lead it to
no row that is not there and to no number that it can't compare. All of them look at whole arrays at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, Protocol, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.contracts.config import validation_sentences
from recsys.errors import BundleCorruptError
from recsys.offer_model.utf8_column import Utf8Column

Array = NDArray[Any]


class ColumnRule(Protocol):
    """What must hold of one column; the ranges of rows are right when it is asked."""

    def fault(self, column: Any, model: object) -> str | None:  # noqa: ANN401 - an array or `Utf8Column`
        """Return what is wrong and the rule that it breaks, None where nothing is."""


@dataclass(frozen=True)
class AddedLater:
    """Bundles of earlier releases lack the column; it then holds zeros, or empty strings."""


class StoredColumn(NamedTuple):
    """A column as its table declares it.

    Attributes:
        dtype: of its array; None for `Utf8Column`.
        rules: what must hold of it.
        is_optional: whether a file may lack it, see `AddedLater`.
    """

    name: str
    dtype: np.dtype[Any] | None
    rules: tuple[ColumnRule, ...]
    is_optional: bool = False

    def empty(self, n_rows: int) -> Array | Utf8Column:
        """Return what stands for the column where a file lacks it."""
        return Utf8Column.of([None] * n_rows) if self.dtype is None else np.zeros(n_rows, self.dtype)


@dataclass(frozen=True)
class CountOf:
    """How many rows of another table belong to each row: one run after the other, which together are all of them.

    Attributes:
        table: whose rows they are.
        owner: the table of this column.
        prefix: `{prefix}_start` and `{prefix}_count` are the columns; the table's name where it is left out.
    """

    table: str
    owner: str
    prefix: str = ""

    @property
    def start(self) -> str:
        """The name of the column of starts."""
        return f"{self.prefix or self.table}_start"

    def fault(self, column: Array, model: object) -> str | None:
        """Return whether the runs leave a row out, overlap or leave the table."""
        if not column.size:
            n_rows = n_rows_of(model, self.table)
            return f"there is no row, but {self.table} has {n_rows}" if n_rows else None
        if column.min() < 0:
            return f"{column.min()}, must be 0 or more"
        counts = column.astype(np.int64)  # at most 2 ** 31 each: their sum stays far below 2 ** 63
        ends = np.cumsum(counts)
        starts, n_rows = getattr(getattr(model, self.owner), self.start), n_rows_of(model, self.table)
        wrong = (starts != ends - counts).nonzero()[0]
        if len(wrong):
            row = int(wrong[0])
            end = ends[row] - counts[row]
            return f"{self.start} is {starts[row]} in row {row}, must be {end}, where the rows before it end"
        return None if ends[-1] == n_rows else f"the rows end at {ends[-1]}, must end with {self.table} at {n_rows}"


@dataclass(frozen=True)
class RowOf:
    """A row of another table; -1 for none where that is allowed."""

    table: str
    or_none: bool = False

    def fault(self, column: Array, model: object) -> str | None:
        """Return whether a row is not there."""
        low, high = -1 if self.or_none else 0, n_rows_of(model, self.table)
        if not column.size or (column.min() >= low and column.max() < high):
            return None
        return f"rows from {column.min()} to {column.max()}, must be in [{low}, {high})"


@dataclass(frozen=True)
class Within:
    """Numbers from `low` to `high`; NaN for what is not known, where that is allowed."""

    low: float
    high: float
    or_unknown: bool = False

    def fault(self, column: Array, _model: object) -> str | None:
        """Return whether a number is outside or is none."""
        known = column[~np.isnan(column)] if self.or_unknown else column
        # Of an array with NaN both are NaN, which is in no interval.
        if not known.size or (known.min() >= self.low and known.max() <= self.high):
            return None
        unknown = " or NaN" if self.or_unknown else ""
        return f"numbers from {known.min()} to {known.max()}, must be in [{self.low}, {self.high}]{unknown}"


@dataclass(frozen=True)
class Increasing:
    """Each value is larger than the one before it, or `as_large`; numbers by `step` at the least.

    Where the value of another column changes, `within` (as `cart_curve.lines`), it begins anew.
    """

    as_large: bool = False
    step: float = 0.0
    within: str = ""

    def fault(self, column: Array | Utf8Column, model: object) -> str | None:
        """Return which value is too small."""
        if isinstance(column, Utf8Column):
            texts = _as_arrow(column)
            order = pc.greater_equal(texts[:-1], texts[1:]) if len(texts) > 1 else pa.array([], pa.bool_())
            wrong = order.to_numpy(zero_copy_only=False).nonzero()[0]
        else:
            gaps = np.diff(column)
            is_wrong = ~((gaps >= self.step) & ((gaps > 0) | self.as_large))
            if self.within:
                is_wrong &= np.diff(attrgetter(self.within)(model)) == 0
            wrong = is_wrong.nonzero()[0]
        if not len(wrong):
            return None
        row = int(wrong[0])
        least = "no smaller than" if self.as_large else "larger than"
        one, other = column[row], column[row + 1]
        shown = (repr(one), repr(other)) if isinstance(one, str) else (str(one), str(other))
        return f"{shown[1]} follows {shown[0]} in row {row + 1}, must be {least} it"


@dataclass(frozen=True)
class IncreasingWithin:
    """Each value is larger than the one before it among the rows that belong to one row of `owner`."""

    owner: str
    prefix: str

    def fault(self, column: Array, model: object) -> str | None:
        """Return which value is too small."""
        falls = (column[1:] <= column[:-1]).nonzero()[0] + 1
        row = _first_inside(falls, getattr(getattr(model, self.owner), f"{self.prefix}_start"))
        if row is None:
            return None
        return f"{column[row]} follows {column[row - 1]} in row {row}, must be larger within one row of {self.owner}"


@dataclass(frozen=True)
class NoneFirst:
    """Among the rows that belong to one row of `owner`, those that have none (-1) stand first."""

    owner: str
    prefix: str

    def fault(self, column: Array, model: object) -> str | None:
        """Return which row stands too late."""
        falls = ((column[1:] < 0) & (column[:-1] >= 0)).nonzero()[0] + 1
        row = _first_inside(falls, getattr(getattr(model, self.owner), f"{self.prefix}_start"))
        return None if row is None else f"-1 in row {row}, must stand before the others within one row of {self.owner}"


@dataclass(frozen=True)
class AtMostOwners:
    """A number is at most that of the row of `owner` that it belongs to."""

    owner: str
    prefix: str
    name: str

    def fault(self, column: Array, model: object) -> str | None:
        """Return which number is too large."""
        owner = getattr(model, self.owner)
        most = np.repeat(getattr(owner, self.name), getattr(owner, f"{self.prefix}_count"))
        wrong = (column > most).nonzero()[0]
        if not len(wrong):
            return None
        row = int(wrong[0])
        return f"{column[row]} in row {row}, must be at most {most[row]}, the {self.name} of its row of {self.owner}"


@dataclass(frozen=True)
class NotEmpty:
    """There is a row."""

    def fault(self, column: Array | Utf8Column, _model: object) -> str | None:
        """Return whether there is none."""
        return None if len(column) else "no row, must have one or more"


class _ProductJson(BaseModel):
    """What a text of `ProductJson` may hold."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: str | None = None
    image_url: str | None = None
    names: dict[str, str] = {}
    attributes: dict[str, str | float | int | bool] = {}


@dataclass(frozen=True)
class ProductJson:
    """Each text is empty, or a JSON object of addresses, names and attributes."""

    def fault(self, column: Utf8Column, _model: object) -> str | None:
        """Return which text is none."""
        for row, text in enumerate(column if len(column.data) else ()):
            try:
                if text:
                    _ProductJson.model_validate_json(text)
            except ValidationError as error:
                return f"row {row}: {validation_sentences(error)}"
        return None


def columns_of(kind: type) -> tuple[StoredColumn, ...]:
    """Return the columns that the class of a table declares, in order."""
    return _columns_of(kind)


def check_tables(model: object) -> None:
    """Refuse a model of which a table breaks a rule of one of its columns.

    Raises:
        BundleCorruptError: names the table and column, what was found and the rule.
    """
    for name, table in _tables(model):
        _check_shapes(name, table)
    declared = [
        (f"{name}.{column.name}", getattr(table, column.name), rule)
        for name, table in _tables(model)
        for column in columns_of(type(table))
        for rule in column.rules
    ]
    # The other rules look at ranges of rows, so that those come first.
    for where, column, rule in sorted(declared, key=lambda item: not isinstance(item[2], CountOf)):
        _refuse(where, rule.fault(column, model))


def n_rows_of(model: object, table: str) -> int:
    """Return how many rows a table has."""
    columns = getattr(model, table)
    return len(getattr(columns, fields(columns)[0].name))


def _tables(model: object) -> Iterator[tuple[str, object]]:
    return ((item.name, getattr(model, item.name)) for item in fields(model) if item.name != "facts")  # type: ignore[arg-type]


@cache
def _columns_of(kind: type) -> tuple[StoredColumn, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_column(item.name, hints[item.name]) for item in fields(kind))


def _column(name: str, hint: Any) -> StoredColumn:  # noqa: ANN401 - whatever stands in a class
    plain, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    dtype = None if plain is Utf8Column else np.dtype(get_args(get_args(plain)[-1])[0])
    rules = tuple(note for note in notes if not isinstance(note, AddedLater))
    return StoredColumn(name, dtype, rules, len(rules) < len(notes))


def _check_shapes(name: str, table: object) -> None:
    lengths = {}
    for column in columns_of(type(table)):
        values = getattr(table, column.name)
        where = f"{name}.{column.name}"
        if column.dtype is None:
            _refuse(where, _text_fault(values))
        else:
            _refuse(where, _array_fault(values, column.dtype))
        lengths[column.name] = len(values)
    if len(set(lengths.values())) > 1:
        raise BundleCorruptError(f"table {name!r}: columns of lengths {lengths}, must be equal; write the bundle again")


def _array_fault(values: Array, dtype: np.dtype[Any]) -> str | None:
    if values.dtype != dtype or values.ndim != 1:
        return f"type {values.dtype} in {values.ndim} dimensions, must be {dtype} in 1"
    if not values.flags.aligned:
        return "it stands at an odd address, must be aligned"
    if dtype == np.bool_ and values.size and values.view(np.uint8).max() > 1:
        return f"a flag of {values.view(np.uint8).max()}, must be 0 or 1"
    return None


def _text_fault(texts: Utf8Column) -> str | None:
    if not len(texts.offsets):
        return "no offsets, must be one more than strings"
    try:
        _as_arrow(texts).validate(full=True)
    except (pa.ArrowException, ValueError) as error:
        return f"{error}, must be UTF-8 behind offsets that never fall"
    return None


def _as_arrow(texts: Utf8Column) -> pa.Array:
    buffers = [None, pa.py_buffer(texts.offsets), pa.py_buffer(texts.data)]
    return pa.Array.from_buffers(pa.large_utf8(), len(texts), buffers)


def _first_inside(rows: NDArray[np.intp], starts: NDArray[np.int64]) -> int | None:
    """Return the first of `rows` that is not the first of its owner."""
    inside = rows[~np.isin(rows, starts)]
    return int(inside[0]) if len(inside) else None


def _refuse(where: str, fault: str | None) -> None:
    if fault is not None:
        raise BundleCorruptError(f"{where}: {fault}; write the bundle again")
