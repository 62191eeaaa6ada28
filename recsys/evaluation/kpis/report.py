"""KPIs from tables: the figures of a report, and what it must say beside them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

import ibis
import pandas as pd

from recsys.data.sources import connect
from recsys.data.times import as_utc
from recsys.evaluation.kpis.attribution import Attribution, aov_effects, attribute
from recsys.evaluation.kpis.changes import change_intervals
from recsys.evaluation.kpis.config import KpiConfig, label_of, number_of, start_of
from recsys.evaluation.kpis.definition import Basis
from recsys.evaluation.kpis.figures import KpiAggregates, aggregate, figures
from recsys.evaluation.kpis.lifetime import LifetimeSums, lifetime_sums
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.evaluation.kpis.results import KpiReport
from recsys.evaluation.kpis.sales import Sales, classify_sales
from recsys.evaluation.kpis.sums import bases_of
from recsys.evaluation.kpis.tables import EventTables, Table, TempTables, net_order_lines
from recsys.evaluation.kpis.values import Missing
from recsys.ladder.tiers import edges_of

_NO_MODEL = (
    "not computable: no model's expectations are given; give lifetime_values of a trained bundle, as "
    "`offers kpis --model BUNDLE` reads them"
)
_NO_LOG = "not computable: there is no event log; name one as events"
_NO_LADDER = "organic upsell is not computable: there are no upgrade edges; give upgrades, or tiers of the products"


def missing_figures(
    sales: Sales, log: Attribution | None, bases: tuple[Basis, ...], config: KpiConfig, *, has_forecast: bool
) -> tuple[Missing, ...]:
    """Return which figures the data can't give, and why."""
    no_families = (
        f"organic cross-sell is not computable: no product has a {config.families_by}; "
        + ("judge by category (families_by == 'category'), or " if config.families_by == "family" else "")
        + "give products with families"
    )
    found = []
    for definition in REGISTRY.values():
        for basis in definition.bases:
            if basis == "forecast" and not has_forecast:
                found.append(Missing(definition.name, basis, _NO_MODEL))
            elif basis in {"attributed", "log"} and ("attributed" not in bases or log is None):
                found.append(Missing(definition.name, basis, _NO_LOG))
            elif basis == "organic":
                reasons = []
                if definition.kind in {"cross_sell", "any"} and not sales.has_families:
                    reasons.append(no_families)
                if definition.kind in {"upsell", "any"} and not sales.has_ladder:
                    reasons.append(_NO_LADDER)
                if reasons:
                    found.append(Missing(definition.name, basis, "; ".join(reasons)))
    return tuple(found)


def notes_of(
    gathered: KpiAggregates,
    log: Attribution | None,
    complete: frozenset[int],
    first_whole: bool,
    config: KpiConfig,
) -> tuple[str, ...]:
    """Return what a reader of these figures should know."""
    notes = []
    if gathered.periods:
        first, last = (label_of(number, config.period) for number in (gathered.periods[0], gathered.periods[-1]))
        if config.since is None:
            notes.append(
                f"The history starts in {first}: what accounts had before is not known, so that organic figures of "
                "the first periods are too high (more looks new) and too low (an account's first order counts for "
                "nothing). Let the figures start later, by since."
            )
        if not first_whole:
            notes.append(f"{first} did not begin with the figures: it is a part of a {config.period}.")
        if gathered.periods[-1] not in complete:
            notes.append(f"{last} was not over at the figures' date: changes compare the {config.period}s before it.")
    if 0 < gathered.judged_share < 1:
        notes.append(
            f"{1 - gathered.judged_share:.1%} of the new sales to existing customers are of products without a "
            f"{config.families_by}: they can't be an organic cross-sell."
        )
    for dimension, n_groups in gathered.left_out:
        notes.append(f"By {dimension}: {n_groups:,} groups of lower revenue are not shown.")
    if log is not None and log.n_unpresented:
        notes.append(
            f"{log.n_unpresented:,} offers were reported accepted but never presented (shown or pitched): they count "
            "neither as accepted nor as presented."
        )
    return tuple(notes)


