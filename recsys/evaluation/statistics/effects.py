"""Effects of an arm against control: delta method, CUPED, Welch, relative effects, anytime-valid intervals.

The formulas are those of tea-tasting (the tests hold both to 1e-10), written over arrays, so that thousands of
simulated experiments or hundreds of days go through the very code that judges a real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import lambertw

from recsys.arrays import FloatArray
from recsys.contracts.config import Config
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import Moments


def tuned_rho_squared(tuned_at: float, alpha: float) -> float:
    """Return the mixture variance whose interval is tightest once `tuned_at` units were seen.

    Formula: `rho^2 = (-W_{-1}(-alpha^2 / e) - 1) / t`, W the Lambert function. Source: Waudby-Smith et al.
    (arXiv 2103.06476), appendix B.2, after Howard et al. (2021). It must not depend on the data.

    Example:
        >>> round(tuned_rho_squared(1_000, 0.05), 5)
        0.00821
    """
    return float((-lambertw(-(alpha**2) / np.e, k=-1).real - 1) / tuned_at)


def anytime_multiplier(n: FloatArray | float, tuned_at: float, alpha: float) -> FloatArray:
    """Return how many standard errors the anytime-valid interval reaches to each side.

    Formula: `sqrt(2 (n rho^2 + 1) / (n rho^2) log(sqrt(n rho^2 + 1) / alpha))`: the boundary of Robbins' normal
    mixture, theorem 2.2 of Waudby-Smith et al. (arXiv 2103.06476), divided by the standard error of the mean.

    Args:
        n: units seen so far, both arms together.
        tuned_at: where the interval shall be tightest: the planned number of units.
        alpha: the chance that any of all looks errs.

    Example:
        >>> round(float(anytime_multiplier(10_000.0, 10_000, 0.05)), 2)
        3.04
    """
    spread = np.asarray(n, dtype=np.float64) * tuned_rho_squared(tuned_at, alpha)
    return np.sqrt(2 * (spread + 1) / spread * np.log(np.sqrt(spread + 1) / alpha))


class EffectConfig(Config):
    """How effects are estimated."""

    alpha: float = 0.05
    """Two-sided error of one interval."""
    tuned_at: float = 20_000
    """Units of both arms for which the anytime-valid interval is tightest; the planned number, never the observed."""
    use_cuped: bool = True
    """Whether pre-period values, where a metric has them, take out variance."""


DEFAULT_EFFECTS = EffectConfig()


@dataclass(frozen=True)
class EffectEstimate:
    """Arm against control; every field has the leading shape of the moments.

    Attributes:
        control_mean: raw, as it happened, without CUPED.
        arm_mean: likewise.
        n_control: units.
        n_arm: units.
        effect: arm minus control, adjusted by CUPED where the metric has pre-period values.
        se: standard error of the effect.
        df: Welch-Satterthwaite degrees of freedom.
        low: fixed-horizon interval of the effect.
        high: its upper limit.
        p_value: two-sided, of no effect.
        relative: effect as a share of the control's (adjusted) mean; NaN where no such share makes sense.
        relative_low: its interval; NaN likewise.
        relative_high: its upper limit.
        anytime_low: interval that holds at every look.
        anytime_high: its upper limit.
        variance_ratio: variance of the effect with CUPED over that without; 1 where there is none.
        pooled_se: standard error where the units of both arms are taken to vary alike; that of `se` for equal arms.
    """

    control_mean: FloatArray
    arm_mean: FloatArray
    n_control: FloatArray
    n_arm: FloatArray
    effect: FloatArray
    se: FloatArray
    df: FloatArray
    low: FloatArray
    high: FloatArray
    p_value: FloatArray
    relative: FloatArray
    relative_low: FloatArray
    relative_high: FloatArray
    anytime_low: FloatArray
    anytime_high: FloatArray
    variance_ratio: FloatArray
    pooled_se: FloatArray


@dataclass(frozen=True)
class _Side:
    """One arm: raw mean, adjusted mean, variance of one unit's contribution with and without CUPED."""

    raw: FloatArray
    mean: FloatArray
    variance: FloatArray
    raw_variance: FloatArray
    n: FloatArray


