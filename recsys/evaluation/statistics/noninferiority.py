"""Is a proportion not worse than control's by more than a margin? Farrington and Manning's score test and interval.

statsmodels' score test of a risk difference has a wrong coefficient for margins other than zero (its issue 10269).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats
from scipy.optimize import brentq


def restricted_rates(p_arm: float, p_control: float, n_arm: int, n_control: int, gap: float) -> tuple[float, float]:
    """Return the most likely rates of arm and control whose difference is `gap`.

    Source: Farrington and Manning (1990), appendix: the closed root of the likelihood's cubic.

    Example:
        >>> restricted_rates(0.3, 0.2, 100, 100, 0.0)
        (0.25, 0.25)
    """
    ratio = n_control / n_arm
    a = 1 + ratio
    b = -(1 + ratio + p_arm + ratio * p_control + gap * (ratio + 2))
    c = gap**2 + gap * (2 * p_arm + ratio + 1) + p_arm + ratio * p_control
    d = -p_arm * gap * (1 + gap)
    v = b**3 / (3 * a) ** 3 - b * c / (6 * a**2) + d / (2 * a)
    u = math.copysign(math.sqrt(max(b**2 / (3 * a) ** 2 - c / (3 * a), 0.0)), v)
    angle = (math.pi + math.acos(min(max(v / u**3, -1.0), 1.0))) / 3 if u != 0 else math.pi / 2
    arm = min(max(2 * u * math.cos(angle) - b / (3 * a), gap, 0.0), 1.0, 1.0 + gap)
    return round(arm, 14), round(min(max(arm - gap, 0.0), 1.0), 14)


def score_statistic(n_arm_events: int, n_arm: int, n_control_events: int, n_control: int, gap: float) -> float:
    """Return Farrington and Manning's `z` of the hypothesis that the rates differ by `gap`.

    Example:
        >>> round(score_statistic(30, 100, 20, 100, 0.0), 4)
        1.633
    """
    p_arm, p_control = n_arm_events / n_arm, n_control_events / n_control
    arm, control = restricted_rates(p_arm, p_control, n_arm, n_control, gap)
    variance = arm * (1 - arm) / n_arm + control * (1 - control) / n_control
    distance = p_arm - p_control - gap
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def score_interval(
    n_arm_events: int, n_arm: int, n_control_events: int, n_control: int, alpha: float
) -> tuple[float, float]:
    """Return the differences of rates that the score test does not reject at two-sided `alpha`.

    Its lower limit lies above `-margin` exactly where the test of non-inferiority rejects at `alpha / 2`.

    Example:
        >>> [round(limit, 3) for limit in score_interval(30, 100, 20, 100, 0.05)]
        [-0.02, 0.219]
    """
    z = float(stats.norm.ppf(1 - alpha / 2))
    found = n_arm_events / n_arm - n_control_events / n_control

    def above(gap: float) -> float:
        value = score_statistic(n_arm_events, n_arm, n_control_events, n_control, gap)
        return float(np.clip(value, -1e6, 1e6))

    edge = 1 - 1e-12
    low = -1.0 if above(-edge) < z else float(brentq(lambda gap: above(gap) - z, -edge, found, xtol=1e-13))
    high = 1.0 if above(edge) > -z else float(brentq(lambda gap: above(gap) + z, found, edge, xtol=1e-13))
    return low, high
