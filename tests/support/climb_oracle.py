"""The climb probability that an oracle knows who is told all that was planted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import numpy as np
import pandas as pd

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY, epoch_seconds
from recsys.simulation.catalogue import climb_rate
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import Market
from recsys.simulation.replenishment import tenure_days
from recsys.simulation.seasonality import Seasonality, build_clock
from recsys.simulation.truth import (
    CLIMBED_AT,
    HAZARD,
    INCLUSION,
    LAPSE_PROBABILITY,
    LOG_QUANTITY_GROWTH,
    LOG_QUANTITY_RATIO,
    LOG_RATE,
    ORDERS_PER_DAY,
    STANDING_SINCE,
    PlantedTruth,
)

TENURE_DAYS: Final = "tenure_days"
_LAST_ORDER: Final = "last_order"
_LAST_REFILL: Final = "last_refill"
_EDGE_ENDS: Final = (c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID)
_YEAR_DAYS: Final = 365.0


def climb_probabilities(market: Market, as_of: datetime, horizon_days: int) -> pd.DataFrame:
    """Return the probability that each account climbs from each rung it stands on at `as_of` within the horizon.

    It is what an oracle can say that knows every planted parameter, each account's own rate of orders and chance to
    lapse among them, and sees the orders before `as_of`; `market_inference` has the one that must infer
    those two, as anybody must. The wish came
    before day u with probability 1 - e^(-h (u - t)), t the last replenishment and h the hazard a day half-way. The
    first replenishment after it meets it: at order rate r (a busy day), inclusion q and lapse probability d, an
    account that has not lapsed replenishes within b busy days with probability
    q / (q + (1 - q) d) (1 - e^(-r (q + (1 - q) d) b)). Whether it has lapsed is not seen: b busy days after its last
    order it has not with probability (1 - d) e^(-rb) / ((1 - d) e^(-rb) + d) (BG/NBD at known rates: Fader, Hardie,
    Lee 2005), and it stays so with e^(-rdb).

    Args:
        market: its configuration, truth and order lines.
        as_of: the cutoff; nothing at or after it is used.
        horizon_days: length of the window `[as_of, as_of + horizon_days)`.

    Returns:
        `account_id from_product_id to_product_id tenure_days hazard_per_30_days probability`, one row for each rung
        stood on; the hazard is 30 times that of the day of `as_of`.
    """
    watch = Watch.over(market.config, market.truth, market.orders, as_of, horizon_days)
    rate, lapse = (watch.rows[name].to_numpy() for name in (ORDERS_PER_DAY, LAPSE_PROBABILITY))
    return watch.table(_alive(rate, lapse, watch.idle) * watch.climbs(rate, lapse))


@dataclass(frozen=True)
class Watch:
    """What a window does to the rungs stood on at its start, before anything is said of who still orders.

    Attributes:
        rows: the planted hazards of the rungs stood on, `(n_rows,)`.
        now: first second of the window.
        clock: of the market.
        busy: busy days since the start of the market at the start of each day of the window, and at its end.
        idle: busy days since the last order of each row's account, `(n_rows,)`.
        wishes: probability that each row's wish comes on each day, the time since the last replenishment counted to
            the first day, `(n_days, n_rows)`.
    """

    rows: pd.DataFrame
    now: int
    clock: Seasonality
    busy: FloatArray
    idle: FloatArray
    wishes: FloatArray

    @classmethod
    def over(
        cls, config: MarketConfig, truth: PlantedTruth, orders: pd.DataFrame, as_of: datetime, horizon_days: int
    ) -> Self:
        """Return the window `[as_of, as_of + horizon_days)`."""
        now = epoch_seconds(as_of)
        rows = _standing_rows(truth, orders, pd.Timestamp(now, unit="s", tz="UTC"))
        clock = build_clock(config)
        edges = now + np.arange(horizon_days + 1) * SECONDS_A_DAY
        busy, last = clock.busy_days(edges), moments(rows[_LAST_REFILL])
        wished = [
            -np.expm1(-_hazard(rows, last + (edge - last) // 2) * (edge - last) / SECONDS_A_DAY) for edge in edges[:-1]
        ]
        wishes = np.diff(np.vstack([np.zeros(len(rows)), *wished]), axis=0)
        return cls(rows, now, clock, busy, busy[0] - clock.busy_days(moments(rows[_LAST_ORDER])), wishes)

    def climbs(self, rate: FloatArray | float, lapse: FloatArray | float) -> FloatArray:
        """Return the probability of a climb of accounts that have not lapsed, by rate and chance of lapsing."""
        inclusion = self.rows[INCLUSION].to_numpy()
        met = inclusion + (1.0 - inclusion) * lapse
        probability = np.zeros(len(self.rows))
        for wish, start in zip(self.wishes, self.busy[:-1], strict=True):
            replenishes = inclusion / met * -np.expm1(-rate * met * (self.busy[-1] - start))
            probability += wish * np.exp(-rate * lapse * (start - self.busy[0])) * replenishes
        return probability

    def table(self, probability: FloatArray) -> pd.DataFrame:
        """Return the rows with a probability each, as `climb_probabilities` states them."""
        rows = self.rows
        return pd.DataFrame(
            {
                c.ACCOUNT_ID: rows[c.ACCOUNT_ID].to_numpy(),
                c.FROM_PRODUCT_ID: rows[c.FROM_PRODUCT_ID].to_numpy(),
                c.TO_PRODUCT_ID: rows[c.TO_PRODUCT_ID].to_numpy(),
                TENURE_DAYS: (self.now - moments(rows[STANDING_SINCE])) // SECONDS_A_DAY,
                HAZARD: 30.0 * _hazard(rows, np.full(len(rows), self.now)),
                c.PROBABILITY: probability,
            }
        )


def _alive(rate: FloatArray, lapse: FloatArray, idle_busy_days: FloatArray) -> FloatArray:
    silent = (1.0 - lapse) * np.exp(-rate * idle_busy_days)
    return silent / (silent + lapse)


def _standing_rows(truth: PlantedTruth, orders: pd.DataFrame, now: pd.Timestamp) -> pd.DataFrame:
    """Return the hazards of the rungs stood on, with the account's last order and last replenishment before now."""
    hazards = truth.hazards
    rows = hazards[(hazards[STANDING_SINCE] < now) & ~(hazards[CLIMBED_AT] < now)]
    before = orders[orders[c.ORDERED_AT] < now]
    last_order = before.groupby(c.ACCOUNT_ID)[c.ORDERED_AT].max().rename(_LAST_ORDER).reset_index()
    edges = truth.upgrade_edges
    rungs = pd.concat([edges[[name, c.FAMILY]].set_axis([c.PRODUCT_ID, c.FAMILY], axis=1) for name in _EDGE_ENDS])
    refills = before.merge(rungs.drop_duplicates(), on=c.PRODUCT_ID, validate="many_to_one")
    key = [c.ACCOUNT_ID, c.FAMILY]
    last_refill = refills.groupby(key)[c.ORDERED_AT].max().rename(_LAST_REFILL).reset_index()
    rows = rows.merge(last_order, on=c.ACCOUNT_ID, validate="many_to_one")
    return rows.merge(last_refill, on=key, validate="many_to_one")


def _hazard(rows: pd.DataFrame, moment: IntArray) -> FloatArray:
    """Return the hazard a day at a moment of each row, shape `(n_rows,)`."""
    since = moments(rows[STANDING_SINCE])
    years = (moment - since) / (_YEAR_DAYS * SECONDS_A_DAY)
    ratio = rows[LOG_QUANTITY_RATIO].to_numpy() + rows[LOG_QUANTITY_GROWTH].to_numpy() * years
    return climb_rate(rows[LOG_RATE].to_numpy(), tenure_days(moment, since), ratio)


def moments(times: pd.Series) -> IntArray:
    """Return times as seconds since 1970-01-01 UTC."""
    seconds: IntArray = times.dt.tz_localize(None).astype("datetime64[s]").to_numpy().astype(np.int64)
    return seconds
