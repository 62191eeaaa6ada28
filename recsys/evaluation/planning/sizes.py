"""How large and how long: power and duration of an experiment from accounts of the past."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from recsys.arrays import IntArray
from recsys.errors import ReadoutError
from recsys.evaluation.planning.history import PastBehaviour, WhoEnters
from recsys.evaluation.statistics.effects import EffectConfig, difference
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments
from recsys.evaluation.statistics.significance_tests import restricted_rates

TWO_EQUAL = (0.5, 0.5)


@dataclass(frozen=True, slots=True)
class SampleSize:
    """What one metric needs.

    Attributes:
        metric: its name.
        relative: the effect that shall be found, as a share of the mean.
        effect: the same in the metric's unit; of a guardrail its margin.
        n_per_arm: units in the smallest arm.
        n_units: units of all arms.
    """

    metric: str
    relative: float
    effect: float
    n_per_arm: int
    n_units: int


class _Power(NamedTuple):
    """What is asked of a size: two-sided error, chance of finding, and shares of the units, control first."""

    alpha: float
    power: float
    shares: Sequence[float]

    @property
    def z(self) -> tuple[float, float]:
        """Normal quantiles of the error and of the power."""
        return float(stats.norm.ppf(1 - self.alpha / 2)), float(stats.norm.ppf(self.power))


def sample_size(
    history: Moments,
    metric: Metric,
    relative: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    use_cuped: bool = True,
    shares: Sequence[float] = TWO_EQUAL,
    is_proportion: bool = False,
) -> SampleSize:
    """Return the units that find a relative effect in every arm that is compared with control.

    Formula: `N = (z_{1 - alpha/2} + z_power)^2 (v_c / s_c + v_a / s_a) / effect^2`, v the variance of one unit as the
    readout estimates it, s the arms' shares. Of a yes/no metric v is `p (1 - p)` at each arm's own rate.

    Args:
        history: moments of the past, without a leading axis.
        metric: what shall move.
        relative: effect, as a share of the mean.
        power: chance of finding it.
        alpha: two-sided error.
        use_cuped: whether pre-period values take out variance.
        shares: of the arms, control first.
        is_proportion: whether the metric's columns are 0 or 1.

    Raises:
        ReadoutError: the effect is zero, the metric does not vary in the past, or a rate would pass 0 or 1.
    """
    if relative == 0 or not math.isfinite(relative):
        raise ReadoutError(f"effect == {relative:g}, must be a share other than 0, as 0.05")
    mean, variance = _mean_and_variance(history, metric, use_cuped=use_cuped)
    treated = variance * _growth(metric, mean, relative) if is_proportion else variance
    asked = _Power(alpha, power, shares)
    n_units = sum(asked.z) ** 2 * _spread(variance, treated, shares) / (relative * mean) ** 2
    return SampleSize(metric.name, relative, relative * mean, *_whole(n_units, shares))


def _growth(metric: Metric, rate: float, relative: float) -> float:
    """How much larger the variance of a yes/no metric is at the rate that the effect leads to."""
    after = rate * (1 + relative)
    if not 0 < after < 1:
        raise ReadoutError(
            f"{metric.name}: {relative:+.0%} of a rate of {rate:.1%} is {after:.1%}, must lie between 0 and 100 %; "
            "name a smaller effect"
        )
    return after * (1 - after) / (rate * (1 - rate))


def guardrail_size(
    history: Moments,
    metric: Metric,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    use_cuped: bool = True,
    shares: Sequence[float] = TWO_EQUAL,
    is_proportion: bool = False,
) -> SampleSize:
    """Return the units that show a guardrail without an effect to be non-inferior by its margin.

    Formula: that of `sample_size` with the margin as the effect. A mean of yes and no without pre-period values is
    judged by the score interval, and sized by Farrington and Manning (1990): the null's part of the sum has the rates
    that are likeliest at the margin.

    Raises:
        ReadoutError: the metric has no margin, or it does not vary in the past.
    """
    mean, variance = _mean_and_variance(history, metric, use_cuped=use_cuped)
    margin = (metric.margin or 0.0) * (abs(mean) if metric.margin_is_relative else 1.0)
    if margin <= 0:
        raise ReadoutError(f"guardrail {metric.name!r} has the margin {margin:g}, must be above 0 to be shown kept")
    asked = _Power(alpha, power, shares)
    z_alpha, z_power = asked.z
    spread = null = _spread(variance, variance, shares)
    if is_proportion and metric.before is None and metric.value.denominator is None:
        null = max(_null_spread(mean, -metric.sign * margin, shares[0], share) for share in shares[1:])
    n_units = (z_alpha * math.sqrt(null) + z_power * math.sqrt(spread)) ** 2 / margin**2
    return SampleSize(metric.name, -metric.sign * margin / mean, margin, *_whole(n_units, shares))


def _null_spread(rate: float, gap: float, control: float, arm: float) -> float:
    p_arm, p_control = restricted_rates(rate, rate, arm, control, gap)
    return p_control * (1 - p_control) / control + p_arm * (1 - p_arm) / arm


def detectable_effect(
    history: Moments, metric: Metric, n_per_arm: int, *, power: float = 0.8, alpha: float = 0.05, use_cuped: bool = True
) -> SampleSize:
    """Return the smallest effect that two arms of `n_per_arm` units find."""
    mean, variance = _mean_and_variance(history, metric, use_cuped=use_cuped)
    effect = sum(_Power(alpha, power, TWO_EQUAL).z) * math.sqrt(2 * variance / n_per_arm)
    return SampleSize(metric.name, effect / mean, effect, n_per_arm, 2 * n_per_arm)


def _mean_and_variance(history: Moments, metric: Metric, *, use_cuped: bool) -> tuple[float, float]:
    """Mean of a metric, and the variance of one unit's part in it, by the code that reads an experiment out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = difference(history, history, metric, EffectConfig(use_cuped=use_cuped))
    mean, variance = float(found.control_mean), float(found.se) ** 2 * float(history.n) / 2
    if not (math.isfinite(mean) and math.isfinite(variance)) or mean == 0 or variance <= 0:
        raise ReadoutError(
            f"{metric.name} has the mean {mean:.4g} and the variance {variance:.4g} in the past, must have a mean "
            "other than 0 and vary; name another metric or give a longer history"
        )
    return mean, variance


