"""What is predicted: the products that an account buys for the first time within the horizon."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import scipy.sparse as sp

from recsys.data.history import History, binary


def novel_purchases(history: History, cutoff: datetime, horizon_days: float) -> sp.csr_array:
    """Return which product each account bought first in `[cutoff, cutoff + horizon_days)`, `(n_accounts, n_products)`.

    Only accounts with a line before the cutoff count: an account's first order is no cross-sell.
    """
    standing = np.zeros(history.n_accounts, dtype=bool)
    standing[history.before(cutoff).known().account] = True
    first = history.first_purchases().between(cutoff, horizon_days)
    novel = first.select(standing[first.account])
    return binary(novel.account, novel.product, (history.n_accounts, history.n_products))
