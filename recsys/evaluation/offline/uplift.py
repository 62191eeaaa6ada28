"""How well a score finds who reacts to a treatment, on randomised data: Qini, uplift at k, uplift by decile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys.arrays import FloatArray
from recsys.errors import DataError


@dataclass(frozen=True, slots=True)
class UpliftBin:
    """Units of one slice of a ranking.

    Attributes:
        rank: 1 is the slice with the highest scores.
        n_treated: units.
        n_control: units.
        treated_mean: of the outcome; NaN without units.
        control_mean: likewise.
        uplift: treated minus control mean.
        standard_error: of the uplift; NaN with fewer than two units in an arm.
    """

    rank: int
    n_treated: int
    n_control: int
    treated_mean: float
    control_mean: float
    uplift: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class QiniCurve:
    """Gain of treating the highest scores first.

    Attributes:
        n: units taken so far, from 0, shape `(n_points,)`.
        gain: treated outcomes minus control outcomes scaled to as many units as treated.
    """

    n: FloatArray
    gain: FloatArray


def qini_curve(outcome: ArrayLike, score: ArrayLike, treated: ArrayLike) -> QiniCurve:
    """Return the Qini curve: one point after each distinct score, equal scores together.

    Formula: `g(n) = Y_t(n) - Y_c(n) N_t(n) / N_c(n)` with outcomes `Y` and units `N` of treated and control among the
    `n` highest scores; 0 where there is no control unit yet. Source: Radcliffe (2007).

    Args:
        outcome: shape `(n_units,)`.
        score: higher means treat earlier.
        treated: whether each unit was treated.

    Raises:
        DataError: lengths differ, values are missing, or an arm has no unit.

    Example:
        >>> qini_curve([1, 0, 0, 1], [4, 3, 2, 1], [True, False, True, False]).gain
        array([0., 1., 1., 1., 0.])
    """
    y, s, t = _checked(outcome, score, treated)
    order = np.argsort(-s, kind="stable")
    y, s, t = y[order], s[order], t[order]
    last = np.append(np.nonzero(np.diff(s))[0], len(s) - 1)
    n_treated, y_treated = np.cumsum(t)[last], np.cumsum(y * t)[last]
    n_control, y_control = np.cumsum(~t)[last], np.cumsum(y * ~t)[last]
    ratio = np.divide(n_treated, n_control, out=np.zeros(len(last)), where=n_control > 0)
    return QiniCurve(np.append(0.0, last + 1.0), np.append(0.0, y_treated - y_control * ratio))


def qini_area(outcome: ArrayLike, score: ArrayLike, treated: ArrayLike) -> float:
    """Return the area between the Qini curve and the straight line of a random order, in gain x units.

    Above 0 the score finds who reacts; a constant score gives 0.

    Raises:
        DataError: see `qini_curve`.

    Example:
        >>> qini_area([1, 0, 0, 1], [1, 1, 1, 1], [True, False, True, False])
        0.0
    """
    curve = qini_curve(outcome, score, treated)
    random = curve.gain[-1] * curve.n[-1] / 2
    return float(np.trapezoid(curve.gain, curve.n) - random)


def qini_coefficient(outcome: ArrayLike, score: ArrayLike, treated: ArrayLike) -> float:
    """Return the Qini area over that of a perfect order of a 0/1 outcome; 1 is perfect, 0 is random.

    The perfect order takes treated buyers and control non-buyers first, and of the others first the larger of treated
    non-buyers and control buyers. Source: scikit-uplift's `perfect_qini_curve`, whose coefficient this equals.

    Raises:
        DataError: see `qini_curve`, or the outcome is not 0/1, or no order could be better than random.
    """
    y, _, t = _checked(outcome, score, treated)
    if not np.isin(y, (0.0, 1.0)).all():
        raise DataError("outcome has other values than 0 and 1, must be 0/1 for a perfect order; use qini_area")
    bought = y == 1
    second = bought if (bought & ~t).sum() > (~bought & t).sum() else t
    perfect = qini_area(y, 2.0 * (bought == t) + second, t)
    if perfect <= 0:
        raise DataError("outcome is the same for all units, must vary; no order is better than random")
    return qini_area(outcome, score, treated) / perfect


def uplift_at(outcome: ArrayLike, score: ArrayLike, treated: ArrayLike, share: float) -> float:
    """Return the difference of mean outcomes among the highest `share` of all scores.

    Ties at the border keep the order in which they were given.

    Raises:
        DataError: see `qini_curve`, or the share is not in (0, 1], or an arm has no unit in it.

    Example:
        >>> uplift_at([1, 0, 0, 1], [4, 3, 2, 1], [True, False, True, False], 0.5)
        1.0
    """
    y, s, t = _checked(outcome, score, treated)
    if not 0 < share <= 1:
        raise DataError(f"share == {share}, must be above 0 and at most 1")
    top = np.argsort(-s, kind="stable")[: int(len(s) * share)]
    if t[top].sum() in {0, len(top)}:
        raise DataError(f"the highest {share:.0%} hold units of one arm only, must hold both; take a larger share")
    return float(y[top][t[top]].mean() - y[top][~t[top]].mean())


def uplift_by_bin(outcome: ArrayLike, score: ArrayLike, treated: ArrayLike, bins: int = 10) -> tuple[UpliftBin, ...]:
    """Return the uplift in slices of equal size, the highest scores first.

    Raises:
        DataError: see `qini_curve`, or there are fewer units than bins.
    """
    y, s, t = _checked(outcome, score, treated)
    if not 1 <= bins <= len(y):
        raise DataError(f"bins == {bins}, must be between 1 and the {len(y)} units")
    slices = np.array_split(np.argsort(-s, kind="stable"), bins)
    return tuple(_bin(rank, y[rows][t[rows]], y[rows][~t[rows]]) for rank, rows in enumerate(slices, start=1))


def _bin(rank: int, treated: FloatArray, control: FloatArray) -> UpliftBin:
    means = [float(side.mean()) if len(side) else float("nan") for side in (treated, control)]
    enough = min(len(treated), len(control)) > 1
    variance = sum(side.var(ddof=1) / len(side) for side in (treated, control)) if enough else float("nan")
    return UpliftBin(rank, len(treated), len(control), means[0], means[1], means[0] - means[1], float(variance**0.5))


def _checked(
    outcome: ArrayLike, score: ArrayLike, treated: ArrayLike
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    y, s = np.asarray(outcome, dtype=np.float64), np.asarray(score, dtype=np.float64)
    t = np.asarray(treated).astype(bool)
    if not len(y) == len(s) == len(t):
        raise DataError(f"{len(y)} outcomes, {len(s)} scores, {len(t)} treatments, must be as many; align them")
    if np.isnan(y).any() or np.isnan(s).any():
        raise DataError("outcome or score is NaN somewhere, must be numbers; leave those units out")
    if t.all() or not t.any():
        raise DataError("units of one arm only, must be treated and control; give randomised data")
    return y, s, t
