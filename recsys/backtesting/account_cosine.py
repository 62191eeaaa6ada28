"""Item-to-item likeness over accounts, with an asymmetric normalisation."""

from __future__ import annotations

from datetime import datetime
from typing import Self

import numpy as np
import scipy.sparse as sp

from recsys.arrays import RowArray
from recsys.backtesting.baseline import (
    BlockBaseline,
    Counted,
    FloatMatrix,
    diagonal,
    half_life_suffix,
    purchase_weights,
)
from recsys.data.history import History


class AccountCosine(BlockBaseline):
    """Products like those the account owns: `score_j = sum_i w_i n_ij / (n_i ** alpha * n_j ** (1 - alpha))`.

    `n_ij` is the inner product of the columns i and j of the account x product weights, `n_i` a column's squared
    norm; `alpha = 0.5` is the cosine, a larger alpha favours popular products. Source: Aiolli (2013), asymmetric
    cosine.
    """

    def __init__(self, alpha: float = 0.5, half_life_days: float | None = None, counted: Counted = "every") -> None:
        self.alpha = alpha
        self.half_life_days = half_life_days
        self.counted = counted
        self.name = f"account cosine {alpha:g}{half_life_suffix(half_life_days, counted)}"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Count the products that the same accounts bought, in a sparse product x product matrix."""
        self.owned_ = history.before(cutoff).owned()
        self.weights_ = purchase_weights(history, cutoff, self.half_life_days, self.counted)
        together = sp.csr_array(self.weights_.T @ self.weights_)
        norms = together.diagonal()
        safe = np.where(norms > 0, norms, 1.0)
        self.likeness_ = diagonal(safe**-self.alpha) @ together @ diagonal(safe ** (self.alpha - 1.0))
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        scores: FloatMatrix = (self.weights_[accounts] @ self.likeness_).toarray()
        return scores
