"""EASE: a linear item-to-item model in closed form."""

from __future__ import annotations

from datetime import datetime
from typing import Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri

from recsys.arrays import RowArray
from recsys.backtesting.baseline import BlockBaseline, FloatMatrix
from recsys.data.history import History

# The inverse of a dense matrix of this many products takes 8 s and 0.8 GB on two cores.
HEAD_SIZE = 6_000


class Ease(BlockBaseline):
    """Products by `X B` with `B` the ridge regression of each product on all others, its diagonal zero.

    `P = (X'X + penalty I)^-1`, `B_ij = -P_ij / P_jj`. Over the `head_size` products with the most accounts, because
    the inverse costs their number cubed. Source: Steck (2019), Embarrassingly Shallow Autoencoders, equation 8.
    """

    def __init__(self, penalty: float = 500.0, head_size: int = HEAD_SIZE) -> None:
        self.penalty = penalty
        self.head_size = head_size
        self.name = f"EASE {penalty:g}"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Solve for the weights between the products of the head."""
        self.owned_ = history.before(cutoff).owned()
        counts = np.bincount(self.owned_.indices, minlength=history.n_products)
        bought = np.flatnonzero(counts)
        self.head_ = np.sort(bought[np.argsort(-counts[bought], kind="stable")[: self.head_size]])
        self.weights_ = ease_weights(self.owned_[:, self.head_], self.penalty)
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        scores = np.zeros((len(accounts), self.owned_.shape[1]), dtype=np.float32)
        scores[:, self.head_] = self.owned_[accounts][:, self.head_] @ self.weights_
        return scores


def ease_weights(purchases: sp.csr_array, penalty: float) -> NDArray[np.float32]:
    """Return the EASE weights of a row x product matrix, antecedent by consequent, `(n_products, n_products)`."""
    gram = np.asarray((purchases.T @ purchases).todense(), dtype=np.float64)
    gram[np.diag_indices_from(gram)] += penalty
    inverse = _inverse(gram)
    weights = -inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(weights, 0.0)
    return weights.astype(np.float32)


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a symmetric, positive definite matrix, by its Cholesky factor: half the work of a general one."""
    factor, _ = dpotrf(matrix, lower=True)
    half, _ = dpotri(factor, lower=True)
    whole: NDArray[np.float64] = np.tril(half) + np.tril(half, -1).T
    return whole
