"""Accounts of the past as if they had been in an experiment: who would have entered, and what each bought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.contracts.events import EventQuery
from recsys.data.history import seconds_of_times
from recsys.data.times import as_utc
from recsys.errors import MissingColumnError, ReadoutError
from recsys.evaluation.readout.from_orders import STANDARD, standard_metrics
from recsys.evaluation.readout.from_table import TableSpec, with_plan
from recsys.evaluation.readout.purchases import (
    BUYERS,
    DAY,
    LAPSED,
    Assigned,
    UnitPurchases,
    gather_purchases,
    window_values,
)
from recsys.evaluation.statistics.effects import EffectConfig, difference
from recsys.evaluation.statistics.metric import UNITS, Metric
from recsys.evaluation.statistics.moments import Moments, moments_of_rows
from recsys.events.store import EventStore
from recsys.experiments.assignment import takes_part
from recsys.experiments.plan import ExperimentPlan, LockedPlan, plan_hash

MAX_DAYS: Final = 365
LEAST_ACCOUNTS: Final = 10

WhoEnters = Literal["ordered", "listed", "served"]
"""Who enters: accounts that order, when they do; all of a list, on the first day; those that are served offers."""


@dataclass(frozen=True)
class PastVisits:
    """When accounts could have entered an experiment, one row a visit.

    Attributes:
        entry: what the visits are.
        accounts: ids, shape `(n_visits,)`.
        seconds: of each visit since 1970-01-01 UTC; None: every account is there on the first day.
    """

    entry: WhoEnters
    accounts: NDArray[np.object_]
    seconds: IntArray | None


@dataclass(frozen=True)
class PastBehaviour:
    """Accounts of the past as if they had been in an experiment.

    Attributes:
        units: their ids.
        values: what each bought within its window and before, by column, shape `(n_accounts,)`.
        moments: of the values, without a leading axis.
        metrics: that can be measured on them.
        arrived: accounts that entered within the first d days, shape `(n_days,)`.
        entry: who enters.
        left_out: metrics and guardrails of the plan that past orders do not hold.
    """

    units: NDArray[np.object_]
    values: Mapping[str, FloatArray]
    moments: Moments
    metrics: tuple[Metric, ...]
    arrived: IntArray
    entry: WhoEnters = "ordered"
    left_out: tuple[str, ...] = ()

    @property
    def n_accounts(self) -> int:
        """Accounts that were measured."""
        return len(self.units)

    @property
    def n_buyers(self) -> int:
        """How many of them bought within their window."""
        return int(self.values[BUYERS].sum())

    @property
    def yes_or_no(self) -> frozenset[str]:
        """Columns that hold 0 and 1 only."""
        return frozenset(name for name, value in self.values.items() if np.isin(value, (0.0, 1.0)).all())

    def in_layer(self, plan: ExperimentPlan) -> PastBehaviour:
        """Return the past of those accounts that the plan would get: of its share of its layer, or all."""
        part = np.array([takes_part(plan, str(unit)) for unit in self.units], dtype=bool)
        if part.all():
            return self
        values = {name: value[part] for name, value in self.values.items()}
        moments = moments_of_rows(tuple(values), np.column_stack(list(values.values())))
        arrived = np.floor(self.arrived * part.mean()).astype(np.int64)
        return replace(self, units=self.units[part], values=values, moments=moments, arrived=arrived)

    def by_cluster(self, clusters: NDArray[np.object_]) -> PastBehaviour:
        """Return the same past with whole clusters as units: sums over their accounts, means as ratios of two sums.

        Args:
            clusters: of each account in `units`.
        """
        names, code = np.unique(clusters.astype(str), return_inverse=True)
        sums = {name: np.bincount(code, value).astype(np.float64) for name, value in self.values.items()}
        sums[UNITS] = np.bincount(code).astype(np.float64)
        arrived = np.floor(self.arrived * (len(names) / len(self.units))).astype(np.int64)
        return replace(
            self,
            units=names.astype(object),
            values=sums,
            moments=moments_of_rows(tuple(sums), np.column_stack(list(sums.values()))),
            metrics=tuple(metric.by_cluster() for metric in self.metrics),
            arrived=arrived,
        )


def listed_visits(account_ids: NDArray[np.object_]) -> PastVisits:
    """Return the visits of a table of accounts, all of which an experiment reaches on its first day."""
    return PastVisits("listed", account_ids, None)


def served_visits(store: EventStore) -> PastVisits:
    """Return the moments at which accounts were answered, from the decisions of the event store.

    Raises:
        ReadoutError: no decision names an account.
    """
    rows: pd.DataFrame = store.read(EventQuery("decisions", columns=(c.ACCOUNT_ID, "decided_at"))).to_pandas()
    known = rows[rows[c.ACCOUNT_ID].notna()]
    if known.empty:
        raise ReadoutError("0 decisions of the event store name an account, must be some; has a server written to it?")
    decided = known["decided_at"].astype("datetime64[us, UTC]")
    return PastVisits("served", known[c.ACCOUNT_ID].to_numpy(dtype=object), seconds_of_times(decided))


def history_of(
    lines: pd.DataFrame,
    as_of: datetime,
    window_days: int,
    *,
    run_days: int | None = None,
    visits: PastVisits | None = None,
    plan: ExperimentPlan | None = None,
) -> PastBehaviour:
    """Return the accounts that came within a past run, each measured from then on for one window.

    An account enters an experiment when it first comes; the time before is its pre-period. Accounts that come and buy
    nothing are measured too, with zeros. Arrivals are counted over the last year.

    Args:
        lines: columns `order_id account_id ordered_at` (UTC) and `revenue`.
        as_of: end of the history; the run ends one window before.
        window_days: of the experiment.
        run_days: days within which accounts enter; default: `window_days`.
        visits: who would have come and when; default: accounts come when they order.
        plan: what it names as primary and guardrails gets that role.

    Raises:
        ReadoutError: fewer than ten accounts came in that run, or the plan's primary is not held by orders.
    """
    end = int(as_utc(as_of).timestamp())
    last = end - window_days * DAY
    start = last - (window_days if run_days is None else run_days) * DAY
    named = lines[c.ACCOUNT_ID].dropna() if visits is None else [*lines[c.ACCOUNT_ID].dropna(), *visits.accounts]
    everyone = np.sort(pd.unique(np.asarray(named, dtype=object))).astype(object)
    nobody = Assigned(everyone, np.full(len(everyone), "", dtype=object), np.zeros(len(everyone), np.int64), {})
    purchases, _ = gather_purchases(lines, nobody)
    unit, seconds = _visited(visits, everyone, purchases, last)
    entered = _first_visit(unit, seconds, len(everyone), start)
    inside = entered <= last
    if inside.sum() < LEAST_ACCOUNTS:
        raise ReadoutError(
            f"{int(inside.sum())} accounts {_came(visits)} between {(end - start) // DAY} and {window_days} days "
            f"before the end, must be {LEAST_ACCOUNTS} or more; give a longer history or a shorter window_days"
        )
    assigned = replace(nobody, seconds=np.where(inside, entered, end))
    values = {name: value[inside] for name, value in window_values(assigned, purchases, window_days, end).items()}
    moments = moments_of_rows(tuple(values), np.column_stack(list(values.values())))
    metrics, left_out = _metrics(values, moments, plan)
    arrived = np.array([inside.sum()]) if visits and visits.seconds is None else _arrivals(unit, seconds, end)
    entry = visits.entry if visits else "ordered"
    return PastBehaviour(everyone[inside], values, moments, metrics, arrived, entry, left_out)


def groups_of(accounts: pd.DataFrame, column: str, units: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return the group of each unit; an account without one is a group of its own.

    Raises:
        MissingColumnError: the accounts table has no such column.
    """
    if column not in accounts:
        have = ", ".join(accounts.columns)
        raise MissingColumnError(f"cluster {column!r} is no column of the accounts table, which has {have}")
    known = accounts.set_index(c.ACCOUNT_ID)[column].reindex(units)
    alone = pd.Series([f"account {unit}" for unit in units], index=known.index)
    return known.astype(object).where(known.notna(), alone).astype(str).to_numpy(dtype=object)


