"""The log of an experiment as tables: accounts, order lines, decisions, offers, outcomes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.contracts.tables import COMPLETED
from recsys.simulation.accounts import EMPLOYEES, accounts_frame
from recsys.simulation.response_config import OfferPolicy
from recsys.simulation.responses.policy_run import Run
from recsys.simulation.responses.scenario import Scene
from recsys.simulation.responses.truth import ordinary_lines
from recsys.simulation.tables import CURRENCY

_DAY_MICROSECONDS = 86_400 * 10**6
_ORDER_LAG = pd.Timedelta(minutes=1)
"""An order is placed a minute after its visit's offers were seen."""
_SURFACES = np.array(["home", "cart"], dtype=object)


def account_table(
    scene: Scene, outcomes: Mapping[str, pd.DataFrame], arm: NDArray[np.object_], started: pd.Timestamp
) -> pd.DataFrame:
    """Return one row an account: its arm and what it did under it."""
    about = accounts_frame(scene.accounts).drop(columns=[EMPLOYEES, c.CREATED_AT, c.DO_NOT_OFFER])
    about.insert(1, "arm", arm)
    about.insert(2, "assigned_at", pd.Series(started, index=about.index).dt.as_unit("us"))
    did = next(iter(outcomes.values())).drop(columns=c.ACCOUNT_ID)
    for name, frame in outcomes.items():
        own = arm == name
        for column in did:
            values = did[column].to_numpy(copy=True)
            values[own] = frame[column].to_numpy()[own]
            did[column] = values
    return pd.concat([about, did], axis=1)


def order_table(
    scene: Scene,
    runs: Mapping[str, Run],
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
            c.CURRENCY: CURRENCY,
            c.STATUS: COMPLETED,
        }
    )
    return frame.sort_values([c.ORDERED_AT, c.ORDER_ID, c.LINE_ID], ignore_index=True)


def decision_tables(
    scene: Scene,
    runs: Mapping[str, Run],
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
    decisions = offers.drop_duplicates(c.DECISION_ID)[[c.DECISION_ID, "decided_at", c.ACCOUNT_ID, "shown"]]
    decisions = decisions.reset_index(drop=True)
    visits = np.unique(visit)
    decisions[c.CHANNEL] = "web"
    decisions["surface"] = _SURFACES[scene.visits.is_order[visits].astype(np.int64)]
    decisions["experiment_id"] = experiment_id
    decisions["arm"] = arm[scene.visits.account[visits]]
    decisions["assignment_probability"] = 1.0 / len(runs)
    decisions["presented"] = decisions["shown"].to_numpy()
    return decisions, offers, outcomes


def _returned(
    scene: Scene, runs: Mapping[str, Run], policies: Mapping[str, OfferPolicy], arm: NDArray[np.object_]
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
    scene: Scene, run: Run, policy: OfferPolicy, own: NDArray[np.bool_]
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
