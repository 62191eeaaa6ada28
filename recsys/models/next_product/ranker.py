"""The learned order of candidates, and whether an account buys anything new within the horizon."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Annotated, Any, Literal, Protocol, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from recsys.arrays import AnyFloatArray, BoolArray, IntArray, informative
from recsys.contracts.config import Config
from recsys.contracts.plugins import check_plugin, installed_plugin, load_plugin
from recsys.errors import PluginError
from recsys.models.binning import QuantileBins, ask_for_values
from recsys.models.next_product.examples import LabelledCandidates, join_examples
from recsys.models.next_product.list_order import LearningObjective, ListTrees, list_lengths


class PairRanker(Protocol):
    """Orders candidates by whether they are bought: any scikit-learn classifier, cloned for each fold.

    A row is an account and a product, a column a named feature, NaN where it is missing. Where the classifier has a
    `decision_function`, that is taken for its log-odds, else they come from `predict_proba`. They are calibrated
    afterwards on a later window. A `random_state` that is None is given the seed of the fold.
    """

    def fit(self, X: pd.DataFrame, y: IntArray, sample_weight: AnyFloatArray | None = None) -> Self:  # noqa: N803
        """Learn from candidates, whether each was bought (1) or not (0), and how many each stands for."""
        ...

    def predict_proba(self, X: pd.DataFrame) -> AnyFloatArray:  # noqa: N803
        """Return the probabilities of 0 and of 1, `(n_candidates, 2)`; a row's does not depend on the others."""
        ...


def check_ranker(ranker: object) -> None:
    """Check what can be told of a ranker before it has learned anything.

    Raises:
        PluginError: it is a class, lacks a method, or takes no weights.
    """
    check_plugin("rankers", ranker, "ranker")
    if not has_fit_parameter(ranker, "sample_weight"):
        raise PluginError(
            f"ranker == {type(ranker).__name__}: its fit takes no sample_weight, must take it, because candidates that "
            "were not bought are a sample; give a classifier that does, without a pipeline around it"
        )


def unfitted_ranker(ranker: PairRanker, seed: int) -> PairRanker:
    """Return a copy that is not fitted, with the seed wherever a `random_state` was left open."""
    copied = clone(ranker, safe=False)
    if hasattr(copied, "get_params"):
        states = {name: state for name, state in copied.get_params().items() if name.split("__")[-1] == "random_state"}
        copied.set_params(**{name: seed for name, state in states.items() if state is None})
    return cast("PairRanker", copied)


def fitted_ranker(
    ranker: PairRanker, candidates: pd.DataFrame, bought: BoolArray, weight: AnyFloatArray, seed: int
) -> PairRanker:
    """Return a copy of a ranker that has learned from some candidates."""
    fitted = unfitted_ranker(ranker, seed)
    if not isinstance(ranker, Ranker):
        # A feature without any value breaks scikit-learn's boosting; where all are 0, nothing is learned from it.
        candidates = candidates.fillna(dict.fromkeys(candidates.columns[candidates.isna().all()], 0.0))
    fitted.fit(_given(fitted, candidates), bought.astype(int), sample_weight=weight)
    return fitted


def candidate_log_odds(ranker: PairRanker, candidates: pd.DataFrame) -> AnyFloatArray:
    """Return the log-odds of each candidate, `(n,)`."""
    if not len(candidates):
        return np.zeros(0, dtype=np.float32)
    candidates = _given(ranker, candidates)
    if hasattr(ranker, "decision_function"):
        return np.asarray(ranker.decision_function(candidates), dtype=np.float32)
    probability = np.asarray(ranker.predict_proba(candidates), dtype=np.float64)[:, 1]
    return np.asarray(logit(np.clip(probability, _SURE, 1.0 - _SURE)), dtype=np.float32)


def _given(ranker: PairRanker, candidates: pd.DataFrame) -> pd.DataFrame:
    """What a ranker gets to see.

    The numbers of a frame are read-only, which scikit-learn's forests do not bear where they lie row by row; where they
    lie column by column, a forest makes a copy of its own. Ours needs none.
    """
    if isinstance(ranker, Ranker):
        return candidates
    return pd.DataFrame(np.asfortranarray(candidates.to_numpy(dtype=np.float32)), columns=candidates.columns)


_SURE = 1e-6  # a forest whose trees all agree says 0 or 1, whose log-odds are not finite


