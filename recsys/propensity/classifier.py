"""The general classifier: calibrated probabilities of a yes or no from any account table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from recsys.errors import DataError
from recsys.propensity.account_table import EncodedTable, TableEncoder
from recsys.propensity.combination import Choice, choose, row_losses
from recsys.propensity.learners import (
    BoostingLearner,
    BoostingSetting,
    Learner,
    LogisticLearner,
    LogisticSetting,
    boosting_settings,
    logistic_settings,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int_]
Rows = NDArray[np.intp]
Setting = LogisticSetting | BoostingSetting
Splits = list[tuple[Rows, Rows]]

_FEWEST_OF_A_CLASS = 10  # below, folds would hold too few of the rarer class to judge anything
_FEWEST_ROWS_OF_BOOSTING = 300  # below, trees can't beat a plain regression


@dataclass(frozen=True)
class CrossFit:
    """One learner with one setting, fitted on each fold.

    Attributes:
        setting: of the learner.
        models: one a fold.
        odds: log odds of each row by the model that has not seen it.
        loss: log loss of the odds.
    """

    setting: Setting
    models: list[Learner]
    odds: FloatArray
    loss: float


class PropensityClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Chooses between logistic regression, gradient boosting and their blend; returns calibrated probabilities.

    The settings of each learner are chosen by the log loss of a small cross-validation. The winners are fitted on
    `folds` folds; their out-of-fold log odds `z` decide between the learners and calibrate the choice:
    `p = sigmoid(a + b (w z_boosting + (1 - w) z_logistic))`. The blend is kept unless a single learner's log loss is
    lower by more than one standard error of the difference. The fold models together are the model: their log odds are
    averaged.

    Any pandas table goes in: numbers, booleans, times, text, categories, missing values, levels never seen before.
    With fewer than ten rows of the rarer class it falls back to a strongly regularised logistic regression.

    Args:
        folds: folds of the final fit, 2 or more; more cost time and gain little.
        selection_folds: folds of the search for settings.
        selection_rows: rows of the search for settings at most, drawn at random.
        numbers: columns that are known to count or measure: never taken for codes of a category.
        random_state: seed of folds, draws and trees.

    Attributes:
        classes_: the two labels, sorted; probabilities are of the second in column 1.
        choice_: which learner or blend was chosen, its calibration, and the log loss of each by cross-validation.
        settings_: the chosen setting of each learner.
        n_features_in_: number of columns.
        feature_names_in_: their names.

    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"visits": rng.poisson(3, 400), "region": rng.choice(["north", "south"], 400)})
    >>> bought = (table["visits"] + rng.normal(0, 1, 400) > 3).astype(int)
    >>> model = PropensityClassifier(folds=3).fit(table, bought)
    >>> model.predict_proba(pd.DataFrame({"visits": [0, 9], "region": ["north", "west"]}))[:, 1].round() .tolist()
    [0.0, 1.0]
    """

    def __init__(
        self,
        folds: int = 5,
        selection_folds: int = 3,
        selection_rows: int = 40_000,
        numbers: tuple[str, ...] = (),
        random_state: int = 0,
    ) -> None:
        self.folds = folds
        self.selection_folds = selection_folds
        self.selection_rows = selection_rows
        self.numbers = numbers
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Learn from a table `(n_rows, n_columns)`, labels `(n_rows,)` and, where given, row weights.

        Raises:
            DataError: the labels are not of two classes, are not one a row, or a weight is negative.
        """
        frame = _frame(X)
        self.classes_, target = _two_classes(y, len(frame))
        weight = _weights(sample_weight, len(frame))
        self.n_features_in_ = frame.shape[1]
        self.feature_names_in_ = np.array([str(name) for name in frame.columns], dtype=object)
        self.encoder_ = TableEncoder(self.numbers).fit(frame)
        table = self.encoder_.transform(frame)
        rarer = int(np.bincount(target, minlength=2).min())
        if rarer < _FEWEST_OF_A_CLASS:
            return self._fit_small(table, target, weight)
        return self._fit_folds(table, target, weight, min(self.folds, rarer))

    def predict_proba(self, X: pd.DataFrame) -> FloatArray:  # noqa: N803
        """Return calibrated probabilities of both classes, `(n_rows, 2)`."""
        positive = expit(self.decision_function(X))
        return np.column_stack([1.0 - positive, positive])

    def decision_function(self, X: pd.DataFrame) -> FloatArray:  # noqa: N803
        """Return the calibrated log odds of the second class, `(n_rows,)`."""
        check_is_fitted(self)
        table = self.encoder_.transform(_frame(X, self.feature_names_in_))
        odds = {name: _mean_odds(models, table) for name, models in self.models_.items()}
        return self.choice_.log_odds(odds)

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:  # noqa: N803
        """Return the more probable label of each row, `(n_rows,)`."""
        labels: NDArray[Any] = self.classes_[(self.decision_function(X) > 0).astype(int)]
        return labels

    def _fit_small(self, table: EncodedTable, y: IntArray, weight: FloatArray) -> Self:
        setting = LogisticSetting(0.01, 0, codes=False)
        self.settings_: dict[str, Setting] = {"logistic": setting}
        self.models_: dict[str, list[Learner]] = {"logistic": [self._learner(setting).fit(table, y, weight)]}
        self.choice_ = Choice.alone("logistic")
        return self

    def _fit_folds(self, table: EncodedTable, y: IntArray, weight: FloatArray, folds: int) -> Self:
        options = self._settings(len(y))
        splits = _splits(y, folds, self.random_state)
        if len(y) > self.selection_rows:
            sample = _stratified_sample(y, self.selection_rows, self.random_state)
            chosen = self._search(options, table.take(sample), y[sample], weight[sample])
            options = {name: [fit.setting] for name, fit in chosen.items()}
        fits = self._search(options, table, y, weight, splits)
        self.choice_ = choose({name: fit.odds for name, fit in fits.items()}, y, weight)
        self.settings_ = {name: fit.setting for name, fit in fits.items()}
        self.models_ = {name: fits[name].models for name in self.choice_.shares}
        return self

    def _search(
        self,
        options: dict[str, list[Setting]],
        table: EncodedTable,
        y: IntArray,
        weight: FloatArray,
        splits: Splits | None = None,
    ) -> dict[str, CrossFit]:
        """Return each learner's cross-fit with the setting of the least out-of-fold log loss."""
        if splits is None:
            splits = _splits(y, min(self.selection_folds, int(np.bincount(y).min())), self.random_state + 1)
        best = {}
        for name, settings in options.items():
            fits = (self._cross_fit(setting, table, y, weight, splits) for setting in settings)
            best[name] = min(fits, key=lambda fit: fit.loss)
        return best

    def _settings(self, n_rows: int) -> dict[str, list[Setting]]:
        has_codes = bool(self.encoder_.code_numbers.any())
        settings: dict[str, list[Setting]] = {"logistic": [*logistic_settings(has_codes=has_codes)]}
        if n_rows >= _FEWEST_ROWS_OF_BOOSTING:
            settings["boosting"] = [*boosting_settings(has_codes=has_codes, n_rows=n_rows)]
        return settings

    def _cross_fit(
        self, setting: Setting, table: EncodedTable, y: IntArray, weight: FloatArray, splits: Splits
    ) -> CrossFit:
        models, odds = [], np.zeros(len(y))
        for seen, unseen in splits:
            model = self._learner(setting).fit(table.take(seen), y[seen], weight[seen])
            odds[unseen] = model.log_odds(table.take(unseen))
            models.append(model)
        return CrossFit(setting, models, odds, float(np.average(row_losses(odds, y), weights=weight)))

    def _learner(self, setting: Setting) -> Learner:
        if isinstance(setting, LogisticSetting):
            return LogisticLearner(self.encoder_.n_levels, self.encoder_.code_levels, setting)
        return BoostingLearner(self.encoder_.code_numbers, self.encoder_.code_levels, setting, self.random_state)


