"""Periods as whole numbers: consecutive periods have consecutive numbers, so that "the last one" is one less."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import ibis

Period = Literal["day", "week", "month", "quarter"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_SECONDS = 86_400
_MONDAY = 3  # 1970-01-01 was a Thursday: three days after a Monday


def period_number(times: ibis.Value, period: Period) -> ibis.ir.IntegerValue:
    """Return the number of the period that each time (naive UTC) lies in."""
    if period == "month":
        return (times.year() * 12 + times.month() - 1).cast("int64")
    if period == "quarter":
        return (times.year() * 4 + times.quarter() - 1).cast("int64")
    day = (times.truncate("D").epoch_seconds() / _DAY_SECONDS).floor().cast("int64")
    return day if period == "day" else ((day + _MONDAY) / 7).floor().cast("int64")


def number_of(moment: datetime, period: Period) -> int:
    """Return the number of the period that a moment (UTC) lies in.

    Example:
        >>> number_of(datetime(1970, 1, 5, tzinfo=UTC), "week"), number_of(datetime(1970, 2, 1, tzinfo=UTC), "day")
        (1, 31)
    """
    if period == "month":
        return moment.year * 12 + moment.month - 1
    if period == "quarter":
        return moment.year * 4 + (moment.month - 1) // 3
    day = (moment - _EPOCH).days
    return day if period == "day" else (day + _MONDAY) // 7


def start_of(number: int, period: Period) -> datetime:
    """Return the first moment of a period, UTC.

    Example:
        >>> start_of(2024 * 4 + 1, "quarter").isoformat()
        '2024-04-01T00:00:00+00:00'
    """
    if period == "month":
        return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
    if period == "quarter":
        return datetime(number // 4, number % 4 * 3 + 1, 1, tzinfo=UTC)
    return _EPOCH + timedelta(days=number if period == "day" else number * 7 - _MONDAY)


def label_of(number: int, period: Period) -> str:
    """Return what people call a period.

    Example:
        >>> label_of(2024 * 4 + 1, "quarter"), label_of(2024 * 12 + 4, "month")
        ('2024 Q2', '2024-05')
    """
    start = start_of(number, period)
    if period == "quarter":
        return f"{start.year} Q{number % 4 + 1}"
    if period == "month":
        return f"{start:%Y-%m}"
    if period == "week":
        year, week, _ = start.isocalendar()
        return f"{year} W{week:02d}"
    return f"{start:%Y-%m-%d}"
