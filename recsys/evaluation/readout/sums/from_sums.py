"""A readout from sums of groups: the same figures as from rows, with what needs rows named as not checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from recsys.data.sources import DataSource, connect, open_source
from recsys.errors import ReadoutError
from recsys.evaluation.readout.design import FINISHED, INTERIM, Design, ReadoutConfig, metrics_of, smallest_arm
from recsys.evaluation.readout.from_table import TableSpec, shares_of, stage_of
from recsys.evaluation.readout.health import LogFacts, health_checks
from recsys.evaluation.readout.over_time import Look, look_of
from recsys.evaluation.readout.pipeline import Measured, TimeViews, judge, refuse_unfit, refuse_zero_denominators
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.sums.group_sums import GroupSums, read_group_sums
from recsys.evaluation.readout.sums.long_layout import TIME, is_long, read_long
from recsys.evaluation.readout.tails import decision_alpha
from recsys.evaluation.readout.verdict import VerdictOverride
from recsys.evaluation.statistics.metric import UNITS, Metric, Ratio, parse_quantile
from recsys.evaluation.statistics.moments import Moments, Sums
from recsys.evaluation.statistics.quantiles import NO_QUANTILES, QuantileDifference, Quantiles
from recsys.evaluation.statistics.randomisation import Tails, tails_of_sums

NEEDS_ROWS = (
    "judged by sums: not checked, as it needs rows, are units in several arms, several rows of a unit, outliers, "
    "the distribution of values, quantiles, caps and the sensitivity grid"
)


def sums_readout(
    table: DataSource,
    form: TableSpec,
    config: ReadoutConfig,
    *,
    now: datetime,
    day: str | None = None,
    experiment: str | None = None,
    override: VerdictOverride | None = None,
) -> Readout:
    """Return the readout of a table of sums, one row an arm, or an arm and day, or in the layout of ASOS' data.

    Args:
        table: `n` and, for each column, mean and variance or sum and sum of squares; see `read_group_sums`.
        form: arm, control, metrics and so on; nothing that needs rows.
        config: alpha, margins.
        now: tells how far a planned run has come; unused without a plan.
        day: column of the day; its rows hold sums to date and give the course of the effect.
        experiment: which one of a table in ASOS' layout, where it has several; its metrics are named by their ids.
        override: a decision against the rules, with its reason.

    Raises:
        DataError: the table can't be read or lacks a column.
        ReadoutError: the sums can't be read out, or the form asks for what needs rows.
    """
    _refuse_rows(form, config)
    name = Path(str(table)).name if isinstance(table, str | Path) else "sums"
    notes: tuple[str, ...] = ()
    opened = open_source(connect(), table, name="sums").table
    if is_long(opened.columns):
        named = [column for ratio in form.metrics.values() for column in ratio.columns]
        long = read_long(opened, named, experiment, arm=form.arm, control=form.control)
        table, day, name, notes = long.table, TIME, long.experiment, long.notes
    elif experiment is not None:
        raise ReadoutError(
            f"experiment {experiment!r}, must go with sums by experiment_id, variant_id, metric_id and {TIME}; "
            "leave it out"
        )
    metrics = metrics_of(
        form.metrics,
        before=form.before,
        guardrails=form.guardrails,
        primary=form.primary,
        primary_direction=form.primary_direction,
        money=form.money,
        currency=form.currency,
    )
    sums = read_group_sums(table, arm=form.arm, metrics=metrics, day=day)
    shares = shares_of(form, sums.arms)
    design = Design(
        name=form.plan.plan.id if form.plan else name,
        control=form.control,
        shares=shares,
        metrics=metrics,
        stage=stage_of(form, now, smallest_arm(shares, sums.counts())),
        plan=form.plan,
        has_plan_hash=form.has_plan_hash,
        shares_are_stated=bool(form.shares) or form.plan is not None,
    )
    return _judged(sums, design, config, notes=notes, override=override)


def stored_readout(path: Path, *, override: VerdictOverride | None = None) -> Readout:
    """Return the readout that the sums of a `readout.json` give; its effects are those that were written.

    Raises:
        ReadoutError: the file is no readout.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        found = _stored_sums(written)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadoutError(f"{path}: not a readout.json ({error}), must be one that a readout wrote") from None
    config = ReadoutConfig(
        alpha=written["alpha"],
        correction=written["correction"],
        practical_margin=written["practical_margin"],
        planned_units=written["planned_units"],
    )
    is_interim = any(effect["decided_by"] == "anytime" for effect in written["effects"])
    design = Design(
        name=written["experiment"],
        control=written["control"],
        shares=written["shares"],
        metrics=_stored_metrics(written),
        stage=INTERIM if is_interim else FINISHED,
        segments=tuple(found.levels),
        capped=written["caps"],
        shares_are_stated=True,
    )
    return _judged(
        found,
        design,
        config,
        tails=_stored_tails(written),
        unit=written["unit"],
        caps=written["caps"],
        quantiles=_stored_quantiles(written),
        override=override,
    )


