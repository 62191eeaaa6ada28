"""What accounts pay: a price of each product, at more units another one, and in a segment that pays otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import BoolArray, FloatArray, IntArray, RowArray, unique_sorted, weighted_median
from recsys.contracts.money import round_money
from recsys.data.history import SECONDS_A_DAY, History
from recsys.offer_model.tables import EVERYONE

HALF_LIFE_DAYS: Final = 10.0
"""A line that is so many days older weighs half as much."""
_NEWEST: Final = 2
"""Ages count from the second newest line of a product on, or from one half-life before the newest: among lines of some
days no single one holds half of the weight, and after a long silence the newest tells the price."""
_LEAST_WEIGHT: Final = 0.5**10
"""Lighter lines, older than some three months, do not tell whether the quantity or the segment decides."""
_LEAST_LINES: Final = 10
_LEAST_ACCOUNTS: Final = 5
"""On either side of a break, or in a segment and outside of it: fewer say nothing of a price list."""
_LEAST_STEP: Final = np.log(1.05)
"""Of log prices between two sides: less is no other price."""
_LEAST_SHARED_STEP: Final = np.log(1.02)
"""Likewise where the whole catalogue falls from the same quantity on: many lines tell smaller steps apart."""
_LEAST_PRODUCTS: Final = 10
"""With lines on the farther side of a break of the whole catalogue."""
_LEAST_SHARE: Final = 0.8
"""Of the lines of each side, that are nearer to its own price than to the other's: else it is not what decides."""
_ROUNDS: Final = 3
"""How often a list is divided in two: it has eight prices at the most."""
_MOST_STEP: Final = np.log(3.0)
"""A line that is farther from its product's price counts as so far."""
_SMALLEST: Final = 1e-9


@dataclass(frozen=True)
class PaidPrices:
    """What is paid for products.

    Attributes:
        usual: money a unit, `(n_products,)`; at the fewest units where the quantity decides; NaN without a line.
        product: of each further price, sorted by product, then segment, then least quantity, `(n_prices,)`.
        segment: whom it is for; `EVERYONE`, or a segment that pays otherwise, which has all of its prices here.
        least_quantity: units from which it holds; 0 for the first of a segment.
        price: money a unit.
    """

    usual: FloatArray
    product: RowArray
    segment: RowArray
    least_quantity: FloatArray
    price: FloatArray