class RankerConfig(Config):
    """How the order is learned.

    Attributes:
        kind: boosting, logistic, or the mean of their log-odds.
        n_trees: boosting rounds; fixed, because early stopping on pooled candidates stops on the wrong loss.
        learning_rate: shrinkage of each tree.
        max_leaf_nodes: leaves a tree.
        min_leaf: candidates a leaf must hold.
        l2: penalty on leaf values.
        max_features: share of the features that each split may look at; below 1 the trees differ and average better.
        inverse_penalty: C of the logistic regression on standardised features.
        objective: `pointwise` learns of each candidate whether it is bought; `listwise` adds trees of LightGBM that
            learn the order of each account's list, and needs the extra `lightgbm`; `auto` takes `listwise` only where
            its NDCG@10 is higher by more than chance in the windows of the past that were kept from both, never where
            LightGBM is not installed.
        plugin: a classifier of another package in place of all this, by the name of its entry point in
            `offer_engine.rankers`.
    """

    kind: Literal["boosting", "logistic", "blend"] = "boosting"
    n_trees: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    max_leaf_nodes: int = Field(default=31, ge=2)
    min_leaf: int = Field(default=100, ge=1)
    l2: float = Field(default=10.0, ge=0)
    max_features: float = Field(default=0.3, gt=0, le=1)
    inverse_penalty: float = Field(default=0.1, gt=0)
    objective: LearningObjective = "pointwise"
    plugin: Annotated[str, installed_plugin("rankers")] | None = None


