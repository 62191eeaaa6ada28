"""The simulated market: in memory, or streamed to Parquet files in contract columns."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.contracts import columns as c
from recsys.contracts.config import given_config
from recsys.data.sources import arrow_table
from recsys.simulation import constants
from recsys.simulation.accounts import accounts_frame
from recsys.simulation.blocks import MarketBlock, MarketWorld, build_world, draw_block
from recsys.simulation.catalogue import products_frame
from recsys.simulation.constants import MarketConfig
from recsys.simulation.truth import (
    PlantedTruth,
    edge_table,
    hazard_table,
    pair_tables,
    upgrades_frame,
)

MARKET_CURRENCY: Final = "GBP"
TRUTH_FOLDER: Final = "truth"
CONFIG_FILE: Final = "market.json"
_ROW_GROUP: Final = 500_000
_CODEC: Final = "zstd"
_UTC: Final = pa.timestamp("us", tz="UTC")
ORDERS_SCHEMA: Final = pa.schema(
    [
        (c.ORDER_ID, pa.string()),
        (c.LINE_ID, pa.string()),
        (c.ACCOUNT_ID, pa.string()),
        (c.PRODUCT_ID, pa.string()),
        (c.ORDERED_AT, _UTC),
        (c.QUANTITY, pa.float64()),
        (c.UNIT_PRICE, pa.float64()),
        (c.CHANNEL, pa.string()),
        (c.DISCOUNT, pa.float64()),
        (c.CURRENCY, pa.string()),
        (c.STATUS, pa.string()),
    ]
)


@dataclass(frozen=True)
class Part:
    """The tables of one block.

    Attributes:
        orders: order lines in contract columns.
        accounts: one row an account.
        hazards: `PlantedTruth.hazards` of these accounts.
    """

    orders: pa.Table
    accounts: pd.DataFrame
    hazards: pd.DataFrame


def draw_parts(world: MarketWorld) -> Iterator[Part]:
    """Return the market's accounts block by block."""
    size, n = world.config.block_accounts, world.config.n_accounts
    for first in range(0, n, size):
        block = draw_block(world, first, min(first + size, n))
        yield Part(orders_table(world, block), accounts_frame(block.accounts), hazard_table(world, block))


def orders_table(world: MarketWorld, block: MarketBlock) -> pa.Table:
    """Return the order lines of a block in contract columns."""
    order, orders, n = pa.array(block.order), block.orders, len(block.order)
    account = pa.array(block.accounts.ids(), pa.string()).take(pa.array(orders.account))
    channel = pa.array(constants.CHANNELS, pa.string()).take(pa.array(orders.channel))
    ordered_at = pa.array(orders.seconds * 1_000_000).cast(_UTC)
    columns = [
        _order_ids(block).take(order),
        pa.array(block.line + 1).cast(pa.string()),
        account.take(order),
        pa.array(world.catalogue.ids, pa.string()).take(pa.array(block.product)),
        ordered_at.take(order),
        pa.array(block.quantity.astype(np.float64)),
        pa.array(world.catalogue.price[block.product]),
        channel.take(order),
        pa.array(block.discount),
        pa.repeat(pa.scalar(MARKET_CURRENCY), n),
        pa.repeat(pa.scalar("completed"), n),
    ]
    return pa.Table.from_arrays(columns, schema=ORDERS_SCHEMA)


def write_tables(folder: Path, config: MarketConfig, whole: dict[str, pd.DataFrame], parts: Iterator[Part]) -> int:
    """Write tables that are whole and tables that come in parts, and return the number of order lines.

    Args:
        folder: where the files shall lie; they are written beside it and moved there when whole.
        config: written as `market.json`.
        whole: tables by file name without ending.
        parts: written as `orders`, `accounts` and `truth/hazards`, one row group for so many rows, whatever the parts.
    """
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    (beside / TRUTH_FOLDER).mkdir(parents=True)
    for name, frame in whole.items():
        pq.write_table(arrow_table(frame), _file(beside, name), compression=_CODEC)
    with ExitStack() as stack:
        sinks = [stack.enter_context(_Sink(_file(beside, name))) for name in ("orders", "accounts", "truth/hazards")]
        for part in parts:
            sinks[0].add(part.orders)
            sinks[1].add(arrow_table(part.accounts))
            sinks[2].add(arrow_table(part.hazards))
    (beside / CONFIG_FILE).write_text(config.model_dump_json(indent=1, exclude={"block_accounts"}), encoding="utf-8")
    _move(beside, folder)
    return sinks[0].n_rows


