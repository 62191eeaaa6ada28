"""Potential outcomes of every account, and the truth that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.simulation.responses.policy_run import PolicyRun
from recsys.simulation.responses.scenario import OfferPolicy, Scene


@dataclass(frozen=True, slots=True)
class ArmTruth:
    """What one arm's policy does if every account has it; revenue is money in the run.

    Attributes:
        revenue_per_account: mean.
        orders_per_account: mean.
        buyer_rate: share of accounts with an order.
        orders_per_buyer: orders / buyers.
        aov: revenue / orders.
        upsell_rate: orders with an upgrade / orders.
        cross_sell_rate: orders with another additional product / orders.
        conversion: accepted / presented offers; None where none is presented.
        attributed_per_account: revenue of purchases within the window of an exposure.
        added_per_account: of it, accepted and not to be had in the run otherwise.
        moved_per_account: of it, accepted and to be had in the run anyway.
        displaced_per_account: revenue of ordinary lines left out for added ones.
        attrition: share of accounts that left.
        effect: difference in revenue an account to the control.
        incremental_share: effect / attributed revenue an account; None where nothing is attributed.
    """

    revenue_per_account: float
    orders_per_account: float
    buyer_rate: float
    orders_per_buyer: float
    aov: float
    upsell_rate: float
    cross_sell_rate: float
    conversion: float | None
    attributed_per_account: float
    added_per_account: float
    moved_per_account: float
    displaced_per_account: float
    attrition: float
    effect: float
    incremental_share: float | None


@dataclass(frozen=True, slots=True)
class ExperimentTruth:
    """The truth of an experiment.

    Attributes:
        control: name of the control.
        arms: the truth of each arm.
    """

    control: str
    arms: dict[str, ArmTruth]


def potential_outcomes(scene: Scene, run: PolicyRun, policy: OfferPolicy) -> pd.DataFrame:
    """Return one row an account: what it does in the run under a policy."""
    visits = scene.visits
    in_run = visits.day >= 0
    bought = (run.bought_visit >= 0) & in_run[run.bought_visit]
    money = wish_money(scene, run, policy) * bought
    ordinary = ordinary_money(scene, run)
    upgrade = bought & (scene.wishes.displaces >= 0)
    return pd.DataFrame(
        {
            c.ACCOUNT_ID: scene.accounts.ids(),
            "revenue": _by_account(scene, ordinary * in_run) + money.sum(axis=1),
            "orders": _by_account(scene, (run.placed & in_run).astype(np.float64)),
            "upsell_orders": _orders_with(scene, run, upgrade),
            "cross_sell_orders": _orders_with(scene, run, bought & ~upgrade),
            "presented": _offers_by_account(scene, run, np.ones(len(run.offer_visit))) * policy.shown,
            "accepted": _offers_by_account(scene, run, run.offer_accepted.astype(np.float64)),
            "attributed_revenue": (money * run.attributed).sum(axis=1),
            "added_revenue": (money * (run.accepted & ~run.moved)).sum(axis=1),
            "moved_revenue": (money * run.moved).sum(axis=1),
            "displaced_revenue": _by_account(scene, _displaced_money(scene, run)),
            "left": run.left.astype(np.float64),
            "revenue_before": _by_account(scene, ordinary * ~in_run),
            "orders_before": _by_account(scene, (run.placed & ~in_run).astype(np.float64)),
        }
    ).assign(buyer=lambda frame: (frame["orders"].to_numpy() > 0).astype(np.float64))


def planted_truth(outcomes: dict[str, pd.DataFrame], control: str) -> ExperimentTruth:
    """Return the truth of each arm, the control first."""
    base = float(outcomes[control]["revenue"].mean())
    return ExperimentTruth(control, {name: _arm_truth(frame, base) for name, frame in outcomes.items()})


def wish_money(scene: Scene, run: PolicyRun, policy: OfferPolicy) -> FloatArray:
    """Return what each wish costs where it is bought, `(n_accounts, N_WISHES)`: accepted offers have the discount."""
    price = scene.world.catalogue.price[scene.wishes.product]
    return np.asarray(scene.wishes.quantity * price * np.where(run.accepted, 1 - policy.discount, 1.0))


def ordinary_money(scene: Scene, run: PolicyRun) -> FloatArray:
    """Return the money of each visit's ordinary lines that were bought, `(n_visits,)`."""
    kept = ordinary_lines(scene, run)
    money = scene.baskets.quantity * scene.world.catalogue.price[scene.baskets.product] * kept
    return _sums(scene.baskets.visit, money, len(scene.visits))


def ordinary_lines(scene: Scene, run: PolicyRun) -> NDArray[np.bool_]:
    """Return which ordinary lines were bought, `(n_lines,)`: of a displaced visit all but the first."""
    visit = scene.baskets.visit
    return np.asarray(run.ordinary[visit] & ~(_first_lines(visit) & run.displaced[visit]))


def _displaced_money(scene: Scene, run: PolicyRun) -> FloatArray:
    visit = scene.baskets.visit
    gone = _first_lines(visit) & run.displaced[visit]
    money = scene.baskets.quantity * scene.world.catalogue.price[scene.baskets.product] * gone
    return _sums(visit, money, len(scene.visits))


def _first_lines(visit: IntArray) -> NDArray[np.bool_]:
    first = np.ones(len(visit), dtype=bool)
    first[1:] = visit[1:] != visit[:-1]
    return first


def _by_account(scene: Scene, values: FloatArray) -> FloatArray:
    return _sums(scene.visits.account, values, len(scene.accounts))


def _offers_by_account(scene: Scene, run: PolicyRun, values: FloatArray) -> FloatArray:
    return _sums(scene.visits.account[run.offer_visit], values, len(scene.accounts))


def _orders_with(scene: Scene, run: PolicyRun, chosen: NDArray[np.bool_]) -> FloatArray:
    """Orders of each account that hold one of the chosen purchases."""
    orders = np.unique(run.bought_visit[chosen])
    return _sums(scene.visits.account[orders], np.ones(len(orders)), len(scene.accounts))


def _sums(rows: IntArray, values: FloatArray, n: int) -> FloatArray:
    return np.asarray(np.bincount(rows, weights=values, minlength=n), dtype=np.float64)


def _arm_truth(frame: pd.DataFrame, control_revenue: float) -> ArmTruth:
    mean = frame.drop(columns=c.ACCOUNT_ID).mean()
    effect = float(mean["revenue"]) - control_revenue
    attributed, presented = float(mean["attributed_revenue"]), float(mean["presented"])
    return ArmTruth(
        revenue_per_account=float(mean["revenue"]),
        orders_per_account=float(mean["orders"]),
        buyer_rate=float(mean["buyer"]),
        orders_per_buyer=float(mean["orders"] / mean["buyer"]),
        aov=float(mean["revenue"] / mean["orders"]),
        upsell_rate=float(mean["upsell_orders"] / mean["orders"]),
        cross_sell_rate=float(mean["cross_sell_orders"] / mean["orders"]),
        conversion=float(mean["accepted"]) / presented if presented else None,
        attributed_per_account=attributed,
        added_per_account=float(mean["added_revenue"]),
        moved_per_account=float(mean["moved_revenue"]),
        displaced_per_account=float(mean["displaced_revenue"]),
        attrition=float(mean["left"]),
        effect=effect,
        incremental_share=effect / attributed if attributed else None,
    )
