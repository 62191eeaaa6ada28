"""Adjusted p-values of a family, Farrington and Manning's score test of a margin, tests of planned shares.

statsmodels' score test of a risk difference has a wrong coefficient for margins other than zero (its issue 10269).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq
from scipy.special import gammaln
from scipy.stats import false_discovery_control

from recsys.arrays import FloatArray

Correction = Literal["holm", "bh"]


def adjusted_p_values(p_values: Sequence[float], correction: Correction) -> tuple[float, ...]:
    """Return the p-values adjusted over the family; NaN (not testable) stays NaN and does not count.

    `holm` controls the chance of any false claim, `bh` (Benjamini-Hochberg) the share of false claims.

    Example:
        >>> adjusted_p_values([0.01, 0.04, 0.03], "holm")
        (0.03, 0.06, 0.06)
    """
    given = np.asarray(p_values, dtype=np.float64)
    found = np.full(len(given), np.nan)
    testable = ~np.isnan(given)
    if testable.any():
        adjust = _holm if correction == "holm" else false_discovery_control
        found[testable] = adjust(given[testable])
    return tuple(float(value) for value in found)


def cochran_q(effects: FloatArray, errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return Cochran's Q of equal effects in all levels, and its p-value.

    Formula: `Q = sum w (e - m)^2`, `w = 1 / error^2` and `m` the mean of the effects with these weights; chi-square
    with one degree of freedom less than levels. Source: Cochran (1954).

    Args:
        effects: by level, shape `(..., n_levels)`.
        errors: their standard errors, above 0, same shape.

    Example:
        >>> q, p = cochran_q(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
        >>> round(float(q), 2), round(float(p), 3)
        (2.0, 0.157)
    """
    weights = 1 / errors**2
    centre = (weights * effects).sum(axis=-1, keepdims=True) / weights.sum(axis=-1, keepdims=True)
    found = (weights * (effects - centre) ** 2).sum(axis=-1)
    return found, np.asarray(stats.chi2.sf(found, effects.shape[-1] - 1), dtype=np.float64)


def _holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Statsmodels' `multipletests` finds the same, but collects garbage: 0.1 s a call in which a server is silent."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def restricted_rates(p_arm: float, p_control: float, n_arm: float, n_control: float, gap: float) -> tuple[float, float]:
    """Return the most likely rates of arm and control whose difference is `gap`; only the ratio of the units counts.

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


MIN_EXPECTED = 5.0
"""Expected units of an arm below which Pearson's chi-square is no approximation any more."""
PRIOR_UNITS = 1_000.0
"""Weight of the planned shares in the sequential test's prior, in units; fixed in advance, any value is valid."""


def sample_ratio_p_value(counts: ArrayLike, shares: ArrayLike) -> FloatArray:
    """Return the p-value of Pearson's chi-square over all arms.

    Where an arm expects fewer than `MIN_EXPECTED` units, the p-value is that of the sequential test at one look: it
    is valid at any number of units, while chi-square calls one unit in an arm of 2 % a fault.

    Args:
        counts: units by arm, shape `(..., k)`.
        shares: planned probabilities, shape `(k,)`.

    Example:
        >>> round(float(sample_ratio_p_value([5_100, 4_900], [0.5, 0.5])), 4)
        0.0455
    """
    observed = np.asarray(counts, dtype=np.float64)
    expected = observed.sum(axis=-1, keepdims=True) * np.asarray(shares, dtype=np.float64)
    statistic = ((observed - expected) ** 2 / np.maximum(expected, np.finfo(np.float64).tiny)).sum(axis=-1)
    pearson = stats.chi2.sf(statistic, observed.shape[-1] - 1)
    at_any_size = sequential_sample_ratio_p_value(observed[..., None, :], np.asarray(shares, dtype=np.float64))[..., 0]
    return np.where(expected.min(axis=-1) < MIN_EXPECTED, at_any_size, pearson)


def sequential_sample_ratio_p_value(counts: ArrayLike, shares: Sequence[float] | FloatArray) -> FloatArray:
    """Return the anytime-valid p-value after each look.

    Formula: Bayes factor of a Dirichlet(`c * shares`) alternative to the planned multinomial,
    `BF = B(a + n) / B(a) / prod shares^n`; `p = 1 / max over looks of BF`, at most 1. Source: Lindon and Malek
    (arXiv 2011.01808), equations 6 and 10.

    Args:
        counts: cumulative units by look and arm, shape `(..., n_looks, k)`.
        shares: planned probabilities, shape `(k,)`.

    Example:
        >>> sequential_sample_ratio_p_value([[50, 50], [1_000, 600]], [0.5, 0.5]) < 0.001
        array([False,  True])
    """
    n = np.asarray(counts, dtype=np.float64)
    planned = np.asarray(shares, dtype=np.float64)
    prior = PRIOR_UNITS * planned
    log_factor = (
        gammaln(prior.sum())
        - gammaln(prior.sum() + n.sum(axis=-1))
        + (gammaln(prior + n) - gammaln(prior) - n * np.log(planned)).sum(axis=-1)
    )
    best = np.maximum.accumulate(log_factor, axis=-1)
    return np.exp(-np.maximum(best, 0.0))
