"""Accounts with their arm, and orders: the readout of an experiment whose outcomes are purchases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.arrays import IntArray
from recsys.contracts import columns as c
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.data.history import seconds_of_times
from recsys.data.numbers import as_text
from recsys.data.sources import DataSource, connect, open_source
from recsys.data.times import as_time, as_utc
from recsys.errors import ReadoutError
from recsys.evaluation.readout.design import (
    ReadoutConfig,
    metrics_of,
    refuse_before_start,
    refuse_blanks,
    refuse_missing,
    refuse_unknown_values,
    refuse_unread_times,
    smallest_arm,
)
from recsys.evaluation.readout.from_table import (
    TableSpec,
    chain_of,
    count_reassigned,
    design_of,
    mixed_by_arm,
    stage_of_plan,
)
from recsys.evaluation.readout.health import LogFacts
from recsys.evaluation.readout.over_time import looks_of, novelty_of
from recsys.evaluation.readout.pipeline import TimeViews, analyse_units
from recsys.evaluation.readout.purchases import (
    BUYERS,
    BUYERS_BEFORE,
    DAY,
    LAPSED,
    ORDER_COUNT,
    ORDERS_BEFORE,
    REVENUE,
    REVENUE_BEFORE,
    Assigned,
    UnitPurchases,
    cumulative_counts,
    gather_purchases,
    is_mature,
    revenue_lines,
    window_values,
)
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.units import ARM, CLUSTER_ID, EXPOSED, UNIT, UnitTable, unit_table
from recsys.evaluation.readout.verdict import VerdictOverride
from recsys.evaluation.statistics.metric import Margin, Metric, Ratio
from recsys.experiments.plan import LockedPlan

MIN_MATURE_SHARE = 0.9

STANDARD: Mapping[str, tuple[Ratio, Ratio]] = {
    "revenue_per_account": (Ratio(REVENUE), Ratio(REVENUE_BEFORE)),
    "orders_per_account": (Ratio(ORDER_COUNT), Ratio(ORDERS_BEFORE)),
    "buyer_rate": (Ratio(BUYERS), Ratio(BUYERS_BEFORE)),
    "aov": (Ratio(REVENUE, ORDER_COUNT), Ratio(REVENUE_BEFORE, ORDERS_BEFORE)),
    "orders_per_buyer": (Ratio(ORDER_COUNT, BUYERS), Ratio(ORDERS_BEFORE, BUYERS_BEFORE)),
}
CHAIN = (BUYERS, ORDER_COUNT, REVENUE)
CHAIN_LABELS = ("buyer rate", "orders per buyer", "AOV")


@dataclass(frozen=True)
class OrdersSpec:
    """Which accounts are in which arm, since when, and how long their orders count.

    Attributes:
        table: columns of the accounts, control, segments, shares, plan; its metrics are the standard ones.
        orders: where the order lines lie and how they are read.
        window_days: days after a unit's assignment whose orders count.
        assigned_at: column of the assignment's time; None where all started at `started`.
        started: when all units were assigned.
    """

    table: TableSpec
    orders: ReadSpec
    window_days: int
    assigned_at: str | None = None
    started: datetime | None = None


@dataclass(frozen=True)
class ExperimentData:
    """An experiment as arrays, from files or from the event store.

    Attributes:
        assigned: the units.
        purchases: their orders.
        now: the moment that counts, seconds since 1970-01-01 UTC: no later than the log's last event.
        notes: sentences about the data.
        exposed: whether each unit met the treatment; None where it is not known.
        extra: further columns of values, by name.
        quality: shares of them that no treatment moves, by name.
        log: what only the log can tell.
        as_of: the moment that was asked for; None where none was.
        last_event: of the log; None where it is not known.
        is_decided: whether the decision is stored already.
    """

    assigned: Assigned
    purchases: UnitPurchases
    now: int
    notes: tuple[str, ...] = ()
    exposed: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    quality: Mapping[str, Ratio] = field(default_factory=dict)
    log: LogFacts = field(default_factory=LogFacts)
    as_of: datetime | None = None
    last_event: datetime | None = None
    is_decided: bool = False


def orders_readout(
    units: DataSource,
    form: OrdersSpec,
    config: ReadoutConfig,
    *,
    now: datetime | None = None,
    override: VerdictOverride | None = None,
) -> Readout:
    """Return the readout of accounts with their arm, and order lines.

    Args:
        units: the accounts: one row each, with the arm.
        form: what the columns mean, where the orders lie, the window.
        config: alpha, margins, cap.
        now: until when orders count; beyond the day after the last order nothing is finished or mature.
        override: a decision against the rules, with its reason.

    Raises:
        DataError: a source can't be read.
        ReadoutError: no order belongs to a unit, or the window is longer than the run.
    """
    data = read_dataset(form.orders if now is None else form.orders.model_copy(update={"as_of": now}))
    name, assigned = _assigned(units, form)
    lines = revenue_lines(data.orders)
    last = _day_after_last(lines)
    asked = last if now is None else as_utc(now)
    refuse_before_start(asked, datetime.fromtimestamp(int(assigned.seconds.min()), UTC))
    there, notes = entered_in_time(assigned.seconds, form.table.plan)
    assigned = assigned.only(there)
    purchases, strangers = gather_purchases(lines, assigned)
    if len(purchases.unit) == 0:
        raise ReadoutError(
            f"0 orders belong to the {len(assigned.units):,} units, must be some; do {form.table.unit} (as "
            f"{assigned.units[0]!r}) and the orders' account_id name the same accounts?"
        )
    if strangers:
        notes = (*notes, f"orders of {strangers:,} accounts that are in no arm are left out")
    until = int(min(asked, last).timestamp())
    gathered = ExperimentData(assigned, purchases, until, notes, as_of=asked, last_event=last)
    table = form.table if form.table.currency else replace(form.table, currency=data.currency)
    return readout_of(name, gathered, table, form.window_days, config, override=override)


def _day_after_last(lines: pd.DataFrame) -> datetime:
    """The midnight after the last order: days without a time of day are whole."""
    last: pd.Timestamp = lines[c.ORDERED_AT].max()
    return as_utc((last.normalize() + pd.Timedelta(days=1)).to_pydatetime())


def entered_in_time(seconds: IntArray, locked: LockedPlan | None) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Return which units were assigned before the planned end, and a sentence about the others, who are left out."""
    if locked is None:
        return np.ones(len(seconds), dtype=bool), ()
    there = seconds < int(locked.plan.planned_end.timestamp())
    n_late = int((~there).sum())
    said = f"{n_late:,} units were assigned at the planned end or later; they are left out"
    return there, (said,) if n_late else ()