def _came(visits: PastVisits | None) -> str:
    words = {"ordered": "placed an order", "listed": "are listed", "served": "were served"}
    return words[visits.entry if visits else "ordered"]


def _visited(
    visits: PastVisits | None, everyone: NDArray[np.object_], purchases: UnitPurchases, last: int
) -> tuple[IntArray, IntArray]:
    """Row of the account and time of each visit; a list comes at the last moment whose window is complete."""
    if visits is None:
        return purchases.unit, purchases.seconds
    unit = np.searchsorted(everyone, visits.accounts).astype(np.int64)  # every visitor is in `everyone`
    return unit, np.full(len(unit), last) if visits.seconds is None else visits.seconds


def _first_visit(unit: IntArray, seconds: IntArray, n_units: int, since: int) -> IntArray:
    first = np.full(n_units, np.iinfo(np.int64).max)
    later = seconds >= since
    np.minimum.at(first, unit[later], seconds[later])
    return first


def _arrivals(unit: IntArray, seconds: IntArray, end: int) -> IntArray:
    days = min(MAX_DAYS, int((end - seconds.min()) // DAY))
    since = end - days * DAY
    first = _first_visit(unit, seconds, int(unit.max()) + 1, since)
    return np.cumsum(np.bincount((first[first < end] - since) // DAY, minlength=days))


def _metrics(
    values: Mapping[str, FloatArray], moments: Moments, plan: ExperimentPlan | None
) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    """Return the metrics that vary in the past, with the plan's roles, and what of the plan is not among them."""
    form = TableSpec(unit=None, arm="", control="", metrics={})
    if plan is None:
        return _varying(standard_metrics(dict(values), form), moments), ()
    form = with_plan(replace(form, plan=LockedPlan(plan, plan_hash(plan), datetime.fromtimestamp(0, UTC))))
    held = {*STANDARD, *(["attrition"] if values[LAPSED].any() else [])}
    known = {name: margin for name, margin in form.guardrails.items() if name in held}
    metrics = _varying(standard_metrics(dict(values), replace(form, guardrails=known)), moments)
    found = {metric.name for metric in metrics}
    planned = (*plan.secondary, *(guardrail.metric for guardrail in plan.guardrails))
    return metrics, tuple(name for name in planned if name not in found)


def _varying(metrics: tuple[Metric, ...], moments: Moments) -> tuple[Metric, ...]:
    """Leave out what was the same for everybody, as one order a buyer: it shows nothing of how units differ."""
    found = []
    for metric in metrics:
        with np.errstate(divide="ignore", invalid="ignore"):
            past = difference(moments, moments, metric, EffectConfig(use_cuped=False))
        if float(past.se) ** 2 > 1e-12 * float(past.control_mean) ** 2 / float(moments.n):
            found.append(metric)
    return tuple(found)
