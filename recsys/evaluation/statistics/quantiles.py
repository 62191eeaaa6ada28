"""The difference of a quantile of units between two arms, with an interval from order statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from recsys.arrays import FloatArray
from recsys.errors import ReadoutError


@dataclass(frozen=True)
class QuantileDifference:
    """Arm against control on one quantile; every field has the leading shape of the values.

    Attributes:
        control: the quantile of the control's units.
        arm: of the arm's.
        n_control: units.
        n_arm: units.
        low: fixed-horizon interval of arm minus control.
        high: its upper limit.
        se: the interval's width in standard errors of a normal distribution; the interval itself need not be even.
        p_value: two-sided, below alpha where the interval excludes zero.
    """

    control: FloatArray
    arm: FloatArray
    n_control: int
    n_arm: int
    low: FloatArray
    high: FloatArray
    se: FloatArray
    p_value: FloatArray


Quantiles = Mapping[tuple[str, str], QuantileDifference]
"""By metric and arm."""
NO_QUANTILES: Final[Quantiles] = {}


def quantile_difference(control: FloatArray, arm: FloatArray, quantile: float, alpha: float) -> QuantileDifference:
    """Return the difference of a quantile of `arm` and `control` with its interval at `1 - alpha`.

    Formula: within each arm the number of units below the quantile is binomial, so that two order statistics enclose it
    whatever the distribution; the distances `l`, `u` of these limits from the estimate are combined as the square root
    of the sum of squares, each limit of the difference from the two that push it there: `d - sqrt(l_arm^2 +
    u_control^2)` and `d + sqrt(u_arm^2 + l_control^2)`. Where values are tied the interval covers more often than
    stated. Sources: Liu et al. (arXiv 1903.08762), section 3; Zou and Donner (2008) for the combination.

    Args:
        control: shape `(..., n_control)`.
        arm: shape `(..., n_arm)`.
        quantile: between 0 and 1; the smallest value that at least this share of the units does not exceed.
        alpha: two-sided error.

    Raises:
        ReadoutError: an arm has too few units for limits on both sides.

    Example:
        >>> found = quantile_difference(np.arange(100.0), np.arange(100.0) + 50, 0.5, 0.05)
        >>> float(found.arm - found.control), round(float(found.low)), round(float(found.high))
        (50.0, 35, 65)
    """
    c_low, c, c_high = _limits(control, quantile, alpha)
    a_low, a, a_high = _limits(arm, quantile, alpha)
    effect = a - c
    below = np.hypot(a - a_low, c_high - c)
    above = np.hypot(a_high - a, c - c_low)
    z = float(stats.norm.ppf(1 - alpha / 2))
    towards_zero = np.where(effect > 0, below, above)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = np.where(effect == 0, 1.0, 2 * stats.norm.sf(z * np.abs(effect) / towards_zero))
    return QuantileDifference(
        control=c,
        arm=a,
        n_control=control.shape[-1],
        n_arm=arm.shape[-1],
        low=effect - below,
        high=effect + above,
        se=(below + above) / (2 * z),
        p_value=p_value,
    )


def _limits(values: FloatArray, quantile: float, alpha: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The order statistics that enclose the quantile at `1 - alpha`, and between them the quantile itself."""
    n = values.shape[-1]
    ranks = (
        int(stats.binom.ppf(alpha / 2, n, quantile)),
        int(np.ceil(n * quantile - 1e-9)),
        int(stats.binom.ppf(1 - alpha / 2, n, quantile)) + 1,
    )
    if ranks[0] < 1 or ranks[2] > n:
        raise ReadoutError(
            f"quantile {quantile:g} of {n:,} units in an arm, must have more on both sides of it to tell an interval; "
            "take a quantile nearer to 0.5, or wait for more units"
        )
    ordered = np.partition(values, [rank - 1 for rank in ranks], axis=-1)
    return ordered[..., ranks[0] - 1], ordered[..., ranks[1] - 1], ordered[..., ranks[2] - 1]
