"""How the KPIs are computed, and periods as consecutive whole numbers."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import ibis
from pydantic import Field, field_validator

from recsys.contracts.config import Config
from recsys.evaluation.kpis.definition import Dimension, Period
from recsys.evaluation.kpis.registry import REGISTRY

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


_RULE: Final = re.compile(r"top:(\d+(?:\.\d+)?)%")


class KpiConfig(Config):
    """Periods, segments, attribution and rules of the figures."""

    period: Period = "month"
    """Length of a period; months, because most accounts of a wholesaler order about once a month."""
    by: tuple[Dimension, ...] = ()
    """Segments that every KPI is computed by besides overall."""
    since: datetime | None = None
    """Figures start here (UTC); earlier orders still tell what an account had. Default: the first order."""
    window_days: int = Field(default=30, ge=1, le=3_650)
    """Days after its presentation within which a purchase counts for an offer; the models' own default horizon."""
    families_by: Literal["family", "category"] = "family"
    """The product column whose values are the families of organic cross-sell."""
    key_accounts: str = "top:5%"
    """Rule for key accounts where the accounts don't say: the accounts with the highest revenue before the quarter."""
    max_periods: int = Field(default=4_000, ge=1)
    """Most periods of a report; ten years of days fit. One order with a wrong year would make many thousands."""
    max_groups: int = Field(default=50, ge=1)
    """Most groups of a segment that are reported, the highest revenue first: a page of 20,000 products helps nobody."""
    moved: float = Field(default=0.05, gt=0)
    """A KPI moved if it changed by this share of its last value; 5 %, about what a busy month varies by."""
    targets: dict[str, float] = Field(default_factory=dict)
    """Target of a KPI by its name."""
    target_sources: dict[str, str] = Field(default_factory=dict)
    """Where a target comes from, by the KPI's name; shown beside it."""

    @field_validator("key_accounts")
    @classmethod
    def _known_rule(cls, rule: str) -> str:
        found = _RULE.fullmatch(rule)
        if found is None or not 0 < float(found[1]) <= 100:
            raise ValueError("must be a share of the accounts by prior revenue, as top:5%")
        return rule

    @field_validator("targets")
    @classmethod
    def _known_targets(cls, targets: dict[str, float]) -> dict[str, float]:
        strangers = [name for name in targets if name not in REGISTRY]
        if strangers:
            raise ValueError(f"no KPI is called {strangers[0]!r}; the names are {', '.join(REGISTRY)}")
        for name, value in targets.items():
            if REGISTRY[name].unit == "share" and not 0 <= value <= 1:
                raise ValueError(f"{name} is a share, must be from 0 to 1: is {value:g} meant as {value:g}%?")
        return targets

    @property
    def key_share(self) -> float:
        """The share of the accounts that the rule for key accounts names, in (0, 1]."""
        found = _RULE.fullmatch(self.key_accounts)
        assert found is not None
        return float(found[1]) / 100
