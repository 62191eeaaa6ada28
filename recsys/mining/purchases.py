"""An index over (account, product): when it was bought, how much, and sums over any window of time.

One sort of the lines, then every question is two binary searches and a difference of running sums, for any number of
pairs at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import FloatArray, IntArray, RowArray
from recsys.data.history import History

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
