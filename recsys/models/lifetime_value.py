"""What each account is expected to spend in the next twelve months, and between which limits.

Orders follow the law of `recsys.models.order_process` (MBG/NBD), what an order is worth the account's own orders as far
as they are many. Nothing is discounted: twelve months are too short for it to matter beside the interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from recsys.arrays import FloatArray
from recsys.data.history import SECONDS_A_DAY, History
from recsys.models.order_process import ActivityClock, MbgNbd, count_orders, fit_order_law

YEAR_DAYS: Final = 365
COVERAGE: Final = 0.8
"""Of the interval of an account, and of the total."""

_LIMITS: Final = ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2)
_NODES: Final = 64  # places at which the chance to lapse is averaged over
_DRAWS: Final = 200
_CHUNK: Final = 20_000  # accounts drawn at a time: 200 draws of them take some 200 MB
_MOST_FITTED: Final = 20_000
_OTHERS: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # orders of like accounts that may be counted in
_LEVEL_PRIOR: Final = 0.2  # spread of the log of a year's spending about its forecast, before any was compared
_LEVEL_PRIOR_YEARS: Final = 1.0  # years of comparison that this counts as
_LEAST_REPLAY_DAYS: Final = 30
_REPLAYED_FROM: Final = (0.5, 0.67, 0.8)


@dataclass(frozen=True)
class LifetimeValues:
    """Revenue expected of each account in the next twelve months.

    Attributes:
        expected: money, `(n_accounts,)`; NaN for an account without an order.
        low: lower limit of an interval that holds what the account will spend in `COVERAGE` of the cases.
        high: its upper limit.
        total: of all accounts that have ordered, money.
        total_low: lower limit of the total's interval at `COVERAGE`.
        total_high: its upper limit.
    """

    expected: FloatArray
    low: FloatArray
    high: FloatArray
    total: float
    total_low: float
    total_high: float


class _Past(NamedTuple):
    """What is known of the accounts that have ordered, `(n,)` each; times in busy days."""

    row: NDArray[np.intp]
    orders: FloatArray
    tenure: FloatArray
    idle: FloatArray
    revenue: FloatArray


class _Spending(NamedTuple):
    """What an order is worth: expected by account, `(n,)`, and how surely that and a single order are known."""

    value: FloatArray
    spread_of_value: FloatArray  # standard deviation of the log of an account's own mean
    spread_of_order: float  # standard deviation of the log of single orders of one account


def lifetime_values(history: History, now: int, seed: int = 0) -> LifetimeValues:
    """Return what each account of a history is expected to spend in the year after `now` (seconds since 1970).

    The interval of the total holds three things: chance of single accounts, how surely what an order is worth is
    known, and how far forecasts from earlier moments of the same history missed the whole. Where a year is more than
    the history has, it can't know the season: the interval does not hold a Christmas that was never seen.
    """
    past = history.select(history.seconds < now).known()
    n = history.n_accounts
    unknown = np.full(n, np.nan)
    if len(past) == 0:
        return LifetimeValues(unknown, unknown.copy(), unknown.copy(), 0.0, 0.0, 0.0)
    found, law, days = _known_of(past, now, YEAR_DAYS)
    spending = _spending(past, found, now)
    expected = expected_orders(law, found.orders - 1, found.tenure, found.idle, days) * spending.value
    low, high, totals = _drawn(law, found, days, spending, _level_spread(past, now), np.random.default_rng(seed))

    def by_account(values: FloatArray) -> FloatArray:
        placed = unknown.copy()
        placed[found.row] = values
        return placed

    total_low, total_high = np.quantile(totals, _LIMITS)
    return LifetimeValues(
        expected=by_account(expected),
        low=by_account(np.minimum(low, expected)),
        high=by_account(np.maximum(high, expected)),
        total=float(expected.sum()),
        total_low=float(total_low),
        total_high=float(total_high),
    )


def expected_orders(law: MbgNbd, repeats: FloatArray, tenure: FloatArray, idle: FloatArray, days: float) -> FloatArray:
    """Return the orders that are expected of each account within some days, `(n,)`.

    An account that is active with rate `l` and chance to lapse `p` makes `(1 - exp(-l p t)) / p` orders in `t` days.
    Its mean over the Gamma law of the rate is `(1 - ((alpha + T) / (alpha + T + p t))^(r + x)) / p`; that over the
    Beta law of the chance to lapse is taken at quantiles. The closed form needs a hypergeometric function that
    overflows for accounts with hundreds of orders.
    """
    place = (np.arange(_NODES) + 0.5) / _NODES
    per_count = np.unique(repeats)
    lapse = np.maximum(betaincinv(law.a, (law.b + per_count + 1)[:, None], place), 1e-9)
    lapse = lapse[np.searchsorted(per_count, repeats)]
    shape = (law.r + repeats)[:, None]
    within = -np.expm1(-shape * np.log1p(lapse * days / (law.alpha + tenure)[:, None])) / lapse
    return np.asarray(law.alive(repeats, tenure, idle) * within.mean(axis=1))


def _known_of(past: History, now: int, days: float) -> tuple[_Past, MbgNbd, float]:
    """What is known at `now`, the law of the orders, and the busy days that the next `days` will have."""
    n = past.n_accounts
    clock = ActivityClock.of(past, now)
    day = clock.days_since(past.seconds)
    orders = count_orders(past, np.ones(len(past), dtype=bool))
    tenure, idle = np.full(n, -np.inf), np.full(n, np.inf)
    np.maximum.at(tenure, past.account, day)
    np.minimum.at(idle, past.account, day)
    revenue = np.bincount(past.account, weights=past.revenue, minlength=n).astype(np.float64)
    row = np.flatnonzero(orders > 0)
    found = _Past(row, orders[row], tenure[row], idle[row], revenue[row])
    sample = slice(None, None, max(len(row) // _MOST_FITTED, 1))
    law = fit_order_law(found.orders[sample] - 1, found.tenure[sample], found.idle[sample])
    return found, law, _busy_days_ahead(past, clock, now, days)


def _busy_days_ahead(past: History, clock: ActivityClock, now: int, days: float) -> float:
    """The busy days of the same days a year before; as many as there are days where the history is shorter."""
    before = np.array([now - YEAR_DAYS * SECONDS_A_DAY, now - round((YEAR_DAYS - days) * SECONDS_A_DAY)])
    if before[0] < past.seconds.min() - 7 * SECONDS_A_DAY:
        return days
    since = clock.days_since(before)
    return float(since[0] - since[1])


def _spending(past: History, found: _Past, now: int) -> _Spending:
    """Shrink what an account's orders were worth to what those of like accounts were (Buehlmann's credibility).

    The others count as many orders as foretell the later half of each account's orders best from the earlier half.
    Accounts that order often order for more, so that the others are those with as many orders, by a line in logs.
    What orders were worth is taken at the level of `now`: who goes on ordering orders for more, or less, year by year.
    """
    key = past.account.astype(np.int64) * max(past.n_orders, 1) + past.order
    each, first, at = np.unique(key, return_index=True, return_inverse=True)
    place = np.searchsorted(found.row, each // max(past.n_orders, 1))
    worth = np.bincount(at, weights=past.revenue).astype(np.float64)
    in_time = np.lexsort((past.seconds[first], place))
    place, worth = place[in_time], worth[in_time]
    years = (now - past.seconds[first][in_time]) / (YEAR_DAYS * SECONDS_A_DAY)
    worth = worth * np.exp(_growth(worth, years, place, found.orders) * years)
    begins = np.cumsum(found.orders) - found.orders
    is_early = np.arange(len(place)) - begins[place] < found.orders[place] // 2
    early, late = (_Worth.of(place[part], worth[part], len(found.row)) for part in (is_early, ~is_early))
    others = min(_OTHERS, key=lambda count: early.error(count, late))
    value = _Worth.of(place, worth, len(found.row)).shrunken(others)
    within = _within_variance(_logs(worth), place, found.orders)
    return _Spending(value, np.sqrt(within / (found.orders + others)), float(np.sqrt(within)))


class _Worth(NamedTuple):
    """Orders and their revenue by account, `(n,)`."""

    orders: FloatArray
    revenue: FloatArray

    @classmethod
    def of(cls, place: NDArray[np.intp], worth: FloatArray, n: int) -> _Worth:
        orders, revenue = np.bincount(place, minlength=n), np.bincount(place, weights=worth, minlength=n)
        return cls(orders.astype(np.float64), revenue.astype(np.float64))

    def shrunken(self, others: float) -> FloatArray:
        """What an order of each account is worth; `others` orders of like accounts are counted in."""
        seen = (self.orders > 0) & (self.revenue > 0)
        if not seen.any():
            return np.zeros(len(self.orders))
        log_orders, mean = np.log(np.maximum(self.orders, 1)), np.log(self.revenue[seen] / self.orders[seen])
        degree = int(len(np.unique(self.orders[seen])) > 1)
        line = np.polynomial.Polynomial.fit(log_orders[seen], mean, degree, w=np.sqrt(self.orders[seen]))
        like = np.exp(line(log_orders))
        like *= self.revenue[seen].sum() / (like[seen] * self.orders[seen]).sum()
        return np.asarray(np.maximum(self.revenue + others * like, 0) / np.maximum(self.orders + others, 1e-9))

    def error(self, others: float, later: _Worth) -> float:
        both = (self.orders > 0) & (later.orders > 0)
        return float(np.abs(self.shrunken(others) * later.orders - later.revenue)[both].sum())


def _logs(worth: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(worth, 0.01)))


def _growth(worth: FloatArray, years: FloatArray, place: NDArray[np.intp], orders: FloatArray) -> float:
    """Return by how much the log of an order's worth grows a year within accounts, shrunk by how surely it is known."""
    logs = _logs(worth)
    ago = years - (np.bincount(place, weights=years) / orders)[place]
    spread, free = float((ago**2).sum()), float((orders - 1).sum())
    if free == 0 or spread < 1.0:  # all within days
        return 0.0
    growth = -float((ago * logs).sum()) / spread
    return growth / (1 + _within_variance(logs, place, orders) / spread / max(growth**2, 1e-9))


