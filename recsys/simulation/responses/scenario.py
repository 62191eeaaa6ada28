"""Three worlds of how accounts respond to offers, and what is drawn once for an experiment, whatever the policy.

Every policy meets the same visits with the same random numbers, so that the difference of two potential outcomes of
an account is the policy's doing alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import FloatArray, IntArray, positions, row_of_entry
from recsys.contracts.config import Config
from recsys.simulation import constants
from recsys.simulation.accounts import Accounts, draw_accounts
from recsys.simulation.blocks import MarketWorld, build_world
from recsys.simulation.catalogue import segment_effect
from recsys.simulation.constants import MarketConfig

ResponseWorld = Literal["adds", "moves_only", "harm"]


class OfferPolicy(Config):
    """What one arm of an experiment shows."""

    limit: int = Field(default=3, ge=0, le=6)
    """Offers at a visit; 0: none, and no decision is logged."""
    relevance: float = Field(default=0.8, ge=0, le=1)
    """Weight of the account's true need in the order of offers, the rest is noise; 0 is a random policy."""
    discount: float = Field(default=0.0, ge=0, lt=1)
    """Share of the price that an accepted offer saves; it raises acceptance through the price effect."""
    shown: bool = True
    """False for a holdout: its decisions are logged as not shown, and nobody responds to them."""


class ResponseConfig(Config):
    """The experiment's length and the planted response; the defaults let offers add sales."""

    start: datetime | None = None
    """First moment of the run, UTC; default: the end of the market."""
    days: int = Field(default=28, ge=1, le=365)
    """Length of the run."""
    before_days: int = Field(default=84, ge=1, le=730)
    """Length of the history before it, for covariates and for what accounts own."""
    orders_per_account: float = Field(default=1.2, gt=0, le=20)
    """Mean organic orders of an account in the run; the spread over accounts is the market's own."""
    browses_per_order: float = Field(default=1.0, ge=0, le=20)
    """Visits without an order, for each organic order: offers are shown there too."""
    basket_lines: float = Field(default=5.0, ge=1, le=50)
    """Mean ordinary lines of an order."""
    wish_rate: float = Field(default=0.015, ge=0, le=1)
    """Organic wishes a day for a product of the highest need; a wish is met at the next order."""
    base_logit: float = -2.6
    """Logit of accepting an offer of no need, mean price, first rank, before any other."""
    need_effect: float = 2.0
    """On that logit, for the highest need."""
    price_effect: float = -0.3
    """On that logit, a unit of the log of the price above the mean."""
    rank_effect: float = -0.25
    """On that logit, a unit of log2(rank)."""
    fatigue_effect: float = -0.06
    """On that logit, each offer that the account saw before."""
    adds: float = Field(default=1.0, ge=0, le=1)
    """Factor on accepting what the account would not have bought in the run anyway; 0: purchases are only moved."""
    displaced_share: float = Field(default=0.15, ge=0, le=1)
    """Added purchases beside which an ordinary line of the order is left out."""
    lost_share: float = Field(default=0.0, ge=0, le=1)
    """Orders that are abandoned because offers were shown at them."""
    leaves_share: float = Field(default=0.0, ge=0, le=1)
    """Chance at each visit with offers that the account leaves for good."""
    lapse_share: float = Field(default=0.15, ge=0, le=1)
    """Organic chance of leaving after an order, as a share of the account's own in the market (over a longer time)."""
    window_days: int = Field(default=30, ge=1)
    """Attribution window of the true attributed revenue."""


WORLDS: Final[dict[ResponseWorld, ResponseConfig]] = {
    "adds": ResponseConfig(),
    "moves_only": ResponseConfig(adds=0.0, displaced_share=0.0, base_logit=-0.5, wish_rate=0.03),
    "harm": ResponseConfig(adds=0.3, lost_share=0.10, leaves_share=0.02),
}
"""Offers add sales; offers only move purchases, so that attributed revenue looks fine and nothing is earned; offers
cost orders and customers."""
HOLDOUT: Final = OfferPolicy(shown=False)
"""Shows nothing, and logs what it would have shown."""


N_WISHES = 6
"""Products that an account could be offered; every third is an upgrade."""
NO_ORDER_LEFT = np.inf
_NONE = -1
_UPGRADE_EVERY = 3
_ROUNDS = 6
_MAX_RATE = 0.6
"""Orders a day of the busiest account."""


@dataclass(frozen=True)
class Visits:
    """Visits by account and time, arrays of shape `(n_visits,)`.

    Attributes:
        account: row of the account.
        day: days since the start of the run; below zero before it.
        is_order: an organic order; else a look around.
        step: position among the account's visits of the run; -1 before the run.
    """

    account: IntArray
    day: FloatArray
    is_order: NDArray[np.bool_]
    step: IntArray

    def __len__(self) -> int:
        return len(self.account)


