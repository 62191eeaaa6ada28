"""Another tool's experiment: a table with one row a unit, from a file to a readout."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import reduce
from pathlib import Path

import ibis
import numpy as np

from recsys.contracts.columns import SOURCE_ROW
from recsys.data.history import seconds_of_times
from recsys.data.numbers import as_text
from recsys.data.sources import DataSource, connect, open_source
from recsys.data.times import as_time
from recsys.errors import ReadoutError
from recsys.evaluation.readout.design import (
    FINISHED,
    INTERIM,
    Design,
    ReadoutConfig,
    Stage,
    metrics_of,
    refuse_before_start,
    refuse_missing,
    refuse_quantiles,
    refuse_unread_times,
    smallest_arm,
)
from recsys.evaluation.readout.faults.column_values import (
    MAX_NAMED,
    refuse_no_part,
    refuse_partial_shares,
    refuse_replaced,
)
from recsys.evaluation.readout.health import LogFacts
from recsys.evaluation.readout.pipeline import analyse_units
from recsys.evaluation.readout.purchases import Assigned, cumulative_counts
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.units import ARM, CLUSTER_ID, UNIT, UnitTable, unit_table
from recsys.evaluation.readout.verdict import VerdictOverride
from recsys.evaluation.statistics.column_facts import column_facts
from recsys.evaluation.statistics.covariates import joint_weights, parts_of
from recsys.evaluation.statistics.metric import UNITS, Margin, Metric, Ratio
from recsys.experiments.assignment import assign_many
from recsys.experiments.plan import ExperimentPlan, LockedPlan, MetricDirection


@dataclass(frozen=True)
class TableSpec:
    """Which columns of a table mean what.

    Attributes:
        unit: column of the account or visitor; None takes every row as a unit of its own.
        arm: column of the arm.
        control: the arm that the others are compared with.
        metrics: what is measured, by name.
        before: pre-period values by metric.
        guardrails: margins by metric.
        primary: the metric that decides; None takes the first mean per unit.
        primary_direction: which way is good for it.
        segments: columns by which the primary is split.
        exposed: column of 0 and 1.
        shares: planned share by arm; empty takes equal shares.
        chain: columns of the decomposition, the total last.
        attributed: column with the revenue that is credited to offers.
        aggregate: add up several rows of one unit.
        interim: the run is not over: only the anytime-valid interval may decide.
        plan: the locked plan, whose assignment is then checked.
        has_plan_hash: whether the plan's hash was kept at its start; else there is nothing to check it against.
        cluster: column by which arms were assigned, as a company of accounts; None where each unit was by itself.
        caps: quantile by metric at which its column is capped; the primary's may stand in the options of the readout.
        money: metrics whose values are money, beside those that are known to be.
        currency: of the money; None where it is not known.
        quality: what no treatment can move, by name: it shows whether rows of one arm were lost.
        assigned_at: column of the assignment's time; None where it is not known.
    """

    unit: str | None
    arm: str
    control: str
    metrics: Mapping[str, Ratio]
    before: Mapping[str, Ratio] = field(default_factory=dict)
    guardrails: Mapping[str, Margin] = field(default_factory=dict)
    primary: str | None = None
    primary_direction: MetricDirection = "higher_is_better"
    segments: tuple[str, ...] = ()
    exposed: str | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    chain: tuple[str, ...] = ()
    attributed: str | None = None
    aggregate: bool = False
    interim: bool = False
    plan: LockedPlan | None = None
    has_plan_hash: bool = True
    cluster: str | None = None
    caps: Mapping[str, float] = field(default_factory=dict)
    money: tuple[str, ...] = ()
    currency: str | None = None
    quality: Mapping[str, Ratio] = field(default_factory=dict)
    assigned_at: str | None = None


def with_plan(form: TableSpec) -> TableSpec:
    """Return the form with what its plan decided: primary, guardrails, segments; without a plan as it is.

    Raises:
        ReadoutError: the form has another primary or other margins.
    """
    if form.plan is None:
        return form
    plan = form.plan.plan
    refuse_replaced(form.primary, form.guardrails, plan)
    planned = {
        guardrail.metric: Margin(guardrail.margin, guardrail.is_relative, guardrail.direction, form.has_plan_hash)
        for guardrail in plan.guardrails
    }
    return replace(
        form,
        primary=plan.primary,
        primary_direction=plan.primary_direction,
        guardrails={**planned, **form.guardrails},
        segments=form.segments or plan.segments,
        cluster=form.cluster or plan.cluster,
    )


def table_readout(
    table: DataSource,
    form: TableSpec,
    config: ReadoutConfig,
    *,
    now: datetime,
    override: VerdictOverride | None = None,
) -> Readout:
    """Return the readout of a table with one row a unit: a file, a folder, a database table, or a table in memory.

    Args:
        table: the units.
        form: what its columns mean.
        config: alpha, margins, cap.
        now: tells how far a planned run has come; unused without a plan.
        override: a decision against the rules, with its reason.

    Raises:
        DataError: the file can't be read or a column is missing.
        ReadoutError: the data can't be read out.
    """
    metrics = metrics_of(
        form.metrics,
        before=form.before,
        guardrails=form.guardrails,
        primary=form.primary,
        primary_direction=form.primary_direction,
        money=form.money,
        currency=form.currency,
    )
    connection = connect()
    source = open_source(connection, table, name="readout")
    extra = [*form.chain, *([form.attributed] if form.attributed else [])]
    extra += [column for ratio in form.quality.values() for column in ratio.columns]
    named = [*(column for metric in metrics for column in metric.columns), *extra]
    values = tuple(dict.fromkeys(part for name in named for part in _parts(name, source.table.columns)))
    units = unit_table(
        connection,
        source.table,
        unit=form.unit,
        arm=form.arm,
        values=values,
        segments=form.segments,
        exposed=form.exposed,
        past=tuple(
            dict.fromkeys(
                part
                for metric in metrics
                for name in (metric.before.columns if metric.before else ())
                for part in _parts(name, source.table.columns)
            )
        ),
        yes_or_no=_yes_or_no(form),
        aggregate=form.aggregate,
        cluster=form.cluster,
    )
    refuse_no_part(units.table, form.attributed, metrics)
    cumulative = _cumulative_counts(source.table, form, units)
    units = _with_joined(units, metrics)
    design = design_of(Path(source.location).name, form, metrics, units, config, now)
    return analyse_units(units, design, config, log=_log_facts(units, form.plan, cumulative), override=override)


def _caps(form: TableSpec, metrics: Sequence[Metric], units: UnitTable, config: ReadoutConfig) -> dict[str, float]:
    """The quantile at which each column is capped; a column of yes and no has nothing to cap."""
    by_name = {metric.name: metric for metric in metrics}
    found: dict[str, float] = {}
    primary = next((metric for metric in metrics if metric.role == "primary"), None)
    if primary is not None and config.cap_percentile is not None:
        found[primary.value.numerator] = config.cap_percentile
    for name, quantile in form.caps.items():
        if name not in by_name:
            raise ReadoutError(f"cap of {name!r}, must be of one of the metrics {', '.join(by_name)}")
        if not 0.5 < quantile < 1:
            raise ReadoutError(f"cap of {name!r} == {quantile:g}, must be a quantile between 0.5 and 1, as 0.99")
        found[by_name[name].value.numerator] = quantile
    return {column: quantile for column, quantile in found.items() if not units.facts[column].is_binary}


def _parts(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of a covariate that is several; a column of that very name comes first."""
    return (name,) if name in columns else parts_of(name)


