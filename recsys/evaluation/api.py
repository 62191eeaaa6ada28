"""Experiments and KPIs from Python: readouts, decisions and the journal of them, the size of a trial, the KPIs.

A table may be a file, a folder, a database table, a pandas frame, an Arrow table or an Ibis table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, get_args

import numpy as np

from recsys.contracts import columns as c
from recsys.contracts.config import given_config
from recsys.data.dataset import Dataset, ReadSpec, as_dataset
from recsys.data.sources import DataSource
from recsys.data.times import parse_moment
from recsys.errors import ConfigError, ReadoutError, SourceNotFoundError
from recsys.evaluation.journal.deciding import Decided, decide_experiment
from recsys.evaluation.journal.entries import Journal, journal_of
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.evaluation.kpis.results import KpiReport
from recsys.evaluation.kpis.tables import Table, read_events
from recsys.evaluation.planning.history import PastVisits, groups_of, history_of, listed_visits, served_visits
from recsys.evaluation.planning.placebo import PLACEBO_DRAWS, placebo_of, run_days_of
from recsys.evaluation.planning.placebo_results import Placebo
from recsys.evaluation.planning.sizes import TWO_EQUAL, PlannedSizes, planned_sizes
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_event_store import store_readout
from recsys.evaluation.readout.from_orders import OrdersSpec, orders_readout
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.purchases import revenue_lines
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.verdict import VerdictName, VerdictOverride
from recsys.evaluation.statistics.metric import margins_of, ratios_of
from recsys.events.store import EventStore, open_store
from recsys.experiments.plan import ExperimentPlan

EFFECTS: Final = (0.02, 0.05, 0.1)
"""Relative effects that a plan is sized for where nobody names others."""
_FINISHED_AT: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A table without a plan is a finished run: no moment is looked at."""


def readout(
    table: DataSource,
    *,
    arm: str,
    control: str | float,
    metrics: Mapping[str, str | tuple[str, str]] | None = None,
    unit: str | None = None,
    covariates: Mapping[str, str | tuple[str, str]] | None = None,
    guardrails: Mapping[str, str | float] | None = None,
    money: Sequence[str] = (),
    currency: str | None = None,
    quality: Mapping[str, str | tuple[str, str]] | None = None,
    segments: Sequence[str] = (),
    cluster: str | None = None,
    orders: Dataset | DataSource | None = None,
    window_days: int | None = None,
    assigned_at: str | None = None,
    started: str | date | None = None,
    config: ReadoutConfig | None = None,
) -> Readout:
    """Return the readout of a table with one row a unit: health, effects with intervals, a verdict.

    Args:
        table: the units with their arm, and their values or, with `orders`, their accounts.
        arm: column of the arm.
        control: the arm that the others are compared with, as a text or as the column has it.
        metrics: name -> column, or `("revenue", "orders")` for a ratio of two means, or `"quantile(revenue,0.9)"`
            for a quantile of the units; the first mean decides. With `orders` the standard metrics (revenue per
            account, buyer rate, ...) stand before them.
        unit: column of the account; None: every row is a unit.
        covariates: metric -> column of its value from before the start, for CUPED.
        guardrails: metric -> how much worse is tolerable, and which way is good: `"0.01:lower"`, or `"2%:higher"`
            of the control's mean; metrics known by name, as attrition, need no direction.
        money: metrics whose values are money; only they are worth any.
        currency: of the money, as it shall be printed.
        quality: name -> column, or a pair of them, that no treatment can move: a difference shows that rows were lost.
        segments: columns by which the deciding metric is split.
        cluster: column by which arms were assigned, as a company of accounts: errors are then those of companies.
        orders: order lines, from which metrics are read off by account.
        window_days: with `orders`: days after a unit's assignment that count; default: 28.
        assigned_at: column of the assignment's time; it shows whether the arms' shares changed.
        started: with `orders`: when all units were assigned.
        config: alpha, practical margin, cap, correction.

    Raises:
        DataError: a table can't be read or lacks a column.
        ReadoutError: the data can't be read out.
    """
    columns = TableSpec(
        unit=unit,
        arm=arm,
        control=_arm(control),
        metrics=ratios_of("metrics", {} if metrics is None else metrics),
        before=ratios_of("covariates", {} if covariates is None else covariates),
        guardrails=margins_of({} if guardrails is None else guardrails),
        segments=_names("segments", segments),
        cluster=cluster,
        money=_names("money", money),
        currency=currency,
        quality=ratios_of("quality", {} if quality is None else quality),
        assigned_at=assigned_at,
    )
    chosen = given_config(config, ReadoutConfig)
    if orders is None:
        given = {"window_days": window_days, "started": started}
        if named := [name for name, value in given.items() if value is not None]:
            raise ReadoutError(f"{named[0]} without orders says nothing; give orders, or leave it out")
        return table_readout(table, columns, chosen, now=_FINISHED_AT)
    lines = orders.spec if isinstance(orders, Dataset) else ReadSpec(orders=orders, currency=currency)
    start = None if started is None else parse_moment(started)
    return orders_readout(
        table, OrdersSpec(columns, lines, 28 if window_days is None else window_days, assigned_at, start), chosen
    )


