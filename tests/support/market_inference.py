"""The climb probability that an oracle knows who has to infer from its orders how alive each account is.

It knows every law and every planted hazard, and for each account only what a seller sees: segment, key account, when it
was created, and its orders. No model of the same data can rank better on average: it is the bound, not
`climb_oracle`, which is told each account's own rate of orders and chance to lapse.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logsumexp
from scipy.stats import exponnorm, norm

from recsys.arrays import FloatArray
from recsys.contracts import columns as c
from recsys.simulation import constants
from recsys.simulation.accounts import KEY_LAPSE, KEY_RATE, KEY_RATE_OFFSET, SEGMENT_RATE
from recsys.simulation.constants import MarketConfig
from recsys.simulation.seasonality import Seasonality
from recsys.simulation.truth import PlantedTruth
from tests.support.climb_oracle import Watch, moments

_LOG_RATES: Final = np.arange(constants.REGULAR_LOG_RATE + 0.025, 3.0, 0.05)  # finer than ten orders can tell apart
_NODES: Final = 5  # of a Gauss-Hermite quadrature over the logit of the chance to lapse, whose spread is 0.3


def inferred_climb_probabilities(
    config: MarketConfig,
    truth: PlantedTruth,
    orders: pd.DataFrame,
    accounts: pd.DataFrame,
    as_of: datetime,
    horizon_days: int,
) -> pd.DataFrame:
    """Return `climb_probabilities` with each account's rate of orders and chance to lapse averaged out.

    The average is over their posterior law given the account's segment, whether it is a key account, and its orders
    before `as_of`: with x gaps up to the last order at busy day t, rate r, lapse probability d and b busy days since,
    the likelihood is r^x e^(-rt) (1 - d)^(n - 1) ((1 - d) e^(-rb) + d), and its first term in the last bracket is that
    of an account that has not lapsed.

    Args:
        config: of the market.
        truth: of the market.
        orders: `order_id account_id product_id ordered_at`, the order lines of the market.
        accounts: `account_id segment is_key_account created_at`.
        as_of: the cutoff; nothing at or after it is used.
        horizon_days: length of the window `[as_of, as_of + horizon_days)`.

    Returns:
        As `climb_probabilities`.
    """
    watch = Watch.over(config, truth, orders, as_of, horizon_days)
    ids, of_row = np.unique(watch.rows[c.ACCOUNT_ID].to_numpy(dtype=str), return_inverse=True)
    seen = _Seen.of(orders, accounts.set_index(c.ACCOUNT_ID).loc[ids], pd.Timestamp(as_of), watch)
    prior, log_rates = seen.rate_law(), np.log(config.activity) + _LOG_RATES
    total = np.full(len(ids), -np.inf)
    climbs = np.zeros(len(watch.rows))
    scale = seen.log_likelihood(log_rates, seen.lapse(0.0))[1] + prior
    scale = scale.max(axis=1, keepdims=True)  # keeps the exponentials within range; cancels in the ratio
    for node, weight in zip(*np.polynomial.hermite_e.hermegauss(_NODES), strict=True):
        lapse = seen.lapse(float(node))
        alive, either = seen.log_likelihood(log_rates, lapse)
        total = np.logaddexp(total, np.log(weight) + logsumexp(either + prior - scale, axis=1))
        joint = weight * np.exp(alive + prior - scale)
        for column, rate in enumerate(np.exp(log_rates)):
            climbs += joint[of_row, column] * watch.climbs(float(rate), lapse[of_row])
    return watch.table(climbs / np.exp(total)[of_row])


@dataclass(frozen=True)
class _Seen:
    """What a seller sees of accounts, arrays `(n_accounts,)`: orders, and busy times from the entry on."""

    segment: NDArray[np.intp]
    is_key: NDArray[np.bool_]
    orders: FloatArray
    gaps: FloatArray
    last: FloatArray
    idle: FloatArray

    @classmethod
    def of(cls, orders: pd.DataFrame, accounts: pd.DataFrame, as_of: pd.Timestamp, watch: Watch) -> Self:
        before = orders[orders[c.ORDERED_AT] < as_of].drop_duplicates([c.ACCOUNT_ID, c.ORDER_ID])
        times = before.groupby(c.ACCOUNT_ID)[c.ORDERED_AT].agg(["size", "min", "max"]).loc[accounts.index]
        count, clock = times["size"].to_numpy(dtype=np.float64), watch.clock
        first, last = _busy(clock, times["min"]), _busy(clock, times["max"])
        # Who was there before the market starts waits from its start on; who arrives later comes with an order.
        was_there = moments(accounts[c.CREATED_AT]) < clock.start
        return cls(
            segment=pd.Index(constants.SEGMENTS).get_indexer(pd.Index(accounts[c.SEGMENT])),
            is_key=accounts[c.IS_KEY_ACCOUNT].to_numpy(dtype=bool),
            orders=count,
            gaps=np.where(was_there, count, count - 1.0),
            last=last - np.where(was_there, 0.0, first),
            idle=watch.busy[0] - last,
        )

    def rate_law(self) -> FloatArray:
        """Return the log density of each rate before any order was seen, `(n_accounts, n_rates)`; not normalised."""
        mean = (constants.LOG_ORDER_RATE_MEAN + np.asarray(SEGMENT_RATE)[self.segment])[:, None]
        spread = constants.LOG_ORDER_RATE_SD
        key = exponnorm.logpdf(_LOG_RATES, KEY_RATE / spread, loc=mean + KEY_RATE * KEY_RATE_OFFSET, scale=spread)
        return np.where(self.is_key[:, None], key, norm.logpdf(_LOG_RATES, mean, spread))

    def lapse(self, node: float) -> FloatArray:
        """Return the chance to lapse so many standard deviations from the mean of its logit."""
        mean = constants.REGULAR_LAPSE_LOGIT_MEAN + KEY_LAPSE * self.is_key
        return np.asarray(expit(mean + constants.REGULAR_LAPSE_LOGIT_SD * node), dtype=np.float64)

    def log_likelihood(self, log_rates: FloatArray, lapse: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return that of the orders, `(n_accounts, n_rates)`: with the account not lapsed, and either way."""
        rates, stays = np.exp(log_rates), np.log1p(-lapse)[:, None]
        orders = self.gaps[:, None] * log_rates - self.last[:, None] * rates + (self.orders[:, None] - 1.0) * stays
        alive = stays - self.idle[:, None] * rates
        return orders + alive, orders + np.logaddexp(alive, np.log(lapse)[:, None])


def _busy(clock: Seasonality, times: pd.Series) -> FloatArray:
    return clock.busy_days(moments(times))
