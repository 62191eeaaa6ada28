"""The classifier of climbs: the general one, with what the wish model says as a feature."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupKFold

from recsys.arrays import FloatArray, IntArray
from recsys.models.propensity.blending import calibrate
from recsys.models.propensity.classifier import PropensityClassifier
from recsys.models.upgrade.climb_wish import WishModel
from recsys.models.upgrade.features import FEATURES

WISH_LOG_ODDS: Final = "climb_wish_log_odds"
_FOLDS: Final = 4
_SELECTION_ROWS: Final = 15_000  # settings of trees on features of a known kind: more rows choose the same ones


class ClimbClassifier(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Half a `WishModel`, half a `PropensityClassifier` that has the wish model's word, out of fold, as a feature.

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
        self.wishes_: list[WishModel] = []
        unseen_odds = np.zeros(len(features))
        for seen, unseen in GroupKFold(_FOLDS).split(features, climbed, groups):
            wish = WishModel(numbers).fit(features.take(seen), climbed[seen], weight[seen])
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