def difference(
    control: Moments, arm: Moments, metric: Metric, config: EffectConfig = DEFAULT_EFFECTS
) -> EffectEstimate:
    """Return the effect of `arm` on `metric` with its intervals.

    Formula: ratio `R = mean(x) / mean(d)` with the delta-method variance `var(x - R d) / (n mean(d)^2)`; CUPED
    `R - theta (Z - Z_total)`, `theta = cov(R, Z) / var(Z)` over both arms; Welch's interval; relative interval on the
    log scale, `ratio exp(+-q s)`. Sources: Deng et al. (2013, 2018); tea-tasting 1.14.
    """
    before = metric.before if config.use_cuped else None
    theta, centre = _covariate(control, arm, metric.value, before)
    c, a = (_side(sample, metric.value, before, theta, centre) for sample in (control, arm))
    effect = a.mean - c.mean
    v_c, v_a = c.variance / c.n, a.variance / a.n
    se = np.sqrt(v_c + v_a)
    df = _welch(v_c, v_a, c.n, a.n)
    half = stats.t.ppf(1 - config.alpha / 2, df) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = np.where(
            se > 0, 2 * stats.t.sf(np.abs(effect) / se, df), np.where(_is_rounding(effect, c, a), 1.0, 0.0)
        )
        reduction = np.where(se > 0, (v_c + v_a) / (c.raw_variance / c.n + a.raw_variance / a.n), 1.0)
    pooled_se = np.sqrt(((c.n - 1) * c.variance + (a.n - 1) * a.variance) / (c.n + a.n - 2) * (1 / c.n + 1 / a.n))
    # A small arm that has drawn no large value has a low mean and a low variance at once: its own variance alone would
    # let the interval exclude zero from the first looks on.
    reach = anytime_multiplier(c.n + a.n, config.tuned_at, config.alpha) * np.maximum(se, pooled_se)
    relative, relative_low, relative_high = _relative(c, a, config.alpha)
    return EffectEstimate(
        control_mean=c.raw,
        arm_mean=a.raw,
        n_control=c.n,
        n_arm=a.n,
        effect=effect,
        se=se,
        df=df,
        low=effect - half,
        high=effect + half,
        p_value=p_value,
        relative=relative,
        relative_low=relative_low,
        relative_high=relative_high,
        anytime_low=effect - reach,
        anytime_high=effect + reach,
        variance_ratio=reduction,
        pooled_se=pooled_se,
    )


def contributions(
    control: Moments, arm: Moments, metric: Metric, values: Mapping[str, FloatArray], *, use_cuped: bool = True
) -> FloatArray:
    """Return what each unit adds to the metric of its arm, up to a constant: their means differ by the effect.

    Formula: the values times the gradient of the ratio, less `theta` times that of its pre-period values; both at the
    means of both arms together.

    Args:
        control: moments.
        arm: moments of the same columns.
        metric: what is measured.
        values: the metric's columns, one value a unit.
        use_cuped: whether pre-period values, where the metric has them, take out variance.
    """
    total = control + arm
    _, gradient = ratio_and_gradient(total, metric.value)
    before = metric.before if use_cuped else None
    if before is not None:
        theta, _ = _covariate(control, arm, metric.value, before)
        gradient = gradient - theta[..., None] * ratio_and_gradient(total, before)[1]
    parts = [gradient[total.at(name)] * values[name] for name in metric.columns]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def ratio_and_gradient(sample: Moments, ratio: Ratio) -> tuple[FloatArray, FloatArray]:
    """Return the ratio of means, shape `(...)`, and its gradient by the means of all columns, shape `(..., k)`."""
    gradient = np.zeros_like(sample.mean)
    top = sample.mean[..., sample.at(ratio.numerator)]
    if ratio.denominator is None:
        gradient[..., sample.at(ratio.numerator)] = 1.0
        return top, gradient
    bottom = sample.mean[..., sample.at(ratio.denominator)]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = top / bottom
        gradient[..., sample.at(ratio.numerator)] += 1 / bottom
        gradient[..., sample.at(ratio.denominator)] -= value / bottom
    return value, gradient


