"""Presented offers, the purchases that follow them within the window, and the randomised effect on AOV.

A purchase goes to the last exposure before its order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import ibis

from recsys.contracts.events import PRESENTING
from recsys.data.times import naive_utc
from recsys.evaluation.kpis.config import KpiConfig, period_number
from recsys.evaluation.kpis.sales import Sales
from recsys.evaluation.kpis.tables import EventTables, TempTables
from recsys.evaluation.kpis.values import AovEffect
from recsys.evaluation.statistics.effects import DEFAULT_EFFECTS, anytime_multiplier


@dataclass(frozen=True)
class Attribution:
    """What the event log says.

    Attributes:
        offers: one row a presented offer: `offer account product product_id kind period presented_at channel surface
            actor accepted bought is_open`; a later exposure has a higher `offer`; `accepted` was reported accepted or
            bought within the window, `bought` had the purchase attributed to it, `is_open` has a window that was not
            over at the figures' date.
        attributed: the sales that follow an offer: `order account product kind units revenue surface actor`.
        n_unpresented: offers that were reported accepted and never presented; they count nowhere.
    """

    offers: ibis.Table
    attributed: ibis.Table
    n_unpresented: int


def attribute(
    scratch: TempTables, sales: Sales, events: EventTables, *, as_of: datetime, config: KpiConfig
) -> Attribution:
    """Return the presented offers before `as_of`, and the sales that are attributed to them."""
    outcomes = scratch.load(events.outcomes, "outcomes")
    outcomes = outcomes.filter(outcomes["occurred_at"] < naive_utc(as_of))
    returned = scratch.load(events.decision_offers, "returned")
    offers = scratch.keep(_presented(scratch, sales, events, returned, as_of, config), "presented")
    said = scratch.keep(_said(offers, outcomes, config), "said")
    bought = scratch.keep(_bought(sales, offers, config), "bought")
    window = ibis.interval(days=config.window_days)
    kept = offers.left_join(said, "offer").left_join(bought.select("offer", "buys").distinct(), "offer")
    buys = kept["buys"].fill_null(False)
    judged = scratch.keep(
        kept.select(
            *offers.columns,
            actor=kept["actor"],
            accepted=buys | kept["said_yes"].fill_null(False),
            bought=buys,
            is_open=kept["presented_at"] + window > naive_utc(as_of),
        ),
        "offers",
    )
    attributed = bought.drop("buys").join(judged.select("offer", "kind", "surface", "actor"), "offer").drop("offer")
    return Attribution(judged, scratch.keep(attributed, "attributed"), _unpresented(returned, outcomes))


def _presented(
    scratch: TempTables, sales: Sales, events: EventTables, returned: ibis.Table, as_of: datetime, config: KpiConfig
) -> ibis.Table:
    decisions = scratch.load(events.decisions, "decisions").select("decision_id", "channel", "surface")
    known = returned.filter(
        returned["shown"] & returned["presented_at"].notnull() & (returned["presented_at"] < naive_utc(as_of))
    )
    wanted = known.select("decision_id", "account_id", "rank", "product_id", "kind", "presented_at")
    joined = wanted.left_join(decisions, "decision_id").select(*wanted.columns, "channel", "surface")
    people = sales.accounts.select("account_id", "account")
    coded = joined.left_join(people, "account_id").select(*joined.columns, "account")
    goods = sales.products.select("product_id", "product")
    coded = coded.left_join(goods, "product_id").select(*coded.columns, "product")
    in_time = ibis.window(order_by=["presented_at", "decision_id", "rank"])
    return coded.mutate(
        offer=ibis.row_number().over(in_time), period=period_number(coded["presented_at"], config.period)
    )


def _said(offers: ibis.Table, outcomes: ibis.Table, config: KpiConfig) -> ibis.Table:
    """What people reported about each presented offer: `offer said_yes actor`."""
    reported = outcomes.select(
        "decision_id", said_product="product_id", said="kind", occurred_at="occurred_at", actor_id="actor_id"
    )
    about = offers.select("offer", "decision_id", "product_id", "presented_at").join(reported, "decision_id")
    about = about.filter(about["said_product"].isnull() | (about["said_product"] == about["product_id"]))
    in_window = (about["occurred_at"] >= about["presented_at"]) & (
        about["occurred_at"] < about["presented_at"] + ibis.interval(days=config.window_days)
    )
    presenter = about["actor_id"].min(where=about["said"].isin(PRESENTING))
    return about.group_by("offer").agg(
        said_yes=((about["said"] == "accepted") & in_window).any(),
        actor=ibis.coalesce(presenter, about["actor_id"].min()),
    )


def _bought(sales: Sales, offers: ibis.Table, config: KpiConfig) -> ibis.Table:
    """The sales within the window of an exposure, with the last exposure before the order: `... offer buys`."""
    exposures = offers.filter(offers["account"].notnull() & offers["product"].notnull())
    shown = exposures.select("account", "product", "offer", "presented_at")
    known = sales.sales.filter(sales.sales["account"].notnull())
    near = known.join(
        shown,
        [
            known["account"] == shown["account"],
            known["product"] == shown["product"],
            known["ordered_at"] >= shown["presented_at"],
            known["ordered_at"] < shown["presented_at"] + ibis.interval(days=config.window_days),
        ],
    )
    columns = ["order", "account", "product", "units", "revenue"]
    near = near.select(*columns, "offer")
    return near.group_by(*columns).agg(offer=near["offer"].max(), buys=ibis.literal(True))


def _unpresented(returned: ibis.Table, outcomes: ibis.Table) -> int:
    silent = returned.filter(returned["presented_at"].isnull()).select("decision_id", "product_id")
    yes = outcomes.filter((outcomes["kind"] == "accepted") & outcomes["product_id"].notnull())
    both = silent.semi_join(yes, ["decision_id", "product_id"])
    return int(both.count().to_pyarrow().as_py())


_CONTROL: Final = "control"
_ALPHA: Final = 0.05
_Z: Final = 1.959963984540054
_NEEDED: Final = frozenset({"account_id", "decided_at", "shown", "experiment_id", "arm"})


def aov_effects(scratch: TempTables, sales: Sales, events: EventTables, as_of: datetime) -> tuple[AovEffect, ...]:
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
    until = naive_utc(as_of)
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
    return _CONTROL if _CONTROL in arms else None


def _effect(experiment: str, control: dict[str, Any], arm: dict[str, Any]) -> AovEffect:
    (base, base_variance), (value, variance) = _ratio(control), _ratio(arm)
    error, n_accounts = math.sqrt(base_variance + variance), int(control["n"] + arm["n"])
    reach = _Z * error
    always = float(anytime_multiplier(n_accounts, DEFAULT_EFFECTS.tuned_at, _ALPHA)) * error
    return AovEffect(
        experiment=experiment,
        arm=arm["arm"],
        control=control["arm"],
        control_aov=base,
        arm_aov=value,
        effect=value - base,
        low=value - base - reach,
        high=value - base + reach,
        n_accounts=n_accounts,
        anytime_low=value - base - always,
        anytime_high=value - base + always,
    )


def _ratio(row: dict[str, Any]) -> tuple[float, float]:
    """AOV of an arm and its variance."""
    ratio = row["revenue"] / row["orders"]
    # The mean of revenue - ratio x orders is zero, so that its mean square is its variance.
    square = row["revenue2"] - 2 * ratio * row["product"] + ratio**2 * row["orders2"]
    return float(ratio), max(float(square), 0.0) / (max(row["n"] - 1, 1) * row["orders"] ** 2)
