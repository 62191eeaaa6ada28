"""Where an effect comes from: a chain of factors whose effects add up in logs, with their joint covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from recsys.arrays import FloatArray
from recsys.errors import ReadoutError
from recsys.evaluation.statistics.moments import Moments


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor's part in the relative effect.

    Attributes:
        name: as `orders per buyer`.
        control: its value in control.
        arm: its value in the arm.
        log_effect: log of arm over control; the factors' add up to the total's.
        log_low: lower limit.
        log_high: upper limit.
    """

    name: str
    control: float
    arm: float
    log_effect: float
    log_low: float
    log_high: float


@dataclass(frozen=True)
class Decomposition:
    """The factors of one arm's effect on the last column of a chain.

    Attributes:
        arm: the arm.
        total: the mean per unit itself.
        factors: in the order of the chain.
        covariance: of the factors' log effects, row by row.
    """

    arm: str
    total: Factor
    factors: tuple[Factor, ...]
    covariance: tuple[tuple[float, ...], ...]


def decompose(
    control: Moments, arm: Moments, name: str, chain: Sequence[str], labels: Sequence[str], alpha: float
) -> Decomposition:
    """Return how the effect on `chain[-1]` per unit splits into `chain[0]` per unit and the ratios of neighbours.

    Over sums of clusters the chain starts with the number of their units, which is no factor and has no label.

    Formula: with means `m_0 ... m_k` of the chain, `m_k = m_0 (m_1 / m_0) ... (m_k / m_{k-1})`, so that
    `log(m_k arm / m_k control)` is the sum of the factors' logs; their covariance is `J (S_arm / n + S_control / n) J'`
    with `J` the Jacobian of the logs by the means (delta method).

    Raises:
        ReadoutError: a mean is not above zero, so that it has no logarithm.

    Example:
        >>> from recsys.evaluation.statistics.moments import moments_of_rows
        >>> rows = np.array([[1.0, 10.0], [0.0, 0.0], [1.0, 20.0], [1.0, 30.0]])
        >>> found = decompose(*[moments_of_rows(["bought", "spend"], part) for part in (rows, rows * [1, 2])],
        ...     "b", ["bought", "spend"], ["buyer rate", "spend per buyer"], 0.05)
        >>> [round(factor.log_effect, 3) for factor in found.factors]
        [0.0, 0.693]
    """
    jacobian, of_control, c_covariance = _logs(control, chain)
    jacobian = jacobian[-len(labels) :]
    _, of_arm, a_covariance = _logs(arm, chain)
    covariance = jacobian @ (a_covariance + c_covariance) @ jacobian.T
    z = float(stats.norm.ppf(1 - alpha / 2))
    effects = jacobian @ (of_arm - of_control)
    c_values, a_values = np.exp(jacobian @ of_control), np.exp(jacobian @ of_arm)

    def factor(label: str, value: float, variance: float, c_value: float, a_value: float) -> Factor:
        reach = z * float(np.sqrt(max(variance, 0.0)))
        return Factor(label, float(c_value), float(a_value), float(value), float(value) - reach, float(value) + reach)

    total = factor(f"{chain[-1]} per unit", effects.sum(), covariance.sum(), c_values.prod(), a_values.prod())
    factors = tuple(
        factor(label, effects[i], covariance[i, i], c_values[i], a_values[i]) for i, label in enumerate(labels)
    )
    return Decomposition(name, total, factors, tuple(tuple(float(cell) for cell in row) for row in covariance))


def _logs(sample: Moments, chain: Sequence[str]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Factors from logs of means (a difference matrix), the logs, and their covariance."""
    at = [sample.at(column) for column in chain]
    means = sample.mean[at]
    if (means <= 0).any():
        column = chain[int(np.argmax(means <= 0))]
        raise ReadoutError(
            f"mean of {column!r} == {means.min():g} in one arm, must be above 0 to be decomposed in logs"
        )
    covariance = sample.cov[np.ix_(at, at)] / np.outer(means, means) / sample.n
    return np.eye(len(at)) - np.eye(len(at), k=-1), np.log(means), covariance
