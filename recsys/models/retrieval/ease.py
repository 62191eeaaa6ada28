"""EASE, turned forward: from what accounts own to what accounts add now, with a closed form."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import scipy.sparse as sp
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, RowArray
from recsys.contracts.config import Config
from recsys.models.retrieval.retriever import take_head
from recsys.models.snapshot import Snapshot

Target = Literal["owned", "recent", "fresh"]


class EaseConfig(Config):
    """What is regressed on what, and how much is shrunk.

    Attributes:
        targets: one channel each: what accounts own (the plain EASE), bought recently, or bought first, lately.
        penalty: added to the diagonal of the Gram matrix, in means of it over owned products: it suits any market.
        half_life_days: an owned product counts half after so many days.
        recent_half_life_days: a recent purchase counts half after so many days.
        fresh_half_life_days: a first purchase counts half after so many days.
        max_products: products of the head; the inverse takes their cube in time.
    """

    targets: tuple[Target, ...] = Field(default=("owned", "recent", "fresh"), min_length=1)
    penalty: float = Field(default=10.0, gt=0)
    half_life_days: float = Field(default=180.0, gt=0)
    recent_half_life_days: float = Field(default=20.0, gt=0)
    fresh_half_life_days: float = Field(default=30.0, gt=0)
    max_products: int = Field(default=2_500, ge=1)


class EaseRetriever(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    r"""score(u, .) = x_u B, where B minimises `|Y - X B|^2 + penalty |B|^2` with a zero diagonal.

    With `P = (X^T X + penalty I)^-1` and `Q = P X^T Y`: `B = Q - P diag(diag(Q) / diag(P))`. With Y = X that is EASE
    (Steck, Embarrassingly shallow autoencoders for sparse data, 2019, eq. 8); with Y the first purchases of late it
    says which owned products speak for what is added *now*, and carries launches and the season with it. X and Y are
    decayed by age. Negative scores are evidence too.
    """

    def __init__(self, config: EaseConfig | None = None) -> None:
        self.config = config

    @property
    def channels(self) -> tuple[str, ...]:
        """One channel a target."""
        return tuple(f"ease_{target}" for target in (self.config or EaseConfig()).targets)

    def fit(self, snapshot: Snapshot) -> Self:
        """Invert the Gram matrix of the head and solve for each target."""
        config = self.config or EaseConfig()
        self.head_ = take_head(snapshot, config.max_products)
        self.profile_ = self.head_.of(snapshot.decayed(config.half_life_days))
        gram = (self.profile_.T @ self.profile_).toarray().astype(np.float32)
        bought = np.diag(gram)[np.diag(gram) > 0]  # what nobody owns yet may not move the penalty
        gram[np.diag_indices_from(gram)] += np.float32(config.penalty * (bought.mean() if len(bought) else 1.0))
        inverse = np.linalg.inv(gram)
        wanted = [self.head_.of(_target(snapshot, target, config)) for target in config.targets]
        self.weights_ = [_zero_diagonal(inverse, (self.profile_.T @ target).toarray()) for target in wanted]
        return self

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return the scores of the head for each target; products outside it score 0."""
        check_is_fitted(self)
        profile = self.profile_[accounts]
        return np.stack([self.head_.spread(np.asarray(profile @ weights)) for weights in self.weights_])


def _target(snapshot: Snapshot, target: Target, config: EaseConfig) -> sp.csr_array:
    if target == "fresh":
        return snapshot.newly_bought(5 * config.fresh_half_life_days, config.fresh_half_life_days)
    return snapshot.decayed(config.half_life_days if target == "owned" else config.recent_half_life_days)


def _zero_diagonal(inverse: AnyFloatArray, products: AnyFloatArray) -> AnyFloatArray:
    """Return B for `P` and `X^T Y`, both `(n_head, n_head)`."""
    weights: AnyFloatArray = inverse @ products.astype(np.float32)
    weights -= inverse * (np.diag(weights) / np.diag(inverse))[None, :]
    np.fill_diagonal(weights, 0.0)
    return weights
