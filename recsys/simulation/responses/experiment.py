"""The market's response to offers: an experiment in process, its log as tables, and the truth of every quantity.

Each account lives through the run once under every policy (its potential outcomes) and shows one of them, that of its
arm. Acceptance follows the planted need, price, rank and fatigue; an accepted offer is *moved* where the account would
have bought the product within the run anyway, *added* where not; offers can displace ordinary lines, cost orders, and
drive accounts away. The truth is the mean difference of potential outcomes over the very accounts of the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.contracts.tables import COMPLETED
from recsys.errors import ConfigError
from recsys.simulation.accounts import EMPLOYEES, accounts_frame
from recsys.simulation.catalogue import products_frame
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import MARKET_CURRENCY
from recsys.simulation.responses.policy_run import PolicyRun, planned_purchases, run_policy
from recsys.simulation.responses.scenario import HOLDOUT, WORLDS, OfferPolicy, ResponseConfig, Scene, draw_scene
from recsys.simulation.responses.truth import (
    ArmTruth,
    ExperimentTruth,
    ordinary_lines,
    planted_truth,
    potential_outcomes,
)
from recsys.simulation.truth import upgrades_frame

_DAY_MICROSECONDS = 86_400 * 10**6
_ORDER_LAG = pd.Timedelta(minutes=1)
"""An order is placed a minute after its visit's offers were seen."""
_SURFACES = np.array(["home", "cart"], dtype=object)


def experiment_accounts(
    scene: Scene, outcomes: Mapping[str, pd.DataFrame], arm: NDArray[np.object_], started: pd.Timestamp
) -> pd.DataFrame:
    """Return one row an account: its arm and what it did under it."""
    about = accounts_frame(scene.accounts).drop(columns=[EMPLOYEES, c.CREATED_AT, c.DO_NOT_OFFER])
    about.insert(1, "arm", arm)
    about.insert(2, "assigned_at", pd.Series(started, index=about.index).dt.as_unit("us"))
    shown: list[pd.DataFrame] = [frame[arm == name] for name, frame in outcomes.items()]
    did = pd.concat(shown).drop(columns=c.ACCOUNT_ID).sort_index()
    did.index = about.index
    return pd.concat([about, did], axis=1)


def experiment_orders(
    scene: Scene,
    runs: Mapping[str, PolicyRun],
    policies: Mapping[str, OfferPolicy],
    arm: NDArray[np.object_],
    started: pd.Timestamp,
) -> pd.DataFrame:
    """Return the order lines of every account under its own arm, in the order of time and order."""
    parts = [_lines(scene, runs[name], policies[name], arm == name) for name in runs]
    visit, product, quantity, discount = (np.concatenate(part) for part in zip(*parts, strict=True))
    rank = np.lexsort((product, visit))
    visit, product, quantity, discount = visit[rank], product[rank], quantity[rank], discount[rank]
    first = np.searchsorted(visit, visit)
    frame = pd.DataFrame(
        {
            c.ORDER_ID: _ids("O", visit),
            c.LINE_ID: (np.arange(len(visit)) - first + 1).astype(str),
            c.ACCOUNT_ID: scene.accounts.ids()[scene.visits.account[visit]],
            c.PRODUCT_ID: scene.world.catalogue.ids[product],
            c.ORDERED_AT: _times(scene, visit, started) + _ORDER_LAG,
            c.QUANTITY: quantity,
            c.UNIT_PRICE: scene.world.catalogue.price[product],
            c.DISCOUNT: discount,
            c.CURRENCY: MARKET_CURRENCY,
            c.STATUS: COMPLETED,
        }
    )
    return frame.sort_values([c.ORDERED_AT, c.ORDER_ID, c.LINE_ID], ignore_index=True)


