"""Damped basket confidence: what goes in orders with the products the account ordered last."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import AnyFloatArray, RowArray
from recsys.contracts.config import Config
from recsys.data.history import binary
from recsys.models.retrieval.retriever import scaled_rows, take_head
from recsys.models.snapshot import Snapshot


class BasketsConfig(Config):
    """Which orders count, and how an account's last orders speak.

    Attributes:
        window_days: orders of the last so many days are counted, those without an account too.
        damping: orders added to a product's count, so that a rare one can't speak with confidence.
        half_life_days: an account's purchase speaks half as loud after so many days.
        max_products: products of the head that are paired; bounds the matrix to its square.
    """

    window_days: float = Field(default=180.0, gt=0)
    damping: float = Field(default=10.0, ge=0)
    half_life_days: float = Field(default=30.0, gt=0)
    max_products: int = Field(default=5_000, ge=1)


class BasketRetriever(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    r"""score(u, j) = sum_i x_ui c_ij / (n_i + damping) over orders.

    An order of s products counts `1 / log(2 + s)` in c and 1 in n: a pair says less where everything is ordered;
    x decays with the age of u's last purchase.
    """

    channels = ("basket_confidence",)

    def __init__(self, config: BasketsConfig | None = None) -> None:
        self.config = config

    def fit(self, snapshot: Snapshot) -> Self:
        """Count the pairs of the head in the orders of the window."""
        config = self.config or BasketsConfig()
        self.head_ = take_head(snapshot, config.max_products)
        recent = snapshot.lines.select(snapshot.age <= config.window_days)
        orders, order = np.unique(recent.order, return_inverse=True)
        baskets = self.head_.of(binary(order.astype(np.int32), recent.product, (len(orders), snapshot.shape[1])))
        n_products = np.diff(baskets.indptr)
        pairs = (baskets.T @ scaled_rows(baskets, np.log(2.0 + n_products))).toarray(order="C").astype(np.float32)
        pairs /= (np.asarray(baskets.sum(axis=0)).ravel() + max(config.damping, 1e-6))[:, None].astype(np.float32)
        np.fill_diagonal(pairs, 0.0)
        self.confidence_ = pairs
        self.profile_ = self.head_.of(snapshot.decayed(config.half_life_days))
        return self

    def score(self, accounts: RowArray) -> AnyFloatArray:
        """Return the damped confidence; products outside the head score 0."""
        check_is_fitted(self)
        return self.head_.spread(np.asarray(self.profile_[accounts] @ self.confidence_))[None]
