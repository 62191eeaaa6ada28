"""Reading times: ISO 8601 by itself, other ways of writing them by the format that reads the most.

All times become UTC without a zone mark; a time that says its zone is converted, one that does not is taken as UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

import ibis
import ibis.expr.datatypes as dt

from recsys.errors import ConfigError, DataError

ISO = "iso"
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%Y%m%d")
FORMATS = tuple(day + clock for day in _DAYS for clock in _CLOCKS)
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
    if isinstance(kind, dt.String):
        return _try_strptime(values.strip(), time_format).cast("timestamp(6)")
    if isinstance(kind, dt.Integer) and time_format != ISO:
        return _try_strptime(values.cast("string"), time_format).cast("timestamp(6)")
    never = ibis.null("timestamp(6)")
    return ibis.ifelse(values.isnull(), never, never)


def detect_time_format(table: ibis.Table, column: str) -> str:
    """Return how a column writes its times: "iso" where that reads half of them, else the format that reads most.

    Raises:
        DataError: two formats read equally many values and disagree about what they say.
    """
    if not isinstance(table[column].type(), dt.String | dt.Integer):
        return ISO
    values = table.filter(table[column].notnull()).select(column)
    counted = values.agg(total=values.count(), iso=as_time(values[column]).count()).to_pyarrow().to_pylist()[0]
    if 2 * counted["iso"] >= counted["total"]:
        return ISO
    # Two dozen formats over ten million values take a while: the first values choose, all of them break a tie.
    likely = _most_readable(values.limit(_SAMPLE_ROWS), column, FORMATS)
    winners = _most_readable(values, column, likely) if len(likely) > 1 else likely
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


@ibis.udf.scalar.builtin(name="try_strptime", signature=((dt.string, dt.string), dt.timestamp))  # type: ignore[untyped-decorator]
def _try_strptime(text: str, time_format: str) -> object: ...
