"""The market's clock: how busy each hour is, and how busy time turns into calendar time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from recsys.arrays import FloatArray, IntArray
from recsys.data.history import SECONDS_A_DAY, epoch_seconds
from recsys.simulation import constants
from recsys.simulation.constants import MarketConfig

PERIOD_DAYS = 30
_HOUR = 3_600


@dataclass(frozen=True)
class Seasonality:
    """Converts between seconds since 1970-01-01 UTC and busy days.

    A busy day is the order volume of an average day: with seasonality a November day is about 1.7 of them. Orders of
    an account are a Poisson process of constant rate in busy time.

    Attributes:
        knots: seconds at each full hour, from the start to a year after the end.
        busy: busy days since the start at each knot.
        start: first second of the market.
        end: first second after it.
    """

    knots: FloatArray
    busy: FloatArray
    start: int
    end: int

    @property
    def length(self) -> float:
        """Busy days of the whole market."""
        return float(self.busy_days(np.array([self.end]))[0])

    def busy_days(self, seconds: IntArray) -> FloatArray:
        """Return busy days since the start of the market."""
        return np.interp(seconds.astype(np.float64), self.knots, self.busy)

    def seconds(self, busy_days: FloatArray) -> IntArray:
        """Return the second at which so many busy days have passed."""
        return np.floor(np.interp(busy_days, self.busy, self.knots)).astype(np.int64)

    def periods(self, seconds: IntArray) -> IntArray:
        """Return the 30-day period of the market that each moment lies in, 0 first."""
        return (seconds - self.start) // (PERIOD_DAYS * SECONDS_A_DAY)


def build_clock(config: MarketConfig) -> Seasonality:
    """Return the clock of a market; the week and the office hours stay when seasonality is off."""
    start = epoch_seconds(config.start)
    end = start + config.days * SECONDS_A_DAY
    knots = np.arange(start, end + 366 * SECONDS_A_DAY + 1, _HOUR)
    hours = np.asarray(constants.ORDERS_BY_HOUR)
    weekday = np.asarray(constants.ORDERS_BY_WEEKDAY)
    rate = (hours / hours.sum())[(knots // _HOUR) % 24] * (weekday / weekday.mean())[(knots // SECONDS_A_DAY + 3) % 7]
    if config.seasonality:
        factor = np.asarray(constants.ORDERS_BY_MONTH)
        rate = rate * (factor / factor.mean())[months(knots)]
    busy = np.concatenate([[0.0], np.cumsum(rate[:-1])])
    return Seasonality(knots=knots.astype(np.float64), busy=busy, start=start, end=end)


def months(seconds: IntArray) -> IntArray:
    """Return the calendar month of each moment, 0 is January."""
    return seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12


def period_months(config: MarketConfig) -> IntArray:
    """Return the month in the middle of each 30-day period."""
    count = -(-config.days // PERIOD_DAYS)
    middle = config.start + timedelta(days=PERIOD_DAYS / 2)
    return months(epoch_seconds(middle) + np.arange(count) * PERIOD_DAYS * SECONDS_A_DAY)
