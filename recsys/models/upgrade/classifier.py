"""The classifier of climbs: the general one, with the hazard of a wish for the higher rung as a feature."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.optimize import minimize
from scipy.special import logit
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupKFold

from recsys.arrays import FloatArray, IntArray
from recsys.models.propensity.blending import calibrate
from recsys.models.propensity.classifier import PropensityClassifier
from recsys.models.propensity.encoding import TableEncoder
from recsys.models.propensity.learners import LinearDesign
from recsys.models.upgrade.features import FEATURES

WAITING: Final = "rung_exposure_log_days"
MET: Final = "rung_met_log"
_RIDGE: Final = 30.0  # a coefficient of a standardised column is 0.2 or less, unless hundreds of climbs say otherwise
_CENTRE: Final = np.array([0.0, 1.0])  # of `a` and `b`: wishes are met as often as is expected
_PRECISION: Final = np.array([1.0, 100.0])
_LEAST, _MOST, _MOST_LOG_WISHES = 1e-9, 1.0 - 1e-6, 30.0  # keep logarithms and exponentials finite


class HazardModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """`P(climb) = e^a met^b (1 - exp(-waiting e^(x beta)))`: what no logit of `x` can say, as wishes saturate.

    An account that has not ordered for half a year almost surely has the wish by now, and will hardly come to say so;
    twice the hazard makes little of that. `waiting` are the days since which a wish may have come, `met` the part of
    them in which it is met if it comes. Ridge maximum likelihood by L-BFGS.

    Attributes:
        parameters_: `a`, `b`, the intercept and `beta`.
    """

    def __init__(self, numbers: tuple[str, ...] = ()) -> None:
        self.numbers = numbers

    def fit(self, features: pd.DataFrame, climbed: IntArray, weight: FloatArray) -> Self:
        """Learn from pairs, labels 0 or 1, and how many pairs each one stands for."""
        self.encoder_ = TableEncoder(self.numbers).fit(features)
        table = self.encoder_.transform(features)
        levels, codes = self.encoder_.n_levels, self.encoder_.code_levels
        self.design_ = LinearDesign(levels, codes, codes=True, logs=True).fit(table)
        rows = _Rows(self.design_.transform(table), *_span(features))
        expected = float(np.average(np.exp(rows.waiting + rows.met), weights=weight))
        rate = float(np.average(climbed, weights=weight)) / max(expected, 1e-9)
        start = np.concatenate([_CENTRE, [np.log(max(rate, 1e-9))], np.zeros(rows.design.shape[1])])
        found = minimize(rows.loss, start, (climbed, weight), jac=True, method="L-BFGS-B", options={"maxiter": 300})
        self.parameters_: FloatArray = found.x
        return self

    def log_odds(self, features: pd.DataFrame) -> FloatArray:
        """Return the log odds of a climb of each pair, `(n_pairs,)`."""
        design = self.design_.transform(self.encoder_.transform(features))
        wish, level = _Rows(design, *_span(features)).parts(self.parameters_)
        p = np.clip(np.exp(level) * -np.expm1(-wish), _LEAST, _MOST)
        return np.asarray(logit(p), dtype=np.float64)


class _Rows(NamedTuple):
    """Design and logs of `waiting` and `met` of some pairs."""

    design: sp.csr_array
    waiting: FloatArray
    met: FloatArray

    def parts(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the wishes expected so far and the log of the part of them that is met, `(n_pairs,)` each."""
        eta = parameters[2] + self.design @ parameters[3:] + self.waiting
        return np.exp(np.minimum(eta, _MOST_LOG_WISHES)), parameters[0] + parameters[1] * self.met

    def loss(self, parameters: FloatArray, climbed: IntArray, weight: FloatArray) -> tuple[float, FloatArray]:
        """Return minus the log likelihood with the ridge's penalty, and its gradient."""
        wish, level = self.parts(parameters)
        p = np.clip(np.exp(level) * -np.expm1(-wish), _LEAST, _MOST)
        slope = -weight * (climbed - p) / (p * (1.0 - p))
        by_level, by_wish = slope * p, slope * np.exp(level) * wish * np.exp(-wish)
        off, beta = parameters[:2] - _CENTRE, parameters[3:]
        gradient = np.concatenate(
            [
                np.array([by_level.sum(), (by_level * self.met).sum()]) + _PRECISION * off,
                [by_wish.sum()],
                self.design.T @ by_wish + _RIDGE * beta,
            ]
        )
        fit = np.sum(weight * np.where(climbed == 1, np.log(p), np.log1p(-p)))
        return float(0.5 * np.sum(_PRECISION * off**2) + 0.5 * _RIDGE * np.sum(beta**2) - fit), gradient


def _span(features: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    return features[WAITING].to_numpy(dtype=np.float64), features[MET].to_numpy(dtype=np.float64)


WISH_LOG_ODDS: Final = "climb_wish_log_odds"
_FOLDS: Final = 4
_SELECTION_ROWS: Final = 15_000  # settings of trees on features of a known kind: more rows choose the same ones


class ClimbClassifier(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Half a `HazardModel`, half a `PropensityClassifier` that has the wish model's word, out of fold, as a feature.

    The first knows how a climb comes about, the second corrects it where the data say otherwise; their log odds are
    averaged, as both err and not in the same places.

    Args:
        random_state: seed of folds and trees.

    Attributes:
        wishes_: one wish model a fold; their log odds are averaged.
        intercept_: of the calibration of the wish models' log odds.
        slope_: of the same.
        classifier_: the general classifier.
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, features: pd.DataFrame, climbed: IntArray, weight: FloatArray, groups: IntArray) -> Self:
        """Learn from pairs `(n_pairs, n_features)`, labels, how many pairs each stands for, and their accounts."""
        numbers = tuple(name for name in features.columns if name in FEATURES)
        self.wishes_: list[HazardModel] = []
        unseen_odds = np.zeros(len(features))
        for seen, unseen in GroupKFold(_FOLDS).split(features, climbed, groups):
            wish = HazardModel(numbers).fit(features.take(seen), climbed[seen], weight[seen])
            unseen_odds[unseen] = wish.log_odds(features.take(unseen))
            self.wishes_.append(wish)
        # With few climbs it is too sure of itself, which only pairs that it has not seen tell.
        self.intercept_, self.slope_ = calibrate(unseen_odds, climbed, weight)
        unseen_odds = self.intercept_ + self.slope_ * unseen_odds
        self.classifier_ = PropensityClassifier(
            folds=_FOLDS,
            selection_rows=_SELECTION_ROWS,
            numbers=(*numbers, WISH_LOG_ODDS),
            random_state=self.random_state,
        )
        self.classifier_.fit(features.assign(**{WISH_LOG_ODDS: unseen_odds}), climbed, weight, groups=groups)
        return self

    def decision_function(self, features: pd.DataFrame) -> FloatArray:
        """Return the log odds that each pair climbs, `(n_pairs,)`."""
        mean = np.mean([model.log_odds(features) for model in self.wishes_], axis=0)
        wish = self.intercept_ + self.slope_ * mean
        general = self.classifier_.decision_function(features.assign(**{WISH_LOG_ODDS: wish}))
        return np.asarray((wish + general) / 2, dtype=np.float64)
