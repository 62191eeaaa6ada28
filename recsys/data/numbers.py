"""Reading numbers: the one place where a text becomes a number, or a number an id.

A text may have a currency mark (`€ 9,90`, `1.234,50 EUR`) and thousands set apart (`1,234.50`, `1 234,50`). Whether a
point or a comma comes before the decimals is found out for each column; where the column's values can be read both
ways the other columns of its source decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

import ibis
import ibis.expr.datatypes as dt

from recsys.errors import ConfigError, DataError

DecimalMark = Literal[".", ","]

_MARKS = (
    r"[a-z]{0,2}\p{Sc}|EUR|USD|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|TRY|BRL|MXN|ZAR|KRW|SGD|"
    r"HKD|TWD|kr\.?|zł|Kč|Ft|Rs\.?"
)
_LEADING = rf"(?i)^([-+]?)\s*(?:{_MARKS})\s*"
_TRAILING = rf"(?i)\s*(?:{_MARKS})$"
_GAPS = r"[\s'’\x{a0}\x{202f}]"
# What a number may look like, where the decimals come after a point and after a comma.
_SHAPES: Mapping[DecimalMark, str] = {
    ".": rf"^[-+]?(?:\d+|\d{{1,3}}(?:(?:,|{_GAPS})\d{{3}})+)(?:\.\d*)?$",
    ",": rf"^[-+]?(?:\d+|\d{{1,3}}(?:(?:\.|{_GAPS})\d{{3}})+)(?:,\d*)?$",
}
# What is a number in one of the two only.
_CERTAIN: Mapping[DecimalMark, str] = {
    ".": r"^[-+]?(?:[\d,]*\.(?:\d{1,2}|\d{4,})|0\.\d+|\d{1,3}(?:,\d{3}){2,}|\d{1,3}(?:,\d{3})+\.\d*)$",
    ",": r"^[-+]?(?:[\d.]*,(?:\d{1,2}|\d{4,})|0,\d+|\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?:\.\d{3})+,\d*)$",
}
_EITHER = r"^[-+]?[1-9]\d{0,2},\d{3}$"


def parse_decimal(given: str | None) -> DecimalMark | None:
    """Return the mark that an option names, None where it is left out.

    Raises:
        ConfigError: neither a point nor a comma.
    """
    if given is None or given in (".", ","):
        return given  # type: ignore[return-value]  # mypy does not narrow text to a literal
    raise ConfigError(f"decimal == {given!r}, must be . or ,; leave it out to have it found out")


def as_number(raw: ibis.Value, decimal: DecimalMark | None = None) -> ibis.Value:
    """Return a column as float64, null where it is not a finite number.

    Args:
        raw: the column.
        decimal: what stands before the decimals of texts that may have marks and thousands; None: texts are plain.
    """
    kind = raw.type()
    if isinstance(kind, dt.String):
        return _from_text(raw, decimal) if decimal is not None else _finite(raw.try_cast("float64"))
    if not isinstance(kind, dt.Numeric | dt.Boolean):
        return ibis.null("float64")
    number = raw.try_cast("float64")
    return _finite(number) if isinstance(kind, dt.Floating) else number


def as_text(raw: ibis.Value) -> ibis.Value:
    """Return a column of ids as text; whole numbers are written without a fraction, whatever their type."""
    kind = raw.type()
    if isinstance(kind, dt.String):
        return raw
    if isinstance(kind, dt.Floating):
        # pandas turns whole numbers with a gap into floats: 13085.0 is the id 13085.
        whole = raw.try_cast("int64")
        return ibis.ifelse(whole.cast("float64") == raw, whole.cast("string"), raw.cast("string"))
    return raw.cast("string")


def detect_decimals(
    table: ibis.Table, columns: Sequence[str], location: str, *, chosen: DecimalMark | None = None
) -> dict[str, DecimalMark]:
    """Return the mark before the decimals for each column of numbers that needs one; others are plain numbers.

    Args:
        table: the source.
        columns: those to look at.
        location: of the source, for errors.
        chosen: the mark as somebody says it is; None: found out.

    Raises:
        DataError: amounts of a column are in several currencies, or can be read both ways and nothing tells how.
    """
    texts = [name for name in dict.fromkeys(columns) if isinstance(table[name].type(), dt.String)]
    return _settle(_evidence(table, texts if chosen == "," else _with_odd_texts(table, texts)), location, chosen)


def detect_decimals_apart(table: ibis.Table, columns: Sequence[str]) -> dict[str, DecimalMark]:
    """Return the mark before the decimals for each column that settles it by itself; see `detect_decimals`."""
    texts = [name for name in columns if isinstance(table[name].type(), dt.String)]
    found: dict[str, DecimalMark] = {}
    for name, seen in _evidence(table, _with_odd_texts(table, texts)).items():
        with suppress(DataError):
            found |= _settle({name: seen}, "", None)
    return found


class _Evidence(NamedTuple):
    """What the texts of a column say about its decimals: how many settle it, one that does not, and the currencies."""

    commas: int
    points: int
    example: str | None
    marks: tuple[str, ...]


def _settle(evidence: Mapping[str, _Evidence], location: str, chosen: DecimalMark | None) -> dict[str, DecimalMark]:
    found: dict[str, DecimalMark] = dict.fromkeys(evidence, chosen or ".")
    for name, seen in evidence.items():
        if len(seen.marks) > 1:
            raise DataError(
                f"{location}: {name} has amounts in {' and in '.join(seen.marks)}, must be in one currency; convert "
                "them, or write the currency into a column of its own and choose one (currency)"
            )
    if chosen is not None:
        return found
    commas, points = (sum(getattr(seen, of) for seen in evidence.values()) for of in ("commas", "points"))
    for name, seen in evidence.items():
        if seen.commas != seen.points:
            found[name] = "," if seen.commas > seen.points else "."
        elif seen.example is not None and commas == points:
            raise DataError(
                f"{location}: {name} == {seen.example!r} can be read as {seen.example.replace(',', '')} or as "
                f"{seen.example.replace(',', '.')}, must be read in one way only; say decimal == ',' or '.'"
            )
        elif seen.example is not None:
            found[name] = "," if commas > points else "."
    return found


def _with_odd_texts(table: ibis.Table, texts: Sequence[str]) -> list[str]:
    """The columns with a text that is no number as it stands: clean data are looked at only once."""
    if not texts:
        return []
    odd = {
        f"odd_{place}": (table[name].notnull() & table[name].try_cast("float64").isnull()).any()
        for place, name in enumerate(texts)
    }
    item = table.agg(**odd).to_pyarrow().to_pylist()[0]
    return [name for place, name in enumerate(texts) if item[f"odd_{place}"]]


def _evidence(table: ibis.Table, names: Sequence[str]) -> dict[str, _Evidence]:
    if not names:
        return {}
    looks: dict[str, ibis.Value] = {}
    for place, name in enumerate(names):
        raw = table[name].strip()
        bare = _without_mark(raw).re_replace(_GAPS, "")
        mark = raw.re_extract(f"({_LEADING})", 0).re_extract(f"(?i)({_MARKS})", 0).nullif("")
        mark = ibis.coalesce(mark, raw.re_extract(f"({_TRAILING})", 0).strip().nullif("")).upper()
        looks[f"bare_{place}"] = bare
        looks[f"mark_{place}"] = ibis.ifelse(bare.re_search(r"\d"), mark, ibis.null("string"))
    seen = table.select(**looks)
    found: dict[str, ibis.Value] = {}
    for place in range(len(names)):
        bare = seen[f"bare_{place}"]
        found[f"commas_{place}"] = bare.re_search(_CERTAIN[","]).sum()
        found[f"points_{place}"] = bare.re_search(_CERTAIN["."]).sum()
        found[f"example_{place}"] = bare.min(where=bare.re_search(_EITHER))
        found[f"marks_{place}"] = seen[f"mark_{place}"].collect(distinct=True)
    item = seen.agg(**found).to_pyarrow().to_pylist()[0]
    return {
        name: _Evidence(
            item[f"commas_{place}"] or 0,
            item[f"points_{place}"] or 0,
            item[f"example_{place}"],
            tuple(sorted(mark for mark in item[f"marks_{place}"] or () if mark)),
        )
        for place, name in enumerate(names)
    }


def _from_text(raw: ibis.Value, decimal: DecimalMark) -> ibis.Value:
    bare = _without_mark(raw.strip())
    grouping = "," if decimal == "." else r"\."
    digits = bare.re_replace(f"(?:{grouping}|{_GAPS})", "").replace(",", ".")
    shaped = ibis.ifelse(bare.re_search(_SHAPES[decimal]), digits, ibis.null("string")).try_cast("float64")
    if decimal == ".":
        return ibis.coalesce(_finite(raw.try_cast("float64")), shaped)  # the second is worked out where it is needed
    return shaped


def _without_mark(text: ibis.Value) -> ibis.Value:
    return text.re_replace(_LEADING, r"\1").re_replace(_TRAILING, "")


def _finite(number: ibis.Value) -> ibis.Value:
    return ibis.ifelse(number.isnan() | number.isinf(), ibis.null("float64"), number)
