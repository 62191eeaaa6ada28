"""The views of a readout beside its effects: money, segments, sensitivity, days, distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

VerdictName = Literal["INVALID", "ROLL BACK", "SHIP", "FLAT", "KEEP RUNNING", "DISCUSS"]


@dataclass(frozen=True, slots=True)
class Money:
    """The primary effect over the arm's units.

    Attributes:
        arm: the arm.
        metric: the primary metric.
        total: effect x units of the arm.
        low: fixed-horizon interval.
        high: its upper limit.
        n_units: units of the arm.
        coverage: of the interval.
        share_of_units: units of the arm among all assigned.
    """

    arm: str
    metric: str
    total: float
    low: float
    high: float
    n_units: int
    coverage: float
    share_of_units: float


@dataclass(frozen=True, slots=True)
class IncrementalShare:
    """How much of the attributed revenue was added rather than moved.

    Attributes:
        arm: the arm.
        incremental: effect on the primary per unit.
        attributed: revenue credited to offers per treated unit.
        share: incremental over attributed; None where nothing clear is attributed.
        low: delta-method interval.
        high: its upper limit.
    """

    arm: str
    incremental: float
    attributed: float
    share: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class SegmentEffect:
    """The primary effect in one level of a pre-declared segment; p-values are one family over all levels and arms."""

    segment: str
    level: str
    arm: str
    n_control: int
    n_arm: int
    effect: float
    effect_low: float
    effect_high: float
    relative: float | None
    p_value: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class Variant:
    """One cell of the sensitivity grid.

    Attributes:
        arm: the arm.
        cuped: with pre-period values.
        cap: percentile of the cap; None without.
        window: which attribution window.
        triggered: exposed units only.
        effect: on the primary metric.
        low: the interval that decides.
        high: its upper limit.
        verdict: that this cell alone would give.
        flips: whether it differs from the arm's verdict.
    """

    arm: str
    cuped: bool
    cap: float | None
    window: str
    triggered: bool
    effect: float
    low: float
    high: float
    verdict: VerdictName
    flips: bool


@dataclass(frozen=True, slots=True)
class Look:
    """The primary effect as it stood at the end of one day."""

    day: str
    arm: str
    n_control: int
    n_arm: int
    effect: float
    effect_low: float
    effect_high: float
    anytime_low: float
    anytime_high: float


@dataclass(frozen=True, slots=True)
class DayEffect:
    """The effect on the primary on one day since the start of a unit's window."""

    arm: str
    day: int
    effect: float
    effect_low: float
    effect_high: float


@dataclass(frozen=True, slots=True)
class Novelty:
    """Whether the effect fades: slope of the daily effect over the days since exposure, clustered by unit."""

    arm: str
    slope: float
    low: float
    high: float
    p_value: float
    days: tuple[DayEffect, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How one column is distributed over the units of each arm.

    Attributes:
        column: its name.
        edges: of the bins above zero.
        shares: by arm, share of its units in each bin.
        zero_share: by arm, share of units at zero or below.
        cap: where the cap lies; None without.
    """

    column: str
    edges: tuple[float, ...]
    shares: Mapping[str, tuple[float, ...]]
    zero_share: Mapping[str, float]
    cap: float | None
