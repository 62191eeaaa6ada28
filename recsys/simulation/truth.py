"""What was planted, as tables (pairs, edges, hazards), and the climb probability that an oracle knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import numpy as np
import pandas as pd

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY, epoch_seconds
from recsys.simulation import constants
from recsys.simulation.blocks import MarketBlock, MarketWorld
from recsys.simulation.catalogue import NONE, SUBSTITUTE_AVOIDANCE, Catalogue, climb_rate, family_labels, segment_effect
from recsys.simulation.constants import MarketConfig
from recsys.simulation.replenishment import tenure_days
from recsys.simulation.seasonality import Seasonality, build_clock

STRENGTH: Final = "strength"
SUBSTITUTE_ID: Final = "substitute_id"
AVOIDANCE: Final = "avoidance"
INCLUSION: Final = "inclusion"
LOG_EDGE_RATE: Final = "log_edge_rate"
USUAL_QUANTITY: Final = "usual_quantity"
STANDING_SINCE: Final = "standing_since"
CLIMBED_AT: Final = "climbed_at"
ORDERS_PER_DAY: Final = "orders_per_day"
LAPSE_PROBABILITY: Final = "lapse_probability"
LOG_RATE: Final = "log_rate"
LOG_QUANTITY_RATIO: Final = "log_quantity_ratio"
LOG_QUANTITY_GROWTH: Final = "log_quantity_growth_per_year"
HAZARD: Final = "hazard_per_30_days"


@dataclass(frozen=True)
class PlantedTruth:
    """The planted truth as tables.

    Attributes:
        complements: `antecedent_id consequent_id strength`: an order with the antecedent gets the consequent because
            of it with probability `strength`; not the other way round. The pairs are disjoint: none chains.
        substitutes: `product_id substitute_id avoidance`, both directions: of two that would stand in one order, the
            second is left out with probability `avoidance`.
        upgrade_edges: `from_product_id to_product_id family price_ratio inclusion log_edge_rate usual_quantity`: an
            order of an account with the need replenishes it with probability `inclusion`; `log_edge_rate` is the
            edge's part of the log hazard a day; `usual_quantity` is the family's, in units.
        hazards: one row for each account and rung it stood on: `account_id from_product_id to_product_id family
            standing_since climbed_at` (null: not climbed), `orders_per_day` (on an average day, while it has not
            lapsed), `lapse_probability` (that an order is the last), `inclusion`, `log_rate` (edge and segment),
            `log_quantity_ratio` (at `standing_since`), `log_quantity_growth_per_year`, and `hazard_per_30_days` at
            `standing_since`: 30 x climb_rate. The wish for the next rung comes with the hazard
            `recsys.simulation.catalogue.climb_rate` and is met at the next replenishment.
    """

    complements: pd.DataFrame
    substitutes: pd.DataFrame
    upgrade_edges: pd.DataFrame
    hazards: pd.DataFrame


def pair_tables(catalogue: Catalogue) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the planted complements and substitutes."""
    antecedent = np.flatnonzero(catalogue.consequent != NONE)
    left = np.flatnonzero(catalogue.substitute != NONE)
    complements = pd.DataFrame(
        {
            c.ANTECEDENT_ID: catalogue.ids[antecedent],
            c.CONSEQUENT_ID: catalogue.ids[catalogue.consequent[antecedent]],
            STRENGTH: catalogue.strength[antecedent],
        }
    )
    substitutes = pd.DataFrame(
        {
            c.PRODUCT_ID: catalogue.ids[left],
            SUBSTITUTE_ID: catalogue.ids[catalogue.substitute[left]],
            AVOIDANCE: np.full(len(left), SUBSTITUTE_AVOIDANCE),
        }
    )
    return complements, substitutes


def edge_table(catalogue: Catalogue) -> pd.DataFrame:
    """Return the planted upgrade edges."""
    ladders = catalogue.ladders
    family, rung = ladders.edges()
    lower, upper = ladders.rungs[family, rung], ladders.rungs[family, rung + 1]
    return pd.DataFrame(
        {
            c.FROM_PRODUCT_ID: catalogue.ids[lower],
            c.TO_PRODUCT_ID: catalogue.ids[upper],
            c.FAMILY: family_labels(catalogue.family[lower]),
            c.PRICE_RATIO: catalogue.price[upper] / catalogue.price[lower],
            INCLUSION: ladders.inclusion[family],
            LOG_EDGE_RATE: ladders.log_edge[family, rung],
            USUAL_QUANTITY: ladders.quantity[family],
        }
    )


