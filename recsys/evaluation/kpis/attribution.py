"""Presented offers and the purchases that follow them: within the window, for the last exposure before the order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import ibis

from recsys.contracts.events import PRESENTING
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.periods import period_number
from recsys.evaluation.kpis.sales import Sales
from recsys.evaluation.kpis.scratch import Scratch
from recsys.evaluation.kpis.tables import EventTables


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
    scratch: Scratch, sales: Sales, events: EventTables, *, as_of: datetime, config: KpiConfig
) -> Attribution:
    """Return the presented offers before `as_of`, and the sales that are attributed to them."""
    outcomes = scratch.load(events.outcomes, "outcomes")
    outcomes = outcomes.filter(outcomes["occurred_at"] < _naive(as_of))
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
            is_open=kept["presented_at"] + window > _naive(as_of),
        ),
        "offers",
    )
    attributed = bought.drop("buys").join(judged.select("offer", "kind", "surface", "actor"), "offer").drop("offer")
    return Attribution(judged, scratch.keep(attributed, "attributed"), _unpresented(returned, outcomes))


def _presented(
    scratch: Scratch, sales: Sales, events: EventTables, returned: ibis.Table, as_of: datetime, config: KpiConfig
) -> ibis.Table:
    decisions = scratch.load(events.decisions, "decisions").select("decision_id", "channel", "surface")
    known = returned.filter(
        returned["shown"] & returned["presented_at"].notnull() & (returned["presented_at"] < _naive(as_of))
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


def _naive(moment: datetime) -> ibis.ir.TimestampScalar:
    return ibis.literal(moment.replace(tzinfo=None), type="timestamp(6)")