class Ranker(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Log-odds that a candidate is bought, given that its account buys something new.

    Args:
        config: how the order is learned.
        random_state: seed of the trees.

    Attributes:
        classes_: 0, not bought, and 1.
        used_: columns that are learned from.
        boosting_: trees over the values of those columns, or None.
        logistic_: regression over the same, or None.
        lists_: trees over all columns that learned from whole lists, whose scores count as log-odds too; or None.
    """

    lists_: ListTrees | None = None

    def __init__(self, config: RankerConfig | None = None, random_state: int | None = None) -> None:
        self.config = config
        self.random_state = random_state

    def fit(self, X: pd.DataFrame | AnyFloatArray, y: ArrayLike, sample_weight: AnyFloatArray | None = None) -> Self:  # noqa: N803
        """Learn from candidates `(n, n_features)`, whether each was bought, and its weight."""
        config, values, bought = self.config or RankerConfig(), _values(X), np.asarray(y, dtype=bool)
        weight = np.ones(len(bought), dtype=np.float32) if sample_weight is None else sample_weight
        self.classes_ = np.array([0, 1])
        self.used_ = informative(values)
        used = values[:, self.used_]
        self.boosting_: HistGradientBoostingClassifier | None = None
        self.logistic_: ScaledLogistic | None = None
        if config.kind != "logistic":
            grid = QuantileBins().fit(used)
            self.boosting_ = HistGradientBoostingClassifier(
                max_iter=config.n_trees,
                learning_rate=config.learning_rate,
                max_leaf_nodes=config.max_leaf_nodes,
                min_samples_leaf=config.min_leaf,
                l2_regularization=config.l2,
                max_features=config.max_features,
                early_stopping=False,
                random_state=self.random_state,
            ).fit(grid.transform(used), bought, sample_weight=weight)
            ask_for_values(self.boosting_, grid.edges_)
        if config.kind != "boosting":
            self.logistic_ = ScaledLogistic(config.inverse_penalty).fit(used, bought, weight)
        return self

    def decision_function(self, X: pd.DataFrame | AnyFloatArray) -> AnyFloatArray:  # noqa: N803
        """Return the log-odds of each candidate, shape `(n,)`."""
        check_is_fitted(self)
        used = _values(X)[:, self.used_]
        odds = []
        if self.boosting_ is not None:
            odds.append(_in_parts(self.boosting_, used))
        if self.logistic_ is not None:
            odds.append(self.logistic_.decision_function(used))
        if self.lists_ is not None:
            odds.append(self.lists_.decision_function(_values(X)))
        mean: AnyFloatArray = np.mean(odds, axis=0).astype(np.float32)
        return mean

    def with_lists(self, X: pd.DataFrame | AnyFloatArray, y: BoolArray, lists: IntArray) -> Ranker:  # noqa: N803
        """Return a copy that has learned from whole lists too.

        Args:
            X: the candidates that it learned from, list after list, `(n, n_features)`.
            y: whether each was bought.
            lists: length of each list; their sum is `n`.
        """
        config, found = self.config or RankerConfig(), copy(self)
        trees = ListTrees(
            min_leaf=config.min_leaf,
            l2=config.l2,
            max_features=config.max_features,
            random_state=self.random_state,
        )
        found.lists_ = trees.fit(_values(X), y, lists)
        return found

    def predict_proba(self, X: pd.DataFrame | AnyFloatArray) -> AnyFloatArray:  # noqa: N803
        """Return the probabilities of not being bought and of being bought, `(n, 2)`."""
        positive = expit(self.decision_function(X).astype(np.float64))
        return np.column_stack([1.0 - positive, positive])

    def predict(self, X: pd.DataFrame | AnyFloatArray) -> NDArray[Any]:  # noqa: N803
        """Return 1 for each candidate that is likelier bought than not, `(n,)`."""
        return (self.decision_function(X) > 0).astype(int)


def taught_lists(ranker: PairRanker | None, pasts: Sequence[LabelledCandidates]) -> PairRanker | None:
    """Return the engine's own ranker taught by the list of each account in each past too; others as they are."""
    if not isinstance(ranker, Ranker):
        return ranker
    examples = join_examples(pasts)
    lists = np.concatenate([list_lengths(each.account) for each in pasts])
    return ranker.with_lists(examples.values, examples.bought, lists)


def default_ranker(config: RankerConfig | None = None) -> PairRanker:
    """Return the ranker that a configuration names, not fitted; by default the engine's own."""
    if config is not None and config.plugin is not None:
        plugin: PairRanker = load_plugin("rankers", config.plugin)
        return plugin
    return Ranker(config)


def _values(candidates: pd.DataFrame | AnyFloatArray) -> AnyFloatArray:
    # Not copied where all columns are one block of float32.
    if isinstance(candidates, pd.DataFrame):
        return candidates.to_numpy(dtype=np.float32)
    return np.asarray(candidates, dtype=np.float32)


_ROWS = 2_048  # candidates that the trees look at together: their features stay in the cache from tree to tree


def _in_parts(boosting: HistGradientBoostingClassifier, values: AnyFloatArray) -> NDArray[np.float64]:
    """Return the log-odds of each row, `(n,)`; every row's is the same whatever rows stand beside it."""
    parts = [boosting.decision_function(values[start : start + _ROWS]) for start in range(0, len(values), _ROWS)]
    return np.concatenate([np.zeros(0), *parts])


class ScaledLogistic(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A logistic regression on signed-log, standardised features; missing values are the mean and have a flag."""

    def __init__(self, inverse_penalty: float) -> None:
        self.inverse_penalty = inverse_penalty

    def fit(self, values: AnyFloatArray, bought: BoolArray, weight: AnyFloatArray) -> Self:
        """Learn the scale of each feature, then the weights."""
        logged = _signed_log(values)
        self.gaps_ = np.flatnonzero(np.isnan(logged).any(axis=0))
        self.mean_ = np.nan_to_num(_nan_mean(logged))
        spread = np.sqrt(np.nan_to_num(_nan_mean((logged - self.mean_) ** 2)))
        self.scale_ = np.where(spread > 0, spread, 1.0)
        model = LogisticRegression(C=self.inverse_penalty, max_iter=200, tol=1e-4)
        self.model_ = model.fit(self._design(values), bought, sample_weight=weight)
        return self

    def decision_function(self, values: AnyFloatArray) -> NDArray[np.float64]:
        """Return the log-odds, shape `(n,)`."""
        found: NDArray[np.float64] = self.model_.decision_function(self._design(values))
        return found

    def _design(self, values: AnyFloatArray) -> AnyFloatArray:
        scaled = (_signed_log(values) - self.mean_) / self.scale_
        missing = np.isnan(scaled)
        scaled[missing] = 0.0
        return np.concatenate([scaled, missing[:, self.gaps_].astype(np.float32)], axis=1)


def _signed_log(values: AnyFloatArray) -> AnyFloatArray:
    return np.sign(values) * np.log1p(np.abs(values))


def _nan_mean(values: AnyFloatArray) -> AnyFloatArray:
    seen = ~np.isnan(values)
    count = np.maximum(seen.sum(axis=0), 1)
    mean: AnyFloatArray = (np.where(seen, values, 0.0).sum(axis=0, dtype=np.float64) / count).astype(np.float32)
    return mean


class ActivityConfig(Config):
    """A small model: accounts are few and their behaviour is smooth.

    Attributes:
        n_trees: boosting rounds.
        learning_rate: shrinkage of each tree.
        max_leaf_nodes: leaves a tree.
        min_leaf: accounts a leaf must hold.
    """

    n_trees: int = Field(default=80, ge=1)
    learning_rate: float = Field(default=0.06, gt=0)
    max_leaf_nodes: int = Field(default=8, ge=2)
    min_leaf: int = Field(default=100, ge=1)


class IncidenceModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """P(an account with an earlier order buys at least one product for the first time within the horizon)."""

    def __init__(self, config: ActivityConfig | None = None, random_state: int | None = None) -> None:
        self.config = config
        self.random_state = random_state

    def fit(self, values: AnyFloatArray, active: BoolArray) -> Self:
        """Learn from account features `(n, n_features)` and whether each bought something new."""
        config = self.config or ActivityConfig()
        self.rate_ = float((active.sum() + 1) / (len(active) + 2))
        self.used_ = informative(values)
        self.model_: HistGradientBoostingClassifier | None = None
        if active.any() and not active.all() and len(self.used_):
            self.model_ = HistGradientBoostingClassifier(
                max_iter=config.n_trees,
                learning_rate=config.learning_rate,
                max_leaf_nodes=config.max_leaf_nodes,
                min_samples_leaf=config.min_leaf,
                early_stopping=False,
                random_state=self.random_state,
            ).fit(values[:, self.used_], active)
        return self

    def log_odds(self, values: AnyFloatArray) -> AnyFloatArray:
        """Return the log-odds of each account, shape `(n,)`."""
        check_is_fitted(self)
        if self.model_ is None or len(values) == 0:
            return np.full(len(values), np.log(self.rate_ / (1 - self.rate_)), dtype=np.float32)
        return np.asarray(self.model_.decision_function(values[:, self.used_]), dtype=np.float32)