def upgrades_frame(catalogue: Catalogue) -> pd.DataFrame:
    """Return the curated upgrades in contract columns, as a product manager would list them."""
    ladders = catalogue.ladders
    family, rung = ladders.edges()
    return pd.DataFrame(
        {
            c.FROM_PRODUCT_ID: catalogue.ids[ladders.rungs[family, rung]],
            c.TO_PRODUCT_ID: catalogue.ids[ladders.rungs[family, rung + 1]],
            c.REASON: np.array(
                [f"{constants.RUNGS[step + 1]} replaces {constants.RUNGS[step]}" for step in rung], dtype=object
            ),
        }
    )


def hazard_table(world: MarketWorld, block: MarketBlock) -> pd.DataFrame:
    """Return the hazards of a block's accounts; no rows when the market has no needs."""
    stood = block.standings
    ladders, catalogue, accounts = world.catalogue.ladders, world.catalogue, block.accounts
    log_rate = ladders.log_edge[stood.family, stood.rung] + segment_effect(accounts.segment[stood.account])
    lower = ladders.rungs[stood.family, stood.rung]
    climbed = pd.to_datetime(pd.Series(stood.climbed).where(stood.climbed >= 0), unit="s", utc=True)
    return pd.DataFrame(
        {
            c.ACCOUNT_ID: accounts.ids()[stood.account],
            c.FROM_PRODUCT_ID: catalogue.ids[lower],
            c.TO_PRODUCT_ID: catalogue.ids[ladders.rungs[stood.family, stood.rung + 1]],
            c.FAMILY: family_labels(catalogue.family[lower]),
            STANDING_SINCE: pd.to_datetime(stood.since, unit="s", utc=True).as_unit("us"),
            CLIMBED_AT: climbed.dt.as_unit("us").array,
            ORDERS_PER_DAY: accounts.order_rate[stood.account],
            LAPSE_PROBABILITY: accounts.lapse[stood.account],
            INCLUSION: ladders.inclusion[stood.family],
            LOG_RATE: log_rate,
            LOG_QUANTITY_RATIO: stood.log_ratio,
            LOG_QUANTITY_GROWTH: stood.growth,
            HAZARD: 30.0 * climb_rate(log_rate, np.zeros(len(log_rate)), stood.log_ratio),
        }
    )


TENURE_DAYS: Final = "tenure_days"
_LAST_ORDER: Final = "last_order"
_LAST_REFILL: Final = "last_refill"
_EDGE_ENDS: Final = (c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID)
_YEAR_DAYS: Final = 365.0


def climb_probabilities(
    config: MarketConfig, truth: PlantedTruth, orders: pd.DataFrame, as_of: datetime, horizon_days: int
) -> pd.DataFrame:
    """Return the probability that each account climbs from each rung it stands on at `as_of` within the horizon.

    It is what an oracle can say that knows every planted parameter, each account's own rate of orders and chance to
    lapse among them, and sees the orders before `as_of`; `tests.support.market_inference` has the one that must infer
    those two, as anybody must. The wish came
    before day u with probability 1 - e^(-h (u - t)), t the last replenishment and h the hazard a day half-way. The
    first replenishment after it meets it: at order rate r (a busy day), inclusion q and lapse probability d, an
    account that has not lapsed replenishes within b busy days with probability
    q / (q + (1 - q) d) (1 - e^(-r (q + (1 - q) d) b)). Whether it has lapsed is not seen: b busy days after its last
    order it has not with probability (1 - d) e^(-rb) / ((1 - d) e^(-rb) + d) (BG/NBD at known rates: Fader, Hardie,
    Lee 2005), and it stays so with e^(-rdb).

    Args:
        config: of the market.
        truth: of the market.
        orders: `account_id product_id ordered_at`, the order lines of the market.
        as_of: the cutoff; nothing at or after it is used.
        horizon_days: length of the window `[as_of, as_of + horizon_days)`.

    Returns:
        `account_id from_product_id to_product_id tenure_days hazard_per_30_days probability`, one row for each rung
        stood on; the hazard is 30 times that of the day of `as_of`.
    """
    watch = Watch.over(config, truth, orders, as_of, horizon_days)
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
