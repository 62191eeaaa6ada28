"""All pairs of eligible accounts and products that calibration is judged over."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.data.history import History, binary
from recsys.evaluation.calibration import Pairs, tail_probability
from recsys.evaluation.lookup import values_at
from recsys.evaluation.truth import known_accounts

RowArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]


def cross_sell_pairs(
    history: History,
    cutoff: datetime,
    horizon_days: float,
    account: RowArray,
    product: RowArray,
    probability: NDArray[np.floating],
    *,
    among: RowArray | None = None,
) -> Pairs:
    """Return every pair of an account and a product that it could buy for the first time, listed or not.

    Eligible are all accounts with an order before the cutoff, later buyers or not, and all products sold before the
    cutoff that the account does not own. A pair is positive if the account buys the product within the horizon. The
    pairs that are not listed share one tail probability: eligible pairs times the positive rate of the horizon before
    the cutoff, less what the lists expect (`tail_probability`); nothing at or after the cutoff is in it.

    Args:
        history: the whole history.
        cutoff: where the past ends.
        horizon_days: days after it.
        account: account row of each listed pair, `(n_listed,)`; a pair that is not eligible is left out.
        product: product row of each listed pair.
        probability: of a purchase within the horizon.
        among: only these accounts count, such as a sample of them; default: all.
    """
    wanted = np.ones(history.n_accounts, dtype=bool) if among is None else _mask(among, history.n_accounts)
    eligible, positive = _eligible_and_positive(history, cutoff, horizon_days, wanted)
    listed = _eligible(history, cutoff, account, product) & wanted[account]
    hits = values_at(positive, account[listed], product[listed]) > 0
    chosen = probability[listed].astype(np.float64)
    n_unlisted = eligible - int(listed.sum())
    before = _eligible_and_positive(history, cutoff - timedelta(days=horizon_days), horizon_days, wanted)
    expected = before[1].nnz / before[0] * eligible if before[0] else 0.0
    return Pairs(
        probability=chosen,
        positive=hits,
        n_unlisted=n_unlisted,
        n_unlisted_positive=int(positive.nnz - hits.sum()),
        tail_probability=tail_probability(expected, float(chosen.sum()), n_unlisted),
    )


def _eligible_and_positive(
    history: History, cutoff: datetime, horizon_days: float, wanted: BoolArray
) -> tuple[int, sp.csr_array]:
    """How many pairs of the accounts that count are eligible, and which of them come true."""
    past = history.before(cutoff)
    accounts, products = known_accounts(history, cutoff) & wanted, _sold(past)
    n_pairs = int(accounts.sum()) * int(products.sum()) - int(np.diff(past.owned().indptr)[accounts].sum())
    first = history.first_purchases().between(cutoff, horizon_days)
    first = first.select(accounts[first.account] & products[first.product])
    return n_pairs, binary(first.account, first.product, (history.n_accounts, history.n_products))


def _eligible(history: History, cutoff: datetime, account: RowArray, product: RowArray) -> BoolArray:
    past = history.before(cutoff)
    owned = values_at(past.owned(), account, product) > 0
    return known_accounts(history, cutoff)[account] & _sold(past)[product] & ~owned


def _mask(rows: RowArray, n: int) -> BoolArray:
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask


def _sold(past: History) -> BoolArray:
    return np.bincount(past.product, minlength=past.n_products) > 0
