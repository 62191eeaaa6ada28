"""What the accounts on an edge do on the whole: how often they climb it, how much and how regularly they take."""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from recsys.arrays import FloatArray
from recsys.data.history import SECONDS_A_DAY
from recsys.ladder.empirical_bayes import fit_beta_prior, fit_beta_weight, shrink_means
from recsys.ladder.upgrade_events import NEVER, EdgePairs
from recsys.models.upgrade.snapshot import ClimbSnapshot, orders_standing, standing_end, usual_log_quantity

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
