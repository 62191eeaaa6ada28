"""The general classifier: calibrated probabilities of a yes or no from any account table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d

from recsys.arrays import FloatArray, IntArray
from recsys.errors import DataError
from recsys.models.propensity.blending import (
    FEWEST_OF_A_CLASS,
    Blend,
    Splits,
    TrainingRows,
    choose_blend,
    row_losses,
    stratified_sample,
)
from recsys.models.propensity.encoding import EncodedTable, TableEncoder
from recsys.models.propensity.learners import (
    BoostingLearner,
    Learner,
    LogisticLearner,
    LogisticSetting,
    Setting,
    boosting_settings,
    larger,
    logistic_settings,
)

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

    def fit(
        self,
        X: ArrayLike | pd.DataFrame,  # noqa: N803
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Learn from a table `(n_rows, n_columns)`, labels `(n_rows,)` and, where given, row weights.

        Rows of one group, such as one account at several moments, stay in one fold: else a learner that remembers
        accounts would look better than it is.

        Raises:
            DataError: the labels are not of two classes, are not one a row, or a weight is negative.
        """
        frame = _frame(X)
        self.classes_, target = _two_classes(y, len(frame))
        weight = _weights(sample_weight, len(frame))
        self.n_features_in_ = frame.shape[1]
        self.feature_names_in_ = np.array([str(name) for name in frame.columns], dtype=object)
        self.encoder_ = TableEncoder(self.numbers).fit(frame)
        group = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        examples = TrainingRows(self.encoder_.transform(frame), target, weight, group)
        if examples.rarer() < FEWEST_OF_A_CLASS:
            return self._fit_small(examples)
        return self._fit_folds(examples)

    def predict_proba(self, X: ArrayLike | pd.DataFrame) -> FloatArray:  # noqa: N803
        """Return calibrated probabilities of both classes, `(n_rows, 2)`."""
        positive = expit(self.decision_function(X))
        return np.column_stack([1.0 - positive, positive])

    def decision_function(self, X: ArrayLike | pd.DataFrame) -> FloatArray:  # noqa: N803
        """Return the calibrated log odds of the second class, `(n_rows,)`."""
        check_is_fitted(self)
        table = self.encoder_.transform(_frame(X, self.feature_names_in_))
        odds = {name: _mean_odds(models, table) for name, models in self.models_.items()}
        return self.choice_.log_odds(odds)

    def predict(self, X: ArrayLike | pd.DataFrame) -> NDArray[Any]:  # noqa: N803
        """Return the more probable label of each row, `(n_rows,)`."""
        likely = (self.decision_function(X) > 0).astype(int)
        labels: NDArray[Any] = self.classes_[likely]
        return labels

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def _fit_small(self, examples: TrainingRows) -> Self:
        setting = LogisticSetting(0.01, 0, codes=False)
        self.settings_: dict[str, Setting] = {"logistic": setting}
        model = self._learner(setting).fit(examples.table, examples.y, examples.weight)
        self.models_: dict[str, list[Learner]] = {"logistic": [model]}
        self.choice_ = Blend("logistic", {"logistic": 1.0})
        return self

    def _fit_folds(self, examples: TrainingRows) -> Self:
        options = self._settings(len(examples.y), examples.rarer())
        if len(examples.y) > self.selection_rows:
            sample = examples.take(stratified_sample(examples.y, self.selection_rows, self.random_state))
            chosen = self._search(options, sample, sample.splits(self.selection_folds, self.random_state + 1))
            options = {name: larger(fit.setting) for name, fit in chosen.items()}
        fits = self._search(options, examples, examples.splits(self.folds, self.random_state))
        self.choice_ = choose_blend({name: fit.odds for name, fit in fits.items()}, examples.y, examples.weight)
        self.settings_ = {name: fit.setting for name, fit in fits.items()}
        self.models_ = {name: fits[name].models for name in self.choice_.shares}
        return self

    def _search(self, options: dict[str, list[Setting]], examples: TrainingRows, splits: Splits) -> dict[str, CrossFit]:
        """Return each learner's cross-fit with the setting of the least out-of-fold log loss."""
        best = {}
        for name, settings in options.items():
            fits = (self._cross_fit(setting, examples, splits) for setting in settings)
            best[name] = min(fits, key=lambda fit: fit.loss)
        return best

    def _settings(self, n_rows: int, n_rarer: int) -> dict[str, list[Setting]]:
        has_codes = bool(self.encoder_.code_numbers.any())
        settings: dict[str, list[Setting]] = {"logistic": [*logistic_settings(has_codes=has_codes)]}
        if n_rows >= _FEWEST_ROWS_OF_BOOSTING and (self.encoder_.number_names or self.encoder_.level_names):
            settings["boosting"] = [*boosting_settings(has_codes=has_codes, n_rarer=n_rarer)]
        return settings

    def _cross_fit(self, setting: Setting, examples: TrainingRows, splits: Splits) -> CrossFit:
        models, odds = [], np.zeros(len(examples.y))
        for seen, unseen in splits:
            rows = examples.take(seen)
            model = self._learner(setting).fit(rows.table, rows.y, rows.weight)
            odds[unseen] = model.log_odds(examples.table.take(unseen))
            models.append(model)
        loss = float(np.average(row_losses(odds, examples.y), weights=examples.weight))
        return CrossFit(setting, models, odds, loss)

    def _learner(self, setting: Setting) -> Learner:
        if isinstance(setting, LogisticSetting):
            return LogisticLearner(self.encoder_.n_levels, self.encoder_.code_levels, setting)
        return BoostingLearner(self.encoder_.code_numbers, self.encoder_.code_levels, setting, self.random_state)


