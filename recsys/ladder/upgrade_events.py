"""First purchases of a higher rung: climbs, add-ons, and what is only more of the same.

An account *stands* on the lower rung A of an edge A -> B at time t if it bought A within `standing_days` before t and
never bought B before t. Its first purchase of B at t is

- a **climb** if A's share falls: of what the account spends on A and B in `[t, t + follow_days)`, at most
  `max_lower_share` goes to A (before t it was all of it);
- an **add-on** otherwise: B came beside A, not in its place.

Buying A again, in whatever quantity, is **volume**: it is no purchase of a higher rung and never appears here. A bigger
pack that is a product of its own, with its own price, is a rung like any other.

An index over (account, product) answers all of this: one sort of the lines, then every question is two binary searches
and a difference of running sums, for any number of pairs at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import FloatArray, IntArray, RowArray
from recsys.contracts.config import Config
from recsys.data.history import SECONDS_A_DAY, History, codes_of

NEVER = -1


@dataclass(frozen=True)
class WindowSums:
    """What was bought in a window, arrays `(n,)`.

    Attributes:
        lines: how many.
        quantity: units.
        revenue: money.
        log_quantity: sum of the logs of each line's units.
    """

    lines: FloatArray
    quantity: FloatArray
    revenue: FloatArray
    log_quantity: FloatArray


@dataclass(frozen=True)
class PurchaseIndex:
    """The lines of known accounts, sorted by account, product and time.

    Attributes:
        key: `account * n_products + product` of each pair that was ever bought, sorted, `(n_pairs,)`.
        start: where the pair's lines start, `(n_pairs + 1,)`.
        seconds: time of each line, `(n_lines,)`, rising within a pair.
        quantity: units of each line.
        revenue: money of each line.
        n_products: size of the product vocabulary.
    """

    key: IntArray
    start: IntArray
    seconds: IntArray
    quantity: FloatArray
    revenue: FloatArray
    n_products: int
    _moment: IntArray
    _running: FloatArray
    _origin: int
    _span: int

    @classmethod
    def of(cls, history: History) -> PurchaseIndex:
        """Return the index of a history's lines that have an account."""
        lines = history.known()
        line_key = lines.account.astype(np.int64) * lines.n_products + lines.product
        order = np.argsort(line_key, kind="stable")  # lines are sorted by time, so a stable sort keeps that in a pair
        key, start = np.unique(line_key[order], return_index=True)
        seconds = lines.seconds[order]
        origin = int(seconds.min()) if len(seconds) else 0
        span = int(seconds.max()) - origin + 2 if len(seconds) else 2
        pair = np.repeat(np.arange(len(key)), np.diff(np.append(start, len(order))))
        quantity = lines.quantity[order]
        running = np.zeros((len(order) + 1, 3))
        sums = [quantity, lines.revenue[order], np.log(np.maximum(quantity, 1e-9))]
        np.cumsum(np.column_stack(sums), axis=0, out=running[1:])
        return cls(
            key=key,
            start=np.append(start, len(order)).astype(np.int64),
            seconds=seconds,
            quantity=quantity,
            revenue=lines.revenue[order],
            n_products=max(lines.n_products, 1),
            _moment=pair * span + (seconds - origin),
            _running=running,
            _origin=origin,
            _span=span,
        )

    def __len__(self) -> int:
        return len(self.key)

    @property
    def account(self) -> RowArray:
        """The account of each pair, `(n_pairs,)`, rising."""
        return (self.key // self.n_products).astype(np.int32)

    @property
    def product(self) -> RowArray:
        """The product of each pair, `(n_pairs,)`."""
        return (self.key % self.n_products).astype(np.int32)

    @property
    def first(self) -> IntArray:
        """Time of the first purchase of each pair."""
        return self.seconds[self.start[:-1]]

    @property
    def last(self) -> IntArray:
        """Time of the last purchase of each pair."""
        return self.seconds[self.start[1:] - 1]

    def find(self, account: RowArray, product: RowArray) -> IntArray:
        """Return the pair of each (account, product); `NEVER` where the account did not buy it."""
        wanted = account.astype(np.int64) * self.n_products + product
        if not len(self.key):
            return np.full(len(wanted), NEVER, dtype=np.int64)
        pair = np.searchsorted(self.key, wanted)
        found = self.key[np.minimum(pair, len(self.key) - 1)] == wanted
        return np.where(found & (product >= 0), pair, NEVER)

    def position(self, pair: IntArray, moment: IntArray | int) -> IntArray:
        """Return the first line of each pair at or after `moment`; its end where there is none."""
        offset = np.clip(np.asarray(moment, dtype=np.int64) - self._origin, 0, self._span - 1)
        return np.searchsorted(self._moment, pair * self._span + offset)

    def last_before(self, pair: IntArray, moment: IntArray | int) -> IntArray:
        """Return when each pair was last bought strictly before `moment`; `NEVER` where it was not."""
        if not len(self.key):
            return np.full(len(pair), NEVER, dtype=np.int64)
        known = np.maximum(pair, 0)
        before = self.position(known, moment) - 1
        bought = (pair != NEVER) & (before >= self.start[known])
        return np.where(bought, self.seconds[np.maximum(before, 0)], NEVER)

    def sums(self, pair: IntArray, since: IntArray | int, until: IntArray | int) -> WindowSums:
        """Return lines, units and money of each pair in `[since, until)`; zero for a pair that is `NEVER`."""
        if not len(self.key):
            zero = np.zeros(len(pair))
            return WindowSums(zero, zero, zero, zero)
        known = np.maximum(pair, 0)
        low, high = self.position(known, since), self.position(known, until)
        high = np.where(pair == NEVER, low, np.maximum(low, high))
        difference = self._running[high] - self._running[low]
        return WindowSums((high - low).astype(np.float64), difference[:, 0], difference[:, 1], difference[:, 2])


class UpgradeEventConfig(Config):
    """What counts as standing on a rung and as climbing from it."""

    standing_days: int = Field(365, ge=1)
    """Days after its last purchase of A that an account still stands on A; a year covers seasonal goods."""
    follow_days: int = Field(30, ge=1)
    """Days from the first purchase of B over which A's share is measured; about one order cycle."""
    max_lower_share: float = Field(0.5, ge=0, lt=1)
    """A's share of the spend on A and B at most, for a climb: the higher rung took over at least half."""


@dataclass(frozen=True)
class UpgradeEvents:
    """First purchases of a higher rung by accounts that stood on the lower one, arrays `(n_purchases,)`.

    Attributes:
        account: row of the account.
        edge: row of the edge.
        seconds: time of the first purchase of the higher rung.
        climbed: whether it is a climb; else an add-on.
    """

    account: RowArray
    edge: RowArray
    seconds: IntArray
    climbed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.account)


