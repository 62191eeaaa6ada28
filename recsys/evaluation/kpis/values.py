"""What a report holds, as typed values: figures, their changes, what is missing, randomised effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.evaluation.kpis.definition import Basis, Dimension


@dataclass(frozen=True, slots=True)
class SecondaryFigure:
    """A second reading that is printed beside a figure.

    Attributes:
        label: what it is.
        numerator: above the line.
        denominator: below it.
        value: None where nothing is below the line.
    """

    label: str
    numerator: float
    denominator: float
    value: float | None


@dataclass(frozen=True, slots=True)
class Figure:
    """A formula worked out.

    Attributes:
        numerator: above the line (for the AOV increase: AOV with).
        denominator: below it (for the AOV increase: AOV without).
        value: None where nothing is below the line.
        beside: further readings.
    """

    numerator: float
    denominator: float
    value: float | None
    beside: tuple[SecondaryFigure, ...]


@dataclass(frozen=True, slots=True)
class KpiValue:
    """One KPI for one segment and period.

    Attributes:
        kpi: its name in the registry.
        basis: what it was read off.
        dimension: of the segment; None overall.
        group: the segment; None overall, `(not stated)` where a row does not say.
        period: label of the period; None over the whole range.
        complete: the period was over at the figures' date.
        figure: what came out.
    """

    kpi: str
    basis: Basis
    dimension: Dimension | None
    group: str | None
    period: str | None
    complete: bool
    figure: Figure

    @property
    def value(self) -> float | None:
        """The value; None where nothing is below the line."""
        return self.figure.value


@dataclass(frozen=True, slots=True)
class Missing:
    """A figure that can't be computed.

    Attributes:
        kpi: its name.
        basis: of which basis.
        why: what is missing and how to give it.
    """

    kpi: str
    basis: Basis
    why: str


@dataclass(frozen=True, slots=True)
class AovEffect:
    """What an arm of an experiment did to AOV.

    Attributes:
        experiment: its id.
        arm: the arm.
        control: the arm it is compared with.
        control_aov: AOV there.
        arm_aov: AOV in the arm.
        effect: their difference, in money.
        low: lower limit at 95 %, for one look at the planned end.
        high: upper limit.
        n_accounts: of both arms.
        anytime_low: lower limit at 95 % that holds at every look: a KPI report is read while experiments run.
        anytime_high: upper limit.
    """

    experiment: str
    arm: str
    control: str
    control_aov: float
    arm_aov: float
    effect: float
    low: float
    high: float
    n_accounts: int
    anytime_low: float
    anytime_high: float


@dataclass(frozen=True, slots=True)
class ChangeInterval:
    """Which changes between two periods go with the data.

    Attributes:
        low: lower limit at 95 %.
        high: upper limit.
        n_accounts: accounts below the line in the period that has fewer.
    """

    low: float
    high: float
    n_accounts: int


Reading = Literal["better", "worse", "moved", "small", "within noise", "windows open", "no interval"]
"""What a change says: its interval excludes no change and it goes the better way, the worse way, or no way is better
(moved); it does so and is smaller than what is called a move (small); the interval holds no change (within noise);
offers of the later period can still be accepted (windows open); there is no interval."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a KPI did up to the last complete period.

    Attributes:
        now: label of the last complete period.
        before: label of the latest complete period before it that has a value.
        value: in the last one.
        last: in the one before.
        difference: value - last.
        relative: difference / |last|; None where last is zero.
        moved: at least as much as the configuration calls a move; noise is not looked at.
        better: the difference goes the way that is better; None where neither way is; noise is not looked at.
        low: lower limit of the difference at 95 %; None where there is no interval.
        high: upper limit.
        n_accounts: accounts below the line in the period that has fewer; None where there is no interval.
        adjacent: no period lies between the two.
        reading: what the change says.
    """

    now: str
    before: str
    value: float
    last: float
    difference: float
    relative: float | None
    moved: bool
    better: bool | None
    low: float | None
    high: float | None
    n_accounts: int | None
    adjacent: bool
    reading: Reading

    @property
    def is_told(self) -> bool:
        """Whether it is more than noise and more than small."""
        return self.reading in {"better", "worse", "moved"}


def compared_values(series: Sequence[KpiValue]) -> tuple[KpiValue, KpiValue] | None:
    """Return the last complete period of a series and the latest one before it that has a value, that one first.

    None where the last complete period has no value, or none before it has.
    """
    complete = [item for item in series if item.complete]
    if not complete or complete[-1].value is None:
        return None
    earlier = [item for item in complete[:-1] if item.value is not None]
    return (earlier[-1], complete[-1]) if earlier else None


def reading_of(found: ChangeInterval | None, moved: bool, better: bool | None) -> Reading:
    """Return what a change says, but for open windows."""
    if found is None:
        return "no interval"
    if found.low <= 0 <= found.high:
        return "within noise"
    if not moved:
        return "small"
    return "moved" if better is None else "better" if better else "worse"
