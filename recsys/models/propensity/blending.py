"""From the log odds of several learners to one calibrated probability, judged in folds of the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from recsys.arrays import FloatArray, IntArray
from recsys.models.propensity.encoding import EncodedTable

_SHARES: Final = (0.2, 0.35, 0.5, 0.65, 0.8)


@dataclass
class Blend:
    """Which learners count, how much, and how their log odds are calibrated.

    Attributes:
        name: `logistic`, `boosting` or `blend`.
        shares: weight of each learner's log odds; sums to 1.
        intercept: of the calibration.
        slope: of the calibration; below 1 where the learners are too sure.
        losses: log loss of each learner and of the blend by cross-validation, after calibration.
    """

    name: str
    shares: dict[str, float]
    intercept: float = 0.0
    slope: float = 1.0
    losses: dict[str, float] = field(default_factory=dict)

    def log_odds(self, odds: dict[str, FloatArray]) -> FloatArray:
        """Return the calibrated log odds of each row."""
        return self.intercept + self.slope * _mix(odds, self.shares)


def choose_blend(odds: dict[str, FloatArray], y: IntArray, weight: FloatArray) -> Blend:
    """Return the best learner or the blend, by the log loss of out-of-fold log odds.

    The blend is kept unless a single learner is better by more than one standard error of the paired difference:
    two different learners err in different places, and on rows not seen yet the mixture is the safer bet.

    Args:
        odds: out-of-fold log odds of each learner, `(n_rows,)` each.
        y: 0 or 1, `(n_rows,)`.
        weight: of each row.
    """
    options = [_calibrated(name, {name: 1.0}, odds, y, weight) for name in odds]
    best, best_loss = min(options, key=lambda option: float(np.average(option[1], weights=weight)))
    losses = {choice.name: float(np.average(loss, weights=weight)) for choice, loss in options}
    if len(odds) == 2:
        first, second = odds
        blends = [_calibrated("blend", {first: 1.0 - s, second: s}, odds, y, weight) for s in _SHARES]
        blend, blend_loss = min(blends, key=lambda option: float(np.average(option[1], weights=weight)))
        losses["blend"] = float(np.average(blend_loss, weights=weight))
        difference = blend_loss - best_loss
        mean = np.average(difference, weights=weight)
        error = np.sqrt(np.average((difference - mean) ** 2, weights=weight) / len(y))
        if mean <= error:
            best = blend
    best.losses = losses
    return best


def row_losses(odds: FloatArray, y: IntArray) -> FloatArray:
    """Return the log loss of each row, natural logarithm: `log(1 + exp(z)) - y z`."""
    return np.logaddexp(0.0, odds) - y * odds


def calibrate(
    odds: FloatArray,
    y: IntArray,
    weight: FloatArray,
    shift: FloatArray | float = 0.0,
    prior: tuple[float, float] = (5.0, 5.0),
) -> tuple[float, float]:
    """Return intercept and slope of `sigmoid(intercept + slope z + shift)` with the least log loss.

    With `c` the centre of the odds, where level and slope are told apart best, it is `sigmoid(c + a + b (z - c))`. A
    normal prior pulls `(a, b)` to (0, 1), so that few rows can't turn the odds over; `prior` holds both precisions.
    About `z = 0`, far from the odds of rare positives, the prior of the level would have the slope mend the level.
    Source: Platt (1999), with the prior on the parameters in place of smoothed targets.
    """
    believed = expit(odds + shift)
    information = weight * believed * (1.0 - believed)
    centre = float(np.average(odds, weights=information)) if information.sum() > 0 else 0.0
    apart = odds - centre

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        calibrated = centre + parameters[0] + parameters[1] * apart + shift
        residual = weight * (expit(calibrated) - y)
        penalty = np.array([parameters[0], parameters[1] - 1.0])
        value = np.sum(weight * row_losses(calibrated, y)) + 0.5 * np.sum(np.array(prior) * penalty**2)
        gradient = np.array([residual.sum(), (residual * apart).sum()]) + np.array(prior) * penalty
        return float(value), gradient

    result = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=[(-20, 20), (0.0, 5.0)])
    level, slope = float(result.x[0]), float(result.x[1])
    return centre + level - slope * centre, slope


def _calibrated(
    name: str, shares: dict[str, float], odds: dict[str, FloatArray], y: IntArray, weight: FloatArray
) -> tuple[Blend, FloatArray]:
    mixed = _mix(odds, shares)
    intercept, slope = calibrate(mixed, y, weight)
    return Blend(name, shares, intercept, slope), row_losses(intercept + slope * mixed, y)


def _mix(odds: dict[str, FloatArray], shares: dict[str, float]) -> FloatArray:
    mixed: FloatArray = np.sum([share * odds[name] for name, share in shares.items()], axis=0)
    return mixed


Rows = NDArray[np.intp]
Splits = list[tuple[Rows, Rows]]

FEWEST_OF_A_CLASS = 10  # below, folds would hold too few of the rarer class to judge anything


@dataclass(frozen=True)
class TrainingRows:
    """Rows to learn from.

    Attributes:
        table: the encoded columns.
        y: 0 or 1, `(n_rows,)`.
        weight: of each row.
        group: number of each row's group; None where each row is its own.
    """

    table: EncodedTable
    y: IntArray
    weight: FloatArray
    group: IntArray | None

    def take(self, rows: Rows) -> TrainingRows:
        """Return the given rows."""
        group = None if self.group is None else self.group[rows]
        return TrainingRows(self.table.take(rows), self.y[rows], self.weight[rows], group)

    def rarer(self) -> int:
        """Return how many rows, or groups, the rarer class has."""
        if self.group is None:
            return int(np.bincount(self.y, minlength=2).min())
        return min(len(np.unique(self.group[self.y == label])) for label in (0, 1))

    def splits(self, folds: int, seed: int) -> Splits:
        """Return seen and unseen rows of each fold, each class in its share, no group in two folds."""
        folds, rows = min(folds, self.rarer()), np.zeros(len(self.y))
        if self.group is None:
            return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, self.y))
        return list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(rows, self.y, self.group))


def stratified_sample(y: IntArray, n: int, seed: int) -> Rows:
    """Return `n` rows at random, each class in its share, in order."""
    if len(y) <= n:
        return np.arange(len(y))
    rng = np.random.default_rng(seed)
    parts = []
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        take = max(round(n * len(rows) / len(y)), min(len(rows), FEWEST_OF_A_CLASS))
        parts.append(rng.choice(rows, take, replace=False))
    return np.sort(np.concatenate(parts))
