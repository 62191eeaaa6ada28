"""All pairs of eligible accounts and products that calibration is judged over."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import BoolArray, RowArray, values_at
from recsys.data.history import History, binary
from recsys.evaluation.offline.calibration import Pairs, tail_probability
from recsys.evaluation.offline.ground_truth import known_accounts


def cross_sell_pairs(
    history: History,
    cutoff: datetime,
    horizon_days: float,
    account: RowArray,
    product: RowArray,
    probability: NDArray[np.floating],
    *,
    weight: NDArray[np.floating] | None = None,
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
        weight: how many accounts each account stands for, `(n_accounts,)`; 0 for those that a sample left out.
            Default: 1 each.
    """
    stands_for = np.ones(history.n_accounts) if weight is None else weight.astype(np.float64)
    eligible, positive = _eligible_and_positive(history, cutoff, horizon_days)
    listed = _eligible(history, cutoff, account, product) & (stands_for[account] > 0)
    account, product = account[listed], product[listed]
    hits, chosen, listed_weight = values_at(positive, account, product) > 0, probability[listed], stands_for[account]
    n_unlisted = float(stands_for @ eligible - listed_weight.sum())
    before = _eligible_and_positive(history, cutoff - timedelta(days=horizon_days), horizon_days)
    rate = before[1].nnz / before[0].sum() if before[0].any() else 0.0
    listed_expected = float(listed_weight @ chosen)
    return Pairs(
        probability=chosen.astype(np.float64),
        positive=hits,
        n_unlisted=round(n_unlisted),
        n_unlisted_positive=round(float(stands_for @ np.diff(positive.indptr) - listed_weight[hits].sum())),
        tail_probability=tail_probability(float(rate * (stands_for @ eligible)), listed_expected, round(n_unlisted)),
        weight=listed_weight,
        account=account,
    )


def _eligible_and_positive(
    history: History, cutoff: datetime, horizon_days: float
) -> tuple[NDArray[np.float64], sp.csr_array]:
    """How many pairs of each account are eligible, `(n_accounts,)`, and which pairs come true."""
    past = history.before(cutoff)
    accounts, products = known_accounts(history, cutoff), _sold(past)
    n_pairs = np.where(accounts, float(products.sum()) - np.diff(past.owned().indptr), 0.0)
    first = history.first_purchases().between(cutoff, horizon_days)
    first = first.select(accounts[first.account] & products[first.product])
    return n_pairs, binary(first.account, first.product, (history.n_accounts, history.n_products))


def _eligible(history: History, cutoff: datetime, account: RowArray, product: RowArray) -> BoolArray:
    past = history.before(cutoff)
    owned = values_at(past.owned(), account, product) > 0
    return known_accounts(history, cutoff)[account] & _sold(past)[product] & ~owned


def _sold(past: History) -> BoolArray:
    return np.bincount(past.product, minlength=past.n_products) > 0