def _mean_odds(models: list[Learner], table: EncodedTable) -> FloatArray:
    return np.asarray(np.mean([model.log_odds(table) for model in models], axis=0), dtype=np.float64)


def _frame(X: ArrayLike | pd.DataFrame, names: NDArray[np.object_] | None = None) -> pd.DataFrame:  # noqa: N803
    if isinstance(X, pd.DataFrame):
        return X
    array = np.asarray(X)
    if array.ndim != 2:
        raise DataError(f"X has {array.ndim} dimensions, must have 2: rows and columns. Reshape your data")
    return pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])] if names is None else names)


def _two_classes(y: ArrayLike, n_rows: int) -> tuple[NDArray[Any], IntArray]:
    labels = np.asarray(y)
    if labels.shape != (n_rows,):
        raise DataError(f"y has shape {labels.shape}, must be ({n_rows},): one label a row")
    check_classification_targets(labels)
    classes, target = np.unique(labels, return_inverse=True)
    if len(classes) != 2:
        raise DataError(f"y holds {len(classes)} classes, must hold 2; give rows of both outcomes")
    return classes, target


def _weights(sample_weight: ArrayLike | None, n_rows: int) -> FloatArray:
    weight = np.ones(n_rows) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_rows,) or (weight < 0).any():
        raise DataError(f"sample_weight has shape {weight.shape}, must be ({n_rows},) and at least 0 each")
    return weight


def _splits(y: IntArray, folds: int, seed: int) -> Splits:
    return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y))


def _stratified_sample(y: IntArray, n: int, seed: int) -> Rows:
    """Return `n` rows at random, each class in its share, in order."""
    if len(y) <= n:
        return np.arange(len(y))
    rng = np.random.default_rng(seed)
    parts = []
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        take = max(round(n * len(rows) / len(y)), min(len(rows), _FEWEST_OF_A_CLASS))
        parts.append(rng.choice(rows, take, replace=False))
    return np.sort(np.concatenate(parts))
