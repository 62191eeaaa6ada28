"""From the ranker's log-odds to a probability over all eligible accounts, fitted on a later window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, BoolArray
from recsys.contracts.config import Config
from recsys.data.history import SECONDS_A_DAY, History, epoch_seconds
from recsys.models.order_process import log_orders, log_orders_ahead

_SMALLEST = 1e-9
_LEAST_ALIKE = 0.5  # those that differ more do not err by chance: one may know a season that the other does not
_SLOPE_OF_ONE = 1.0 + 1e-6  # below, rounding decides where the pivot lies, and nothing moves
_FARTHEST = 25.0  # log-odds beyond all of SMALLEST
_LEVEL_ROUNDS = 3  # levels and shape settle in two
_CARRIED = 0.5  # part of the level of the days before that the features carry already


class CalibratorConfig(Config):
    """How much is asked of the data before they bend the curve.

    Attributes:
        min_positives: purchases in the window below which only the base rate is used.
        n_bins: steps of the isotonic correction, each with the same number of purchases; few, so that it can't follow
            noise.
    """

    min_positives: int = Field(default=20, ge=1)
    n_bins: int = Field(default=20, ge=2)


class HeldOut(NamedTuple):
    """Candidates in windows that their classifier was kept from.

    Attributes:
        inputs: ranker's score and the account's log-odds of buying anything new, `(n, 2)`.
        bought: whether each was bought, `(n,)`.
        weight: how many each stands for, `(n,)`.
        season: what the calendar says of the level of its window, `(n,)`; the same for all of a window.
        views: the same of every classifier that will be asked, whether it was kept from the window or not,
            `(n, n_classifiers, 2)`.
    """

    inputs: AnyFloatArray
    bought: BoolArray
    weight: AnyFloatArray
    season: AnyFloatArray
    views: AnyFloatArray

    @classmethod
    def nothing(cls, n_classifiers: int = 1) -> HeldOut:
        """Return no candidate."""
        none = np.zeros(0, np.float32)
        views = np.zeros((0, n_classifiers, 2), np.float32)
        return cls(np.zeros((0, 2), np.float32), np.zeros(0, bool), none, none, views)


class Calibrator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    r"""P(bought within the horizon) = isotonic(logistic(score, activity, score * activity)).

    The logistic (Platt 1999, with a second input) says how the ranker's log-odds and the account's activity combine;
    a binned isotonic regression on top mends what is left. Weights undo the sampling of those that did not buy.

    Windows differ in level first of all. Each keeps a level of its own (shrunk to the others' where it holds few
    purchases), so that the curve is the shape that they share; it is read at their mean level, moved by how the season
    ahead differs from theirs: `odds * exp(season - season_)`.

    Each classifier is calibrated alone. The mean of K such probabilities is too cautious wherever they differ (Ranjan
    and Gneiting 2010): low ones are too high, high ones too low. Where the log-odds of what is not bought are normal
    with correlation `r` between classifiers, and those of what is bought are so too, further up, the log-odds of the
    mean have to be stretched by `K / (1 + (K - 1) r)` (the likelihood ratio of their mean, over the mean of theirs).
    It is done about a point that leaves the sum of all probabilities as it was.

    Attributes:
        season_: mean season of the windows it was learned from.
        slope_: what the log-odds of a mean are stretched by.
    """

    def __init__(self, config: CalibratorConfig | None = None) -> None:
        self.config = config

    def fit(self, held_out: HeldOut) -> Self:
        """Learn from some windows of the past, each as the classifier saw it that was kept from it."""
        config = self.config or CalibratorConfig()
        inputs, bought, weight, season, views = held_out
        weight = weight.astype(np.float64)
        windows, window = np.unique(season, return_inverse=True)
        self.season_ = float(windows.mean()) if len(windows) else 0.0
        self.rate_ = float(np.average(bought, weights=weight)) if weight.sum() > 0 else 0.0
        self.logistic_: LogisticRegression | None = None
        self.slope_, self.pivot_ = 1.0, 0.0
        if bought.sum() < config.min_positives or bought.all():
            return self
        level = np.ones(len(windows))
        for _ in range(_LEVEL_ROUNDS):
            # A purchase that weighs `1 / level` divides the odds by `level`: all windows meet at their mean.
            alike = np.where(bought, weight / level[window], weight)
            self.logistic_ = LogisticRegression(C=10.0, max_iter=500).fit(_design(inputs), bought, sample_weight=alike)
            first = self._first(inputs)
            level = _levels(window, weight * bought, weight * first, config.min_positives)
        self.curve_ = _binned_isotonic(first, bought, alike, config.n_bins)
        each = np.stack([self._alone(views[:, k]) for k in range(views.shape[1])], axis=1)
        self.slope_ = _slope(logit(np.clip(each, _SMALLEST, 1.0 - _SMALLEST)), held_out.weight * ~bought)
        self.pivot_ = _pivot(self._alone(inputs), held_out.weight, self.slope_)
        return self

    def probability(self, views: Sequence[AnyFloatArray], season: float | None = None) -> AnyFloatArray:
        """Return the probability of each candidate, shape `(n,)`.

        Args:
            views: of each classifier the inputs as in `fit`; all of the same candidates.
            season: of the window that is asked about; default: as in the windows it was learned from.
        """
        check_is_fitted(self)
        base = np.mean([self._alone(view) for view in views], axis=0)
        if self.logistic_ is not None:
            base = _stretched(base, self.slope_, self.pivot_)
        factor = 1.0 if season is None else np.exp(season - self.season_)
        return np.asarray(base * factor / (1.0 + base * (factor - 1.0)), dtype=np.float32)

    def _alone(self, inputs: AnyFloatArray) -> NDArray[np.float64]:
        if self.logistic_ is None or not len(inputs):
            return np.full(len(inputs), self.rate_)
        return np.clip(self.curve_(self._first(inputs)), 0.0, 1.0)

    def _first(self, inputs: AnyFloatArray) -> NDArray[np.float64]:
        assert self.logistic_ is not None
        found: NDArray[np.float64] = self.logistic_.predict_proba(_design(inputs))[:, 1]
        return found


def season_of(history: History, start: datetime, days: float) -> float:
    """Return the level of orders in `[start, start + days)`, beside that of the days before, in logs.

    `log_orders - log_orders_before / 2`: the features look at the last weeks and carry their level already, in part;
    half of it was best in nine months of Online Retail II (2010-09 to 2011-05: level errors of 0.21 in logs, against
    0.29 with none of it, 0.26 with all, 0.41 without a season).
    """
    now = epoch_seconds(start)
    return _beside_the_days_before(history, log_orders(history, now, days), now, days)


def season_ahead(past: History, as_of: datetime, days: float) -> float:
    """Return what `season_of` is expected to be of the days after `as_of`, from the lines before it."""
    now = epoch_seconds(as_of)
    return _beside_the_days_before(past, log_orders_ahead(past, now, days), now, days)


def _beside_the_days_before(history: History, orders: float, now: int, days: float) -> float:
    before = now - round(days * SECONDS_A_DAY)
    known = len(history) > 0 and int(history.seconds.min()) <= before
    return orders - _CARRIED * (log_orders(history, before, days) if known else orders)


class MonotoneCurve:
    """A rising curve through points of log probability; beyond its ends the factor of the end is kept."""

    def __init__(self, given: NDArray[np.float64], wanted: NDArray[np.float64]) -> None:
        self.given = given
        self.wanted = wanted

    def __call__(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the corrected probability, shape `(n,)`."""
        log = np.log(np.maximum(probability, _SMALLEST))
        inside = np.clip(log, self.given[0], self.given[-1])
        corrected: NDArray[np.float64] = np.exp(np.interp(inside, self.given, self.wanted) + log - inside)
        return corrected