class _Sink:
    """A Parquet file that grows by tables and holds less than one row group of them back."""

    def __init__(self, path: Path) -> None:
        self.n_rows = 0
        self._path = path
        self._held: list[pa.Table] = []
        self._n_held = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and (self._n_held or self._writer is None):
            self._flush(self._n_held)
        if self._writer is not None:
            self._writer.close()

    def add(self, table: pa.Table) -> None:
        """Take rows and write the row groups that are full."""
        self._held.append(table)
        self._n_held += len(table)
        self.n_rows += len(table)
        while self._n_held >= _ROW_GROUP:
            self._flush(_ROW_GROUP)

    def _flush(self, n_rows: int) -> None:
        table = pa.concat_tables(self._held)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression=_CODEC)
        self._writer.write_table(table.slice(0, n_rows).combine_chunks(), row_group_size=_ROW_GROUP)
        rest = table.slice(n_rows)
        self._held, self._n_held = [rest], len(rest)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.parquet"


def _move(beside: Path, folder: Path) -> None:
    """Put each written file in its place; other files of the folder stay."""
    for path in sorted(beside.rglob("*")):
        if path.is_file():
            target = folder / path.relative_to(beside)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    shutil.rmtree(beside)


def _order_ids(block: MarketBlock) -> pa.Array:
    number = pa.array(block.accounts.number[block.orders.account] + 1).cast(pa.string())
    position = pa.array(block.orders.position + 1).cast(pa.string())
    account = pc.binary_join_element_wise("O", pc.utf8_lpad(number, 7, "0"), "")
    return pc.binary_join_element_wise(account, pc.utf8_lpad(position, 4, "0"), "-")


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
    truth: PlantedTruth

    def write(self, folder: str | Path) -> int:
        """Write the files that `write_market` writes, byte for byte, and return the number of order lines."""
        orders = arrow_table(self.orders).cast(ORDERS_SCHEMA)
        part = Part(orders=orders, accounts=self.accounts, hazards=self.truth.hazards)
        return write_tables(Path(folder), self.config, _whole_tables(build_world(self.config)), iter([part]))


def simulate_market(config: MarketConfig | None = None, **options: object) -> Market:
    """Return a simulated market; the same configuration gives the same market, whatever the block size.

    An account's purchases depend on the seed, the catalogue and the account's number alone: the first accounts of a
    large market are those of a small one.

    Args:
        config: size, period and switches; None: the defaults.
        options: fields of `MarketConfig` that replace its own.

    Raises:
        ConfigError: an option is unknown or out of range.

    >>> market = simulate_market(n_accounts=20, n_products=200, seed=1)
    >>> len(market.accounts), len(market.products)
    (20, 200)
    """
    config = MarketConfig(**dict(given_config(config, MarketConfig)) | options)
    world = build_world(config)
    parts = list(draw_parts(world))
    complements, substitutes = pair_tables(world.catalogue)
    return Market(
        config=config,
        orders=pa.concat_tables([part.orders for part in parts]).to_pandas(),
        products=products_frame(world.catalogue, config),
        accounts=pd.concat([part.accounts for part in parts], ignore_index=True),
        upgrades=upgrades_frame(world.catalogue),
        truth=PlantedTruth(
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


def _whole_tables(world: MarketWorld) -> dict[str, pd.DataFrame]:
    complements, substitutes = pair_tables(world.catalogue)
    return {
        "products": products_frame(world.catalogue, world.config),
        "upgrades": upgrades_frame(world.catalogue),
        f"{TRUTH_FOLDER}/complements": complements,
        f"{TRUTH_FOLDER}/substitutes": substitutes,
        f"{TRUTH_FOLDER}/upgrade_edges": edge_table(world.catalogue),
    }
