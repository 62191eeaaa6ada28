"""How many units show an effect: tea-tasting's power on sums of the past."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import tea_tasting as tt
from tea_tasting.aggr import Aggregates

from recsys.errors import ReadoutError
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments


@dataclass(frozen=True, slots=True)
class SampleSize:
    """What one metric needs.

    Attributes:
        metric: its name.
        relative: the effect that shall be found, as a share of the mean.
        effect: the same in the metric's unit.
        n_per_arm: units an arm.
        with_cuped: whether pre-period values take out variance.
    """

    metric: str
    relative: float
    effect: float
    n_per_arm: int
    with_cuped: bool


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
    return SampleSize(metric.name, relative, float(result.effect_size), math.ceil(float(result.n_obs) / 2), with_cuped)


def detectable_effect(
    history: Moments, metric: Metric, n_per_arm: int, *, power: float = 0.8, alpha: float = 0.05, use_cuped: bool = True
) -> SampleSize:
    """Return the smallest effect that `n_per_arm` units an arm find."""
    with_cuped = use_cuped and metric.before is not None
    found = _test(metric, with_cuped=with_cuped, alpha=alpha, power=power, n_obs=2 * n_per_arm)
    result = found.solve_power_from_aggregates(aggregates(history, metric.columns), "effect_size")[0]
    return SampleSize(metric.name, float(result.rel_effect_size), float(result.effect_size), n_per_arm, with_cuped)


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