@dataclass(frozen=True)
class Wishes:
    """What accounts could be offered, arrays of shape `(n_accounts, N_WISHES)`.

    Attributes:
        product: row in the catalogue.
        displaces: the lower rung in the catalogue for an upgrade, else -1.
        quantity: units, if bought.
        need: planted need in [0, 1].
        wish_day: day of the organic wish.
        offerable: False for a product that stands in an earlier column too, or that the account bought before.
    """

    product: IntArray
    displaces: IntArray
    quantity: FloatArray
    need: FloatArray
    wish_day: FloatArray
    offerable: NDArray[np.bool_]


@dataclass(frozen=True)
class PlannedBaskets:
    """Ordinary lines of organic orders, arrays of shape `(n_lines,)`, by visit."""

    visit: IntArray
    product: IntArray
    quantity: FloatArray


@dataclass(frozen=True)
class Luck:
    """Random numbers in [0, 1).

    Attributes:
        accepts: shape `(n_visits, N_WISHES)`.
        displaces: shape `(n_visits,)`.
        loses: shape `(n_visits,)`.
        leaves: shape `(n_visits,)`.
        taste: the noise in a policy's order of offers, shape `(n_accounts, N_WISHES)`.
    """

    accepts: FloatArray
    displaces: FloatArray
    loses: FloatArray
    leaves: FloatArray
    taste: FloatArray


@dataclass(frozen=True)
class Scene:
    """Everything that no policy changes."""

    world: MarketWorld
    accounts: Accounts
    visits: Visits
    baskets: PlannedBaskets
    wishes: Wishes
    luck: Luck


def draw_scene(market: MarketConfig, config: ResponseConfig, rng: np.random.Generator) -> Scene:
    """Return the scene of an experiment on all accounts of a market."""
    world = build_world(market)
    accounts = draw_accounts(market, world.catalogue, world.clock, 0, market.n_accounts)
    visits = _visits(accounts, config, rng)
    wishes = _wishes(world, accounts, config, rng)
    baskets = _baskets(world, accounts, visits, wishes, config, rng)
    wishes = replace(wishes, offerable=wishes.offerable & _not_bought(visits, wishes, baskets))
    n = len(visits)
    luck = Luck(
        accepts=rng.random((n, N_WISHES)),
        displaces=rng.random(n),
        loses=rng.random(n),
        leaves=rng.random(n),
        taste=rng.random((len(accounts), N_WISHES)),
    )
    return Scene(world, accounts, visits, baskets, wishes, luck)


def _visits(accounts: Accounts, config: ResponseConfig, rng: np.random.Generator) -> Visits:
    rate = accounts.order_rate / accounts.order_rate.mean() * config.orders_per_account / config.days
    rate = np.minimum(rate, _MAX_RATE)
    span = config.before_days + config.days
    orders = rng.poisson(rate * span)
    browses = rng.poisson(rate * config.browses_per_order * config.days)
    account = np.concatenate([row_of_entry(orders), row_of_entry(browses)])
    day = np.concatenate(
        [
            rng.random(int(orders.sum())) * span - config.before_days,
            rng.random(int(browses.sum())) * config.days,
        ]
    )
    is_order = np.arange(len(account)) < int(orders.sum())
    rank = np.lexsort((day, account))
    account, day, is_order = account[rank], day[rank], is_order[rank]
    in_run = day >= 0
    step = np.full(len(account), -1)
    step[in_run] = positions(np.bincount(account[in_run], minlength=len(accounts)))
    return Visits(account, day, is_order, step)


def _wishes(world: MarketWorld, accounts: Accounts, config: ResponseConfig, rng: np.random.Generator) -> Wishes:
    n = len(accounts)
    product = np.empty((n, N_WISHES), dtype=np.int64)
    displaces = np.full((n, N_WISHES), _NONE)
    need = np.empty((n, N_WISHES))
    weights = np.diff(accounts.slot_until, axis=1, prepend=0.0)
    for column in range(N_WISHES):
        if column % _UPGRADE_EVERY == _UPGRADE_EVERY - 1 and len(world.catalogue.ladders):
            product[:, column], displaces[:, column], need[:, column] = _upgrade(world, accounts, rng)
        else:
            slot = (rng.random(n)[:, None] > accounts.slot_until).sum(axis=1)
            slot = np.minimum(slot, accounts.slot_category.shape[1] - 1)
            product[:, column] = _from_category(world, accounts.slot_category[np.arange(n), slot], rng)
            need[:, column] = np.sqrt(weights[np.arange(n), slot])
    return Wishes(
        product=product,
        displaces=displaces,
        quantity=_units(world, accounts, np.repeat(np.arange(n), N_WISHES), product.ravel(), config, rng).reshape(
            n, N_WISHES
        ),
        need=need,
        wish_day=rng.exponential(1.0, (n, N_WISHES)) / np.maximum(config.wish_rate * need, 1e-12),
        offerable=_first_of_each(product),
    )