def _slope(log_odds: NDArray[np.float64], weight: AnyFloatArray) -> float:
    """Return `K / (1 + (K - 1) r)` of K columns, `r` their mean covariance over their mean variance."""
    k = log_odds.shape[1]
    if k == 1:
        return 1.0
    covariance = np.atleast_2d(np.cov(log_odds.T, aweights=weight))
    variance = float(np.trace(covariance))
    shared = (float(covariance.sum()) - variance) / (k - 1)
    alike = shared / variance if variance > 0 else 1.0
    return float(k / (1.0 + (k - 1) * np.clip(alike, _LEAST_ALIKE, 1.0)))


def _stretched(probability: NDArray[np.float64], slope: float, pivot: float) -> NDArray[np.float64]:
    """Return the probabilities with their log-odds `slope` times as far from `pivot`."""
    log_odds = logit(np.clip(probability, _SMALLEST, 1.0 - _SMALLEST))
    return expit(pivot + slope * (log_odds - pivot))


def _pivot(probability: NDArray[np.float64], weight: AnyFloatArray, slope: float) -> float:
    """Return the pivot about which the stretched probabilities have the sum of the given ones."""
    if slope < _SLOPE_OF_ONE:
        return 0.0
    whole = float(probability @ weight)

    def excess(pivot: float) -> float:
        return float(_stretched(probability, slope, pivot) @ weight) - whole

    return float(brentq(excess, -_FARTHEST, _FARTHEST))


def _levels(
    window: NDArray[np.intp], observed: AnyFloatArray, expected: AnyFloatArray, prior: float
) -> NDArray[np.float64]:
    """Return observed over expected of each window, over their geometric mean, `(n_windows,)`."""
    ratio = (np.bincount(window, observed) + prior) / (np.bincount(window, expected) + prior)
    level: NDArray[np.float64] = ratio / np.exp(np.log(ratio).mean())
    return level


def _design(inputs: AnyFloatArray) -> NDArray[np.float64]:
    wide = np.nan_to_num(inputs.astype(np.float64))
    return np.column_stack([wide, wide[:, :1] * wide[:, 1:]])


def _binned_isotonic(
    probability: NDArray[np.float64], bought: BoolArray, weight: AnyFloatArray, n_bins: int
) -> MonotoneCurve:
    """Return the observed rate of bins of equal expected purchases, smoothed so that it never falls."""
    order = np.argsort(probability, kind="stable")
    expected = (probability * weight)[order]
    edges = np.cumsum(expected) / expected.sum()
    bin_of = np.minimum((edges * n_bins).astype(int), n_bins - 1)
    mass = np.bincount(bin_of, weights=expected, minlength=n_bins)
    trials = np.bincount(bin_of, weights=weight[order], minlength=n_bins)
    hits = np.bincount(bin_of, weights=(bought * weight)[order], minlength=n_bins)
    used = np.flatnonzero(trials > 0)
    # Where few probabilities differ, bins have one mean, but for rounding, which no regression tells apart.
    alike = np.unique((mass[used] / trials[used]).round(12), return_inverse=True)[1]
    mass, trials, hits = (np.bincount(alike, weights=values[used]) for values in (mass, trials, hits))
    mean, rate = mass / trials, hits / trials
    steady = IsotonicRegression().fit(mean, rate, sample_weight=trials).predict(mean)
    return MonotoneCurve(np.log(np.maximum(mean, _SMALLEST)), np.log(np.maximum(steady, _SMALLEST)))
