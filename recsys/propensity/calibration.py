"""From the ranker's log-odds to a probability over all eligible accounts, fitted on a later window."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from recsys.contracts.config import Config
from recsys.propensity.snapshot import BoolArray, FloatArray

SMALLEST = 1e-9


class CalibrationConfig(Config):
    """How much is asked of the data before they bend the curve.

    Attributes:
        min_positives: purchases in the window below which only the base rate is used.
        n_bins: steps of the isotonic correction, each with the same number of purchases; few, so that it can't follow
            noise.
    """

    min_positives: int = Field(default=20, ge=1)
    n_bins: int = Field(default=20, ge=2)


class Calibrator:
    r"""P(bought within the horizon) = isotonic(logistic(score, activity, score * activity)).

    The logistic (Platt 1999, with a second input) says how the ranker's log-odds and the account's activity combine;
    a binned isotonic regression on top mends what is left. Weights undo the sampling of those that did not buy.
    """

    def __init__(self, config: CalibrationConfig) -> None:
        self.config = config

    def fit(self, inputs: FloatArray, bought: BoolArray, weight: FloatArray) -> Self:
        """Learn from inputs `(n, n_inputs)` in which the first column is the ranker's score."""
        self.rate_ = float(np.average(bought, weights=weight)) if weight.sum() > 0 else 0.0
        self.logistic_: LogisticRegression | None = None
        if bought.sum() >= self.config.min_positives and not bought.all():
            self.logistic_ = LogisticRegression(C=10.0, max_iter=500).fit(_design(inputs), bought, sample_weight=weight)
            first = self._first(inputs)
            self.curve_ = _binned_isotonic(first, bought, weight, self.config.n_bins)
        return self

    def probability(self, inputs: FloatArray) -> FloatArray:
        """Return the probability of each candidate, shape `(n,)`."""
        if self.logistic_ is None or len(inputs) == 0:
            return np.full(len(inputs), self.rate_, dtype=np.float32)
        first = self._first(inputs)
        return np.clip(self.curve_(first), 0.0, 1.0).astype(np.float32)

    def _first(self, inputs: FloatArray) -> NDArray[np.float64]:
        assert self.logistic_ is not None
        found: NDArray[np.float64] = self.logistic_.predict_proba(_design(inputs))[:, 1]
        return found


class MonotoneCurve:
    """A rising curve through points of log probability; beyond its ends the factor of the end is kept."""

    def __init__(self, given: NDArray[np.float64], wanted: NDArray[np.float64]) -> None:
        self.given = given
        self.wanted = wanted

    def __call__(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the corrected probability, shape `(n,)`."""
        log = np.log(np.maximum(probability, SMALLEST))
        inside = np.clip(log, self.given[0], self.given[-1])
        corrected: NDArray[np.float64] = np.exp(np.interp(inside, self.given, self.wanted) + log - inside)
        return corrected


def _design(inputs: FloatArray) -> NDArray[np.float64]:
    wide = np.nan_to_num(inputs.astype(np.float64))
    return np.column_stack([wide, wide[:, :1] * wide[:, 1:]])


def _binned_isotonic(
    probability: NDArray[np.float64], bought: BoolArray, weight: FloatArray, n_bins: int
) -> MonotoneCurve:
    """Return the observed rate of bins of equal expected purchases, smoothed so that it never falls."""
    order = np.argsort(probability, kind="stable")
    expected = (probability * weight)[order]
    edges = np.cumsum(expected) / expected.sum()
    bin_of = np.minimum((edges * n_bins).astype(int), n_bins - 1)
    mass = np.bincount(bin_of, weights=expected, minlength=n_bins)
    trials = np.bincount(bin_of, weights=weight[order], minlength=n_bins)
    hits = np.bincount(bin_of, weights=(bought * weight)[order], minlength=n_bins)
    used = trials > 0
    mean, rate = mass[used] / trials[used], hits[used] / trials[used]
    steady = IsotonicRegression().fit(mean, rate, sample_weight=trials[used]).predict(mean)
    return MonotoneCurve(np.log(np.maximum(mean, SMALLEST)), np.log(np.maximum(steady, SMALLEST)))
