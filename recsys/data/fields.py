"""One column of a source read as the type of its contract, with what could not be read."""

from __future__ import annotations

from typing import NamedTuple

import ibis
import ibis.expr.datatypes as dt

from recsys.contracts.tables import Column
from recsys.data.times import ISO, as_time

_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")


class Field(NamedTuple):
    """A column read as its type.

    Attributes:
        value: the typed value, null where it is missing or can't be read.
        missing: the source has nothing there.
        unreadable: the source has something there that is not of the type.
    """

    value: ibis.Value
    missing: ibis.ir.BooleanValue
    unreadable: ibis.ir.BooleanValue


def read_field(raw: ibis.Value, column: Column, time_format: str = ISO) -> Field:
    """Return a source's column read as the type of `column`; times in `time_format`."""
    if isinstance(raw.type(), dt.String):
        raw = raw.strip().nullif("")
    value = _typed(raw, column.dtype, time_format)
    return Field(value.name(column.name), raw.isnull(), raw.notnull() & value.isnull())


def _typed(raw: ibis.Value, dtype: str, time_format: str) -> ibis.Value:
    if dtype == "timestamp":
        return as_time(raw, time_format)
    if dtype == "boolean":
        return _as_boolean(raw)
    if dtype == "float64":
        return _as_number(raw)
    return _as_text(raw)


def _as_number(raw: ibis.Value) -> ibis.Value:
    kind = raw.type()
    if not isinstance(kind, dt.String | dt.Numeric | dt.Boolean):
        return ibis.null("float64")
    number = raw.try_cast("float64")
    if isinstance(kind, dt.Integer | dt.Decimal | dt.Boolean):
        return number
    return ibis.ifelse(number.isnan() | number.isinf(), ibis.null("float64"), number)


def _as_text(raw: ibis.Value) -> ibis.Value:
    kind = raw.type()
    if isinstance(kind, dt.String):
        return raw
    if isinstance(kind, dt.Floating):
        # pandas turns whole numbers with a gap into floats: 13085.0 is the id 13085.
        whole = raw.try_cast("int64")
        return ibis.ifelse(whole.cast("float64") == raw, whole.cast("string"), raw.cast("string"))
    return raw.cast("string")


def _as_boolean(raw: ibis.Value) -> ibis.Value:
    if isinstance(raw.type(), dt.Boolean):
        return raw
    text = _as_text(raw).lower()
    return ibis.cases((text.isin(_TRUE), True), (text.isin(_FALSE), False), else_=ibis.null("boolean"))