def _within_variance(logs: FloatArray, place: NDArray[np.intp], orders: FloatArray) -> float:
    mean = np.bincount(place, weights=logs) / orders
    free = float((orders - 1).sum())
    return max(float(((logs - mean[place]) ** 2).sum()) / free, 1e-3) if free else 1.0


def _level_spread(past: History, now: int) -> float:
    """Return the standard deviation of the log of all accounts' spending in a year about its forecast.

    Forecasts from earlier moments of the same history are compared with what came. Their squared errors, a year's
    worth each year ahead, are averaged with a prior.
    """
    first = int(past.seconds.min())
    squares, years = _LEVEL_PRIOR**2 * _LEVEL_PRIOR_YEARS, _LEVEL_PRIOR_YEARS
    for share in _REPLAYED_FROM:
        moment = round(first + share * (now - first))
        days = min((now - moment) / SECONDS_A_DAY, YEAR_DAYS)
        if days < _LEAST_REPLAY_DAYS:
            continue
        earlier = past.select(past.seconds < moment)
        found, law, ahead = _known_of(earlier, moment, days)
        expected = expected_orders(law, found.orders - 1, found.tenure, found.idle, ahead)
        forecast = float((expected * _spending(earlier, found, moment).value).sum())
        until = moment + round(days * SECONDS_A_DAY)
        came = past.select((past.seconds >= moment) & (past.seconds < until) & np.isin(past.account, found.row))
        if forecast > 0 and came.revenue.sum() > 0:
            squares += float(np.log(came.revenue.sum() / forecast)) ** 2
            years += days / YEAR_DAYS
    return float(np.sqrt(squares / years))


