"""EASE on the head of the catalogue: the linear item-to-item model with a closed form."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field

from recsys.contracts.config import Config
from recsys.data.history import IntArray
from recsys.propensity.retrieval.head import take_head
from recsys.propensity.snapshot import FloatArray, Snapshot


class EaseConfig(Config):
    """How much is shrunk, and on what.

    Attributes:
        penalty: lambda, added to the diagonal of the Gram matrix of decayed purchases.
        half_life_days: a purchase counts half after so many days.
        max_products: products of the head; the inverse takes their cube in time.
    """

    penalty: float = Field(default=100.0, gt=0)
    half_life_days: float = Field(default=180.0, gt=0)
    max_products: int = Field(default=2_500, ge=1)


class Ease:
    r"""score(u, .) = x_u B with `B = I - P diag(1 / diag(P))`, `P = (X^T X + penalty I)^-1` and decayed purchases X.

    Steck, Embarrassingly shallow autoencoders for sparse data, 2019, eq. 8. Negative scores are evidence too.
    """

    def __init__(self, config: EaseConfig) -> None:
        self.config = config

    @property
    def channels(self) -> tuple[str, ...]:
        """One channel."""
        return ("ease",)

    def fit(self, snapshot: Snapshot) -> Self:
        """Invert the Gram matrix of the head."""
        self.head_ = take_head(snapshot, self.config.max_products)
        self.profile_ = self.head_.of(snapshot.decayed(self.config.half_life_days))
        gram = (self.profile_.T @ self.profile_).toarray().astype(np.float32)
        gram[np.diag_indices_from(gram)] += np.float32(self.config.penalty)
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)[None, :]
        np.fill_diagonal(weights, 0.0)
        self.weights_ = weights.astype(np.float32)
        return self

    def score(self, accounts: IntArray) -> FloatArray:
        """Return the scores of the head; products outside it score 0."""
        return self.head_.spread(self.profile_[accounts] @ self.weights_)[None]
