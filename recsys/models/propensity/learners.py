"""The two learners that the classifier chooses from: a regularised logistic regression and gradient boosting.

Both take an `EncodedTable`, the regression as columns of a `LinearDesign`; each has a few
settings, small enough to be tried by cross-validation.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from recsys.arrays import FloatArray
from recsys.models.binning import ask_for_values, weighted_edges
from recsys.models.propensity.encoding import MISSING, EncodedTable


class LinearDesign(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Standardised numbers, quantile bins and one-hot levels.

    A missing number is the median and has a column of its own.

    Args:
        n_levels: of each column of the levels block.
        code_levels: which of them are codes.
        bins: numbers also enter as so many quantile bins; 0 for none.
        codes: whether codes also enter as categories.
        logs: whether skewed numbers enter as `sign(x) log(1 + |x|)`.
    """

    def __init__(
        self, n_levels: list[int], code_levels: NDArray[np.bool_], bins: int = 0, *, codes: bool, logs: bool
    ) -> None:
        self.n_levels = n_levels
        self.code_levels = code_levels
        self.bins = bins
        self.codes = codes
        self.logs = logs

    def fit(self, table: EncodedTable) -> Self:
        """Learn medians, scales and bins."""
        numbers = table.numbers
        self.median_ = np.array([_median(column) for column in numbers.T])
        self.gaps_ = np.isnan(numbers).any(axis=0)
        self.logs_ = np.array([self.logs and _skewed(column) for column in numbers.T], dtype=bool)
        plain = self._plain(numbers)
        self.mean_, scale = plain.mean(axis=0), plain.std(axis=0)
        self.scale_ = np.where(scale > 0, scale, 1.0)
        self.edges_ = [_bin_edges(column, self.bins) for column in numbers.T]
        return self

    def transform(self, table: EncodedTable) -> sp.csr_array:
        """Return the design, `(n_rows, n_columns)`."""
        # The first column is empty, so that a table without any column of use still has a design.
        standard = np.clip((self._plain(table.numbers) - self.mean_) / self.scale_, -8.0, 8.0)
        blocks = [
            sp.csr_array((len(table), 1)),
            sp.csr_array(standard),
            sp.csr_array(np.isnan(table.numbers[:, self.gaps_]).astype(np.float64)),
        ]
        for column, edges in zip(table.numbers.T, self.edges_, strict=True):
            if len(edges):
                bins = np.where(np.isnan(column), MISSING, np.searchsorted(edges, column, side="right"))
                blocks.append(_one_hot(bins, len(edges) + 1))
        for column, n, code in zip(table.levels.T, self.n_levels, self.code_levels, strict=True):
            if self.codes or not code:
                blocks.append(_one_hot(column, n))
        return sp.csr_array(sp.hstack(blocks, format="csr"))

    def _plain(self, numbers: FloatArray) -> FloatArray:
        filled = np.where(np.isnan(numbers), self.median_, numbers)
        return np.where(self.logs_, np.sign(filled) * np.log1p(np.abs(filled)), filled)


def _median(column: FloatArray) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else 0.0


def _skewed(column: FloatArray) -> bool:
    known = column[~np.isnan(column)]
    spread = known.std() if len(known) else 0.0
    return bool(spread > 0 and abs(float(np.mean(((known - known.mean()) / spread) ** 3))) > 2.0)


def _bin_edges(column: FloatArray, bins: int) -> FloatArray:
    known = column[~np.isnan(column)]
    if bins == 0 or len(known) == 0:
        return np.empty(0)
    edges: FloatArray = np.unique(np.quantile(known, np.arange(1, bins) / bins))
    return np.asarray(edges[edges > known.min()], dtype=np.float64)


def _one_hot(levels: NDArray[np.int_], n: int) -> sp.csr_array:
    """Return one column a level and one for missing, `(n_rows, n + 1)`; a level of `n` or more is the last known."""
    column = np.where(levels == MISSING, n, np.minimum(levels, n - 1))
    rows = np.arange(len(levels))
    return sp.csr_array((np.ones(len(levels)), (rows, column)), shape=(len(levels), n + 1))


_MOST_LEVELS_OF_BOOSTING = 255
# Of the gradient of the mean loss: with 1 % of positives that is small from the start, and 0.001 would stop there.
_TOLERANCE = 1e-4


class Learner(Protocol):
    """What the classifier needs of a learner."""

    def fit(self, table: EncodedTable, y: NDArray[np.int_], weight: FloatArray) -> Self:
        """Learn from rows, 0/1 targets and row weights."""
        ...

    def log_odds(self, table: EncodedTable) -> FloatArray:
        """Return the log odds of the target being 1 for each row."""
        ...


class LogisticSetting(NamedTuple):
    """A setting of the logistic regression.

    Attributes:
        C: inverse strength of the ridge penalty on standardised columns.
        bins: number columns also enter as so many quantile bins; 0 for none.
        codes: whether codes also enter as categories.
        logs: whether skewed numbers enter as logarithms; which is right the data must say.
    """

    C: float
    bins: int
    codes: bool
    logs: bool = True


class LogisticLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Ridge logistic regression on a `LinearDesign`.

    Attributes:
        model_: the fitted scikit-learn model.
    """

    def __init__(
        self,
        n_levels: list[int],
        code_levels: NDArray[np.bool_],
        setting: LogisticSetting,
        max_iter: int = 300,
    ) -> None:
        self.n_levels = n_levels
        self.code_levels = code_levels
        self.setting = setting
        self.max_iter = max_iter

    def fit(self, table: EncodedTable, y: NDArray[np.int_], weight: FloatArray) -> Self:
        """Learn scales, bins and coefficients."""
        setting = self.setting
        self.design_ = LinearDesign(
            self.n_levels, self.code_levels, setting.bins, codes=setting.codes, logs=setting.logs
        ).fit(table)
        self.model_ = LogisticRegression(C=setting.C, max_iter=self.max_iter, tol=_TOLERANCE)
        self.model_.fit(self.design_.transform(table), y, sample_weight=weight)
        return self

    def log_odds(self, table: EncodedTable) -> FloatArray:
        """Return the log odds of the target being 1 for each row."""
        odds: FloatArray = self.model_.decision_function(self.design_.transform(table))
        return odds


class BoostingSetting(NamedTuple):
    """A setting of gradient boosting.

    Attributes:
        learning_rate: shrinkage of each tree.
        max_iter: trees at most.
        max_leaf_nodes: leaves of a tree.
        min_samples_leaf: rows of a leaf at least.
        l2: ridge on the leaves.
        codes: whether codes enter as categories and not as numbers.
    """

    learning_rate: float
    max_iter: int
    max_leaf_nodes: int
    min_samples_leaf: int
    l2: float
    codes: bool


class BoostingLearner(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Histogram gradient boosting on numbers and levels, missing values as they are.

    Attributes:
        model_: the fitted scikit-learn model.
    """

    def __init__(
        self,
        code_numbers: NDArray[np.bool_],
        code_levels: NDArray[np.bool_],
        setting: BoostingSetting,
        random_state: int = 0,
    ) -> None:
        self.code_numbers = code_numbers
        self.code_levels = code_levels
        self.setting = setting
        self.random_state = random_state

    def fit(self, table: EncodedTable, y: NDArray[np.int_], weight: FloatArray) -> Self:
        """Grow the trees."""
        setting = self.setting
        design, categories = self._design(table)
        self.model_ = HistGradientBoostingClassifier(
            learning_rate=setting.learning_rate,
            max_iter=setting.max_iter,
            max_leaf_nodes=setting.max_leaf_nodes,
            min_samples_leaf=setting.min_samples_leaf,
            l2_regularization=setting.l2,
            categorical_features=categories if categories.any() else None,
            early_stopping=False,
            random_state=self.random_state,
        )
        edges = [
            None if is_category else weighted_edges(column, weight)
            for column, is_category in zip(design.T, categories, strict=True)
        ]
        self.model_.fit(_on_steps(design, edges), y, sample_weight=weight)
        # scikit-learn puts categories before numbers; they have no edges.
        ask_for_values(self.model_, [edges[place] for place in np.argsort(~categories, kind="stable")])
        return self

    def log_odds(self, table: EncodedTable) -> FloatArray:
        """Return the log odds of the target being 1 for each row."""
        odds: FloatArray = self.model_.decision_function(self._design(table)[0])
        return odds

    def _design(self, table: EncodedTable) -> tuple[FloatArray, NDArray[np.bool_]]:
        as_codes = self.setting.codes
        numbers = table.numbers[:, ~self.code_numbers] if as_codes else table.numbers
        levels = table.levels if as_codes else table.levels[:, ~self.code_levels]
        categories = np.where(levels == MISSING, np.nan, np.minimum(levels, _MOST_LEVELS_OF_BOOSTING - 1))
        return np.hstack([numbers, categories]), np.arange(numbers.shape[1] + levels.shape[1]) >= numbers.shape[1]


def _on_steps(design: FloatArray, edges: list[FloatArray | None]) -> FloatArray:
    """Return the number of each value's step in the columns that have edges; missing values stay missing."""
    steps = design.copy()
    for position, known in enumerate(edges):
        if known is not None:
            column = design[:, position]
            steps[:, position] = np.where(np.isnan(column), np.nan, np.searchsorted(known, column))
    return steps


Setting = LogisticSetting | BoostingSetting


def logistic_settings(*, has_codes: bool) -> list[LogisticSetting]:
    """Return the settings of the logistic regression to try, from plain to rich."""
    plain = [LogisticSetting(C, 0, codes=False) for C in (0.01, 0.3)]
    plain.append(LogisticSetting(0.1, 0, codes=False, logs=False))
    rich = [LogisticSetting(0.1, 10, codes=has_codes)]
    coded = [LogisticSetting(0.1, 0, codes=True)] if has_codes else []
    return plain + coded + rich


def boosting_settings(*, has_codes: bool, n_rarer: int) -> list[BoostingSetting]:
    """Return the settings of gradient boosting to try, from smooth to detailed."""
    smooth, usual = (
        BoostingSetting(0.05, 60, 8, 40, 5.0, codes=False),
        BoostingSetting(0.05, 120, 16, 60, 10.0, codes=False),
    )
    settings = [smooth, usual]
    if n_rarer >= _MANY:
        settings = [usual, _DETAILED]
    return settings + ([usual._replace(codes=True)] if has_codes else [])


def larger(setting: Setting) -> list[Setting]:
    """Return the settings to try on all rows after `setting` won on a sample: more rows can bear more detail."""
    if isinstance(setting, LogisticSetting):
        return [setting]
    detailed = _DETAILED._replace(codes=setting.codes)
    return [setting] if setting == detailed else [setting, detailed]


_DETAILED = BoostingSetting(0.1, 200, 31, 60, 5.0, codes=False)
_MANY = 2_000  # rows of the rarer class from which on the smallest trees miss what the data can tell