def readout_of(
    name: str,
    gathered: ExperimentData,
    table: TableSpec,
    window_days: int,
    config: ReadoutConfig,
    *,
    override: VerdictOverride | None = None,
) -> Readout:
    """Return the readout of gathered units and orders: standard metrics, decomposition, days, novelty, maturity.

    Raises:
        ReadoutError: the window is longer than the run, or nothing was bought within it.
    """
    run_days = (gathered.now - int(gathered.assigned.seconds.min())) / DAY
    if window_days > run_days:
        raise ReadoutError(
            f"window of {window_days} days, must not be longer than the run of {run_days:.0f} days; "
            "shorten it or wait: no unit has a complete window yet"
        )
    now = datetime.fromtimestamp(gathered.now, UTC)
    values = window_values(gathered.assigned, gathered.purchases, window_days, gathered.now)
    if not values[ORDER_COUNT].any():
        raise ReadoutError(f"0 orders within {window_days} days of an assignment, must be some; is the start right?")
    metrics = standard_metrics(values, table)
    refuse_unknown_values(metrics, (*values, *gathered.extra))
    units = _unit_table(gathered, values, table)
    chain = CHAIN if _sold_everywhere(gathered, values) else ()
    gathered = _without_mixed(gathered, units)
    design = design_of(name, table, metrics, units, config, now)
    log = _log_facts(gathered, table, units, window_days)
    n_smallest = smallest_arm(design.shares, units.counts())
    stage = (
        stage_of_plan(
            table.plan,
            now,
            mature_share=log.mature_share,
            smallest_arm=n_smallest,
            is_decided=gathered.is_decided,
        )
        if table.plan
        else replace(design.stage, is_mature=(log.mature_share or 0.0) >= log.min_mature_share and not table.interim)
    )
    design = replace(
        design, chain=chain_of(chain, table.cluster), chain_labels=CHAIN_LABELS if chain else (), stage=stage
    )
    design = replace(design, as_of=gathered.as_of, last_event=gathered.last_event)
    span = (gathered.assigned, gathered.purchases, design, config, window_days, gathered.now)
    looks, sums = looks_of(*span)
    times = TimeViews(
        looks=looks,
        novelty=novelty_of(*span),
        sums=sums,
        windows=_other_windows(gathered, table, window_days),
        window=f"{window_days} days",
    )
    return analyse_units(units, design, config, log=log, times=times, override=override)


def _without_mixed(gathered: ExperimentData, units: UnitTable) -> ExperimentData:
    """Leave out the units that the table of units leaves out, so that days and windows are of the same units."""
    if not units.mixed.assigned:
        return gathered
    assigned, purchases = gathered.assigned, gathered.purchases
    kept = ~np.isin(assigned.units.astype(str), units.mixed.units)
    if assigned.clusters is not None:
        kept &= ~np.isin(assigned.clusters.astype(str), units.mixed.clusters)
    new_row = np.cumsum(kept) - 1
    of_kept = kept[purchases.unit]
    return replace(
        gathered,
        assigned=assigned.only(kept),
        purchases=UnitPurchases(
            new_row[purchases.unit[of_kept]], purchases.seconds[of_kept], purchases.revenue[of_kept]
        ),
        exposed=None if gathered.exposed is None else gathered.exposed[kept],
        extra={name: values[kept] for name, values in gathered.extra.items()},
    )


def _sold_everywhere(gathered: ExperimentData, values: Mapping[str, np.ndarray]) -> bool:
    """Whether every arm has revenue: an arm without any has no logarithm."""
    arms = gathered.assigned.arms
    return all(values[REVENUE][arms == arm].sum() > 0 for arm in set(arms))