def _with_joined(units: UnitTable, metrics: Sequence[Metric]) -> UnitTable:
    """The table with one column for each covariate that is several, weighted by what they explain of its metric."""
    for metric in metrics:
        name = metric.before.numerator if metric.before else ""
        if not name or name in units.facts:
            continue
        if metric.value.denominator is not None or (metric.before and metric.before.denominator is not None):
            raise ReadoutError(
                f"covariate {name!r} of the ratio {metric.name!r}, must be one column or a ratio of two; several are "
                "joined for means alone"
            )
        parts = parts_of(name)
        by_arm = units.moments((metric.value.numerator, *parts))
        total = reduce(operator.add, (by_arm[at] for at in range(len(units.arms))))
        weights = joint_weights(total, metric.value.numerator, parts)
        joined = sum(float(weight) * units.table[part] for weight, part in zip(weights, parts, strict=True))
        table = units.table.mutate(**{name: joined})
        facts = {**units.facts, **column_facts(table, [name])}
        units = replace(units, table=table, values=(*units.values, name), facts=facts)
    return units


def design_of(
    name: str, form: TableSpec, metrics: tuple[Metric, ...], units: UnitTable, config: ReadoutConfig, now: datetime
) -> Design:
    """Return the design that a form and a table give.

    Raises:
        ReadoutError: a quantile is asked of clusters, of yes and no, or with a cap.
    """
    refuse_quantiles("quality", form.quality)
    _refuse_quantiles(form, metrics, units)
    shares = shares_of(form, units.arms)
    return Design(
        name=form.plan.plan.id if form.plan else name,
        control=form.control,
        shares=shares,
        metrics=tuple(metric.by_cluster() for metric in metrics) if form.cluster else metrics,
        stage=stage_of(form, now, smallest_arm(shares, units.counts())),
        segments=form.segments,
        chain=chain_of(form.chain, form.cluster),
        chain_labels=chain_labels(form.chain),
        attributed=form.attributed,
        capped=_caps(form, metrics, units, config),
        plan=form.plan,
        has_plan_hash=form.has_plan_hash,
        shares_are_stated=bool(form.shares) or form.plan is not None,
        as_of=now if form.plan else None,
        quality={name: ratio.by_cluster() for name, ratio in form.quality.items()} if form.cluster else form.quality,
    )


