"""What is known at a moment about a ladder: who stands where, who climbed, and what accounts on an edge do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from recsys.arrays import FloatArray, IntArray, unique_sorted
from recsys.data.history import SECONDS_A_DAY, History, epoch_seconds
from recsys.ladder.edges import Ladder
from recsys.ladder.empirical_bayes import fit_beta_prior, fit_beta_weight, shrink_means
from recsys.ladder.upgrade_events import (
    NEVER,
    EdgePairs,
    EdgeRows,
    PurchaseIndex,
    UpgradeEventConfig,
    UpgradeEvents,
    find_upgrade_events,
    pair_up,
)
from recsys.models.order_process import OrderActivity, measure_activity

_SPAN: Final = 2**34  # seconds; beyond any time in the data


@dataclass(frozen=True)
class ClimbSnapshot:
    """All that is known at `now` about accounts, edges and who stands where; nothing at or after `now` is in it.

    Attributes:
        history: the lines strictly before `now`.
        now: the moment, seconds since 1970-01-01 UTC.
        index: who bought what before `now`.
        edges: rows of the ladder's edges.
        standing: the pairs that may climb: bought the lower rung within `standing_days`, never the higher one.
        past: first purchases of a higher rung before `now`, judged on lines before `now`.
        exposed: all pairs that ever bought the lower rung, those that have bought the higher one since too.
        recent: seconds from which on a purchase is recent.
    """

    history: History
    now: int
    index: PurchaseIndex
    edges: EdgeRows
    standing: EdgePairs
    past: UpgradeEvents
    exposed: EdgePairs
    recent: int

    @classmethod
    def at(
        cls, history: History, ladder: Ladder, config: UpgradeEventConfig, as_of: datetime, recent_days: int = 90
    ) -> ClimbSnapshot:
        """Return what is known strictly before `as_of`, the last `recent_days` of it as recent."""
        before = history.before(as_of)
        now = epoch_seconds(as_of)
        index = PurchaseIndex.of(before)
        edges = ladder.rows(before)
        pairs = pair_up(index, edges)
        fresh = (pairs.upper == NEVER) & (now - index.last[pairs.lower] <= config.standing_days * SECONDS_A_DAY)
        past = find_upgrade_events(before, edges, config)
        recent = now - recent_days * SECONDS_A_DAY
        return cls(before, now, index, edges, pairs.select(fresh), past, pairs, recent)

    @cached_property
    def activity(self) -> OrderActivity:
        """How alive each account is at `now`, by the law of those that ever stood on a rung."""
        return measure_activity(self.history, self.now, unique_sorted(self.exposed.account))

    @cached_property
    def order_moments(self) -> IntArray:
        """`account * _SPAN + seconds` of each order of a known account, sorted, `(n_orders,)`."""
        lines = self.history.known()
        n_orders = max(lines.n_orders, 1)
        _, first = np.unique(lines.account.astype(np.int64) * n_orders + lines.order, return_index=True)
        return np.sort(lines.account[first].astype(np.int64) * _SPAN + lines.seconds[first])


def usual_quantity(snapshot: ClimbSnapshot, pairs: EdgePairs) -> FloatArray:
    """Return the units of the lower rung that each account takes in a line on average, `(n_pairs,)`."""
    sums = snapshot.index.sums(pairs.lower, 0, snapshot.now)
    return np.maximum(sums.quantity, 1e-9) / np.maximum(sums.lines, 1.0)


def usual_log_quantity(snapshot: ClimbSnapshot, pairs: EdgePairs) -> FloatArray:
    """Return the mean log of the units of the lower rung in a line, `(n_pairs,)`: one large order moves it little."""
    sums = snapshot.index.sums(pairs.lower, 0, snapshot.now)
    return sums.log_quantity / np.maximum(sums.lines, 1.0)


def orders_standing(snapshot: ClimbSnapshot, pairs: EdgePairs) -> FloatArray:
    """Return the orders of each pair's account while it stood on the edge, the one that began it included."""
    account = pairs.account.astype(np.int64) * _SPAN
    since, until = account + snapshot.index.first[pairs.lower], account + standing_end(snapshot, pairs)
    moments = snapshot.order_moments
    return (np.searchsorted(moments, until) - np.searchsorted(moments, since)).astype(np.float64)


def standing_end(snapshot: ClimbSnapshot, pairs: EdgePairs) -> IntArray:
    """Return until when each pair stood on the lower rung only: its first purchase of the higher one, or now."""
    end = np.full(len(pairs), snapshot.now, dtype=np.int64)
    bought = pairs.upper != NEVER
    end[bought] = snapshot.index.first[pairs.upper[bought]]
    return end


def recent_buyers(snapshot: ClimbSnapshot) -> FloatArray:
    """Return how many accounts bought each product recently, `(n_products,)`."""
    recent = snapshot.index.last >= snapshot.recent
    return np.bincount(snapshot.index.product[recent], minlength=snapshot.history.n_products).astype(np.float64)


_MOST_PAIRS: Final = 20_000  # two parameters need no more


