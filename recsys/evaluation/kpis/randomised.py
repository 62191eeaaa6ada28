"""The randomised effect on AOV, which stands beside the descriptive AOV increase where the log has an experiment."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final

import ibis

from recsys.evaluation.kpis.results import AovEffect
from recsys.evaluation.kpis.sales import Sales
from recsys.evaluation.kpis.scratch import Scratch
from recsys.evaluation.kpis.tables import EventTables

CONTROL: Final = "control"
_Z: Final = 1.959963984540054
_NEEDED: Final = frozenset({"account_id", "decided_at", "shown", "experiment_id", "arm"})


def aov_effects(scratch: Scratch, sales: Sales, events: EventTables, as_of: datetime) -> tuple[AovEffect, ...]:
    """Return the effect of each arm of each experiment on AOV, with a 95 % interval clustered by account.

    Formula: `AOV = sum(revenue) / sum(orders)` over the accounts of an arm, from each account's first decision in the
    experiment on; its variance is `var(revenue - AOV x orders) / (n x mean(orders)^2)` (delta method), and the
    variance of the difference is the sum of both. The control is the arm whose decisions were held back, else the one
    named `control`; accounts that stood in several arms are left out.
    """
    decisions = scratch.load(events.decisions, "arms")
    if not set(decisions.columns) >= _NEEDED:
        return ()
    sums = _sums(_units(decisions, sales, as_of)).to_pyarrow().to_pylist()
    found = []
    for experiment in sorted({row["experiment_id"] for row in sums}):
        arms = {row["arm"]: row for row in sums if row["experiment_id"] == experiment and row["orders"] > 0}
        control = _control_of(arms)
        if control is not None:
            found += [_effect(experiment, arms[control], arms[arm]) for arm in sorted(arms) if arm != control]
    return tuple(found)


def _units(decisions: ibis.Table, sales: Sales, as_of: datetime) -> ibis.Table:
    """One row an experiment and account: arm, whether it was held back, its revenue and orders since then."""
    until = ibis.literal(as_of.replace(tzinfo=None), type="timestamp(6)")
    known = decisions.filter(
        decisions["account_id"].notnull()
        & decisions["experiment_id"].notnull()
        & decisions["arm"].notnull()
        & (decisions["decided_at"] < until)
    )
    units = known.group_by("experiment_id", "account_id").agg(
        n_arms=known["arm"].nunique(),
        arm=known["arm"].min(),
        since=known["decided_at"].min(),
        was_shown=known["shown"].any(),
    )
    units = units.filter(units["n_arms"] == 1)
    people = sales.orders.filter(sales.orders["account"].notnull())
    bought = units.join(people.select("account_id", "ordered_at", "order_revenue"), "account_id")
    bought = bought.filter(bought["ordered_at"] >= bought["since"])
    totals = bought.group_by("experiment_id", "account_id").agg(
        revenue=bought["order_revenue"].sum(), orders=bought.count()
    )
    joined = units.left_join(totals, ["experiment_id", "account_id"])
    return joined.select(
        "experiment_id",
        "arm",
        "was_shown",
        revenue=joined["revenue"].fill_null(0.0),
        orders=joined["orders"].fill_null(0).cast("float64"),
    )


def _sums(units: ibis.Table) -> ibis.Table:
    revenue, orders = units["revenue"], units["orders"]
    return units.group_by("experiment_id", "arm").agg(
        n=units.count(),
        was_shown=units["was_shown"].any(),
        revenue=revenue.mean(),
        orders=orders.mean(),
        revenue2=(revenue * revenue).mean(),
        orders2=(orders * orders).mean(),
        product=(revenue * orders).mean(),
    )


def _control_of(arms: dict[str, dict[str, Any]]) -> str | None:
    held = [name for name, row in arms.items() if not row["was_shown"]]
    if len(held) == 1:
        return held[0]
    return CONTROL if CONTROL in arms else None


def _effect(experiment: str, control: dict[str, Any], arm: dict[str, Any]) -> AovEffect:
    (base, base_variance), (value, variance) = _ratio(control), _ratio(arm)
    reach = _Z * math.sqrt(base_variance + variance)
    return AovEffect(
        experiment=experiment,
        arm=arm["arm"],
        control=control["arm"],
        control_aov=base,
        arm_aov=value,
        effect=value - base,
        low=value - base - reach,
        high=value - base + reach,
        n_accounts=int(control["n"] + arm["n"]),
    )


def _ratio(row: dict[str, Any]) -> tuple[float, float]:
    """AOV of an arm and its variance."""
    ratio = row["revenue"] / row["orders"]
    # The mean of revenue - ratio x orders is zero, so that its mean square is its variance.
    square = row["revenue2"] - 2 * ratio * row["product"] + ratio**2 * row["orders2"]
    return float(ratio), max(float(square), 0.0) / (max(row["n"] - 1, 1) * row["orders"] ** 2)