def decision_tables(
    scene: Scene,
    runs: Mapping[str, PolicyRun],
    policies: Mapping[str, OfferPolicy],
    arm: NDArray[np.object_],
    started: pd.Timestamp,
    experiment_id: str,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return decisions, returned offers and outcomes in the event store's columns, in the order of time."""
    visit, wish, rank, yes, shown = _returned(scene, runs, policies, arm)
    account = scene.visits.account[visit]
    at = pd.Series(_times(scene, visit, started))
    offers = pd.DataFrame(
        {
            c.DECISION_ID: _ids("D", visit),
            "decided_at": at,
            c.ACCOUNT_ID: scene.accounts.ids()[account],
            "visitor_id": pd.Series([None] * len(visit), dtype=object),
            "shown": shown,
            c.RANK: rank,
            c.PRODUCT_ID: scene.world.catalogue.ids[scene.wishes.product[account, wish]],
            c.KIND: np.where(scene.wishes.displaces[account, wish] >= 0, "upsell", "cross_sell").astype(object),
            c.PRICE: scene.world.catalogue.price[scene.wishes.product[account, wish]],
            "propensity": 1.0,
            "presented_at": at.where(shown),
        }
    )
    said = offers[yes].reset_index(drop=True)
    outcomes = pd.DataFrame(
        {
            "outcome_id": np.array([f"E{number:09d}" for number in range(len(said))], dtype=object),
            c.DECISION_ID: said[c.DECISION_ID].to_numpy(dtype=object),
            c.PRODUCT_ID: said[c.PRODUCT_ID].to_numpy(dtype=object),
            c.KIND: "accepted",
            "occurred_at": said["decided_at"] + _ORDER_LAG,
            "recorded_at": said["decided_at"] + 2 * _ORDER_LAG,
            "reason": pd.Series([None] * len(said), dtype=object),
            "actor_id": pd.Series([None] * len(said), dtype=object),
        }
    )
    visits = np.unique(visit)
    first = offers.drop_duplicates(c.DECISION_ID, ignore_index=True)
    decisions = first[[c.DECISION_ID, "decided_at", c.ACCOUNT_ID, "shown"]].assign(
        **{c.CHANNEL: "web"},
        surface=_SURFACES[scene.visits.is_order[visits].astype(np.int64)],
        experiment_id=experiment_id,
        arm=arm[scene.visits.account[visits]],
        assignment_probability=1.0 / len(runs),
        presented=first["shown"],
    )
    return decisions, offers, outcomes


def _returned(
    scene: Scene, runs: Mapping[str, PolicyRun], policies: Mapping[str, OfferPolicy], arm: NDArray[np.object_]
) -> tuple[IntArray, IntArray, IntArray, NDArray[np.bool_], NDArray[np.bool_]]:
    """The offers of every account under its own arm, by visit and rank."""
    parts = []
    for name, run in runs.items():
        own = (arm == name)[scene.visits.account[run.offer_visit]]
        shown = np.full(int(own.sum()), policies[name].shown)
        parts.append((run.offer_visit[own], run.offer_wish[own], run.offer_rank[own], run.offer_accepted[own], shown))
    visit, wish, rank, yes, shown = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((rank, visit))
    return visit[order], wish[order], rank[order], yes[order], shown[order]


def _lines(
    scene: Scene, run: PolicyRun, policy: OfferPolicy, own: NDArray[np.bool_]
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Visit, product, units and discount of the lines that the accounts of an arm bought."""
    kept = ordinary_lines(scene, run) & own[scene.visits.account[scene.baskets.visit]]
    account, wish = np.nonzero((run.bought_visit >= 0) & own[:, None])
    product = scene.wishes.product[account, wish]
    quantity = scene.wishes.quantity[account, wish]
    off = policy.discount * quantity * scene.world.catalogue.price[product] * run.accepted[account, wish]
    return (
        np.concatenate([scene.baskets.visit[kept], run.bought_visit[account, wish]]),
        np.concatenate([scene.baskets.product[kept], product]),
        np.concatenate([scene.baskets.quantity[kept], quantity]),
        np.concatenate([np.zeros(int(kept.sum())), off]),
    )


def _ids(letter: str, number: IntArray) -> NDArray[np.object_]:
    return np.char.add(letter, np.char.zfill(number.astype(str), 8)).astype(object)


def _times(scene: Scene, visit: IntArray, started: pd.Timestamp) -> pd.DatetimeIndex:
    microseconds = np.floor(scene.visits.day[visit] * _DAY_MICROSECONDS).astype(np.int64)
    return pd.DatetimeIndex(started + pd.to_timedelta(microseconds, unit="us")).as_unit("us")


__all__ = [
    "HOLDOUT",
    "WORLDS",
    "ArmTruth",
    "ExperimentTruth",
    "OfferPolicy",
    "ResponseConfig",
    "SimulatedExperiment",
    "simulate_experiment",
]

_TAG = 0xE59E


@dataclass(frozen=True)
class SimulatedExperiment:
    """What an experiment leaves behind, and the truth about it.

    Attributes:
        accounts: one row an account: `account_id arm assigned_at segment region is_key_account owner`, what it did in
            the run (`revenue orders buyer upsell_orders cross_sell_orders presented accepted attributed_revenue
            left`) and before (`revenue_before orders_before`).
        orders: order lines in contract columns, from before the run and in it.
        decisions: as the event store has them.
        decision_offers: as the event store has them, one row a returned offer.
        outcomes: as the event store has them; what was shown is presented at once.
        products: the catalogue in contract columns.
        upgrades: the curated upgrades.
        potential: one row an account and arm: what it would have done under that arm.
        truth: means of the potential outcomes and the effects of each arm.
        started: first moment of the run, UTC.
        ended: first moment after it, UTC.
    """

    accounts: pd.DataFrame
    orders: pd.DataFrame
    decisions: pd.DataFrame
    decision_offers: pd.DataFrame
    outcomes: pd.DataFrame
    products: pd.DataFrame
    upgrades: pd.DataFrame
    potential: pd.DataFrame
    truth: ExperimentTruth
    started: pd.Timestamp
    ended: pd.Timestamp


def simulate_experiment(
    market: MarketConfig,
    policies: Mapping[str, OfferPolicy],
    config: ResponseConfig,
    seed: int,
    *,
    arms: Sequence[str] | NDArray[np.object_] | None = None,
    experiment_id: str = "simulated",
) -> SimulatedExperiment:
    """Return the log of an experiment on all accounts of a market.

    Args:
        market: the accounts and the catalogue that `simulate_market` draws from the same configuration.
        policies: what each arm shows; the first one is the control.
        config: length and response.
        seed: of all luck; the same seed gives the same log.
        arms: the arm of each account in the order of their ids; default: drawn with equal chances.
        experiment_id: stands in the decisions.

    Raises:
        ConfigError: fewer than two policies, or arms that do not fit the accounts or the policies.

    Example:
        >>> market = MarketConfig(n_accounts=200, n_products=200)
        >>> log = simulate_experiment(market, {"control": HOLDOUT, "offers": OfferPolicy()}, WORLDS["moves_only"], 1)
        >>> abs(round(log.truth.arms["offers"].effect, 6)), log.truth.arms["offers"].attributed_per_account > 0
        (0.0, True)
    """
    names = list(policies)
    if len(names) < 2:
        raise ConfigError(f"policies == {names}, must be a control and another; give one policy an arm")
    rng = np.random.default_rng(np.random.SeedSequence([market.seed, seed, _TAG]))
    scene = draw_scene(market, config, rng)
    arm = _arms(arms, names, market.n_accounts, rng)
    planned = planned_purchases(scene, config)
    runs = {name: run_policy(scene, policy, config, planned) for name, policy in policies.items()}
    outcomes = {name: potential_outcomes(scene, runs[name], policies[name]) for name in names}
    started = pd.Timestamp(config.start or market.start + timedelta(days=market.days)).tz_convert(UTC)
    decisions, offers, reported = decision_tables(scene, runs, policies, arm, started, experiment_id)
    return SimulatedExperiment(
        accounts=experiment_accounts(scene, outcomes, arm, started),
        orders=experiment_orders(scene, runs, policies, arm, started),
        decisions=decisions,
        decision_offers=offers,
        outcomes=reported,
        products=products_frame(scene.world.catalogue, market),
        upgrades=upgrades_frame(scene.world.catalogue),
        potential=pd.concat([outcomes[name].assign(arm=name) for name in names], ignore_index=True),
        truth=planted_truth(outcomes, names[0]),
        started=started,
        ended=started + pd.Timedelta(days=config.days),
    )


def _arms(
    given: Sequence[str] | NDArray[np.object_] | None, names: list[str], n: int, rng: np.random.Generator
) -> NDArray[np.object_]:
    drawn = np.array(names, dtype=object)[rng.integers(0, len(names), n)]
    if given is None:
        return drawn
    arm = np.asarray(given, dtype=object)
    if len(arm) != n:
        raise ConfigError(f"arms == {len(arm)} names, must be one for each of the {n} accounts of the market")
    strangers = sorted(set(arm) - set(names))
    if strangers:
        raise ConfigError(f"arms == {strangers[0]!r}, must be one of the policies {', '.join(names)}")
    return arm