def _refuse_quantiles(form: TableSpec, metrics: Sequence[Metric], units: UnitTable) -> None:
    for metric in (metric for metric in metrics if metric.value.quantile is not None):
        said = f"metric {metric.name!r} = {metric.value.formula}"
        if form.cluster is not None:
            raise ReadoutError(
                f"{said} with cluster {form.cluster!r}, must be of units assigned by themselves: units of one cluster "
                "are alike, and an interval from their order would be too short; leave out the quantile"
            )
        if units.facts[metric.value.numerator].is_binary:
            raise ReadoutError(f"{said} is of yes and no, must be of amounts; give the column as a mean")
        if metric.name in form.caps:
            raise ReadoutError(f"cap of {metric.name!r}, must be of a mean or a ratio: {said} needs none")


def chain_of(chain: tuple[str, ...], cluster: str | None) -> tuple[str, ...]:
    """Return the columns of a decomposition; over sums of clusters the number of their units stands before."""
    return (UNITS, *chain) if chain and cluster else chain


def _yes_or_no(form: TableSpec) -> tuple[str, ...]:
    """Columns that are means per unit and no part of a ratio: 0 and 1 say there whether, not how often."""
    means = [ratio.numerator for ratio in form.metrics.values() if ratio.is_mean]
    counted = {column for ratio in form.metrics.values() if ratio.denominator for column in ratio.columns}
    return tuple(dict.fromkeys(column for column in means if column not in counted))


def _cumulative_counts(source: ibis.Table, form: TableSpec, units: UnitTable) -> np.ndarray | None:
    """Assigned units or clusters by the end of each day and arm; None where no time of assignment is known."""
    if form.assigned_at is None:
        return None
    refuse_missing(source, [form.assigned_at])
    unit = as_text(source[form.unit or SOURCE_ROW])
    who = unit if form.cluster is None else as_text(source[form.cluster])
    rows = source.select(unit=unit, who=who, arm=as_text(source[form.arm]), at=as_time(source[form.assigned_at]))
    rows = rows.filter(~rows["unit"].isin(units.mixed.units), ~rows["who"].isin(units.mixed.clusters))
    first = rows.group_by("who", "arm").agg(at=rows["at"].min()).to_pandas()
    refuse_unread_times(int(first["at"].isna().sum()), form.assigned_at)
    assigned = Assigned(first["who"].to_numpy(), first["arm"].to_numpy(), seconds_of_times(first["at"]), {})
    return cumulative_counts(assigned, units.arms)