def kpis_from_tables(
    orders: Table,
    *,
    as_of: datetime,
    products: pd.DataFrame | None = None,
    accounts: pd.DataFrame | None = None,
    upgrades: pd.DataFrame | None = None,
    events: EventTables | None = None,
    currency: str | None = None,
    config: KpiConfig | None = None,
    lifetime_values: Table | None = None,
) -> KpiReport:
    """Return every KPI of the registry, overall, by period and by segment.

    Args:
        orders: order lines in contract columns: an Ibis table (counted where it lies), an Arrow table or a frame.
            Reversals may stand in it, or be netted already, as `recsys.data.dataset.read_dataset` does.
        as_of: nothing at or after it is used (UTC); periods that are not over then are marked.
        products: `product_id`, and `category family tier price` where known; families make organic cross-sell.
        accounts: `account_id`, and `segment region owner is_key_account` where known.
        upgrades: `from_product_id to_product_id`; default: the tiers of the products, where there are any.
        events: the event log; None without one: nothing is attributed then.
        currency: of the figures: lines that say another one are left out and counted in a note; None: the only one
            that the lines say.
        config: periods, segments, attribution.
        lifetime_values: `account_id` and `lifetime_value`, money expected in twelve months, as a bundle holds them;
            null for an account that had not ordered. None: customer lifetime value is not computable.

    Raises:
        MissingColumnError: the orders lack a required column.
        EmptyDataError: no order lies before `as_of`, or none in the range.
        CurrencyError: the lines say several currencies and none was chosen, or none says the one chosen.
    """
    config = config or KpiConfig()
    moment = as_utc(as_of)
    since = as_utc(config.since) if config.since is not None else None
    edges, ladder = edges_of(products, upgrades)
    connection = orders.get_backend() if isinstance(orders, ibis.Table) else connect()
    with ExitStack() as until:
        scratch = TempTables(connection, until)
        posted = events.order_lines if events is not None else None
        lines, currency, left_out = net_order_lines(scratch, orders, posted, moment, currency)
        sales = classify_sales(
            scratch, lines, products=products, accounts=accounts, edges=edges, since=since, config=config
        )
        log = attribute(scratch, sales, events, as_of=moment, config=config) if events is not None else None
        gathered = aggregate(scratch, sales, log, since=since, as_of=moment, config=config)
        effects = aov_effects(scratch, sales, events, moment) if events is not None else ()
        forecast = None if lifetime_values is None else lifetime_sums(scratch, sales, lifetime_values, config)
        report = _report(sales, log, gathered, forecast, moment, ladder, currency, config)
        intervals = change_intervals(report.values, gathered, log, since, config)
        notes = report.notes if left_out is None else (f"{left_out[0].upper()}{left_out[1:]}.", *report.notes)
        return replace(report, aov_effects=effects, notes=notes, intervals=intervals)


def _report(
    sales: Sales,
    log: Attribution | None,
    gathered: KpiAggregates,
    forecast: LifetimeSums | None,
    as_of: datetime,
    ladder: str,
    currency: str | None,
    config: KpiConfig,
) -> KpiReport:
    overall = gathered.overall
    missing = missing_figures(sales, log, bases_of(log), config, has_forecast=forecast is not None)
    complete = frozenset(number for number in gathered.periods if start_of(number + 1, config.period) <= as_of)
    start = gathered.start.replace(tzinfo=UTC)
    first_whole = start_of(number_of(start, config.period), config.period) == start.replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    return KpiReport(
        definitions=tuple(REGISTRY.values()),
        values=figures(gathered, complete, missing, config, forecast),
        missing=missing,
        period=config.period,
        periods=tuple(label_of(number, config.period) for number in gathered.periods),
        window_days=config.window_days,
        key_rule=sales.key_rule,
        ladder=ladder,
        families_by=config.families_by,
        as_of=as_of,
        start=start,
        currency=currency,
        n_orders=int(overall.orders),
        n_customers=int(overall.customers),
        moved_share=config.moved,
        targets=dict(config.targets),
        target_sources={name: said for name, said in config.target_sources.items() if name in config.targets},
        notes=notes_of(gathered, log, complete, first_whole, config),
    )
