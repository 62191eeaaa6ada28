"""What was planted, as tables: pairs, edges, hazards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from recsys.contracts import columns as c
from recsys.simulation import constants
from recsys.simulation.blocks import MarketBlock, MarketWorld
from recsys.simulation.catalogue import NONE, SUBSTITUTE_AVOIDANCE, Catalogue, climb_rate, family_labels, segment_effect

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
