"""One block of the market: its accounts, orders, order lines and standings, put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.arrays import FloatArray, IntArray
from recsys.simulation import constants
from recsys.simulation.accounts import Accounts, draw_accounts
from recsys.simulation.catalogue import Catalogue, build_catalogue
from recsys.simulation.constants import MarketConfig
from recsys.simulation.orders import Orders, draw_orders
from recsys.simulation.purchases import Basket, SamplingTable, add_consequents, build_shelf, fill_orders
from recsys.simulation.random_streams import Stream, account_keys, normal, uniform
from recsys.simulation.replenishment import NO_REFILLS, NO_STANDINGS, Refills, Standings, draw_needs, replenish
from recsys.simulation.seasonality import Seasonality, build_clock

KEY_DISCOUNT = 0.05  # share of the price that a key account never pays
PROMOTION_SHARE, PROMOTION = 0.05, 0.10  # of the other orders, and the discount they get


@dataclass(frozen=True)
class MarketWorld:
    """What all blocks share."""

    config: MarketConfig
    catalogue: Catalogue
    shelf: SamplingTable
    clock: Seasonality


@dataclass(frozen=True)
class MarketBlock:
    """A block's accounts and orders, and its lines as arrays of shape `(n_lines,)`, by order.

    Attributes:
        order: row in `orders`.
        line: position within the order, 0 first.
        product: row in the catalogue.
        quantity: units.
        discount: money off the line.
    """

    accounts: Accounts
    orders: Orders
    standings: Standings
    order: IntArray
    line: IntArray
    product: IntArray
    quantity: IntArray
    discount: FloatArray


def build_world(config: MarketConfig) -> MarketWorld:
    """Return the catalogue, the shelf and the clock of a market."""
    catalogue = build_catalogue(config)
    return MarketWorld(
        config=config, catalogue=catalogue, shelf=build_shelf(config, catalogue), clock=build_clock(config)
    )


def draw_block(world: MarketWorld, first: int, last: int) -> MarketBlock:
    """Return accounts number `first` to `last - 1` with all they buy."""
    config, catalogue = world.config, world.catalogue
    accounts = draw_accounts(config, catalogue, world.clock, first, last)
    orders = draw_orders(config, accounts, world.clock, _mean_target(world))
    refills, standings = _refills(world, accounts, orders)
    refilled = np.bincount(refills.order, minlength=len(orders))
    n_lines = np.maximum(orders.target - refilled, refilled == 0)
    basket = fill_orders(config, accounts, catalogue, world.shelf, world.clock, orders, n_lines)
    extra = add_consequents(config, accounts, catalogue, orders, basket)
    return _assemble(world, accounts, orders, basket, extra, refills, standings)


def _mean_target(world: MarketWorld) -> float:
    """Return the mean target that gives the mean lines asked for, once consequents are added."""
    added = float(world.catalogue.popularity @ world.catalogue.strength)
    return world.config.lines_per_order / (1.0 + added)


def _refills(world: MarketWorld, accounts: Accounts, orders: Orders) -> tuple[Refills, Standings]:
    if not world.config.needs or not len(world.catalogue.ladders):
        return NO_REFILLS, NO_STANDINGS
    needs = draw_needs(world.config, accounts, world.catalogue.ladders, world.clock)
    return replenish(world.config, accounts, world.catalogue, needs, orders)


def _assemble(
    world: MarketWorld,
    accounts: Accounts,
    orders: Orders,
    basket: Basket,
    extra: Basket,
    refills: Refills,
    standings: Standings,
) -> MarketBlock:
    order = np.concatenate([basket.order, extra.order, refills.order])
    product = np.concatenate([basket.product, extra.product, refills.product])
    size = np.bincount(order, minlength=len(orders))
    quantity = np.concatenate(
        [
            _quantities(world, accounts, orders, size, basket, Stream.QUANTITY),
            _quantities(world, accounts, orders, size, extra, Stream.CONSEQUENT_QUANTITY),
            refills.quantity,
        ]
    )
    rank = np.argsort(order, kind="stable")
    order, product, quantity = order[rank], product[rank], quantity[rank]
    share = _discount_shares(world.config, accounts, orders)[order]
    return MarketBlock(
        accounts=accounts,
        orders=orders,
        standings=standings,
        order=order,
        line=np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size),
        product=product,
        quantity=quantity,
        discount=np.round(share * quantity * world.catalogue.price[product], 2),
    )


def _quantities(
    world: MarketWorld, accounts: Accounts, orders: Orders, size: IntArray, basket: Basket, stream: Stream
) -> IntArray:
    """Return units: cheap products go by the dozen, and so do those of short orders; from 12 on in sixes."""
    account = orders.account[basket.order]
    scores = normal(account_keys(world.config.seed, stream, accounts.number)[account], basket.position)
    mean = constants.LOG_QUANTITY_MEAN + constants.LOG_QUANTITY_PRICE_SLOPE * np.log(
        world.catalogue.price[basket.product]
    )
    mean += constants.LOG_QUANTITY_LINES_SLOPE * np.log(size[basket.order]) + accounts.log_quantity[account]
    units = np.exp(mean + constants.LOG_QUANTITY_LINE_SD * scores)
    return np.where(units < 12, np.maximum(np.rint(units), 1), 6 * np.rint(units / 6)).astype(np.int64)


def _discount_shares(config: MarketConfig, accounts: Accounts, orders: Orders) -> FloatArray:
    keys = account_keys(config.seed, Stream.DISCOUNT, accounts.number)[orders.account]
    promoted = uniform(keys, orders.position) < PROMOTION_SHARE
    return np.where(accounts.is_key[orders.account], KEY_DISCOUNT, np.where(promoted, PROMOTION, 0.0))
