"""What accounts bought for the first time within the horizon, and all pairs that calibration is judged over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import BoolArray, RowArray, sparse_lookup
from recsys.data.history import SECONDS_A_DAY, History, binary, epoch_seconds
from recsys.evaluation.offline.calibration import ScoredPairs, tail_probability
from recsys.ladder.upgrade_events import EdgeRows, UpgradeEventConfig, find_upgrade_events


@dataclass(frozen=True)
class GroundTruth:
    """The accounts that are scored and what would have been the right offers to them.

    Attributes:
        accounts: rows of the scored accounts in the history, ascending, shape `(n,)`.
        relevant: 1 where the account made the truth come true with the product, `(n, n_products)`.
        revenue: money the account spent on that product within the horizon, `(n, n_products)`.
    """

    accounts: NDArray[np.int32]
    relevant: sp.csr_array
    revenue: sp.csr_array

    def __len__(self) -> int:
        return len(self.accounts)


def ground_truth(history: History, cutoff: datetime, horizon_days: float) -> GroundTruth:
    """Return the products that accounts bought for the first time in `[cutoff, cutoff + horizon_days)`.

    Scored are the accounts with an order before the cutoff and at least one such product: accounts that are new
    have no history to rank from, and accounts without a novel purchase would only scale every ranking metric.

    Example:
        >>> truth = novel_purchases(history, datetime(2011, 6, 1), 30)  # doctest: +SKIP
    """
    future = history.between(cutoff, horizon_days).known()
    shape = (history.n_accounts, history.n_products)
    # A first purchase is judged over the whole history: what was bought before the cutoff is not novel.
    first = history.first_purchases().between(cutoff, horizon_days)
    return ground_truth_of(
        known_accounts(history, cutoff),
        binary(first.account, first.product, shape),
        _revenue(future, shape),
    )


def ground_truth_of(eligible: NDArray[np.bool_], relevant: sp.csr_array, revenue: sp.csr_array) -> GroundTruth:
    """Return the truth over the accounts that are eligible and have something relevant.

    Args:
        eligible: shape `(n_accounts,)`.
        relevant: 0/1, `(n_accounts, n_products)`.
        revenue: money within the horizon, of any product, `(n_accounts, n_products)`.
    """
    accounts = np.flatnonzero(eligible & (np.diff(relevant.indptr) > 0)).astype(np.int32)
    chosen = relevant[accounts]
    return GroundTruth(accounts, chosen, sp.csr_array(revenue[accounts].multiply(chosen)))


def known_accounts(history: History, cutoff: datetime) -> NDArray[np.bool_]:
    """Return whether each account has an order before the cutoff, shape `(n_accounts,)`."""
    past = history.before(cutoff).known()
    return np.bincount(past.account, minlength=history.n_accounts) > 0


def _revenue(future: History, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.coo_array((future.revenue, (future.account, future.product)), shape=shape).tocsr()
    matrix.sum_duplicates()
    return matrix


def rung_climbs(
    history: History,
    cutoff: datetime,
    horizon_days: float,
    edges: EdgeRows,
    config: UpgradeEventConfig,
) -> GroundTruth:
    """Return the higher rungs that accounts climbed to in `[cutoff, cutoff + horizon_days)`.

    Scored are the accounts that stood on a lower rung at the cutoff and climbed from it; who first steps on the ladder
    within the horizon had nothing to be offered at the cutoff. Whether a purchase is a climb is judged on what follows
    it, also beyond the horizon.

    Args:
        history: the whole history.
        cutoff: where the past ends.
        horizon_days: days after it.
        edges: the ladder's edges as product rows; frozen before the first cutoff.
        config: what counts as standing and as a climb.
    """
    shape = (history.n_accounts, history.n_products)
    bought = find_upgrade_events(history, edges, config)
    low = epoch_seconds(cutoff)
    within = bought.climbed & (bought.seconds >= low) & (bought.seconds < low + horizon_days * SECONDS_A_DAY)
    account, edge = bought.account[within], bought.edge[within]
    stood = sparse_lookup(history.before(cutoff).owned(), account, edges.lower[edge]) > 0
    future = history.between(cutoff, horizon_days).known()
    climbed = binary(account[stood], edges.upper[edge][stood], shape)
    return ground_truth_of(known_accounts(history, cutoff), climbed, _revenue(future, shape))


def cross_sell_pairs(
    history: History,
    cutoff: datetime,
    horizon_days: float,
    account: RowArray,
    product: RowArray,
    probability: NDArray[np.floating],
    *,
    weight: NDArray[np.floating] | None = None,
) -> ScoredPairs:
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
    hits, chosen, listed_weight = (
        sparse_lookup(positive, account, product) > 0,
        probability[listed],
        stands_for[account],
    )
    n_unlisted = float(stands_for @ eligible - listed_weight.sum())
    before = _eligible_and_positive(history, cutoff - timedelta(days=horizon_days), horizon_days)
    rate = before[1].nnz / before[0].sum() if before[0].any() else 0.0
    listed_expected = float(listed_weight @ chosen)
    return ScoredPairs(
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
    owned = sparse_lookup(past.owned(), account, product) > 0
    return known_accounts(history, cutoff)[account] & _sold(past)[product] & ~owned


def _sold(past: History) -> BoolArray:
    return np.bincount(past.product, minlength=past.n_products) > 0