def paid_prices(history: History, segment_of: RowArray, currency: str | None) -> PaidPrices:
    """Return what known accounts pay; what anybody pays for a product that none of them has bought.

    A price is the median of the lines weighted by `0.5 ** (age / 10 days)`, where the newest two of some days weigh
    the same: it follows a real change within a few lines, and a single odd line does not move it. Where all products
    cost a share less from the same quantity on, as in a price list with tiers, that holds for each of them; what a
    product or a segment departs from it comes on top.

    Args:
        history: the order lines.
        segment_of: of each account, `(n_accounts,)`, `EVERYONE` where it has none.
        currency: whose digits prices have.
    """
    lines = _PricedLines.of(history, segment_of)
    shared = _shared_tiers(lines)
    lines = replace(lines, price=lines.price / shared.prices(np.zeros_like(lines.product), lines.quantity))
    everyone = _price_lists(lines, lines.product, history.n_products)
    own = lines.select(_pay_otherwise(lines, everyone))
    pairs = unique_sorted(own.pair)
    lists = _price_lists(own, np.searchsorted(pairs, own.pair).astype(np.int32), len(pairs)).times(shared)
    everyone = everyone.times(shared)
    span = lines.n_segments
    product = np.concatenate([everyone.owner, (pairs // span)[lists.owner]]).astype(np.int32)
    segment = np.concatenate([np.full(len(everyone.owner), EVERYONE), (pairs % span)[lists.owner]]).astype(np.int32)
    least = np.concatenate([everyone.least_quantity, lists.least_quantity])
    price = np.array([round_money(paid, currency) for paid in np.concatenate([everyone.price, lists.price]).tolist()])
    usual = np.full(history.n_products, np.nan)
    first = (segment == EVERYONE) & (least == 0)
    usual[product[first]] = price[first]
    rest = np.flatnonzero(~first)
    rest = rest[np.lexsort((least[rest], segment[rest], product[rest]))]
    return PaidPrices(usual, product[rest], segment[rest], least[rest], price[rest])


@dataclass(frozen=True)
class _PricedLines:
    """The lines that prices are taken from.

    Attributes:
        buyer: the account, or the order of a line without one.
        weight: by age.
        pair: product and segment in one number.
    """

    product: RowArray
    segment: RowArray
    buyer: IntArray
    quantity: FloatArray
    price: FloatArray
    weight: FloatArray
    n_segments: int

    @classmethod
    def of(cls, history: History, segment_of: RowArray) -> _PricedLines:
        is_known = history.account >= 0
        has_known = np.zeros(history.n_products, dtype=bool)
        has_known[history.product[is_known]] = True
        lines = history.select(is_known | ~has_known[history.product])
        known = lines.account >= 0
        segments = np.append(segment_of, EVERYONE)  # the last entry stands for no account
        return cls(
            product=lines.product,
            segment=segments[lines.account].astype(np.int32),
            buyer=np.where(known, lines.account, history.n_accounts + lines.order.astype(np.int64)),
            quantity=lines.quantity,
            price=lines.unit_price,
            weight=0.5 ** _half_lives(lines),
            n_segments=int(segment_of.max(initial=0)) + 1,
        )

    @property
    def pair(self) -> IntArray:
        return self.product.astype(np.int64) * self.n_segments + self.segment

    @property
    def log_price(self) -> FloatArray:
        return np.log(np.maximum(self.price, _SMALLEST))

    def select(self, keep: BoolArray) -> _PricedLines:
        return replace(
            self,
            product=self.product[keep],
            segment=self.segment[keep],
            buyer=self.buyer[keep],
            quantity=self.quantity[keep],
            price=self.price[keep],
            weight=self.weight[keep],
        )


def _half_lives(lines: History) -> FloatArray:
    """The age of each line in half-lives, see `_NEWEST`; 0 for newer ones."""
    order = np.argsort(lines.product, kind="stable")  # lines are sorted by time
    end = np.cumsum(np.bincount(lines.product, minlength=lines.n_products))
    begin = np.concatenate([[0], end[:-1]]).astype(np.int64)
    since = np.zeros(lines.n_products)
    sold = end > begin
    second, newest = (lines.seconds[order[np.maximum(end[sold] - n, begin[sold])]] for n in (_NEWEST, 1))
    since[sold] = np.maximum(second, newest - SECONDS_A_DAY * HALF_LIFE_DAYS)
    return np.maximum(since[lines.product] - lines.seconds, 0) / (SECONDS_A_DAY * HALF_LIFE_DAYS)


@dataclass(frozen=True)
class _PriceLists:
    """Prices by owner, then least quantity, which is 0 for the first of each."""

    owner: RowArray
    least_quantity: FloatArray
    price: FloatArray

    def prices(self, owner: RowArray, quantity: FloatArray) -> FloatArray:
        """Return each owner's price at a quantity; all have one."""
        found: FloatArray = self.price[self.rows(owner, quantity)]
        return found

    def times(self, shared: _PriceLists) -> _PriceLists:
        """Return the lists with each price times what the one list of `shared` has at its quantity."""
        owners = unique_sorted(self.owner)
        owner = np.concatenate([self.owner, np.repeat(owners, len(shared.price))])
        least = np.concatenate([self.least_quantity, np.tile(shared.least_quantity, len(owners))])
        both = np.unique(np.column_stack([owner, least]), axis=0)
        owner, least = both[:, 0].astype(np.int32), both[:, 1]
        return _PriceLists(owner, least, self.prices(owner, least) * shared.prices(np.zeros_like(owner), least))

    def rows(self, owner: RowArray, quantity: FloatArray) -> NDArray[np.intp]:
        """Return the row of each owner's price at a quantity; all have one."""
        # Both keys in one sorted array: a record stands before what it prices.
        keys = np.lexsort(
            (
                np.concatenate([np.zeros(len(self.owner)), np.ones(len(owner))]),
                np.concatenate([self.least_quantity, quantity]),
                np.concatenate([self.owner, owner]),
            )
        )
        is_price = keys < len(self.owner)
        last = np.maximum.accumulate(np.where(is_price, keys, -1))
        found = np.empty(len(owner), dtype=np.intp)
        found[keys[~is_price] - len(self.owner)] = last[~is_price]
        return found


def _shared_tiers(lines: _PricedLines) -> _PriceLists:
    """The shares of their price that all products cost from a quantity on, of one owner, the first 1."""
    if not len(lines.product):
        return _PriceLists(np.zeros(1, np.int32), np.zeros(1), np.ones(1))
    # What a product costs at the fewest units is told by lines of few, whatever its others are.
    few = lines.select(lines.quantity <= np.median(lines.quantity))
    usual = weighted_median(few.product, few.price, few.weight, int(lines.product.max()) + 1)
    priced = lines.select(usual[lines.product] > 0)
    priced = replace(priced, price=priced.price / usual[priced.product])
    nobody = np.zeros_like(priced.product)
    found = _price_lists(priced, nobody, 1, _LEAST_SHARED_STEP)
    n_products = [len(unique_sorted(priced.product[priced.quantity >= least])) for least in found.least_quantity]
    kept = (np.array(n_products) >= _LEAST_PRODUCTS) | (found.least_quantity == 0)
    return _PriceLists(found.owner[kept], found.least_quantity[kept], found.price[kept] / found.price[0])


def _price_lists(lines: _PricedLines, owner: RowArray, n_owners: int, least_step: float = _LEAST_STEP) -> _PriceLists:
    """The prices of each owner of lines: more than one where the quantity decides, each lower than the one before."""
    node = owner.astype(np.int64) << _ROUNDS
    least = np.zeros(n_owners << _ROUNDS)
    recent = lines.weight >= _LEAST_WEIGHT
    for step in reversed(range(_ROUNDS)):
        threshold = _breaks(lines.select(recent), node[recent], n_owners << _ROUNDS, least_step)
        above = lines.quantity >= threshold[node]
        node = node + (above.astype(np.int64) << step)
        broken = np.flatnonzero(np.isfinite(threshold))
        least[broken + (1 << step)] = threshold[broken]
    kept = unique_sorted(node)
    while True:
        price = weighted_median(np.searchsorted(kept, node), lines.price, lines.weight, len(kept))
        same = kept[1:] >> _ROUNDS == kept[:-1] >> _ROUNDS
        rises = 1 + np.flatnonzero(same & (np.log(price[:-1] + _SMALLEST) - np.log(price[1:] + _SMALLEST) < least_step))
        if not len(rises):
            return _PriceLists((kept >> _ROUNDS).astype(np.int32), least[kept], price)
        # What is paid today no longer falls there: such a price joins the one before it.
        kept = np.delete(kept, rises)
        node = kept[np.searchsorted(kept, node, side="right") - 1]


def _breaks(lines: _PricedLines, node: IntArray, n_nodes: int, least_step: float) -> FloatArray:
    """The quantity from which each node's price is another one, infinite where it does not depend on the quantity.

    The break that saves most of the squared error tells the two prices; the one then stands where the fewest lines are
    nearer to the price of the other side.
    """
    log_price, ends = lines.log_price, _Ends.of(lines, node, n_nodes)
    usual = weighted_median(node, log_price, np.ones(len(node)), n_nodes)
    low, high = ends.sums(np.clip(log_price - usual[node], -_MOST_STEP, _MOST_STEP))
    low, high = low / ends.n_low, high / ends.n_high
    saved = np.where(low > high, ends.n_low * ends.n_high / (ends.n_low + ends.n_high) * (low - high) ** 2, 0.0)
    side = lines.quantity >= ends.best(saved)[node]
    median = weighted_median(node * 2 + side, log_price, np.ones(len(node)), 2 * n_nodes)
    is_dear = log_price > (median[::2] + median[1::2])[node] / 2
    dear_low, dear_high = ends.sums(is_dear.astype(np.float64))
    threshold = ends.best(dear_low - ends.n_low - dear_high)
    fall = _tell_apart(node, lines.quantity >= threshold[node], log_price, lines.buyer, n_nodes, least_step)
    threshold[~(fall > 0)] = np.inf
    return threshold


@dataclass(frozen=True)
class _Ends:
    """Where a node's price may change: between two of its quantities, lines enough on either side.

    Attributes:
        order: lines by node, then quantity.
        at: positions in it of the last line of the lower side, `(n_ends,)`.
        node: of each end.
        n_low: lines up to it.
        n_high: lines of the node behind it.
        quantity: from which the higher side begins.
        begin: of each node, `(n_nodes,)`.
        count: likewise.
    """

    order: NDArray[np.intp]
    at: NDArray[np.intp]
    node: IntArray
    n_low: IntArray
    n_high: IntArray
    quantity: FloatArray
    begin: IntArray
    count: IntArray

    @classmethod
    def of(cls, lines: _PricedLines, node: IntArray, n_nodes: int) -> _Ends:
        order = np.lexsort((lines.quantity, node))
        group, quantity = node[order], lines.quantity[order]
        count = np.bincount(node, minlength=n_nodes)
        begin = np.cumsum(count) - count
        n_low = np.arange(1, len(node) + 1) - begin[group]
        n_high = count[group] - n_low
        rises = np.zeros(len(node), dtype=bool)
        rises[:-1] = (group[1:] == group[:-1]) & (quantity[1:] > quantity[:-1]) & (quantity[1:] > 1)
        at = np.flatnonzero(rises & (n_low >= _LEAST_LINES) & (n_high >= _LEAST_LINES))
        return cls(order, at, group[at], n_low[at], n_high[at], quantity[at + 1], begin, count)

    def sums(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the sum of the lines' values up to each end, and behind it within its node."""
        running = np.concatenate([[0.0], np.cumsum(values[self.order])])
        begin = self.begin[self.node]
        low = running[self.at + 1] - running[begin]
        return low, running[begin + self.count[self.node]] - running[begin] - low

    def best(self, gain: FloatArray) -> FloatArray:
        """Return the quantity behind each node's end of the largest gain, infinite where it has none, `(n_nodes,)`."""
        threshold = np.full(len(self.count), np.inf)
        order = np.lexsort((self.at, -gain, self.node))
        found, first = np.unique(self.node[order], return_index=True)
        threshold[found] = self.quantity[order[first]]
        return threshold


def _pay_otherwise(lines: _PricedLines, everyone: _PriceLists) -> BoolArray:
    """Which lines are of a segment that pays another price for the product than other accounts at such a quantity."""
    pays = np.zeros(len(lines.product), dtype=bool)
    recent = lines.weight >= _LEAST_WEIGHT
    row = everyone.rows(lines.product, lines.quantity)
    for segment in range(1, lines.n_segments):
        inside = lines.segment == segment
        concerned = np.zeros(len(everyone.owner), dtype=bool)
        concerned[row[inside & recent]] = True
        at = np.flatnonzero(concerned[row] & recent)
        step = _tell_apart(row[at], inside[at], lines.log_price[at], lines.buyer[at], len(concerned))
        pays |= inside & np.isin(lines.product, everyone.owner[step != 0])
    return pays


def _tell_apart(
    group: NDArray[np.integer],
    side: BoolArray,
    log_price: FloatArray,
    buyer: IntArray,
    n_groups: int,
    least_step: float = _LEAST_STEP,
) -> FloatArray:
    """How far the log price falls from each group's lines off the side to those on it, 0 where they are not apart.

    They are where both have lines and buyers enough, the step is large enough, and most lines of either are nearer to
    its own median.
    """
    half = group.astype(np.int64) * 2 + side
    n_lines = np.bincount(half, minlength=2 * n_groups)
    pairs = unique_sorted(half * (int(buyer.max(initial=0)) + 1) + buyer)
    n_buyers = np.bincount(pairs // (int(buyer.max(initial=0)) + 1), minlength=2 * n_groups)
    median = weighted_median(half, log_price, np.ones(len(half)), 2 * n_groups)
    own, other = median[half], median[half ^ 1]
    nearer = np.bincount(half, weights=np.abs(log_price - own) < np.abs(log_price - other), minlength=2 * n_groups)
    enough = (n_lines >= _LEAST_LINES) & (n_buyers >= _LEAST_ACCOUNTS) & (nearer >= _LEAST_SHARE * n_lines)
    step = np.nan_to_num(median[::2] - median[1::2])
    apart = enough[::2] & enough[1::2] & (np.abs(step) >= least_step)
    return np.where(apart, step, 0.0)
