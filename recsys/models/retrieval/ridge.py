"""A ridge regression that asks the question itself: from what accounts owned a month ago to what they added since."""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, RowArray
from recsys.contracts.config import Config
from recsys.models.retrieval.retriever import account_vectors, unit_rows
from recsys.models.snapshot import Snapshot


class RidgeConfig(Config):
    """What is regressed on what.

    Attributes:
        window_days: first purchases of the last so many days are the target; older ones the input.
        half_life_days: an owned product counts half after so many days without an order of it.
        idf_power: how much more a rare product says; 1 is the usual weight.
        penalty: on the squared weights; inputs and targets have length 1, so the same value suits any market.
        max_accounts: accounts that added most lately, of those that bought before; bounds the system to its square.
    """

    window_days: float = Field(default=45.0, gt=0)
    half_life_days: float = Field(default=90.0, gt=0)
    idf_power: float = Field(default=0.5, ge=0)
    penalty: float = Field(default=10.0, gt=0)
    max_accounts: int = Field(default=4_000, ge=1)


class RidgeRetriever(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    r"""score(u, p) = k(u)^T (K + penalty I)^-1 Y in the dual, with the linear kernel on IDF-weighted unit vectors.

    K_vw = x_v . x_w over what v and w owned before the window; Y_vp = first purchases of v in it (rows of length 1);
    k(u)_v = x(u) . x_v with all that u owns now. Hastie, Tibshirani, Friedman, ESL, eq. 5.63.
    """

    def __init__(self, config: RidgeConfig | None = None) -> None:
        self.config = config

    @property
    def channels(self) -> tuple[str, ...]:
        """One channel."""
        return (f"ridge_{(self.config or RidgeConfig()).window_days:g}d",)

    def fit(self, snapshot: Snapshot) -> Self:
        """Solve for the weight of every account that added something in the window."""
        config = self.config or RidgeConfig()
        before, added = _before_and_added(snapshot, config)
        learned = _learnable(before, added, config.max_accounts)
        inputs = sp.csr_array(before[learned])
        kernel = (inputs @ inputs.T).toarray().astype(np.float64)
        kernel[np.diag_indices_from(kernel)] += config.penalty
        dual = np.linalg.solve(kernel, unit_rows(sp.csr_array(added[learned])).toarray()).astype(np.float32)
        # An account owns few products and is a bit like thousands: so the weights are kept by product.
        self.weights_ = np.asarray(inputs.T.tocsr() @ dual, dtype=np.float32)
        self.vectors_ = account_vectors(snapshot, snapshot.decayed(config.half_life_days), config.idf_power)
        return self

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return what the regression expects each account to add."""
        check_is_fitted(self)
        return np.asarray(self.vectors_[accounts] @ self.weights_, dtype=np.float32)[None]


def _before_and_added(snapshot: Snapshot, config: RidgeConfig) -> tuple[sp.csr_array, sp.csr_array]:
    """Return the vectors of what accounts owned before the window, and what they added in it, newest most."""
    pairs, window = snapshot.pairs, config.window_days
    idle = np.maximum(pairs.last_age - window, 0.0)
    owned = np.where(pairs.first_age > window, np.exp2(-idle / config.half_life_days), 0.0)
    return account_vectors(snapshot, snapshot.matrix(owned), config.idf_power), snapshot.newly_bought(window, window)


def _learnable(before: sp.csr_array, added: sp.csr_array, limit: int) -> RowArray:
    n_added = np.where(np.diff(before.indptr) > 0, np.diff(added.indptr), 0)
    most = np.argsort(-n_added, kind="stable")[:limit]
    return np.sort(most[n_added[most] > 0]).astype(np.int32)
