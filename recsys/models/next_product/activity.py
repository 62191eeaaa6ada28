"""Whether an account buys anything new within the horizon: the part of a purchase that no product explains."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingClassifier

from recsys.arrays import AnyFloatArray, BoolArray, informative
from recsys.contracts.config import Config


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


class ActivityModel:
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