def chain_labels(chain: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a chain's factors.

    Example:
        >>> chain_labels(("buyers", "orders", "revenue"))
        ('buyers per unit', 'orders per buyers', 'revenue per orders')
    """
    return tuple(f"{name} per {chain[i - 1] if i else 'unit'}" for i, name in enumerate(chain))


def stage_of_plan(
    locked: LockedPlan, moment: datetime, *, mature_share: float | None, smallest_arm: int, is_decided: bool = False
) -> Stage:
    """Return how far a planned run has come at `moment`; unknown maturity is not maturity."""
    plan: ExperimentPlan = locked.plan
    until = min(moment, locked.stopped_at) if locked.stopped_at else moment
    days_run = (until - locked.started_at).total_seconds() / 86_400
    days_left = (plan.planned_end - moment).total_seconds() / 86_400
    is_over = moment >= locked.decision_due
    return Stage(
        is_final=is_over and not locked.is_stopped_early and not is_decided,
        has_min_run=days_run >= plan.min_run_days,
        is_mature=mature_share is not None and mature_share >= plan.min_mature_share,
        days_left=max(days_left, 0.0),
        has_planned_size=smallest_arm >= plan.planned_size,
        is_over=is_over,
        is_decided=is_decided and is_over,
    )


def stage_of(form: TableSpec, now: datetime, n_smallest: int) -> Stage:
    """Return how far the run has come at `now`, by the plan or as the caller says."""
    if form.plan is None:
        return INTERIM if form.interim else FINISHED
    refuse_before_start(now, form.plan.started_at)
    # One row a unit has no times: its windows are taken as complete unless the caller says that they are not.
    found = stage_of_plan(form.plan, now, mature_share=0.0 if form.interim else 1.0, smallest_arm=n_smallest)
    return replace(found, is_final=False, is_over=False) if form.interim else found


def shares_of(form: TableSpec, arms: tuple[str, ...]) -> dict[str, float]:
    """Return the planned share of each arm, control first.

    Raises:
        ReadoutError: control is not among the arms, or shares are no numbers above zero that add up to 1, an arm each.
    """
    if form.plan is not None:
        given = {arm.name: share for arm, share in zip(form.plan.plan.arms, form.plan.plan.shares, strict=True)}
    else:
        given = dict(form.shares) or dict.fromkeys(arms, 1.0)
    if form.control not in given:
        more = f" and {len(given) - MAX_NAMED:,} more" if len(given) > MAX_NAMED else ""
        shown = ", ".join(list(given)[:MAX_NAMED]) + more
        raise ReadoutError(f"control {form.control!r} is not among the arms: {shown}; name one of them")
    if not all(0 < share < math.inf for share in given.values()):
        raise ReadoutError(f"shares {given}, must be above 0 and finite; leave out the arm that was not planned")
    refuse_partial_shares({} if form.plan else form.shares, arms)
    ordered = [form.control, *sorted(arm for arm in given if arm != form.control)]
    return {arm: given[arm] / sum(given.values()) for arm in ordered}


def _log_facts(units: UnitTable, locked: LockedPlan | None, cumulative: np.ndarray | None) -> LogFacts:
    facts = LogFacts(cumulative_counts=cumulative)
    if locked is None:
        return facts
    return replace(
        facts,
        n_reassigned=count_reassigned(units, locked.plan),
        min_mature_share=locked.plan.min_mature_share,
        mixed_by_arm=mixed_by_arm(units, locked.plan),
    )


def mixed_by_arm(units: UnitTable, plan: ExperimentPlan) -> dict[str, int]:
    """Return the units in several arms, or their clusters, by the arm that the plan's hash gives them."""
    names = [arm.name for arm in plan.arms]
    return dict(Counter(names[at] for at in assign_many(plan, units.mixed.assigned)))


def count_reassigned(units: UnitTable, plan: ExperimentPlan) -> int:
    """Return how many units are not in the arm that the plan's hash gives."""
    who = CLUSTER_ID if units.cluster else UNIT
    rows = units.table.select(who, ARM).to_pyarrow()
    expected = assign_many(plan, rows.column(who).to_pylist())
    names = [arm.name for arm in plan.arms]
    return sum(at < 0 or names[at] != arm for at, arm in zip(expected, rows.column(ARM).to_pylist(), strict=True))
