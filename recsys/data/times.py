"""Reading times, the one place where a text becomes one: ISO 8601 by itself, others by the format that reads the most.

All times become UTC without a zone mark; a time that says its zone is converted, one that does not is taken as UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final, Literal

import ibis
import ibis.expr.datatypes as dt

from recsys.errors import ConfigError, DataError

ISO = "iso"
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_DAYS = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%Y%m%d",
    "%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y",
)  # fmt: skip
_UNITS: Final[Mapping[str, Literal["s", "ms", "us"]]] = {"epoch_s": "s", "epoch_ms": "ms", "epoch_us": "us"}
_UNITS_A_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6}
_EPOCH_SECONDS: Final = (631_152_000, 4_102_444_800)  # 1990 to 2099, so that the three units can't be mistaken
_FIRST_YEAR: Final = datetime(1000, 1, 1)  # noqa: DTZ001
FORMATS = (*(day + clock for day in _DAYS for clock in _CLOCKS), *_UNITS)
"""How times other than ISO 8601 may be written: strptime's formats, and the units counted since 1970."""

_SAMPLE_ROWS = 20_000


def parse_moment(given: str | date) -> datetime:
    """Return the moment that a text, a day or a time names, in UTC; without a zone it is UTC.

    Raises:
        ConfigError: not a date and not a time.

    Example:
        >>> parse_moment("2011-06-01").isoformat()
        '2011-06-01T00:00:00+00:00'
    """
    try:
        return as_utc(datetime.fromisoformat(given.strip() if isinstance(given, str) else given.isoformat()))
    except (AttributeError, ValueError):
        raise ConfigError(f"{given!r} is not a moment, must be as 2011-06-01 or 2011-06-01T13:45:00+02:00") from None


def as_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; without a zone it is UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def naive_utc(moment: datetime) -> ibis.ir.TimestampScalar:
    """Return a moment as the columns of times have it: UTC without a zone mark."""
    return ibis.literal(as_utc(moment).replace(tzinfo=None), type="timestamp(6)")


def as_time(values: ibis.Value, time_format: str = ISO) -> ibis.Value:
    """Return a column as `timestamp` in UTC, null where it can't be read."""
    kind = values.type()
    if isinstance(kind, dt.Timestamp | dt.Date):
        return values.cast("timestamp('UTC')").cast("timestamp(6)")
    if isinstance(kind, dt.String) and time_format == ISO:
        return values.strip().try_cast("timestamp('UTC')").cast("timestamp(6)")
    if time_format in _UNITS and isinstance(kind, dt.String | dt.Integer | dt.Floating):
        return _since_1970(values, _UNITS[time_format])
    if isinstance(kind, dt.String):
        return _strptime(values, time_format)
    if isinstance(kind, dt.Integer) and time_format != ISO:
        return _strptime(values.cast("string"), time_format)
    never = ibis.null("timestamp(6)")
    return ibis.ifelse(values.isnull(), never, never)


def _since_1970(values: ibis.Value, unit: Literal["s", "ms", "us"]) -> ibis.Value:
    counted = values.try_cast("float64")
    low, high = (bound * _UNITS_A_SECOND[unit] for bound in _EPOCH_SECONDS)
    inside = ibis.ifelse(counted.between(low, high), counted, ibis.null("float64"))
    milliseconds = (inside * (_UNITS_A_SECOND["ms"] / _UNITS_A_SECOND[unit])).cast("int64")
    return milliseconds.as_timestamp("ms").cast("timestamp(6)")


def _strptime(values: ibis.Value, time_format: str) -> ibis.Value:
    text = values.strip()
    if "%p" in time_format:  # 8:26PM and 8:26 p.m. are 8:26 PM
        text = text.re_replace(r"(?i)\s*([ap])\.?m\.?$", r" \1m")
    return _of_our_age(_try_strptime(text, time_format).cast("timestamp(6)"))


def _of_our_age(moments: ibis.Value) -> ibis.Value:
    """The year of 31/01/24 is not 24 or 31, which is how `%Y` and ISO 8601 would read it."""
    return ibis.ifelse(moments >= ibis.literal(_FIRST_YEAR, type="timestamp(6)"), moments, ibis.null("timestamp(6)"))


def detect_time_format(table: ibis.Table, column: str) -> str:
    """Return how a column writes its times: "iso" where that reads half of them, else the format that reads most.

    Raises:
        DataError: two formats read equally many values and disagree about what they say.
    """
    if not isinstance(table[column].type(), dt.String | dt.Integer | dt.Floating):
        return ISO
    values = table.filter(table[column].notnull()).select(column)
    iso = _of_our_age(as_time(values[column]))
    counted = values.agg(total=values.count(), iso=iso.count()).to_pyarrow().to_pylist()[0]
    if 2 * counted["iso"] >= counted["total"]:
        return ISO
    # Two dozen formats over ten million values take a while: the first values choose, all of them break a tie.
    likely = _most_readable(values.limit(_SAMPLE_ROWS), column, FORMATS)
    winners = _that_differ(values, column, _most_readable(values, column, likely)) if len(likely) > 1 else likely
    if len(winners) > 1:
        example = values.select(value=values[column].cast("string")).limit(1).to_pyarrow()["value"][0]
        raise DataError(
            f"{column} == '{example}' can be read as {' or as '.join(winners)}, must be read in one way only; "
            "name the format (time_format) or write the times as 2011-06-01 13:45:00"
        )
    return winners[0] if winners else ISO


def _most_readable(values: ibis.Table, column: str, formats: Sequence[str]) -> list[str]:
    """The formats that read the most values; none where no format reads any."""
    counts = values.agg(**{form: as_time(values[column], form).count() for form in formats}).to_pyarrow().to_pylist()[0]
    most = max(counts.values())
    return [form for form in formats if counts[form] == most] if most else []


def _that_differ(values: ibis.Table, column: str, winners: Sequence[str]) -> list[str]:
    """The first format, and those that read a value otherwise: a short and a long month name agree on May."""
    first, *others = winners
    reading = as_time(values[column], first)
    differ = {form: (as_time(values[column], form) != reading).any() for form in others}
    found = values.agg(**differ).to_pyarrow().to_pylist()[0] if differ else {}
    return [first, *(form for form in others if found[form])]


@ibis.udf.scalar.builtin(name="try_strptime", signature=((dt.string, dt.string), dt.timestamp))  # type: ignore[untyped-decorator]
def _try_strptime(text: str, time_format: str) -> object: ...
