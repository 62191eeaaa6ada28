"""How alive an account is: its rate of orders, how overdue it is, and what to expect of the next horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, expit, gammaln

from recsys.data.history import SECONDS_A_DAY, History

FloatArray = NDArray[np.float64]

_START: Final = (1.0, 60.0, 0.5, 4.0)  # an order in two months, one in nine the last
_MOST_ACCOUNTS: Final = 20_000  # four parameters need no more
_SEASON_PRIOR_ORDERS: Final = 100.0  # a season of a small market is mostly chance: pulled to no season at all
_YEAR_DAYS: Final = 365


@dataclass(frozen=True)
class Activity:
    """Orders of each account before a moment, arrays `(n_accounts,)`; an account without an order has zeros and NaN.

    Attributes:
        orders: distinct orders.
        tenure_days: days since the first order, NaN without one.
        idle_days: days since the last order, NaN without one.
        rate: expected orders a day while active.
        alive: probability that it has not lapsed.
    """

    orders: FloatArray
    tenure_days: FloatArray
    idle_days: FloatArray
    rate: FloatArray
    alive: FloatArray


class OrderLaw(NamedTuple):
    """Order rates are Gamma(r, alpha) across accounts; after each order one lapses with a Beta(a, b) chance."""

    r: float
    alpha: float
    a: float
    b: float

    def rate(self, repeats: FloatArray, tenure: FloatArray) -> FloatArray:
        """Return the posterior mean of the rate of accounts that are active, orders a day."""
        return (self.r + repeats) / (self.alpha + tenure)

    def alive(self, repeats: FloatArray, tenure: FloatArray, idle: FloatArray) -> FloatArray:
        """Return the probability that each account has not lapsed."""
        silence = np.log(self.alpha + tenure) - np.log(self.alpha + tenure - idle)
        odds = np.log(self.a / (self.b + repeats)) + (self.r + repeats) * silence
        return np.asarray(expit(-odds), dtype=np.float64)


def fit_order_law(repeats: FloatArray, tenure: FloatArray, idle: FloatArray) -> OrderLaw:
    """Return the law of orders under which a history is most likely (MBG/NBD; times in days).

    Source: Batislam, Denizel, Filiztekin (2007), Empirical validation and comparison of models for customer base
    analysis, equation 3: the BG/NBD model with a chance to lapse after the first order too.
    """
    until_last = tenure - idle

    def loss(logs: FloatArray) -> float:
        r, alpha, a, b = np.exp(logs)
        common = gammaln(r + repeats) - gammaln(r) + r * np.log(alpha) - betaln(a, b)
        alive = betaln(a, b + repeats + 1) - (r + repeats) * np.log(alpha + tenure)
        lapsed = betaln(a + 1, b + repeats) - (r + repeats) * np.log(alpha + until_last)
        return -float(np.mean(common + np.logaddexp(alive, lapsed)))

    best = minimize(loss, np.log(_START), method="L-BFGS-B", bounds=[(-5, 5), (-2, 9), (-6, 5), (-3, 7)]).x
    return OrderLaw(*(float(value) for value in np.exp(best)))


def measure_activity(history: History, now: int) -> Activity:
    """Return the activity of each account of a history that ends before `now` (seconds)."""
    lines, n = history.known(), history.n_accounts
    orders = count_orders(lines, np.ones(len(lines), dtype=bool))
    day = (now - lines.seconds) / SECONDS_A_DAY
    tenure, idle = np.full(n, -np.inf), np.full(n, np.inf)
    np.maximum.at(tenure, lines.account, day)
    np.minimum.at(idle, lines.account, day)
    seen = orders > 0
    rate, alive = np.full(n, np.nan), np.full(n, np.nan)
    repeats = orders[seen] - 1.0
    if seen.any():
        sample = slice(None, None, max(len(repeats) // _MOST_ACCOUNTS, 1))
        law = fit_order_law(repeats[sample], tenure[seen][sample], idle[seen][sample])
        rate[seen], alive[seen] = law.rate(repeats, tenure[seen]), law.alive(repeats, tenure[seen], idle[seen])
    return Activity(orders, np.where(seen, tenure, np.nan), np.where(seen, idle, np.nan), rate, alive)


def count_orders(lines: History, keep: NDArray[np.bool_]) -> FloatArray:
    """Return the distinct orders of each account among some lines of known accounts, `(n_accounts,)`."""
    n_orders = max(lines.n_orders, 1)
    distinct = np.unique(lines.account[keep].astype(np.int64) * n_orders + lines.order[keep])
    return np.bincount(distinct // n_orders, minlength=lines.n_accounts).astype(np.float64)


def season_shift(history: History, now: int, horizon_days: int) -> float | None:
    """Return the log of how busy the horizon after `now` should be, against an average one.

    Orders in the same window a year ago over the mean of that year, pulled to 0 when there are few; None with less
    than a year of history. Only lines before `now` are used.
    """
    year = _YEAR_DAYS * SECONDS_A_DAY
    if not len(history) or int(history.seconds.min()) > now - year:
        return None
    last_year = (history.seconds >= now - year) & (history.seconds < now)
    window = last_year & (history.seconds < now - year + horizon_days * SECONDS_A_DAY)
    mean = len(np.unique(history.order[last_year])) * horizon_days / _YEAR_DAYS
    same = len(np.unique(history.order[window]))
    return float(np.log((same + _SEASON_PRIOR_ORDERS) / (mean + _SEASON_PRIOR_ORDERS)))
