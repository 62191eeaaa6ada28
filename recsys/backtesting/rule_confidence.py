"""Association rules over orders, ranked by confidence."""

from __future__ import annotations

from datetime import datetime
from typing import Self

import numpy as np
import scipy.sparse as sp

from recsys.arrays import RowArray
from recsys.backtesting.baseline import BlockBaseline, FloatMatrix, diagonal
from recsys.data.history import History, binary


class RuleConfidence(BlockBaseline):
    """Products by the best confidence of a rule from anything that the account owns.

    `score_j = max over owned i of n_ij / n_i`, counts of orders (anonymous ones too) before the cutoff, rules seen
    in fewer than `min_orders` orders left out. Source: Agrawal, Imielinski and Swami (1993).
    """

    def __init__(self, min_orders: int = 10) -> None:
        self.min_orders = min_orders
        self.name = "rule confidence"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Count product pairs over orders."""
        past = history.before(cutoff)
        self.owned_ = past.owned()
        orders = binary(past.order, past.product, (history.n_orders, history.n_products))
        self.rules_ = order_confidence(orders, self.min_orders)
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        scores = np.zeros((len(accounts), self.owned_.shape[1]), dtype=np.float32)
        for row, account in enumerate(accounts):
            owned = self.owned_.indices[self.owned_.indptr[account] : self.owned_.indptr[account + 1]]
            rules = self.rules_[owned]
            np.maximum.at(scores[row], rules.indices, rules.data)
        return scores


def order_confidence(orders: sp.csr_array, min_orders: int) -> sp.csr_array:
    """Return `P(j in order | i in order)` for the pairs of at least `min_orders` orders, antecedent by consequent."""
    pairs = sp.csr_array(orders.T @ orders)
    totals = pairs.diagonal()
    pairs.setdiag(0)
    pairs.data[pairs.data < min_orders] = 0
    pairs.eliminate_zeros()
    return sp.csr_array(diagonal(1.0 / np.where(totals > 0, totals, 1.0)) @ pairs).astype(np.float32)
