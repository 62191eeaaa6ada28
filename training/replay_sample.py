"""Some of the accounts of a large market, for a look back that a training run can afford.

What a replay asks (does the ranker beat the baselines, do the probabilities hold) is answered on a sample of accounts
as well as on all: both sides see all lines of the same accounts. A model that learned from fewer accounts is no better
for it, so that the evidence errs on the safe side.
"""

from __future__ import annotations

from dataclasses import replace

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.contracts import columns as c
from recsys.data.dataset import CleanData


def sample_accounts(
    data: CleanData, n_lines: int, most_lines: int, rng: np.random.Generator
) -> NDArray[np.object_] | None:
    """Return the ids of accounts drawn at random that have about `most_lines` of the `n_lines`; None: all fit.

    Args:
        data: whose accounts are drawn.
        n_lines: order lines of all of them.
        most_lines: order lines wanted.
        rng: draws.
    """
    if n_lines <= most_lines:
        return None
    ids: NDArray[np.object_] = data.accounts[c.ACCOUNT_ID].to_numpy(dtype=object)
    return ids[rng.random(len(ids)) < most_lines / n_lines]


def of_accounts(data: CleanData, account_ids: NDArray[np.object_]) -> CleanData:
    """Return the data of some accounts alone; lines without an account are nobody's, and left out."""
    wanted = ibis.memtable(pa.table({c.ACCOUNT_ID: pa.array(account_ids.tolist(), pa.string())}))
    orders = data.orders.semi_join(wanted, c.ACCOUNT_ID).order_by([c.ORDERED_AT, c.ORDER_ID, c.LINE_ID])
    mine = data.accounts[c.ACCOUNT_ID].isin(account_ids.tolist())
    return replace(data, orders=orders.cache(), accounts=data.accounts[mine].reset_index(drop=True))