def experiment_readout(
    store: EventStore | str,
    experiment_id: str,
    *,
    now: str | date,
    accounts: DataSource | None = None,
    currency: str | None = None,
) -> Readout:
    """Return the readout of a served experiment as it stands at `now`, by the plan that was locked.

    Args:
        store: the event store that serving writes, or its URL.
        experiment_id: its plan's id.
        now: until when the log is read; without a zone it is UTC.
        accounts: the accounts' attributes, `account_id` and the plan's segments; the store has none.
        currency: the one to keep where orders have several.

    Raises:
        ReadoutError: no such experiment, nothing assigned, or nothing bought yet.
    """
    with opened_store(store) as events:
        return store_readout(events, experiment_id, parse_moment(now), accounts=accounts, currency=currency)


def experiment_decision(
    store: EventStore | str,
    experiment_id: str,
    *,
    by: str,
    now: str | date,
    override: VerdictName | None = None,
    reason: str = "",
    accounts: DataSource | None = None,
    currency: str | None = None,
) -> Decided:
    """Return the decision of a served experiment, worked out and stored once, signed; a second time what is stored.

    Args:
        store: the event store that serving writes, or its URL.
        experiment_id: its plan's id.
        by: who decides: a person's name.
        now: when; without a zone it is UTC. The decision is as of the moment that the plan fixed beforehand.
        override: what that person decides against the rules; needs `reason`.
        reason: why the rules are overridden.
        accounts: the accounts' attributes, `account_id` and the plan's segments; the store has none.
        currency: the one to keep where orders have several.

    Raises:
        ReadoutError: it is too early, nobody signs, an override is no verdict or has no reason, or there is nothing to
            read out.
    """
    if override is not None and override not in get_args(VerdictName):
        raise ReadoutError(f"override == {override!r}, must be one of {', '.join(get_args(VerdictName))}")
    against = None if override is None else VerdictOverride(override, reason)
    moment = parse_moment(now)
    with opened_store(store) as events:
        return decide_experiment(
            events, experiment_id, moment, signed_by=by, override=against, accounts=accounts, currency=currency
        )


def journal(store: EventStore | str, *, now: str | date, experiment_id: str | None = None) -> Journal:
    """Return every experiment of a store with plan and decision as they stand at `now`, and what all earned together.

    Args:
        store: the event store that serving writes, or its URL.
        now: tells which run; without a zone it is UTC.
        experiment_id: only the versions of this one.
    """
    with opened_store(store) as events:
        return journal_of(events, parse_moment(now), experiment_id)


def power(
    data: Dataset | DataSource,
    *,
    effects: Sequence[float] | None = None,
    window_days: int = 28,
    power: float = 0.8,
    alpha: float = 0.05,
    events: EventStore | str | None = None,
    plan: ExperimentPlan | None = None,
) -> PlannedSizes:
    """Return the units an arm and the days that each metric needs to show each relative effect.

    Accounts that are served and buy nothing count with zeros. Who is served is read from `events`; without it from the
    accounts table of the data, all of whom enter on the first day; without both, only accounts that order are known.

    Args:
        data: purchase history.
        effects: relative effects to find, as 0.05; None: the plan's practical margin, where it has one, and 0.02, 0.05
            and 0.1.
        window_days: days after an account's entry that count; with `plan` its attribution window.
        power: chance of finding the effect.
        alpha: two-sided error; with `plan` its own.
        events: the event store that serving writes, or its URL.
        plan: gives the arms' shares, the primary, and guardrails, which are sized for their margins; its `planned_size`
            is compared with what they need.

    Raises:
        ReadoutError: an argument is out of range, or the history is too short.
    """
    if not (_is_number(power) and _is_number(alpha) and 0 < power < 1 and 0 < alpha < 1):
        raise ReadoutError(f"power == {power!r}, alpha == {alpha!r}, both must lie between 0 and 1; give 0.8 and 0.05")
    if not _is_number(window_days) or window_days % 1 or window_days < 1:
        raise ReadoutError(f"window_days == {window_days!r}, must be a whole number of 1 or more; give 28")
    if effects is None:
        effects = sorted({*EFFECTS, *([plan.practical_margin] if plan and plan.practical_margin else [])})
    if not isinstance(effects, Sequence) or not effects or not all(map(_is_number, effects)):
        raise ReadoutError(f"effects == {effects!r}, must be several relative effects; give [0.05]")
    known = as_dataset(data)
    days = plan.attribution_window_days if plan else int(window_days)
    history = history_of(revenue_lines(known.orders), known.as_of, days, visits=_visits(known, events), plan=plan)
    history = history.in_layer(plan) if plan else history
    sized = history
    if plan is not None and plan.cluster is not None:
        sized = history.by_cluster(groups_of(known.accounts, plan.cluster, history.units))
    found = planned_sizes(
        sized,
        effects,
        window_days=days,
        power=power,
        alpha=plan.alpha if plan else alpha,
        shares=plan.shares_from_control if plan else TWO_EQUAL,
    )
    found = replace(found, n_accounts=history.n_accounts)
    return found.compared_with(plan.planned_size, plan.cluster) if plan else found


