"""How an effect came about: day by day, and by days since exposure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.purchases import (
    DAY,
    REVENUE,
    REVENUE_BEFORE,
    Assigned,
    UnitPurchases,
    daily_revenue,
    is_mature,
    window_values,
)
from recsys.evaluation.statistics.effects import EffectConfig, difference
from recsys.evaluation.statistics.metric import UNITS, Metric, Ratio
from recsys.evaluation.statistics.moments import Moments, Sums, moments_of_groups

MAX_LOOKS = 60
_MIN_UNITS = 10


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


def looks_of(
    assigned: Assigned, purchases: UnitPurchases, design: Design, config: ReadoutConfig, window_days: int, now: int
) -> tuple[tuple[Look, ...], tuple[Sums, ...]]:
    """Return the effect on revenue per unit at the end of each day, and the moments of each day.

    At every look the units assigned so far count, with what they bought so far; CUPED as in the main analysis. More
    than `MAX_LOOKS` days are thinned evenly.
    """
    metric = _revenue_metric(design, assigned)
    arms = tuple(sorted(design.shares))
    columns = (REVENUE, REVENUE_BEFORE) if assigned.clusters is None else (REVENUE, REVENUE_BEFORE, UNITS)
    clusters = _clusters(assigned)
    looks: list[Look] = []
    sums: list[Sums] = []
    for end in _ends_of_days(assigned, purchases, now):
        there = assigned.seconds < end
        if not _enough(assigned, clusters, there, arms):
            continue
        values = window_values(assigned, purchases, window_days, end) | {UNITS: np.ones(len(there))}
        moments = moments_of_groups(
            columns, [_summed(values, columns, clusters, there & (assigned.arms == arm)) for arm in arms]
        )
        day = f"{datetime.fromtimestamp(end - 1, UTC):%Y-%m-%d}"
        sums.append(Sums(f"day={day}", arms, moments))
        for arm in design.treatments:
            sides = moments[arms.index(design.control)], moments[arms.index(arm)]
            looks.append(look_of(day, arm, *sides, metric, config))
    return tuple(looks), tuple(sums)


def look_of(day: str, arm: str, control: Moments, treated: Moments, metric: Metric, config: ReadoutConfig) -> Look:
    """Return the effect on a metric as it stood at the end of a day."""
    found = difference(control, treated, metric, EffectConfig(alpha=config.alpha, tuned_at=config.planned_units))
    return Look(
        day=day,
        arm=arm,
        n_control=int(found.n_control),
        n_arm=int(found.n_arm),
        effect=float(found.effect),
        effect_low=float(found.low),
        effect_high=float(found.high),
        anytime_low=float(found.anytime_low),
        anytime_high=float(found.anytime_high),
    )


def novelty_of(
    assigned: Assigned, purchases: UnitPurchases, design: Design, config: ReadoutConfig, window_days: int, now: int
) -> tuple[Novelty, ...]:
    """Return whether the effect fades over the days since assignment, from units with a complete window.

    Formula: the slope is `sum_k w_k y_k` for each unit, `w_k = (k - mean k) / sum (k - mean k)^2`; the difference of
    its means over units is the OLS slope of the daily effect, and its variance over units is clustered by unit.
    """
    there, clusters = is_mature(assigned, window_days, now), _clusters(assigned)
    if window_days < 3 or not _enough(assigned, clusters, there, tuple(design.shares)):
        return ()
    metric = Metric("y", Ratio("y")) if assigned.clusters is None else Metric("y", Ratio("y", UNITS))
    daily = daily_revenue(assigned, purchases, window_days)
    centred = np.arange(window_days) - (window_days - 1) / 2
    slope = daily @ (centred / (centred**2).sum())
    options = EffectConfig(alpha=config.alpha, tuned_at=config.planned_units)

    def against(arm: str, values: FloatArray) -> tuple[float, float, float, float]:
        columns, arms = {"y": values, UNITS: np.ones(len(there))}, (design.control, arm)
        sums = [_summed(columns, metric.columns, clusters, there & (assigned.arms == name)) for name in arms]
        moments = moments_of_groups(metric.columns, sums)
        found = difference(moments[0], moments[1], metric, options)
        return float(found.effect), float(found.low), float(found.high), float(found.p_value)

    return tuple(
        Novelty(
            arm,
            *against(arm, slope),
            days=tuple(DayEffect(arm, day, *against(arm, daily[:, day])[:3]) for day in range(window_days)),
        )
        for arm in design.treatments
    )


def _revenue_metric(design: Design, assigned: Assigned) -> Metric:
    primary = design.primary
    if primary is not None and primary.value.is_mean and primary.value.numerator == REVENUE:
        return primary
    found = Metric("revenue per unit", Ratio(REVENUE))
    return found if assigned.clusters is None else found.by_cluster()


def _ends_of_days(assigned: Assigned, purchases: UnitPurchases, now: int) -> list[int]:
    first = int(assigned.seconds.min()) // DAY
    last = min(now, int(max(assigned.seconds.max(), purchases.seconds.max(initial=0)))) // DAY
    days = np.arange(first, last + 1)
    if len(days) > MAX_LOOKS:
        days = days[np.unique(np.linspace(0, len(days) - 1, MAX_LOOKS).astype(np.int64))]
    return [int(day + 1) * DAY for day in days]


def _clusters(assigned: Assigned) -> IntArray | None:
    """The cluster of each unit as a number."""
    return None if assigned.clusters is None else pd.factorize(assigned.clusters)[0].astype(np.int64)


def _summed(
    values: Mapping[str, FloatArray], columns: Sequence[str], clusters: IntArray | None, there: NDArray[np.bool_]
) -> dict[str, FloatArray]:
    """The columns of the units that are there, or their sums by cluster."""
    if clusters is None:
        return {name: values[name][there] for name in columns}
    code = np.unique(clusters[there], return_inverse=True)[1]
    return {name: np.bincount(code, values[name][there]).astype(np.float64) for name in columns}


def _enough(assigned: Assigned, clusters: IntArray | None, there: NDArray[np.bool_], arms: Sequence[str]) -> bool:
    by_arm = [there & (assigned.arms == arm) for arm in arms]
    if clusters is None:
        return all(own.sum() >= _MIN_UNITS for own in by_arm)
    return all(len(np.unique(clusters[own])) >= _MIN_UNITS for own in by_arm)