def _spread(control: float, arm: float, shares: Sequence[float]) -> float:
    """Variance of the difference for one unit in all, of the arm that is known least."""
    return control / shares[0] + arm / min(shares[1:])


def _whole(n_units: float, shares: Sequence[float]) -> tuple[int, int]:
    smallest = math.ceil(n_units * min(shares))
    return smallest, math.ceil(smallest / min(shares))


@dataclass(frozen=True, slots=True)
class PlannedSize:
    """What one metric needs to show one effect.

    Attributes:
        metric: its name.
        relative: the effect, as a share of the mean; of a guardrail its margin, likewise.
        mean: of the metric in the past.
        n_per_arm: units in the smallest arm with pre-period values.
        n_per_arm_without: units in the smallest arm without them.
        days: until enough units entered and the last one's window is complete; None where the history has too few.
        n_units: units of all arms, with pre-period values.
        margin: of a guardrail, in its unit; None where an effect shall be found.
        is_planned: whether the plan's `planned_size` has that many in the smallest arm; None without a plan.
    """

    metric: str
    relative: float
    mean: float
    n_per_arm: int
    n_per_arm_without: int
    days: int | None
    n_units: int = 0
    margin: float | None = None
    is_planned: bool | None = None

    @property
    def shown(self) -> str:
        """What shall be shown, as `aov +5 %`."""
        what = f"{100 * self.relative:+g} %" if self.margin is None else f"within its margin of {self.margin:.3g}"
        return f"{self.metric} {what}"


@dataclass(frozen=True, slots=True)
class PlannedSizes:
    """What every metric needs to show every effect that was asked for.

    Attributes:
        n_accounts: accounts of the past that were measured.
        sizes: one a metric and effect, and one a guardrail.
        n_buyers: how many of them bought within their window.
        entry: who enters: accounts that order, all of a list, or those that are served.
        entered_a_day: accounts that entered for the first time, a day of the last year; None where all do on the first.
        power: chance of finding each effect, and of showing each guardrail kept.
        alpha: two-sided error.
        shares: of the arms, control first.
        left_out: metrics of the plan that past orders do not hold, and guardrails without a margin.
        cluster: column whose clusters the sizes count; None: they count accounts.
        planned_size: units that the plan wants in the smallest arm; None without a plan.
    """

    n_accounts: int
    sizes: tuple[PlannedSize, ...]
    n_buyers: int = 0
    entry: WhoEnters = "ordered"
    entered_a_day: float | None = None
    power: float = 0.8
    alpha: float = 0.05
    shares: tuple[float, ...] = TWO_EQUAL
    left_out: tuple[str, ...] = ()
    cluster: str | None = None
    planned_size: int | None = None

    def compared_with(self, planned_size: int, cluster: str | None) -> PlannedSizes:
        """Return the sizes beside those of a plan, which counts clusters where it names their column."""
        sizes = tuple(replace(size, is_planned=size.n_per_arm <= planned_size) for size in self.sizes)
        return replace(self, sizes=sizes, cluster=cluster, planned_size=planned_size)

    @property
    def planned_sentence(self) -> str:
        """Whether the plan's size suffices, and what it is too small for; empty without a plan."""
        if self.planned_size is None:
            return ""
        short = [size for size in self.sizes if not size.is_planned]
        planned = f"The plan's planned_size is {self.planned_size:,} in the smallest arm"
        if not short:
            return f"{planned}: it suffices for all of these."
        return f"{planned}: TOO FEW for {', '.join(f'{size.shown} ({size.n_per_arm:,})' for size in short)}."

    def to_frame(self) -> pd.DataFrame:
        """Return one row a metric and effect, with the fields of `PlannedSize` as columns."""
        return pd.DataFrame(
            [asdict(size) for size in self.sizes], columns=[field.name for field in fields(PlannedSize)]
        )