def _upgrade(world: MarketWorld, accounts: Accounts, rng: np.random.Generator) -> tuple[IntArray, IntArray, FloatArray]:
    """The next rung of a ladder for each account, the rung it stands on, and the need: the planted hazard's share."""
    ladders = world.catalogue.ladders
    family, rung = ladders.edges()
    chosen = rng.integers(0, len(family), len(accounts))
    family, rung = family[chosen], rung[chosen]
    log_rate = ladders.log_edge[family, rung] + segment_effect(accounts.segment)
    need = np.exp((log_rate - log_rate.max()) / 2)
    return ladders.rungs[family, rung + 1], ladders.rungs[family, rung], need


def _from_category(world: MarketWorld, category: IntArray, rng: np.random.Generator) -> IntArray:
    last = world.shelf.appetite.shape[0] - 1
    return world.shelf.draw_in(np.full(len(category), last), category, rng.random(len(category)))


def _units(
    world: MarketWorld,
    accounts: Accounts,
    account: IntArray,
    product: IntArray,
    config: ResponseConfig,
    rng: np.random.Generator,
) -> FloatArray:
    """Units of a line: the market's law of quantities, tails and all."""
    mean = constants.LOG_QUANTITY_MEAN + constants.LOG_QUANTITY_PRICE_SLOPE * np.log(world.catalogue.price[product])
    mean = mean + constants.LOG_QUANTITY_LINES_SLOPE * np.log(config.basket_lines) + accounts.log_quantity[account]
    units = np.rint(np.exp(mean + constants.LOG_QUANTITY_LINE_SD * rng.standard_normal(len(product))))
    return np.asarray(np.maximum(units, 1.0), dtype=np.float64)


def _baskets(
    world: MarketWorld,
    accounts: Accounts,
    visits: Visits,
    wishes: Wishes,
    config: ResponseConfig,
    rng: np.random.Generator,
) -> PlannedBaskets:
    orders = np.flatnonzero(visits.is_order)
    visit = np.repeat(orders, 1 + rng.poisson(config.basket_lines - 1, len(orders)))
    product = _needed(world, accounts, visits.account[visit], rng)
    for _ in range(_ROUNDS):  # what an account wishes is new to it: ordinary lines hold something else
        again = np.flatnonzero(_wished(visits, wishes, visit, product))
        product[again] = _needed(world, accounts, visits.account[visit[again]], rng)
    standing_visit, standing = _standing_lines(visits, wishes)
    visit, product = np.concatenate([visit, standing_visit]), np.concatenate([product, standing])
    rank = np.argsort(visit, kind="stable")
    visit, product = visit[rank], product[rank]
    return PlannedBaskets(visit, product, _units(world, accounts, visits.account[visit], product, config, rng))


def _needed(world: MarketWorld, accounts: Accounts, account: IntArray, rng: np.random.Generator) -> IntArray:
    """A product of a needed category for each account given."""
    slot = (rng.random(len(account))[:, None] > accounts.slot_until[account]).sum(axis=1)
    slot = np.minimum(slot, accounts.slot_category.shape[1] - 1)
    return _from_category(world, accounts.slot_category[account, slot], rng)


def _wished(visits: Visits, wishes: Wishes, visit: IntArray, product: IntArray) -> NDArray[np.bool_]:
    """Which ordinary lines hold a wish of their account."""
    return np.asarray((wishes.product[visits.account[visit]] == product[:, None]).any(axis=1), dtype=bool)


def _not_bought(visits: Visits, wishes: Wishes, baskets: PlannedBaskets) -> NDArray[np.bool_]:
    """Which wishes stand in no ordinary line of their account, `(n_accounts, N_WISHES)`."""
    lines = np.flatnonzero(_wished(visits, wishes, baskets.visit, baskets.product))
    account = visits.account[baskets.visit[lines]]
    row, wish = np.nonzero(wishes.product[account] == baskets.product[lines][:, None])
    free = np.ones(wishes.product.shape, dtype=bool)
    free[account[row], wish] = False
    return free


def _standing_lines(visits: Visits, wishes: Wishes) -> tuple[IntArray, IntArray]:
    """The rungs that accounts stand on, in their first order before the run."""
    early = np.flatnonzero(visits.is_order & (visits.day < 0))
    account, first = np.unique(visits.account[early], return_index=True)
    stands = wishes.displaces[account] != _NONE
    return np.repeat(early[first], stands.sum(axis=1)), wishes.displaces[account][stands]


def _first_of_each(product: IntArray) -> NDArray[np.bool_]:
    first = np.ones(product.shape, dtype=bool)
    for column in range(1, product.shape[1]):
        first[:, column] = (product[:, :column] != product[:, [column]]).all(axis=1)
    return first
