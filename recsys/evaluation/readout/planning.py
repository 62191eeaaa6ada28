"""How large and how long: power and duration of an experiment from an account's real history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime

import numpy as np
import pandas as pd
import tea_tasting as tt
from tea_tasting.aggr import Aggregates

from recsys.contracts import columns as c
from recsys.data.times import as_utc
from recsys.errors import ReadoutError
from recsys.evaluation.readout.from_orders import standard_metrics
from recsys.evaluation.readout.from_table import TableSpec
from recsys.evaluation.readout.purchases import DAY, Assigned, gather_purchases, window_values
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments, moments_of_rows


@dataclass(frozen=True, slots=True)
class SampleSize:
    """What one metric needs.

    Attributes:
        metric: its name.
        relative: the effect that shall be found, as a share of the mean.
        effect: the same in the metric's unit.
        n_per_arm: units an arm.
    """

    metric: str
    relative: float
    effect: float
    n_per_arm: int


def sample_size(
    history: Moments,
    metric: Metric,
    relative: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    use_cuped: bool = True,
) -> SampleSize:
    """Return the units an arm (two arms of equal size) that find a relative effect.

    Raises:
        ReadoutError: the effect is zero, or the metric does not vary in the past.
    """
    if relative == 0 or not math.isfinite(relative):
        raise ReadoutError(f"effect == {relative:g}, must be a share other than 0, as 0.05")
    with_cuped = use_cuped and metric.before is not None
    found = _test(metric, with_cuped=with_cuped, alpha=alpha, power=power, rel_effect_size=relative)
    result = found.solve_power_from_aggregates(aggregates(history, metric.columns), "n_obs")[0]
    return SampleSize(metric.name, relative, float(result.effect_size), math.ceil(float(result.n_obs) / 2))


def detectable_effect(
    history: Moments, metric: Metric, n_per_arm: int, *, power: float = 0.8, alpha: float = 0.05, use_cuped: bool = True
) -> SampleSize:
    """Return the smallest effect that `n_per_arm` units an arm find."""
    with_cuped = use_cuped and metric.before is not None
    found = _test(metric, with_cuped=with_cuped, alpha=alpha, power=power, n_obs=2 * n_per_arm)
    result = found.solve_power_from_aggregates(aggregates(history, metric.columns), "effect_size")[0]
    return SampleSize(metric.name, float(result.rel_effect_size), float(result.effect_size), n_per_arm)


def aggregates(moments: Moments, columns: Sequence[str]) -> Aggregates:
    """Return moments without a leading axis as tea-tasting's stored sums."""
    at = {name: moments.at(name) for name in columns}
    return Aggregates(
        count_=int(moments.n),
        mean_={name: float(moments.mean[i]) for name, i in at.items()},
        var_={name: float(moments.cov[i, i]) for name, i in at.items()},
        cov_={(a, b): float(moments.cov[i, j]) for a, i in at.items() for b, j in at.items() if a < b},
    )


def _test(metric: Metric, *, with_cuped: bool, **options: float) -> tt.RatioOfMeans:
    before = metric.before if with_cuped else None
    # Normal, not t: scipy's non-central t is NaN at the sizes that tea-tasting's search tries for small effects.
    return tt.RatioOfMeans(
        metric.value.numerator,
        metric.value.denominator,
        before.numerator if before else None,
        before.denominator if before else None,
        use_t=False,
        **options,
    )


MAX_DAYS = 365


@dataclass(frozen=True, slots=True)
class PlannedSize:
    """What one metric needs to show one effect.

    Attributes:
        metric: its name.
        relative: the effect, as a share of the mean.
        mean: of the metric in the past.
        n_per_arm: units an arm with pre-period values.
        n_per_arm_without: units an arm without them.
        days: until enough units entered and the last one's window is complete; None where the history has too few.
    """

    metric: str
    relative: float
    mean: float
    n_per_arm: int
    n_per_arm_without: int
    days: int | None