def _judged(
    sums: GroupSums,
    design: Design,
    config: ReadoutConfig,
    *,
    tails: Mapping[tuple[str, str], Tails] | None = None,
    unit: str = "account",
    caps: Mapping[str, float] | None = None,
    quantiles: Quantiles = NO_QUANTILES,
    notes: tuple[str, ...] = (),
    override: VerdictOverride | None = None,
) -> Readout:
    facts = sums.facts()
    refuse_unfit(sums.counts(), facts, design)
    refuse_zero_denominators({arm: sums.moments[sums.arms.index(arm)] for arm in design.shares}, design)
    known = tails or _tails(sums, design, config)
    log = LogFacts(cumulative_counts=sums.daily_counts())
    measured = Measured(
        unit=unit,
        arms=sums.arms,
        moments=sums.moments,
        counts=sums.counts(),
        unit_counts=sums.unit_counts(),
        facts=facts,
        tails=known,
        health=health_checks(sums, sums.moments, design, config, log, known),
        levels=sums.levels,
        notes=(NEEDS_ROWS, *notes),
        caps=caps or {},
        quantiles=quantiles,
    )
    times = TimeViews(
        looks=_looks(sums, design, config),
        sums=tuple(Sums(f"day={label}", sums.arms, moments) for label, moments in sums.looks.items()),
    )
    return judge(measured, design, config, times=times, override=override)


def _tails(sums: GroupSums, design: Design, config: ReadoutConfig) -> dict[tuple[str, str], Tails]:
    counts = sums.counts()
    return {
        (metric.name, arm): tails_of_sums(
            n_arm=counts[arm],
            n_control=counts[design.control],
            alpha=decision_alpha(metric, design, config),
            tolerance=config.tail_tolerance,
        )
        for metric in design.metrics
        if metric.role in {"primary", "guardrail"}
        for arm in design.treatments
    }


def _looks(sums: GroupSums, design: Design, config: ReadoutConfig) -> tuple[Look, ...]:
    """The primary's effect to date by day and arm."""
    primary = design.primary
    if primary is None:
        return ()
    return tuple(
        look_of(label, arm, moments[sums.arms.index(design.control)], moments[sums.arms.index(arm)], primary, config)
        for label, moments in sums.looks.items()
        if all(name in moments.columns for name in primary.columns)
        for arm in design.treatments
    )


def _refuse_rows(form: TableSpec, config: ReadoutConfig) -> None:
    asked = {
        "unit": form.unit,
        "segment": form.segments,
        "exposed": form.exposed,
        "cluster": form.cluster,
        "decompose": form.chain,
        "attributed": form.attributed,
        "aggregate": form.aggregate,
        "cap": config.cap_percentile or form.caps,
        "quantile": [name for name, ratio in form.metrics.items() if ratio.quantile is not None],
    }
    for name, given in asked.items():
        if given and not (form.plan and name in {"segment", "cap"}):
            raise ReadoutError(f"{name} with sums, must go with rows: sums of an arm can't be split or changed")


def _stored_sums(written: Mapping[str, Any]) -> GroupSums:
    slices = {item["slice"]: item["arms"] for item in written["sums"]}
    arms = tuple(sorted(slices["all"]))
    looks: dict[str, Moments] = {}
    levels: dict[str, dict[str, Moments]] = {}
    for label, by_arm in slices.items():
        kind, _, level = label.partition("=")
        if kind == "day":
            looks[level] = _stored_moments(by_arm, arms)
        elif level:
            levels.setdefault(kind, {})[level] = _stored_moments(by_arm, arms)
    return GroupSums(arms, _stored_moments(slices["all"], arms), looks, levels)


def _stored_moments(by_arm: Mapping[str, Any], arms: Sequence[str]) -> Moments:
    columns = tuple(by_arm[arms[0]]["columns"])
    k = len(columns)
    cov = np.zeros((len(arms), k, k))
    for at, arm in enumerate(arms):
        rows, cols = np.tril_indices(k)
        cov[at, rows, cols] = cov[at, cols, rows] = by_arm[arm]["cov"]
    n = np.array([float(by_arm[arm]["n"]) for arm in arms])
    return Moments(columns, n, np.array([by_arm[arm]["mean"] for arm in arms]), cov)


def _stored_metrics(written: Mapping[str, Any]) -> tuple[Metric, ...]:
    said = {effect["metric"]: effect for effect in written["effects"]}
    columns = written["sums"][0]["arms"][written["control"]]["columns"]
    found = []
    for name, formula in written["metric_columns"].items():
        effect = said[name]
        before = written["covariates"].get(name)
        metric = Metric(
            name,
            _ratio(formula),
            None if before is None else _ratio(before),
            direction=effect["direction"],
            role=effect["role"],
            margin=effect["margin"],
            denominator_metric=effect["denominator_metric"],
            unit=effect.get("unit", "number"),
            currency=effect.get("currency"),
        )
        found.append(metric.by_cluster() if UNITS in columns else metric)
    return tuple(found)


def _stored_quantiles(written: Mapping[str, Any]) -> Quantiles:
    """Sums do not tell quantiles: they stay as they were written."""
    return {
        (effect["metric"], effect["arm"]): QuantileDifference(
            control=effect["control_mean"],
            arm=effect["arm_mean"],
            n_control=effect["n_control"],
            n_arm=effect["n_arm"],
            low=effect["effect_low"],
            high=effect["effect_high"],
            se=effect["standard_error"],
            p_value=effect["p_value"],
        )
        for effect in written["effects"]
        if parse_quantile(written["metric_columns"][effect["metric"]]) is not None
    }


def _ratio(formula: str) -> Ratio:
    if of_units := parse_quantile(formula):
        return of_units
    top, _, below = formula.rpartition(" / ")
    return Ratio(top) if below == "units" else Ratio(top, below)


def _stored_tails(written: Mapping[str, Any]) -> dict[tuple[str, str], Tails] | None:
    found = {
        (effect["metric"], effect["arm"]): Tails(**effect["tails"])
        for effect in written["effects"]
        if effect.get("tails") is not None
    }
    return found or None