def peer_rates(snapshot: ClimbSnapshot, n_edges: int, horizon_days: int) -> FloatArray:
    """Return how often accounts that stand on each edge climb it within a horizon, `(n_edges,)`, empirical Bayes.

    A trial is one horizon that one account stood on the edge (rounded up), a success a climb.
    """
    days = (standing_end(snapshot, snapshot.exposed) - snapshot.index.first[snapshot.exposed.lower]) / SECONDS_A_DAY
    return _shrunk_climbs(snapshot, np.ceil(np.maximum(days, 0.0) / horizon_days), n_edges)


def climbs_a_purchase(snapshot: ClimbSnapshot, n_edges: int) -> FloatArray:
    """Return the share of the purchases on each edge that are climbs, `(n_edges,)`, empirical Bayes.

    A trial is a purchase of the lower rung while the account stood on it, or the climb itself: unlike a rate in time
    it does not mix how willing peers are with how often they order.
    """
    exposed = snapshot.exposed
    lines = snapshot.index.sums(exposed.lower, 0, standing_end(snapshot, snapshot.exposed)).lines
    return _shrunk_climbs(snapshot, lines, n_edges)


def peer_quantities(snapshot: ClimbSnapshot, group: NDArray[np.int32]) -> FloatArray:
    """Return the log of the usual quantity of all accounts that ever stood on an edge of its group, `(n_edges,)`.

    Shrunk towards the mean of all groups: a few accounts say little about what a product is usually bought in.

    Args:
        snapshot: what is known.
        group: of each edge, `(n_edges,)`, from 0; every edge its own, or all of a ladder together.
    """
    logs = usual_log_quantity(snapshot, snapshot.exposed)
    of_pair = group[snapshot.exposed.edge]
    counts, total, squares = (
        np.bincount(of_pair, weights=weights, minlength=int(group.max(initial=-1)) + 1).astype(np.float64)
        for weights in (np.ones_like(logs), logs, logs**2)
    )
    return shrink_means(counts, total, squares)[group]


def ladder_of_edge(snapshot: ClimbSnapshot) -> NDArray[np.int32]:
    """Return which ladder each edge belongs to: edges that share a product are of one, `(n_edges,)`."""
    n = snapshot.history.n_products + 1  # a rung that the history does not know is the last node
    lower, upper = snapshot.edges.lower % n, snapshot.edges.upper % n
    joined = sp.coo_array((np.ones(len(lower)), (lower, upper)), shape=(n, n))
    of_product = connected_components(joined, directed=False)[1]
    return np.unique(of_product[lower], return_inverse=True)[1].astype(np.int32)


def peer_order_shares(snapshot: ClimbSnapshot, n_edges: int) -> FloatArray:
    """Return the part of the orders of all accounts on each edge that restock it, `(n_edges,)`, empirical Bayes.

    Trials are an account's orders after the one that put it on the edge, until it bought the higher rung, that order
    included; each has the lower rung, or the higher one in its place, or neither.
    """
    exposed = snapshot.exposed
    restocked, orders = _repeats(snapshot, exposed)
    successes, trials = (
        np.bincount(exposed.edge, weights=weights, minlength=n_edges).astype(np.float64)
        for weights in (restocked, orders)
    )
    return fit_beta_prior(successes, trials).rate(successes, trials)


def orders_share(snapshot: ClimbSnapshot, pairs: EdgePairs, peers: FloatArray) -> FloatArray:
    """Return the part of each account's orders that restock the edge, `(n_pairs,)`, empirical Bayes.

    Args:
        snapshot: what is known.
        pairs: some of the snapshot's standing pairs.
        peers: of all accounts on each edge, `(n_edges,)`; an account that has few orders does as they do.
    """
    some = _some(snapshot.standing)
    weight = fit_beta_weight(*_repeats(snapshot, some), peers[some.edge])
    restocked, orders = _repeats(snapshot, pairs)
    return (restocked + weight * peers[pairs.edge]) / (orders + weight)


def _repeats(snapshot: ClimbSnapshot, pairs: EdgePairs) -> tuple[FloatArray, FloatArray]:
    lines = snapshot.index.sums(pairs.lower, 0, standing_end(snapshot, pairs)).lines
    restocked = lines - 1.0 + (pairs.upper != NEVER)
    orders = orders_standing(snapshot, pairs) - 1.0 + (pairs.upper != NEVER)
    return restocked, np.maximum(orders, restocked)


def _some(pairs: EdgePairs) -> EdgePairs:
    keep = np.zeros(len(pairs), dtype=bool)
    keep[:: max(len(pairs) // _MOST_PAIRS, 1)] = True
    return pairs.select(keep)


def _shrunk_climbs(snapshot: ClimbSnapshot, trials: FloatArray, n_edges: int) -> FloatArray:
    climbed = np.bincount(snapshot.past.edge[snapshot.past.climbed], minlength=n_edges).astype(np.float64)
    stood = np.bincount(snapshot.exposed.edge, weights=trials, minlength=n_edges) + climbed
    return fit_beta_prior(climbed, stood).rate(climbed, stood)