def standard_metrics(values: Mapping[str, np.ndarray], table: TableSpec) -> tuple[Metric, ...]:
    """Return the standard metrics, with pre-period values where there are any, and the form's own."""
    had_past = values[BUYERS_BEFORE].min() != values[BUYERS_BEFORE].max()
    found = {name: value for name, (value, _) in STANDARD.items()} | dict(table.metrics)
    before = {name: earlier for name, (_, earlier) in STANDARD.items() if had_past} | dict(table.before)
    if values[LAPSED].any():
        found = {**found, "attrition": Ratio(LAPSED, BUYERS_BEFORE)}
    margins: dict[str, Margin] = dict(table.guardrails)
    return metrics_of(
        found,
        before=before,
        guardrails=margins,
        primary=table.primary,
        primary_direction=table.primary_direction,
        money=table.money,
        currency=table.currency,
    )


def _assigned(given: DataSource, form: OrdersSpec) -> tuple[str, Assigned]:
    """What the units are called, and the units as they stand in their table."""
    table = form.table
    if table.unit is None:
        raise ReadoutError("orders without a unit, must name the column of the account; orders are joined by it")
    opened = open_source(connect(), given, name="units")
    source = opened.table
    refuse_missing(
        source, [table.unit, table.arm, *table.segments, *(name for name in (form.assigned_at, table.cluster) if name)]
    )
    picked = {"unit": as_text(source[table.unit]), "arm": as_text(source[table.arm])}
    picked |= {f"s{i}": source[name].cast("string").fill_null("(none)") for i, name in enumerate(table.segments)}
    if table.cluster is not None:
        picked["cluster"] = as_text(source[table.cluster])
    if form.assigned_at is not None:
        picked["at"] = as_time(source[form.assigned_at])
    frame = source.select(**picked).to_pandas()
    for key, name in (("unit", table.unit), ("arm", table.arm)):
        refuse_blanks(int(frame[key].isna().sum()), name)
    assigned = Assigned(
        units=frame["unit"].to_numpy(dtype=object),
        arms=frame["arm"].to_numpy(dtype=object),
        seconds=_starts(frame, form),
        segments={name: frame[f"s{i}"].to_numpy(dtype=object) for i, name in enumerate(table.segments)},
        clusters=None if table.cluster is None else frame["cluster"].to_numpy(dtype=object),
    )
    return Path(opened.location).name, assigned


def _starts(frame: pd.DataFrame, form: OrdersSpec) -> np.ndarray:
    if form.assigned_at is not None:
        refuse_unread_times(int(frame["at"].isna().sum()), form.assigned_at)
        return seconds_of_times(frame["at"])
    if form.started is None:
        raise ReadoutError(
            "orders without a start, must have one; give the column of the assignment's time (assigned_at) "
            "or a date (started)"
        )
    return np.full(len(frame), int(as_utc(form.started).timestamp()), dtype=np.int64)


def _unit_table(gathered: ExperimentData, values: Mapping[str, np.ndarray], table: TableSpec) -> UnitTable:
    assigned = gathered.assigned
    columns = {UNIT: assigned.units, ARM: assigned.arms, **values, **gathered.extra, **assigned.segments}
    if gathered.exposed is not None:
        columns[EXPOSED] = gathered.exposed.astype(np.float64)
    if assigned.clusters is not None:
        columns[CLUSTER_ID] = assigned.clusters
    connection = connect()
    source = connection.create_table("gathered_units", pa.table({name: pa.array(col) for name, col in columns.items()}))
    found = unit_table(
        connection,
        source,
        unit=UNIT,
        arm=ARM,
        values=(*values, *gathered.extra),
        segments=table.segments,
        exposed=EXPOSED if gathered.exposed is not None else None,
        cluster=None if assigned.clusters is None else CLUSTER_ID,
    )
    return replace(found, notes=gathered.notes + found.notes, cluster=table.cluster)


def _other_windows(gathered: ExperimentData, table: TableSpec, window_days: int) -> dict[str, UnitTable]:
    half = window_days // 2
    if half < 1:
        return {}
    values = window_values(gathered.assigned, gathered.purchases, half, gathered.now)
    return {f"{half} days": _unit_table(gathered, values, table)} if values[ORDER_COUNT].any() else {}


def _log_facts(gathered: ExperimentData, table: TableSpec, units: UnitTable, window_days: int) -> LogFacts:
    mature = float(is_mature(gathered.assigned, window_days, gathered.now).mean())
    plan = table.plan.plan if table.plan else None
    return replace(
        gathered.log,
        cumulative_counts=cumulative_counts(gathered.assigned.whole_clusters(), units.arms),
        mature_share=mature,
        min_mature_share=plan.min_mature_share if plan else MIN_MATURE_SHARE,
        n_reassigned=count_reassigned(units, plan) if plan else None,
        mixed_by_arm=dict(Counter(gathered.log.mixed_by_arm) + Counter(mixed_by_arm(units, plan))) if plan else {},
    )