def placebo(
    data: Dataset | DataSource,
    plan: ExperimentPlan,
    *,
    effects: Sequence[float] | None = None,
    events: EventStore | str | None = None,
    cluster: str | None = None,
    draws: int = PLACEBO_DRAWS,
) -> Placebo:
    """Return how a plan would have decided over the firm's own past, where nothing was tested.

    The last run as long as the plan's, with a complete window behind it, is assigned anew in every draw and judged as
    at the planned end: how often it ships and rolls back what was not there, and how often it finds what is planted.

    Args:
        data: purchase history.
        plan: what will decide.
        effects: relative effects of the primary that are planted; the plan must find the largest. None: its practical
            margin, and 0.1 where it has none.
        events: the event store that serving writes, or its URL; see `power`.
        cluster: column of the accounts table; accounts with one value are assigned together. A plan that names it is
            judged by it too; by default the plan's.
        draws: assignments.

    Raises:
        MissingColumnError: the accounts table has no such column.
        ReadoutError: the history is too short, or does not hold the plan's primary.
    """
    if draws < 1:
        raise ReadoutError(f"draws == {draws}, must be 1 or more; give {PLACEBO_DRAWS}")
    known = as_dataset(data)
    window, lines = plan.attribution_window_days, revenue_lines(known.orders)
    visits = _visits(known, events)
    history = history_of(lines, known.as_of, window, run_days=run_days_of(plan), visits=visits, plan=plan)
    history = history.in_layer(plan)
    column = cluster or plan.cluster
    groups = None if column is None else groups_of(known.accounts, column, history.units)
    return placebo_of(history, plan, effects=effects, draws=draws, clusters=groups)


def _visits(data: Dataset, events: EventStore | str | None) -> PastVisits | None:
    """Who would have entered an experiment, from what is known of it."""
    if events is not None:
        with opened_store(events) as store:
            return served_visits(store)
    return listed_visits(data.accounts[c.ACCOUNT_ID].to_numpy(dtype=object)) if data.spec.accounts is not None else None


def kpis(
    data: Dataset | DataSource,
    *,
    events: EventStore | str | None = None,
    by: Sequence[str] = (),
    config: KpiConfig | None = None,
    lifetime_values: Table | None = None,
) -> KpiReport:
    """Return every KPI of the registry, overall, by period and by segment.

    Args:
        data: purchase history.
        events: the event store that serving writes, or its URL; None: nothing is attributed to offers.
        by: segments besides overall, as `["segment", "region"]`; default: those of `config`.
        config: periods, segments, attribution.
        lifetime_values: `account_id lifetime_value` of a model, as `Recommender.lifetime_values` returns them; None:
            customer lifetime value is not computable.

    Raises:
        ConfigError: an option is out of range.
        DataError: the data can't be read, or no order is in the range.
    """
    chosen = given_config(config, KpiConfig)
    if by:
        chosen = KpiConfig(**dict(chosen) | {"by": _names("by", by)})
    known = as_dataset(data)
    log = None
    if events is not None:
        with opened_store(events) as store:
            log = read_events(store)
    return kpis_from_tables(
        known.orders,
        as_of=known.as_of,
        products=known.products,
        accounts=known.accounts,
        upgrades=known.upgrades,
        events=log,
        currency=known.currency,
        config=chosen,
        lifetime_values=lifetime_values,
    )


def _names(what: str, several: object) -> tuple[str, ...]:
    names = (several,) if isinstance(several, str) else several
    if not isinstance(names, Iterable):
        raise ConfigError(f"{what} == {several!r}, must be names of columns; give ['region']")
    return tuple(names)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _arm(given: object) -> str:
    """Return an arm as the table's arms are written."""
    text = str(int(given)) if isinstance(given, float) and given.is_integer() else str(given)
    return text.lower() if isinstance(given, bool | np.bool_) else text


@contextmanager
def opened_store(store: EventStore | str) -> Iterator[EventStore]:
    """Yield a store, or open the one at a URL and close it afterwards.

    Raises:
        ConfigError: it is neither a store nor a URL.
        SourceNotFoundError: there is no such file; serving alone makes one.
    """
    if not isinstance(store, str | EventStore):
        raise ConfigError(f"the store is a {type(store).__name__}, must be a URL or an open store; give sqlite:///FILE")
    if not isinstance(store, str):
        yield store
        return
    path = store.removeprefix("sqlite:///")
    if path != store and not Path(path).is_file():
        raise SourceNotFoundError(f"{store}: no such file {path}; name the store that `offers serve` writes")
    with closing(open_store(store)) as events:
        yield events