def _drawn(
    law: MbgNbd, found: _Past, days: float, spending: _Spending, level_spread: float, random: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw what each account spends: limits by account, `(n,)`, and totals by draw, `(_DRAWS,)`."""
    level = np.exp(random.normal(-(level_spread**2) / 2, level_spread, _DRAWS))
    totals = np.zeros(_DRAWS)
    limits = []
    for begin in range(0, len(found.row), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        repeats, tenure = (found.orders[part] - 1)[:, None], found.tenure[part][:, None]
        shape = (len(repeats), _DRAWS)
        alive = random.random(shape) < law.alive(repeats[:, 0], tenure[:, 0], found.idle[part])[:, None]
        rate = random.gamma(law.r + repeats, 1 / (law.alpha + tenure), shape)
        lapse = np.maximum(random.beta(law.a, law.b + repeats + 1, shape), 1e-9)
        orders = np.minimum(random.poisson(rate * days), random.geometric(lapse)) * alive
        spread = spending.spread_of_value[part][:, None]
        mean = spending.value[part][:, None] * np.exp(random.normal(-(spread**2) / 2, spread, shape))
        # the sum of so many orders whose logs are spread: a Gamma law with its mean and variance
        certain = orders / np.expm1(spending.spread_of_order**2)
        spent = mean * orders * random.gamma(np.maximum(certain, 1e-6)) / np.maximum(certain, 1e-6) * level
        totals += spent.sum(axis=0)
        limits.append(np.quantile(spent, _LIMITS, axis=1))
    low, high = np.concatenate(limits, axis=1)
    return low, high, totals
