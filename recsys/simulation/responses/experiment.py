"""The market's response to offers: an experiment in process, with the truth of every quantity.

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

from recsys.errors import ConfigError
from recsys.simulation.catalogue import products_frame
from recsys.simulation.config import MarketConfig
from recsys.simulation.response_config import HOLDOUT, WORLDS, OfferPolicy, ResponseConfig
from recsys.simulation.response_log import account_table, decision_tables, order_table
from recsys.simulation.responses.policy_run import planned_purchases, run_policy
from recsys.simulation.responses.scenario import draw_scene
from recsys.simulation.responses.truth import ArmTruth, ExperimentTruth, potential_outcomes, truth_of
from recsys.simulation.truth import upgrades_frame

__all__ = [
    "HOLDOUT",
    "WORLDS",
    "ArmTruth",
    "ExperimentLog",
    "ExperimentTruth",
    "OfferPolicy",
    "ResponseConfig",
    "simulate_experiment",
]

_TAG = 0xE59E


@dataclass(frozen=True)
class ExperimentLog:
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
) -> ExperimentLog:
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
    return ExperimentLog(
        accounts=account_table(scene, outcomes, arm, started),
        orders=order_table(scene, runs, policies, arm, started),
        decisions=decisions,
        decision_offers=offers,
        outcomes=reported,
        products=products_frame(scene.world.catalogue, market),
        upgrades=upgrades_frame(scene.world.catalogue),
        potential=pd.concat([outcomes[name].assign(arm=name) for name in names], ignore_index=True),
        truth=truth_of(outcomes, names[0]),
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
