"""What stands in an order, drawn from what can be bought when: repeats, needs, popularity, brands, planted pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray, positions, row_of_entry, starts
from recsys.simulation import constants
from recsys.simulation.accounts import Accounts
from recsys.simulation.catalogue import NONE, SUBSTITUTE_AVOIDANCE, Catalogue
from recsys.simulation.constants import MarketConfig
from recsys.simulation.orders import Orders
from recsys.simulation.random_streams import Keys, Stream, account_keys, uniform
from recsys.simulation.seasonality import PERIOD_DAYS, Seasonality, period_months

# Popularity by month (January first) of products of no, winter and summer season.
SEASONS: Final = (
    (1.0,) * 12,
    (0.4, 0.2, 0.2, 0.2, 0.2, 0.2, 0.3, 0.5, 1.1, 2.2, 4.0, 2.8),
    (0.3, 0.4, 1.0, 1.8, 2.5, 2.3, 1.7, 0.9, 0.5, 0.3, 0.2, 0.2),
)


@dataclass(frozen=True)
class SamplingTable:
    """Draws products by popularity in a period.

    Attributes:
        until: shape `(n_periods * n_products,)`, cumulative popularity; period p covers `(p, p + 1)`.
        category_until: shape `(n_periods, n_categories + 1)`, the same at the borders of the categories.
        appetite: shape `(n_periods, n_products)`, in [0, 1]: how likely a repeat purchase is kept: 0 when the
            product is not sold, its season's factor over the season's best month otherwise.
    """

    until: FloatArray
    category_until: FloatArray
    appetite: NDArray[np.float32]

    def draw(self, period: IntArray, place: FloatArray) -> IntArray:
        """Return a product for each line of a period, from the whole catalogue."""
        n_products = self.appetite.shape[1]
        row = np.searchsorted(self.until, period + place, side="right")
        return np.asarray(row - period * n_products, dtype=np.int64)

    def draw_in(self, period: IntArray, category: IntArray, place: FloatArray) -> IntArray:
        """Return a product for each line of a period, from one category; from all where it sells nothing then."""
        low, high = self.category_until[period, category], self.category_until[period, category + 1]
        sold = high - low > 1e-12
        return self.draw(period, np.where(sold, low + (high - low) * place, place))


def build_shelf(config: MarketConfig, catalogue: Catalogue) -> SamplingTable:
    """Return the shelf of a market: with needs on, products of a ladder are bought to replenish only."""
    month = period_months(config)
    n_periods, n_products = len(month), len(catalogue)
    season = np.ones((n_periods, n_products))
    appetite = np.ones((n_periods, n_products))
    weight = np.tile(catalogue.popularity, (n_periods, 1))
    if config.needs:
        weight[:, catalogue.tier > 0] = 0.0
    if config.seasonality:
        factors = np.asarray(SEASONS)
        season = (factors / factors.mean(axis=1, keepdims=True))[catalogue.season][:, month].T
        appetite = (factors / factors.max(axis=1, keepdims=True))[catalogue.season][:, month].T
    if config.drift:
        weight, sold = _drift(config, catalogue, weight)
        appetite = appetite * sold
    weight *= season
    weight /= weight.sum(axis=1, keepdims=True)
    until = np.cumsum(weight, axis=1)
    until /= until[:, -1:]
    edges = np.concatenate([np.zeros((n_periods, 1)), until], axis=1)[:, catalogue.category_start]
    flat = (until + np.arange(n_periods)[:, None]).ravel()
    return SamplingTable(until=flat, category_until=edges, appetite=appetite.astype(np.float32))


def _drift(config: MarketConfig, catalogue: Catalogue, weight: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    day = (np.arange(len(weight))[:, None] + 0.5) * PERIOD_DAYS
    sold = (day >= catalogue.launched) & (day < catalogue.retired)
    trend = np.exp(catalogue.growth * (day - config.days / 2) / 365.0)
    return weight * trend * sold, sold


BROWSE = 0.50  # share of an account's fresh lines that lie outside its needs
LOYALTY = 0.90  # share of the purchases of two substitutes that go to the account's own brand
_ROUNDS = 6  # redraws of what stands in the order already; what is left then is dropped


@dataclass(frozen=True)
class Basket:
    """Lines of a block, arrays of shape `(n_lines,)`, by order.

    Attributes:
        order: row in the block's orders.
        product: row in the catalogue.
        position: number of the line within its account, which addresses the line's draws.
    """

    order: IntArray
    product: IntArray
    position: IntArray


def fill_orders(
    config: MarketConfig,
    accounts: Accounts,
    catalogue: Catalogue,
    shelf: SamplingTable,
    clock: Seasonality,
    orders: Orders,
    n_lines: IntArray,
) -> Basket:
    """Return `n_lines` distinct products for each order (fewer where the redraws run out).

    A line repeats an earlier line of its account with probability limit x n / (n + half), where n is the number of
    lines in the account's earlier orders (`constants.REPEAT_LIMIT`, `REPEAT_HALF`); else it is drawn by popularity,
    within a needed category or, with probability `BROWSE`, in the whole catalogue. Nothing stands twice in an order.
    """
    lines = _Lines(config, accounts, catalogue, shelf, clock, orders, n_lines)
    source, fresh = lines.sources(), lines.fresh(0)
    for attempt in range(1, _ROUNDS + 1):
        source = _follow(source)
        refused = lines.refused(source, fresh[source])
        if not refused.any():
            break
        rows = np.flatnonzero(refused)
        source[rows] = rows
        fresh[rows] = lines.fresh(attempt, rows)
    source = _follow(source)
    product = fresh[source]
    kept = ~lines.refused(source, product) & ~lines.avoided(product)
    return Basket(order=lines.order[kept], product=product[kept], position=lines.position[kept])


class _Lines:
    """The addresses of a block's lines and the draws behind them."""

    def __init__(
        self,
        config: MarketConfig,
        accounts: Accounts,
        catalogue: Catalogue,
        shelf: SamplingTable,
        clock: Seasonality,
        orders: Orders,
        n_lines: IntArray,
    ) -> None:
        self._config, self._accounts, self._catalogue, self._shelf = config, accounts, catalogue, shelf
        self.order = row_of_entry(n_lines)
        self._account = orders.account[self.order]
        self._period = clock.periods(orders.seconds)[self.order]
        a_account = np.bincount(orders.account, weights=n_lines, minlength=len(accounts)).astype(np.int64)
        self.position = positions(a_account)
        self._earlier = (starts(n_lines) - starts(a_account)[orders.account])[self.order]

    def fresh(self, attempt: int, rows: IntArray | None = None) -> IntArray:
        """Return newly drawn products of all lines, or of some rows."""
        rows = np.arange(len(self.order)) if rows is None else rows
        account, period = self._account[rows], self._period[rows]
        address = self.position[rows] * (_ROUNDS + 1) + attempt
        place = uniform(self._keys(Stream.PRODUCT)[account], address)
        if not self._config.needs:
            return self._shelf.draw(period, place)
        slot_place = uniform(self._keys(Stream.SLOT)[account], address)
        slot = (slot_place[:, None] > self._accounts.slot_until[account]).sum(axis=1)
        category = self._accounts.slot_category[account, np.minimum(slot, self._accounts.slot_category.shape[1] - 1)]
        product = self._shelf.draw_in(period, category, place)
        browsed = np.flatnonzero(uniform(self._keys(Stream.BROWSE)[account], address) < BROWSE)
        product[browsed] = self._shelf.draw(period[browsed], place[browsed])
        return self._own_brand(account, address, product)

    def sources(self) -> IntArray:
        """Return for each line the earlier line of its account that it repeats, or itself."""
        own = np.arange(len(self.order))
        if not self._config.needs:
            return own
        n = self._earlier
        chance = np.where(
            n > 0, 1.0 - constants.NEW_LEVEL * (1.0 + n / constants.NEW_SCALE) ** -constants.NEW_DECAY, 0.0
        )
        repeats = uniform(self._keys(Stream.REPEAT)[self._account], self.position) < chance
        place = np.sqrt(uniform(self._keys(Stream.REPEAT_WHICH)[self._account], self.position))
        return np.where(repeats, own - self.position + np.floor(n * place).astype(np.int64), own)

    def refused(self, source: IntArray, product: IntArray) -> NDArray[np.bool_]:
        """Return the lines to draw anew: what the order has already, and repeats out of season or out of sale."""
        refused = self.repeated(product)
        copies = np.flatnonzero(source != np.arange(len(source)))
        if len(copies):
            place = uniform(self._keys(Stream.SEASON)[self._account[copies]], self.position[copies])
            refused[copies] |= place >= self._shelf.appetite[self._period[copies], product[copies]]
        return refused

    def repeated(self, product: IntArray) -> NDArray[np.bool_]:
        """Return whether an earlier line of the same order has the same product."""
        key = self.order * len(self._catalogue) + product
        rank = np.argsort(key, kind="stable")
        repeated = np.zeros(len(key), dtype=bool)
        repeated[rank[1:]] = key[rank[1:]] == key[rank[:-1]]
        return repeated

    def avoided(self, product: IntArray) -> NDArray[np.bool_]:
        """Return the lines left out because the order has the product's substitute already."""
        rows = np.flatnonzero(self._catalogue.substitute[product] != NONE)
        pair = np.minimum(product[rows], self._catalogue.substitute[product[rows]])
        key = self.order[rows] * len(self._catalogue) + pair
        rank = np.argsort(key, kind="stable")
        second = rows[rank[1:][key[rank[1:]] == key[rank[:-1]]]]
        place = uniform(self._keys(Stream.SUBSTITUTE)[self._account[second]], self.position[second])
        avoided = np.zeros(len(product), dtype=bool)
        avoided[second[place < SUBSTITUTE_AVOIDANCE]] = True
        return avoided

    def _own_brand(self, account: IntArray, address: IntArray, product: IntArray) -> IntArray:
        partner = self._catalogue.substitute[product]
        rows = np.flatnonzero(partner != NONE)
        low = np.minimum(product[rows], partner[rows])
        high = np.maximum(product[rows], partner[rows])
        keys = self._keys(Stream.BRAND)[account[rows]]
        own = np.where(uniform(keys, -2 - low) < 0.5, low, high)
        loyal = uniform(keys, address[rows]) < LOYALTY
        product[rows] = np.where(loyal, own, product[rows])
        return product

    def _keys(self, stream: Stream) -> Keys:
        return account_keys(self._config.seed, stream, self._accounts.number)


def add_consequents(
    config: MarketConfig, accounts: Accounts, catalogue: Catalogue, orders: Orders, basket: Basket
) -> Basket:
    """Return the lines that planted complement pairs add: the consequent, with the pair's strength, if not there."""
    keys = account_keys(config.seed, Stream.COMPLEMENT, accounts.number)
    rows = np.flatnonzero(catalogue.consequent[basket.product] != NONE)
    account = orders.account[basket.order[rows]]
    place = uniform(keys[account], basket.position[rows])
    rows = rows[place < catalogue.strength[basket.product[rows]]]
    order, product = basket.order[rows], catalogue.consequent[basket.product[rows]]
    can_be_there = np.isin(basket.product, catalogue.consequent[catalogue.consequent != NONE])
    there = basket.order[can_be_there] * len(catalogue) + basket.product[can_be_there]
    new = ~np.isin(order * len(catalogue) + product, there)
    return Basket(order=order[new], product=product[new], position=basket.position[rows][new])


def _follow(source: IntArray) -> IntArray:
    """Return the first line of each chain of repeats."""
    while True:
        further = source[source]
        if np.array_equal(further, source):
            return source
        source = further