def _mean_odds(models: list[Learner], table: EncodedTable) -> FloatArray:
    return np.asarray(np.mean([model.log_odds(table) for model in models], axis=0), dtype=np.float64)


def _frame(X: ArrayLike | pd.DataFrame, names: NDArray[np.object_] | None = None) -> pd.DataFrame:  # noqa: N803
    if isinstance(X, pd.DataFrame):
        return X
    if sp.issparse(X):
        raise TypeError("sparse input is not supported; give a pandas frame or a dense array, X.toarray()")
    array = np.asarray(X)
    if array.ndim != 2:
        raise DataError(f"X has {array.ndim} dimensions, must have 2: rows and columns. Reshape your data")
    if 0 in array.shape:
        what = "sample" if array.shape[0] == 0 else "feature"
        raise DataError(f"0 {what}(s) (shape={array.shape}) while a minimum of 1 is required.")
    if names is None:
        return pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
    if array.shape[1] != len(names):
        raise DataError(
            f"X has {array.shape[1]} features, but PropensityClassifier is expecting {len(names)} features as input; "
            "give the columns that were fitted"
        )
    return pd.DataFrame(array, columns=names)


def _two_classes(y: ArrayLike, n_rows: int) -> tuple[NDArray[Any], IntArray]:
    if y is None:
        raise DataError("this estimator requires y to be passed, but the target y is None; give one label a row")
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = column_or_1d(labels, warn=True)
    if labels.shape != (n_rows,):
        raise DataError(f"y has shape {labels.shape}, must be ({n_rows},): one label a row")
    check_classification_targets(labels)
    classes, target = np.unique(labels, return_inverse=True)
    if len(classes) > 2:
        kind = type_of_target(labels)
        raise DataError(f"Only binary classification is supported. The type of the target is {kind}; give two classes")
    if len(classes) != 2:
        raise DataError(f"y holds {len(classes)} classes, must hold 2; give rows of both outcomes")
    return classes, target


def _weights(sample_weight: ArrayLike | None, n_rows: int) -> FloatArray:
    weight = np.ones(n_rows) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_rows,) or (weight < 0).any():
        raise DataError(f"sample_weight has shape {weight.shape}, must be ({n_rows},) and at least 0 each")
    return weight
