"""Needs that are met again and again from one rung of a ladder, and the climbs to the next rung."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray, positions, row_of_entry, starts
from recsys.data.history import SECONDS_A_DAY
from recsys.simulation.accounts import Accounts
from recsys.simulation.catalogue import MAX_RUNGS, Catalogue, Ladders, climb_rate, segment_effect
from recsys.simulation.constants import MarketConfig
from recsys.simulation.orders import Orders
from recsys.simulation.random_streams import Stream, account_keys, normal, uniform
from recsys.simulation.seasonality import Seasonality

NEEDS_AN_ACCOUNT = 6
OLD_HABIT = 0.10  # share of the replenishments that still take the rung below after a climb
QUANTITY_NOISE = 0.12
_YEAR_SECONDS = 365.0 * SECONDS_A_DAY
_START_RUNG_UNTIL = (0.75, 0.95)  # of ladders with enough rungs
_SHARE_LATE = 0.50  # needs that arise after the account's entry


@dataclass(frozen=True)
class Needs:
    """The ladder needs of a block, arrays of shape `(n_needs,)`, by account.

    Attributes:
        account: row in the block.
        slot: which of the account's needs this is.
        family: row in the ladders.
        onset: second from which the need exists.
        rung: rung on which the account begins, 0 lowest.
        log_ratio: log of the account's usual quantity over the family's, at the onset.
        growth: change of `log_ratio` a year.
    """

    account: IntArray
    slot: IntArray
    family: IntArray
    onset: IntArray
    rung: IntArray
    log_ratio: FloatArray
    growth: FloatArray


@dataclass(frozen=True)
class Standings:
    """Rungs that accounts stood on below the top, arrays of shape `(n_standings,)`.

    Attributes:
        account: row in the block.
        family: row in the ladders.
        rung: the lower rung, 0 lowest.
        since: second of the first purchase of the rung.
        climbed: second of the first purchase of the next one, -1 when it was not climbed.
        log_ratio: log of the account's usual quantity over the family's, at `since`.
        growth: change of `log_ratio` a year.
    """

    account: IntArray
    family: IntArray
    rung: IntArray
    since: IntArray
    climbed: IntArray
    log_ratio: FloatArray
    growth: FloatArray


@dataclass(frozen=True)
class Refills:
    """Lines that replenish a need, arrays of shape `(n_lines,)`.

    Attributes:
        order: row in the block's orders.
        product: row in the catalogue.
        quantity: units.
    """

    order: IntArray
    product: IntArray
    quantity: IntArray


_NO_INTS: IntArray = np.empty(0, dtype=np.int64)
_NO_FLOATS: FloatArray = np.empty(0, dtype=np.float64)
NO_REFILLS = Refills(order=_NO_INTS, product=_NO_INTS, quantity=_NO_INTS)
NO_STANDINGS = Standings(
    account=_NO_INTS, family=_NO_INTS, rung=_NO_INTS, since=_NO_INTS, climbed=_NO_INTS,
    log_ratio=_NO_FLOATS, growth=_NO_FLOATS,
)  # fmt: skip


def draw_needs(config: MarketConfig, accounts: Accounts, ladders: Ladders, clock: Seasonality) -> Needs:
    """Return the ladder needs of a block; an account needs a family at most once."""
    n = len(accounts)
    account, slot = np.repeat(np.arange(n), NEEDS_AN_ACCOUNT), np.tile(np.arange(NEEDS_AN_ACCOUNT), n)

    def keys(stream: Stream) -> NDArray[np.uint64]:
        return account_keys(config.seed, stream, accounts.number)[account]

    family = _families(accounts, ladders, uniform(keys(Stream.LADDER_CATEGORY), slot), keys(Stream.LADDER_FAMILY), slot)
    late = np.maximum(uniform(keys(Stream.LADDER_ONSET), slot) - (1 - _SHARE_LATE), 0.0) / _SHARE_LATE
    entry = accounts.entry[account]
    n_rungs = (ladders.rungs[family] >= 0).sum(axis=1)
    place = uniform(keys(Stream.LADDER_RUNG), slot)
    rung = np.minimum((place[:, None] > np.asarray(_START_RUNG_UNTIL)).sum(axis=1), n_rungs - 1)
    own = 0.6 * normal(keys(Stream.LADDER_QUANTITY), slot)
    once = _first_of_family(account, family) & accounts.is_regular[account]
    return Needs(
        account=account[once],
        slot=slot[once],
        family=family[once],
        onset=clock.seconds(entry + late * (clock.length - entry))[once],
        rung=rung[once],
        log_ratio=(0.6 * accounts.log_quantity[account] + own)[once],
        growth=(0.10 + 0.25 * normal(keys(Stream.LADDER_GROWTH), slot))[once],
    )


def replenish(
    config: MarketConfig, accounts: Accounts, catalogue: Catalogue, needs: Needs, orders: Orders
) -> tuple[Refills, Standings]:
    """Return the lines that replenish needs and the rungs that accounts stood on.

    An order after the onset replenishes a need with the family's `inclusion`. The first replenishment puts the
    account on its first rung, where the wish for the next one comes with the hazard `climb_rate`; the replenishment
    after it buys the next rung, the others the present one (or, after a climb and with `OLD_HABIT`, the one below).
    """
    ladders = catalogue.ladders
    need, order = _occasions(config, accounts, ladders, needs, orders)
    climbing = _Climbing(config, accounts, ladders, needs)
    counts = np.bincount(need, minlength=len(needs.account))
    begin = starts(counts)
    bought = np.empty(len(need), dtype=np.int64)
    for turn in range(int(counts.max(initial=0))):
        active = np.flatnonzero(counts > turn)
        entry = begin[active] + turn
        bought[entry] = climbing.step(active, orders.seconds[order[entry]], orders.position[order[entry]], turn == 0)
    quantity = _quantities(config, accounts, ladders, needs, orders, need, order)
    return Refills(order=order, product=bought, quantity=quantity), climbing.standings()


class _Climbing:
    """Where each need stands, replenishment by replenishment; arrays of shape `(n_needs,)`."""

    def __init__(self, config: MarketConfig, accounts: Accounts, ladders: Ladders, needs: Needs) -> None:
        self._ladders, self._needs = ladders, needs
        self._rung = needs.rung.copy()
        self._since = np.zeros(len(self._rung), dtype=np.int64)
        self._last = np.zeros(len(self._rung), dtype=np.int64)
        self._stood_from = np.full((len(self._rung), MAX_RUNGS), -1, dtype=np.int64)
        self._climbed_at = np.full((len(self._rung), MAX_RUNGS), -1, dtype=np.int64)
        self._log_base = ladders.log_edge[needs.family] + segment_effect(accounts.segment[needs.account])[:, None]
        self._wish_keys = account_keys(config.seed, Stream.LADDER_CLIMB, accounts.number)[needs.account]
        self._habit_keys = account_keys(config.seed, Stream.LADDER_OLD_HABIT, accounts.number)[needs.account]

    def step(self, active: IntArray, now: IntArray, position: IntArray, first: bool) -> IntArray:
        """Return the product that each active need is replenished with now, and remember where it stands."""
        address = position * NEEDS_AN_ACCOUNT + self._needs.slot[active]
        climbs = np.zeros(len(active), dtype=bool)
        if not first:
            climbs = uniform(self._wish_keys[active], address) < self._chance(active, now)
        up = active[climbs]
        self._climbed_at[up, self._rung[up]] = now[climbs]
        self._rung[up] += 1
        arrived = np.full(len(active), first) | climbs
        self._since[active[arrived]] = now[arrived]
        self._stood_from[active[arrived], self._rung[active[arrived]]] = now[arrived]
        self._last[active] = now
        falls_back = (self._rung[active] > self._needs.rung[active]) & ~climbs
        falls_back &= uniform(self._habit_keys[active], address) < OLD_HABIT
        return self._ladders.rungs[self._needs.family[active], self._rung[active] - falls_back]

    def _chance(self, active: IntArray, now: IntArray) -> FloatArray:
        """Return the probability that the wish came since the last replenishment, by the hazard of the time between."""
        last = self._last[active]
        middle = last + (now - last) // 2
        years = (middle - self._needs.onset[active]) / _YEAR_SECONDS
        rate = climb_rate(
            self._log_base[active, self._rung[active]],
            tenure_days(middle, self._since[active]),
            self._needs.log_ratio[active] + self._needs.growth[active] * years,
        )
        return np.asarray(-np.expm1(-rate * (now - last) / SECONDS_A_DAY), dtype=np.float64)

    def standings(self) -> Standings:
        """Return the rungs below the top that were stood on."""
        needs = self._needs
        need, rung = np.nonzero((self._stood_from >= 0) & np.isfinite(self._ladders.log_edge[needs.family]))
        since = self._stood_from[need, rung]
        return Standings(
            account=needs.account[need],
            family=needs.family[need],
            rung=rung,
            since=since,
            climbed=self._climbed_at[need, rung],
            log_ratio=needs.log_ratio[need] + needs.growth[need] * (since - needs.onset[need]) / _YEAR_SECONDS,
            growth=needs.growth[need],
        )


def tenure_days(now: IntArray | int, since: IntArray) -> FloatArray:
    """Return whole days on a rung."""
    return np.asarray((now - since) // SECONDS_A_DAY, dtype=np.float64)


def _families(
    accounts: Accounts, ladders: Ladders, place: FloatArray, keys: NDArray[np.uint64], slot: IntArray
) -> IntArray:
    """Return a family for each need: in a category that the account needs, by weight; any where it has no ladder."""
    account = np.repeat(np.arange(len(accounts)), NEEDS_AN_ACCOUNT)
    which = (place[:, None] > accounts.slot_until[account]).sum(axis=1)
    category = accounts.slot_category[account, np.minimum(which, accounts.slot_category.shape[1] - 1)]
    until = np.concatenate([[0.0], np.cumsum(ladders.weight)])
    low = until[np.searchsorted(ladders.category, category)]
    high = until[np.searchsorted(ladders.category, category, side="right")]
    empty = high <= low
    low, high = np.where(empty, 0.0, low), np.where(empty, until[-1], high)
    family = np.searchsorted(until, low + (high - low) * uniform(keys, slot), side="right") - 1
    return np.asarray(np.clip(family, 0, len(ladders) - 1), dtype=np.int64)


def _first_of_family(account: IntArray, family: IntArray) -> NDArray[np.bool_]:
    _, first = np.unique(account * (int(family.max(initial=0)) + 1) + family, return_index=True)
    once = np.zeros(len(account), dtype=bool)
    once[first] = True
    return once


def _occasions(
    config: MarketConfig, accounts: Accounts, ladders: Ladders, needs: Needs, orders: Orders
) -> tuple[IntArray, IntArray]:
    """Return need and order of each replenishment, by need and time."""
    orders_of = np.bincount(orders.account, minlength=len(accounts))
    per_need = orders_of[needs.account]
    need = row_of_entry(per_need)
    order = starts(orders_of)[needs.account][need] + positions(per_need)
    address = orders.position[order] * NEEDS_AN_ACCOUNT + needs.slot[need]
    keys = account_keys(config.seed, Stream.LADDER_INCLUDED, accounts.number)[needs.account[need]]
    taken = uniform(keys, address) < ladders.inclusion[needs.family[need]]
    taken &= orders.seconds[order] >= needs.onset[need]
    return need[taken], order[taken]


def _quantities(
    config: MarketConfig,
    accounts: Accounts,
    ladders: Ladders,
    needs: Needs,
    orders: Orders,
    need: IntArray,
    order: IntArray,
) -> IntArray:
    address = orders.position[order] * NEEDS_AN_ACCOUNT + needs.slot[need]
    keys = account_keys(config.seed, Stream.LADDER_LINE_QUANTITY, accounts.number)[needs.account[need]]
    years = (orders.seconds[order] - needs.onset[need]) / _YEAR_SECONDS
    usual = ladders.quantity[needs.family[need]] * np.exp(needs.log_ratio[need] + needs.growth[need] * years)
    return np.maximum(np.rint(usual * np.exp(QUANTITY_NOISE * normal(keys, address))), 1).astype(np.int64)
