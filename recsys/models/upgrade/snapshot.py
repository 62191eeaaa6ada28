"""What is known at a moment about a ladder: who stands on which rung, who climbed, how much they take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final

import numpy as np

from recsys.arrays import FloatArray, IntArray, distinct
from recsys.data.history import SECONDS_A_DAY, History, epoch_seconds
from recsys.ladder.edges import Ladder
from recsys.ladder.upgrade_events import (
    NEVER,
    ClimbConfig,
    EdgePairs,
    EdgeRows,
    PurchaseIndex,
    RungPurchases,
    find_rung_purchases,
    pair_up,
)
from recsys.models.order_process import Activity, measure_activity

RECENT_DAYS: Final = 90  # a quarter: long enough for a few orders of a business, short enough to be news
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
    """

    history: History
    now: int
    index: PurchaseIndex
    edges: EdgeRows
    standing: EdgePairs
    past: RungPurchases
    exposed: EdgePairs

    @classmethod
    def at(cls, history: History, ladder: Ladder, config: ClimbConfig, as_of: datetime) -> ClimbSnapshot:
        """Return what is known strictly before `as_of`."""
        before = history.before(as_of)
        now = epoch_seconds(as_of)
        index = PurchaseIndex.of(before)
        edges = ladder.rows(before)
        pairs = pair_up(index, edges)
        fresh = (pairs.upper == NEVER) & (now - index.last[pairs.lower] <= config.standing_days * SECONDS_A_DAY)
        past = find_rung_purchases(before, edges, config)
        return cls(before, now, index, edges, pairs.select(fresh), past, pairs)

    @cached_property
    def activity(self) -> Activity:
        """How alive each account is at `now`, by the law of those that ever stood on a rung."""
        return measure_activity(self.history, self.now, distinct(self.exposed.account))

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
    """Return how many accounts bought each product in the last quarter, `(n_products,)`."""
    recent = snapshot.index.last >= snapshot.now - RECENT_DAYS * SECONDS_A_DAY
    return np.bincount(snapshot.index.product[recent], minlength=snapshot.history.n_products).astype(np.float64)
