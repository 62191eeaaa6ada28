"""The learned order of candidates, and whether an account buys anything new within the horizon."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from recsys.arrays import AnyFloatArray, BoolArray, informative
from recsys.contracts.config import Config
from recsys.models.binning import QuantileBins, ask_for_values


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
    """

    kind: Literal["boosting", "logistic", "blend"] = "boosting"
    n_trees: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    max_leaf_nodes: int = Field(default=31, ge=2)
    min_leaf: int = Field(default=100, ge=1)
    l2: float = Field(default=10.0, ge=0)
    max_features: float = Field(default=0.3, gt=0, le=1)
    inverse_penalty: float = Field(default=0.1, gt=0)


class Ranker:
    """Log-odds that a candidate is bought, given that its account buys something new.

    Attributes:
        used_: columns that are learned from.
        boosting_: trees over the values of those columns, or None.
        logistic_: regression over the same, or None.
    """

    def __init__(self, config: RankerConfig) -> None:
        self.config = config

    def fit(self, values: AnyFloatArray, bought: BoolArray, weight: AnyFloatArray, seed: int) -> Self:
        """Learn from candidates `(n, n_features)`, whether each was bought, and its weight."""
        config = self.config
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
                random_state=seed,
            ).fit(grid.transform(used), bought, sample_weight=weight)
            ask_for_values(self.boosting_, grid.edges_)
        if config.kind != "boosting":
            self.logistic_ = ScaledLogistic(config.inverse_penalty).fit(used, bought, weight)
        return self

    def score(self, values: AnyFloatArray) -> AnyFloatArray:
        """Return the log-odds of each candidate, shape `(n,)`."""
        used = values[:, self.used_]
        odds = []
        if self.boosting_ is not None:
            odds.append(_in_parts(self.boosting_, used))
        if self.logistic_ is not None:
            odds.append(self.logistic_.decision_function(used))
        mean: AnyFloatArray = np.mean(odds, axis=0).astype(np.float32)
        return mean


_ROWS = 2_048  # candidates that the trees look at together: their features stay in the cache from tree to tree


def _in_parts(boosting: HistGradientBoostingClassifier, values: AnyFloatArray) -> NDArray[np.float64]:
    """Return the log-odds of each row, `(n,)`; every row's is the same whatever rows stand beside it."""
    parts = [boosting.decision_function(values[start : start + _ROWS]) for start in range(0, len(values), _ROWS)]
    return np.concatenate([np.zeros(0), *parts])


class ScaledLogistic:
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


class IncidenceModel:
    """P(an account with an earlier order buys at least one product for the first time within the horizon)."""

    def __init__(self, config: ActivityConfig) -> None:
        self.config = config

    def fit(self, values: AnyFloatArray, active: BoolArray, seed: int) -> Self:
        """Learn from account features `(n, n_features)` and whether each bought something new."""
        self.rate_ = float((active.sum() + 1) / (len(active) + 2))
        self.used_ = informative(values)
        self.model_: HistGradientBoostingClassifier | None = None
        if active.any() and not active.all() and len(self.used_):
            self.model_ = HistGradientBoostingClassifier(
                max_iter=self.config.n_trees,
                learning_rate=self.config.learning_rate,
                max_leaf_nodes=self.config.max_leaf_nodes,
                min_samples_leaf=self.config.min_leaf,
                early_stopping=False,
                random_state=seed,
            ).fit(values[:, self.used_], active)
        return self

    def log_odds(self, values: AnyFloatArray) -> AnyFloatArray:
        """Return the log-odds of each account, shape `(n,)`."""
        if self.model_ is None or len(values) == 0:
            return np.full(len(values), np.log(self.rate_ / (1 - self.rate_)), dtype=np.float32)
        return np.asarray(self.model_.decision_function(values[:, self.used_]), dtype=np.float32)