@dataclass(frozen=True)
class EdgeRows:
    """Edges as rows of a history's product vocabulary, arrays `(n_edges,)`; -1 for a product it does not know."""

    lower: RowArray
    upper: RowArray

    @classmethod
    def of(cls, history: History, from_ids: NDArray[np.object_], to_ids: NDArray[np.object_]) -> EdgeRows:
        """Return the rows of both ends of each edge."""
        return cls(codes_of(from_ids, history.product_ids), codes_of(to_ids, history.product_ids))

    def __len__(self) -> int:
        return len(self.lower)


@dataclass(frozen=True)
class EdgePairs:
    """Accounts that bought the lower rung of an edge, arrays `(n_pairs,)`, sorted by account, then edge.

    Attributes:
        account: row of the account.
        edge: row of the edge.
        lower: pair of the account and the lower rung in a `PurchaseIndex`.
        upper: pair of the account and the higher rung; `NEVER` where it was not bought.
    """

    account: RowArray
    edge: RowArray
    lower: IntArray
    upper: IntArray

    def __len__(self) -> int:
        return len(self.account)

    def select(self, keep: NDArray[np.bool_]) -> EdgePairs:
        """Return the pairs where `keep` is true."""
        return EdgePairs(self.account[keep], self.edge[keep], self.lower[keep], self.upper[keep])


def pair_up(index: PurchaseIndex, edges: EdgeRows) -> EdgePairs:
    """Return every (account, edge) whose lower rung the account ever bought."""
    known = np.flatnonzero((edges.lower >= 0) & (edges.upper >= 0))
    by_lower = known[np.argsort(edges.lower[known], kind="stable")]
    counts = np.bincount(edges.lower[by_lower], minlength=index.n_products)
    starts = np.concatenate([[0], np.cumsum(counts)])
    product = index.product
    repeats = counts[product]
    lower = np.repeat(np.arange(len(index)), repeats)
    within = np.arange(len(lower)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    edge = by_lower[starts[product[lower]] + within].astype(np.int32)
    account = index.account[lower]
    order = np.lexsort((edge, account))
    account, edge, lower = account[order], edge[order], lower[order]
    return EdgePairs(account, edge, lower, index.find(account, edges.upper[edge]))


def find_upgrade_events(history: History, edges: EdgeRows, config: UpgradeEventConfig) -> UpgradeEvents:
    """Return every first purchase of a higher rung by an account that stood on the lower one, in order of time.

    A share is measured on the lines that `history` has: near its end the follow-up is cut short.
    """
    index = PurchaseIndex.of(history)
    pairs = pair_up(index, edges)
    pairs = pairs.select(pairs.upper != NEVER)
    moment = index.first[pairs.upper] if len(pairs) else np.empty(0, dtype=np.int64)
    since = index.last_before(pairs.lower, moment)
    stood = (since != NEVER) & (moment - since <= config.standing_days * SECONDS_A_DAY)
    pairs, moment = pairs.select(stood), moment[stood]
    until = moment + config.follow_days * SECONDS_A_DAY
    lower = index.sums(pairs.lower, moment, until).revenue
    total = lower + index.sums(pairs.upper, moment, until).revenue
    share = np.divide(lower, total, out=np.zeros_like(lower), where=total > 0)
    order = np.lexsort((pairs.edge, pairs.account, moment))
    return UpgradeEvents(
        account=pairs.account[order],
        edge=pairs.edge[order],
        seconds=moment[order],
        climbed=(share <= config.max_lower_share)[order],
    )
