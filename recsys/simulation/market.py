"""The simulated market: in memory, or streamed to files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa

from recsys.simulation.blocks import World, build_world
from recsys.simulation.catalogue import products_frame
from recsys.simulation.config import MarketConfig
from recsys.simulation.oracle import climb_probabilities
from recsys.simulation.tables import ORDERS_SCHEMA, TRUTH_FOLDER, Part, arrow_table, draw_parts, write_tables
from recsys.simulation.truth import Truth, edge_table, pair_tables, upgrades_frame


@dataclass(frozen=True)
class Market:
    """A simulated market in contract columns, and the truth that was planted in it.

    Attributes:
        config: what it was made from.
        orders: one row a line, by account, time and line.
        products: one row a product.
        accounts: one row an account, some of them without an order; `employees` is a column of its own.
        upgrades: the curated upgrade edges.
        truth: planted pairs, edges and hazards.
    """

    config: MarketConfig
    orders: pd.DataFrame
    products: pd.DataFrame
    accounts: pd.DataFrame
    upgrades: pd.DataFrame
    truth: Truth

    def climb_probabilities(self, as_of: datetime, horizon_days: int) -> pd.DataFrame:
        """Return what an oracle knows at `as_of`: see `recsys.simulation.oracle.climb_probabilities`."""
        return climb_probabilities(self.config, self.truth, self.orders, as_of, horizon_days)

    def write(self, folder: Path) -> int:
        """Write the files that `write_market` writes, byte for byte, and return the number of order lines."""
        orders = arrow_table(self.orders).cast(ORDERS_SCHEMA)
        part = Part(orders=orders, accounts=self.accounts, hazards=self.truth.hazards)
        return write_tables(folder, self.config, _whole_tables(build_world(self.config)), iter([part]))


def simulate_market(config: MarketConfig) -> Market:
    """Return a simulated market; the same configuration gives the same market, whatever the block size.

    An account's purchases depend on the seed, the catalogue and the account's number alone: the first accounts of a
    large market are those of a small one.

    >>> market = simulate_market(MarketConfig(n_accounts=20, n_products=200, seed=1))
    >>> len(market.accounts), len(market.products)
    (20, 200)
    """
    world = build_world(config)
    parts = list(draw_parts(world))
    complements, substitutes = pair_tables(world.catalogue)
    return Market(
        config=config,
        orders=pa.concat_tables([part.orders for part in parts]).to_pandas(),
        products=products_frame(world.catalogue, config),
        accounts=pd.concat([part.accounts for part in parts], ignore_index=True),
        upgrades=upgrades_frame(world.catalogue),
        truth=Truth(
            complements=complements,
            substitutes=substitutes,
            upgrade_edges=edge_table(world.catalogue),
            hazards=pd.concat([part.hazards for part in parts], ignore_index=True),
        ),
    )


def write_market(config: MarketConfig, folder: Path) -> int:
    """Write a market of any size to a folder and return its number of order lines; memory holds a few blocks.

    Files: `orders.parquet`, `products.parquet`, `accounts.parquet`, `upgrades.parquet`, `truth/complements.parquet`,
    `truth/substitutes.parquet`, `truth/upgrade_edges.parquet`, `truth/hazards.parquet`, and `market.json`, the
    configuration. They are written beside the folder and moved there when whole.
    """
    world = build_world(config)
    return write_tables(folder, config, _whole_tables(world), draw_parts(world))


def _whole_tables(world: World) -> dict[str, pd.DataFrame]:
    complements, substitutes = pair_tables(world.catalogue)
    return {
        "products": products_frame(world.catalogue, world.config),
        "upgrades": upgrades_frame(world.catalogue),
        f"{TRUTH_FOLDER}/complements": complements,
        f"{TRUTH_FOLDER}/substitutes": substitutes,
        f"{TRUTH_FOLDER}/upgrade_edges": edge_table(world.catalogue),
    }