def planned_sizes(
    history: PastBehaviour,
    effects: Sequence[float],
    *,
    window_days: int,
    power: float,
    alpha: float,
    shares: tuple[float, ...] = TWO_EQUAL,
) -> PlannedSizes:
    """Return what each metric needs for each relative effect, and each guardrail for its margin.

    The primary's error is shared by the arms that are compared with control, as the readout does.
    """
    no_margin = tuple(one.name for one in history.metrics if one.role == "guardrail" and not one.margin)
    return PlannedSizes(
        n_accounts=history.n_accounts,
        sizes=plan_sizes(history, effects, window_days=window_days, power=power, alpha=alpha, shares=shares),
        n_buyers=history.n_buyers,
        entry=history.entry,
        entered_a_day=None if history.entry == "listed" else float(history.arrived[-1]) / len(history.arrived),
        power=power,
        alpha=alpha,
        shares=shares,
        left_out=history.left_out + no_margin,
    )


def plan_sizes(
    history: PastBehaviour,
    effects: Sequence[float],
    *,
    window_days: int,
    power: float,
    alpha: float,
    shares: Sequence[float] = TWO_EQUAL,
) -> tuple[PlannedSize, ...]:
    """Return one size a metric and relative effect, and one a guardrail; none for an effect that a rate can't have."""
    found: list[PlannedSize] = []
    for metric in history.metrics:
        if metric.role == "diagnostic":
            continue
        arms = len(shares) - 1 if metric.role == "primary" else 1
        asked = _Power(alpha / arms, power, shares)
        if metric.role == "guardrail":
            found += [_planned(history, metric, None, asked, window_days)] if metric.margin else []
            continue
        possible = [effect for effect in effects if not _passes_a_border(history, metric, effect)]
        found += [_planned(history, metric, effect, asked, window_days) for effect in possible]
    return tuple(found)


def _planned(
    history: PastBehaviour, metric: Metric, effect: float | None, asked: _Power, window_days: int
) -> PlannedSize:
    """The size for an effect, or, without one, for a guardrail's margin."""
    is_proportion = _is_proportion(history, metric)
    with_past, without = (
        guardrail_size(history.moments, metric, **asked._asdict(), use_cuped=use, is_proportion=is_proportion)
        if effect is None
        else sample_size(history.moments, metric, effect, **asked._asdict(), use_cuped=use, is_proportion=is_proportion)
        for use in (metric.before is not None, False)
    )
    return PlannedSize(
        metric.name,
        with_past.relative,
        _mean_and_variance(history.moments, metric, use_cuped=False)[0],
        with_past.n_per_arm,
        without.n_per_arm,
        _days(history.arrived, with_past.n_units, window_days),
        with_past.n_units,
        with_past.effect if effect is None else None,
    )


def _is_proportion(history: PastBehaviour, metric: Metric) -> bool:
    return history.yes_or_no.issuperset(metric.value.columns)


def _passes_a_border(history: PastBehaviour, metric: Metric, effect: float) -> bool:
    if not _is_proportion(history, metric) or effect == 0 or not math.isfinite(effect):
        return False
    return not 0 < _mean_and_variance(history.moments, metric, use_cuped=False)[0] * (1 + effect) < 1


def _days(arrived: IntArray, n_units: int, window_days: int) -> int | None:
    if len(arrived) == 0 or arrived[-1] < n_units:
        return None
    return int(np.searchsorted(arrived, n_units)) + 1 + window_days
