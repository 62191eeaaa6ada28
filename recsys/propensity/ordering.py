"""How alive an account is: its rate of orders, how overdue it is, and what to expect of the next horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.data.history import SECONDS_A_DAY, History

FloatArray = NDArray[np.float64]

_PRIOR_ORDERS: Final = 1.5  # weight of the typical rate, in orders: one order says little about a rate
_LAPSE: Final = 0.1  # chance that an order is the last one; the order of magnitude of a wholesale trade
_SHORTEST_SPAN_DAYS: Final = 1.0
_SEASON_PRIOR_ORDERS: Final = 100.0  # a season of a small market is mostly chance: pulled to no season at all
_YEAR_DAYS: Final = 365


@dataclass(frozen=True)
class Activity:
    """Orders of each account before a moment, arrays `(n_accounts,)`; an account without an order has zeros and NaN.

    Attributes:
        orders: distinct orders.
        tenure_days: days since the first order, NaN without one.
        idle_days: days since the last order, NaN without one.
        rate: orders a day while active, shrunk to the typical rate: `(orders - 1 + w) / (span + w * typical gap)`.
        alive: probability that it has not lapsed: `(1 - d) e^(-rate idle) / ((1 - d) e^(-rate idle) + d)`.
    """

    orders: FloatArray
    tenure_days: FloatArray
    idle_days: FloatArray
    rate: FloatArray
    alive: FloatArray


def measure_activity(history: History, now: int) -> Activity:
    """Return the activity of each account of a history that ends before `now` (seconds).

    Source of `alive`: Fader, Hardie, Lee (2005), Counting your customers the easy way, equation 7, at a known lapse
    probability.
    """
    lines, n = history.known(), history.n_accounts
    orders = count_orders(lines, np.ones(len(lines), dtype=bool))
    day = (now - lines.seconds) / SECONDS_A_DAY
    tenure, idle = np.full(n, -np.inf), np.full(n, np.inf)
    np.maximum.at(tenure, lines.account, day)
    np.minimum.at(idle, lines.account, day)
    tenure, idle = (np.where(np.isfinite(values), values, np.nan) for values in (tenure, idle))
    span = np.maximum(np.nan_to_num(tenure - idle), _SHORTEST_SPAN_DAYS)
    repeats = np.maximum(orders - 1.0, 0.0)
    gap = span[repeats > 0].sum() / max(float(repeats.sum()), 1.0) if (repeats > 0).any() else float(_YEAR_DAYS)
    rate = (repeats + _PRIOR_ORDERS) / (span + _PRIOR_ORDERS * gap)
    silent = (1.0 - _LAPSE) * np.exp(-np.minimum(rate * idle, 50.0))
    return Activity(orders, tenure, idle, rate, silent / (silent + _LAPSE))


def count_orders(lines: History, keep: NDArray[np.bool_]) -> FloatArray:
    """Return the distinct orders of each account among some lines of known accounts, `(n_accounts,)`."""
    n_orders = max(lines.n_orders, 1)
    distinct = np.unique(lines.account[keep].astype(np.int64) * n_orders + lines.order[keep])
    return np.bincount(distinct // n_orders, minlength=lines.n_accounts).astype(np.float64)


def season_shift(history: History, now: int, horizon_days: int) -> float:
    """Return the log of how busy the horizon after `now` should be, against an average one.

    Orders in the same window a year ago over the mean of that year, pulled to 0 when there are few; 0 with less than
    a year of history. Only lines before `now` are used.
    """
    year = _YEAR_DAYS * SECONDS_A_DAY
    if not len(history) or int(history.seconds.min()) > now - year:
        return 0.0
    last_year = (history.seconds >= now - year) & (history.seconds < now)
    window = last_year & (history.seconds < now - year + horizon_days * SECONDS_A_DAY)
    mean = len(np.unique(history.order[last_year])) * horizon_days / _YEAR_DAYS
    same = len(np.unique(history.order[window]))
    return float(np.log((same + _SEASON_PRIOR_ORDERS) / (mean + _SEASON_PRIOR_ORDERS)))