@dataclass(frozen=True, slots=True)
class PlannedSizes:
    """What every metric needs to show every effect that was asked for.

    Attributes:
        n_accounts: accounts of the past that were measured.
        sizes: one a metric and effect.
    """

    n_accounts: int
    sizes: tuple[PlannedSize, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row a metric and effect, with the fields of `PlannedSize` as columns."""
        return pd.DataFrame(
            [asdict(size) for size in self.sizes], columns=[field.name for field in fields(PlannedSize)]
        )


@dataclass(frozen=True)
class PastBehaviour:
    """Accounts of the past as if they had been in an experiment.

    Attributes:
        moments: of their values, without a leading axis.
        metrics: that can be measured on them.
        arrived: accounts that placed an order within the first d days, shape `(n_days,)`.
        n_accounts: accounts in `moments`.
    """

    moments: Moments
    metrics: tuple[Metric, ...]
    arrived: np.ndarray
    n_accounts: int


def history_of(lines: pd.DataFrame, as_of: datetime, window_days: int) -> PastBehaviour:
    """Return the accounts that placed an order in the second last window, measured from that order on.

    An account enters an experiment when it comes; its order then opens its window, and the time before is its
    pre-period. Arrivals are counted over the last year.

    Args:
        lines: columns `order_id account_id ordered_at` (UTC) and `revenue`.
        as_of: end of the history.
        window_days: of the experiment.

    Raises:
        ReadoutError: fewer than ten accounts placed an order there.
    """
    end = int(as_utc(as_of).timestamp())
    everyone = np.sort(lines[c.ACCOUNT_ID].dropna().unique()).astype(object)
    nobody = Assigned(everyone, np.full(len(everyone), "", dtype=object), np.zeros(len(everyone), np.int64), {})
    purchases, _ = gather_purchases(lines, nobody)
    entered = _first_order(purchases.unit, purchases.seconds, len(everyone), end - 2 * window_days * DAY)
    inside = entered < end - window_days * DAY
    if inside.sum() < 10:
        raise ReadoutError(
            f"{int(inside.sum())} accounts placed an order between {2 * window_days} and {window_days} days before the "
            "end, must be 10 or more; give a longer history or a shorter window_days"
        )
    assigned = Assigned(everyone, nobody.arms, np.where(inside, entered, end), {})
    values = {name: value[inside] for name, value in window_values(assigned, purchases, window_days, end).items()}
    moments = moments_of_rows(tuple(values), np.column_stack(list(values.values())))
    metrics = tuple(
        metric
        for metric in standard_metrics(values, TableSpec(unit=None, arm="", control="", metrics={}))
        if moments.cov[moments.at(metric.value.numerator), moments.at(metric.value.numerator)] > 0
    )
    return PastBehaviour(
        moments, metrics, _arrivals(purchases.unit, purchases.seconds, len(everyone), end), int(inside.sum())
    )


def plan_sizes(
    history: PastBehaviour, effects: Sequence[float], *, window_days: int, power: float, alpha: float
) -> tuple[PlannedSize, ...]:
    """Return what each metric needs for each relative effect, two arms of equal size."""
    found = []
    for metric in history.metrics:
        if metric.role == "diagnostic":
            continue
        for effect in effects:
            with_past, without = (
                sample_size(history.moments, metric, effect, power=power, alpha=alpha, use_cuped=use).n_per_arm
                for use in (True, False)
            )
            found.append(
                PlannedSize(
                    metric.name,
                    effect,
                    _mean(history.moments, metric),
                    with_past,
                    without,
                    _days(history.arrived, 2 * with_past, window_days),
                )
            )
    return tuple(found)


def _mean(moments: Moments, metric: Metric) -> float:
    top = float(moments.mean[moments.at(metric.value.numerator)])
    if metric.value.denominator is None:
        return top
    return top / float(moments.mean[moments.at(metric.value.denominator)])


def _first_order(unit: np.ndarray, seconds: np.ndarray, n_units: int, since: int) -> np.ndarray:
    first = np.full(n_units, np.iinfo(np.int64).max)
    later = seconds >= since
    np.minimum.at(first, unit[later], seconds[later])
    return first


def _arrivals(unit: np.ndarray, seconds: np.ndarray, n_units: int, end: int) -> np.ndarray:
    days = min(MAX_DAYS, int((end - seconds.min()) // DAY))
    first = _first_order(unit, seconds, n_units, end - days * DAY)
    day = (first[first < end] - (end - days * DAY)) // DAY
    return np.cumsum(np.bincount(day, minlength=days))


def _days(arrived: np.ndarray, n_units: int, window_days: int) -> int | None:
    if len(arrived) == 0 or arrived[-1] < n_units:
        return None
    return int(np.searchsorted(arrived, n_units)) + 1 + window_days
