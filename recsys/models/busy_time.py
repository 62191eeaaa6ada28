"""Busy time: days weighted by how much all accounts order, so that a quiet week is a short one.

Two months of silence in summer say less about an account than two months before Christmas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from recsys.arrays import FloatArray, IntArray
from recsys.data.history import SECONDS_A_DAY, History

_PERIOD_DAYS: Final = 7  # a week: shorter periods would follow the days of the week, longer ones miss Christmas
_PRIOR_ORDERS: Final = 50.0  # expected orders, pulls the periods of a small market to days as they are


@dataclass(frozen=True)
class BusyClock:
    """Busy days between a moment of the past and `now`; a busy day is the order volume of an average day.

    Attributes:
        knots: seconds at each end of a period, rising, `(n_periods + 1,)`; the last is `now`.
        busy: busy days from the first knot on, `(n_periods + 1,)`.
    """

    knots: IntArray
    busy: FloatArray

    @classmethod
    def of(cls, history: History, now: int) -> Self:
        """Return the clock of a history that ends before `now`.

        The intensity of a period is the orders in it over the expected ones: an account is known to be active between
        its first and its last order, and with n orders has n - 2 of them in between, spread evenly. So neither new
        accounts nor lapsed ones make a period look busy or quiet (the estimator of Breslow 1974 for a common hazard).
        """
        lines = history.known()
        first_second = int(lines.seconds.min()) if len(lines) else now
        n_periods = max(-(-(now - first_second) // (_PERIOD_DAYS * SECONDS_A_DAY)), 1)
        knots = now - np.arange(n_periods, -1, -1, dtype=np.int64) * _PERIOD_DAYS * SECONDS_A_DAY
        observed, expected = _orders_within(lines, knots)
        intensity = (observed + _PRIOR_ORDERS) / (expected + _PRIOR_ORDERS)
        busy = np.concatenate([[0.0], np.cumsum(intensity * _PERIOD_DAYS)])
        return cls(knots, busy * (_PERIOD_DAYS * n_periods / busy[-1]))

    def days_since(self, seconds: IntArray) -> FloatArray:
        """Return the busy days from each moment to `now`, shape as given."""
        return np.asarray(self.busy[-1] - np.interp(seconds, self.knots, self.busy), dtype=np.float64)


def _orders_within(lines: History, knots: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return orders between the first and the last of their account, seen and expected, of each period."""
    _, at = np.unique(lines.order, return_index=True)
    account, seconds = lines.account[at], lines.seconds[at]
    n = np.bincount(account, minlength=lines.n_accounts)
    first = np.full(lines.n_accounts, np.iinfo(np.int64).max)
    last = np.zeros(lines.n_accounts, dtype=np.int64)
    np.minimum.at(first, account, seconds)
    np.maximum.at(last, account, seconds)
    regular = (n > 2) & (last > first)
    inner = regular[account] & (seconds > first[account]) & (seconds < last[account])
    observed = np.histogram(seconds[inner], knots)[0].astype(np.float64)
    counts = np.bincount(account[inner], minlength=lines.n_accounts)[regular].astype(np.float64)
    first, last = first[regular], last[regular]
    rate = counts / (last - first)
    return observed, np.diff(_running(first, rate, knots) - _running(last, rate, knots))


def _running(start: IntArray, rate: FloatArray, knots: IntArray) -> FloatArray:
    """Return `sum of rate (knot - start)` over the starts before each knot, `(n_knots,)`."""
    order = np.argsort(start)
    rates = np.concatenate([[0.0], np.cumsum(rate[order])])
    moments = np.concatenate([[0.0], np.cumsum(rate[order] * (start[order] - knots[0]))])
    before = np.searchsorted(start[order], knots)
    return np.asarray(rates[before] * (knots - knots[0]) - moments[before], dtype=np.float64)