def quadratic(left: FloatArray, cov: FloatArray, right: FloatArray) -> FloatArray:
    """Return `left' cov right` over the last axes, shape `(...)`."""
    result: FloatArray = np.einsum("...i,...ij,...j->...", left, cov, right)
    return result


def _covariate(control: Moments, arm: Moments, value: Ratio, before: Ratio | None) -> tuple[FloatArray, FloatArray]:
    """CUPED's coefficient and the pre-period mean of both arms."""
    if before is None:
        return np.zeros_like(control.n), np.zeros_like(control.n)
    total = control + arm
    _, of_value = ratio_and_gradient(total, value)
    centre, of_before = ratio_and_gradient(total, before)
    variance = quadratic(of_before, total.cov, of_before)
    shared = quadratic(of_value, total.cov, of_before)
    return np.divide(shared, variance, out=np.zeros_like(shared), where=variance > 0), centre


def _side(sample: Moments, value: Ratio, before: Ratio | None, theta: FloatArray, centre: FloatArray) -> _Side:
    raw, gradient = ratio_and_gradient(sample, value)
    raw_variance = np.maximum(quadratic(gradient, sample.cov, gradient), 0.0)
    if before is None:
        return _Side(raw, raw, raw_variance, raw_variance, sample.n)
    earlier, of_before = ratio_and_gradient(sample, before)
    adjusted = gradient - theta[..., None] * of_before
    variance = np.maximum(quadratic(adjusted, sample.cov, adjusted), 0.0)
    return _Side(raw, raw - theta * (earlier - centre), variance, raw_variance, sample.n)


def _is_rounding(effect: FloatArray, c: _Side, a: _Side) -> np.ndarray:
    """Whether an effect is no more than what two equal means differ by when each is rounded."""
    return np.abs(effect) <= 1e-12 * np.maximum(np.abs(c.mean), np.abs(a.mean))


def _welch(v_c: FloatArray, v_a: FloatArray, n_c: FloatArray, n_a: FloatArray) -> FloatArray:
    bottom = v_c**2 / (n_c - 1) + v_a**2 / (n_a - 1)
    fallback = np.broadcast_to(n_c + n_a - 2, np.shape(bottom)).astype(np.float64)
    return np.divide((v_c + v_a) ** 2, bottom, out=fallback.copy(), where=bottom > 0)


def _relative(c: _Side, a: _Side, alpha: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Relative effect where both means are positive and clearly off zero; NaN elsewhere.

    Fieller's `g = z^2 var(mean) / mean^2` of 1 or more means that a mean's own interval holds zero: the interval of the
    ratio would then turn around or be the whole line.
    """
    z = stats.norm.ppf(1 - alpha / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        v_c, v_a = (side.variance / side.n / side.mean**2 for side in (c, a))
        makes_sense = (c.mean * a.mean > 0) & (z**2 * v_c < 1) & (z**2 * v_a < 1)
        ratio = np.where(makes_sense, a.mean / c.mean, np.nan)
        v_c, v_a = np.where(makes_sense, v_c, 0.0), np.where(makes_sense, v_a, 0.0)
        reach = np.exp(stats.t.ppf(1 - alpha / 2, _welch(v_c, v_a, c.n, a.n)) * np.sqrt(v_c + v_a))
    # Both means below zero: the ratio falls as the arm's mean rises, so that the limits stay in order by sorting.
    limits = np.sort(np.stack([ratio / reach, ratio * reach]), axis=0)
    return ratio - 1, limits[0] - 1, limits[1] - 1
