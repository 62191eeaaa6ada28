"""A served experiment out of the event store: its plan, assignments, exposures, outcomes and orders as tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys.contracts import columns as c
from recsys.contracts.events import PRESENTING, EventQuery, ExperimentDecision
from recsys.data.history import seconds_of_times
from recsys.data.sources import DataSource, connect, open_source
from recsys.errors import ReadoutError
from recsys.evaluation.readout.concurrent.from_log import concurrent_experiments, interactions_with
from recsys.evaluation.readout.concurrent.interactions import ConcurrentExperiment
from recsys.evaluation.readout.design import ReadoutConfig, refuse_before_start, refuse_missing
from recsys.evaluation.readout.faults.earlier_arms import OTHER, arms_by_other_arms, other_arms
from recsys.evaluation.readout.faults.logged_rows import acceptance_columns, logged_quality
from recsys.evaluation.readout.from_orders import ExperimentData, entered_in_time, readout_of
from recsys.evaluation.readout.from_table import TableSpec, with_plan
from recsys.evaluation.readout.health import LogFacts
from recsys.evaluation.readout.purchases import (
    PRESENTED_AT,
    REVENUE,
    UNIT_ID,
    Assigned,
    attributed_lines,
    by_unit,
    gather_purchases,
    priced_lines,
)
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.verdict import VerdictOverride
from recsys.evaluation.statistics.metric import Ratio
from recsys.events.reading import last_event_at, read_assigned
from recsys.events.store import EventStore
from recsys.experiments.lifecycle import decisions_of
from recsys.experiments.plan import ExperimentPlan, LockedPlan, parse_plan

_ARM = "arm"
ASSIGNED_AT = "assigned_at"
DECIDED_AT = "decided_at"
OCCURRED_AT = "occurred_at"
RECORDED_AT = "recorded_at"

PRESENTED = "presented_offers"
ACCEPTED = "accepted_offers"
ATTRIBUTED = "attributed_revenue"


@dataclass(frozen=True)
class ExperimentLog:
    """What was logged for one version of one experiment; all times UTC.

    Attributes:
        plan: as it was locked.
        assignments: `unit_id arm assigned_at`; a unit in two arms has two rows.
        decisions: `decision_id unit_id arm decided_at`, held-back ones too.
        offers: `decision_id product_id presented_at` (null while it was only returned).
        outcomes: `decision_id product_id kind occurred_at`.
        lines: `order_id account_id product_id ordered_at revenue`, where `account_id` is the unit; returns negative.
        line_facts: `account_id ordered_at has_amount is_late` of all order lines; None where that is not known.
        notes: sentences about the data.
        currency: of the revenue; None where the orders do not say.
        last_event: until when anything was logged; None where the log is known to be complete.
        decision: where it is stored already.
        concurrent: other experiments on the same kind of units at the same time.
        others: `other unit_id arm`, the arms that units had in other experiments and versions, before or beside this.
    """

    plan: LockedPlan
    assignments: pd.DataFrame
    decisions: pd.DataFrame
    offers: pd.DataFrame
    outcomes: pd.DataFrame
    lines: pd.DataFrame
    line_facts: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    currency: str | None = None
    last_event: datetime | None = None
    decision: ExperimentDecision | None = None
    concurrent: tuple[ConcurrentExperiment, ...] = ()
    others: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[OTHER, UNIT_ID, _ARM]))

    def counted_until(self, now: datetime) -> datetime:
        """Return the earlier of `now` and the log's last event: what lies after it has not happened yet."""
        if self.last_event is None:
            return now
        return min(now, self.last_event + timedelta(seconds=1))  # the second of the last event counts


def experiment_data(log: ExperimentLog, now: datetime) -> ExperimentData:
    """Return the units and their orders, with what the log says about exposures and outcomes.

    Raises:
        ReadoutError: `now` lies before the start, or nothing was assigned yet.
    """
    refuse_before_start(now, log.plan.started_at)
    if log.assignments.empty:
        raise ReadoutError(f"0 units are assigned to {log.plan.plan.id}, must be some; has a server seen its plan?")
    rows = log.assignments.sort_values([UNIT_ID, _ARM], kind="stable").reset_index(drop=True)
    there, late = entered_in_time(seconds_of_times(rows[ASSIGNED_AT]), log.plan)
    rows = rows[there].reset_index(drop=True)
    assigned = Assigned(
        units=rows[UNIT_ID].to_numpy(dtype=object),
        arms=rows[_ARM].to_numpy(dtype=object),
        seconds=seconds_of_times(rows[ASSIGNED_AT]),
        segments={},
    )
    purchases, strangers = gather_purchases(log.lines, assigned)
    notes = (f"orders of {strangers:,} accounts that are in no arm are left out",) if strangers else ()
    unassigned = ~log.decisions[UNIT_ID].isin(log.assignments[UNIT_ID])
    known = log.decisions[log.decisions[UNIT_ID].isin(rows[UNIT_ID])]
    in_other_arm = _in_other_arm(known, rows)
    extra, quality = _extra(log, known, rows)
    return ExperimentData(
        assigned=assigned,
        purchases=purchases,
        now=int(log.counted_until(now).timestamp()),
        notes=(*log.notes, *late, *notes),
        exposed=_exposed(log, rows[UNIT_ID]),
        extra=extra,
        quality=quality,
        log=LogFacts(
            n_exposed_unassigned=int(log.decisions.loc[unassigned, UNIT_ID].nunique()),
            n_exposed_in_other_arm=len(in_other_arm),
            mixed_by_arm=Counter(rows.loc[rows[UNIT_ID].isin(in_other_arm), _ARM]),
            others=arms_by_other_arms(log.others, rows),
            n_outcomes=len(log.outcomes),
            n_outcomes_before_exposure=_before_exposure(log),
        ),
        as_of=now,
        last_event=log.last_event,
        is_decided=log.decision is not None,
    )


def _exposed(log: ExperimentLog, units: pd.Series) -> np.ndarray:
    """Which units met the experiment, the same way in every arm.

    A holdout presents nothing, so that with one, and with `returned`, an answered request counts in every arm.
    """
    plan: ExperimentPlan = log.plan.plan
    if plan.exposure == "assigned":
        return np.ones(len(units), dtype=bool)
    decisions = log.decisions
    if plan.exposure == "presented" and not any(arm.is_holdout for arm in plan.arms):
        presented = log.offers.loc[log.offers[PRESENTED_AT].notna(), c.DECISION_ID]
        decisions = decisions[decisions[c.DECISION_ID].isin(presented)]
    return units.isin(decisions[UNIT_ID]).to_numpy()


def _in_other_arm(decisions: pd.DataFrame, assignments: pd.DataFrame) -> set[str]:
    """Units that were answered by an arm to which they were never assigned."""
    pairs = decisions[[UNIT_ID, _ARM]].dropna().drop_duplicates()
    joined = pairs.merge(assignments[[UNIT_ID, _ARM]], on=[UNIT_ID, _ARM], how="left", indicator=True)
    return set(joined.loc[joined["_merge"] == "left_only", UNIT_ID])


def _before_exposure(log: ExperimentLog) -> int:
    """Outcomes that occurred before their decision was made, or before its first offer was presented."""
    shown = log.offers.groupby(c.DECISION_ID, as_index=False)[PRESENTED_AT].min()
    reactions = log.outcomes[~log.outcomes[c.KIND].isin(PRESENTING)]
    joined = reactions.merge(log.decisions[[c.DECISION_ID, DECIDED_AT]], on=c.DECISION_ID, validate="many_to_one")
    joined = joined.merge(shown, on=c.DECISION_ID, how="left", validate="many_to_one")
    exposed_at = joined[PRESENTED_AT].fillna(joined[DECIDED_AT])
    return int((joined[OCCURRED_AT] < exposed_at).sum())


def _extra(
    log: ExperimentLog, decisions: pd.DataFrame, rows: pd.DataFrame
) -> tuple[dict[str, np.ndarray], dict[str, Ratio]]:
    """Each unit's presented and accepted offers, attributed revenue, and how complete its rows are."""
    plan, units = log.plan.plan, rows[UNIT_ID]
    answered = decisions[[c.DECISION_ID, UNIT_ID]]
    offers = log.offers.merge(answered, on=c.DECISION_ID, validate="many_to_one")
    presented = offers[offers[PRESENTED_AT].notna()]
    accepted = log.outcomes[log.outcomes[c.KIND] == "accepted"].drop_duplicates([c.DECISION_ID, c.PRODUCT_ID])
    pairs = accepted[[c.DECISION_ID, c.PRODUCT_ID]]
    taken = presented.merge(pairs, on=[c.DECISION_ID, c.PRODUCT_ID], validate="many_to_one")
    credited = attributed_lines(log.lines, presented, plan.attribution_window_days)
    found = {
        PRESENTED: by_unit(presented.groupby(UNIT_ID).size(), units),
        ACCEPTED: by_unit(taken.groupby(UNIT_ID).size(), units),
        ATTRIBUTED: by_unit(credited.groupby(c.ACCOUNT_ID)[REVENUE].sum(), units),
    }
    said = accepted.merge(answered, on=c.DECISION_ID, validate="many_to_one")
    found |= acceptance_columns(said, log.lines, units, plan.attribution_window_days)
    if log.line_facts is None:
        return found, {}
    has_holdout = any(arm.is_holdout for arm in plan.arms)
    quality = logged_quality(log.line_facts, offers, rows, has_holdout=has_holdout)
    return found | quality.columns, quality.ratios


OFFER_CONVERSION = "offer_conversion"


def store_readout(
    store: EventStore,
    experiment_id: str,
    now: datetime,
    *,
    version: int | None = None,
    override: VerdictOverride | None = None,
    accounts: DataSource | None = None,
    currency: str | None = None,
) -> Readout:
    """Return the readout of an experiment as it stands at `now`.

    Args:
        store: the event store that serving writes.
        experiment_id: its plan's id.
        now: until when the log is read, UTC.
        version: of the plan; None takes the latest.
        override: a decision against the rules, with its reason.
        accounts: where the accounts' attributes lie, `account_id` and the plan's segments; the store has none.
        currency: of the figures: orders in another one are left out and counted in a note; None: the only one there is.

    Raises:
        CurrencyError: the orders are in several currencies and none was chosen, or none is in the one chosen.
        DataError: the accounts can't be read or have no such segment.
        ReadoutError: no such experiment, nothing assigned, or nothing bought yet.
    """
    log = read_log(store, experiment_id, now, version=version, currency=currency)
    return readout_from_log(log, now, override=override, accounts=accounts)


def readout_from_log(
    log: ExperimentLog, now: datetime, *, override: VerdictOverride | None = None, accounts: DataSource | None = None
) -> Readout:
    """Return the readout of a log that was read already; without `accounts` segments are named as not checked."""
    plan = log.plan.plan
    gathered = experiment_data(log, now)
    form = TableSpec(
        unit=UNIT_ID,
        arm=_ARM,
        control=plan.control.name,
        metrics=_own_metrics(gathered),
        attributed=ATTRIBUTED if gathered.extra[ATTRIBUTED].any() else None,
        quality=gathered.quality,
        plan=log.plan,
        currency=log.currency,
    )
    config = ReadoutConfig(
        alpha=plan.alpha,
        practical_margin=plan.practical_margin,
        cap_percentile=plan.cap_percentile,
        planned_units=2 * plan.planned_size,
    )
    gathered, form = _with_segments(gathered, with_plan(form), accounts)
    days = plan.attribution_window_days
    found = readout_of(plan.id, gathered, form, days, config, override=override)
    interactions = interactions_with(gathered, form, days, config, log.concurrent)
    said = tuple(interaction.sentence(plan.alpha) for interaction in interactions)
    return replace(found, interactions=interactions, notes=found.notes + said, decision=log.decision)


def _with_segments(
    gathered: ExperimentData, form: TableSpec, accounts: DataSource | None
) -> tuple[ExperimentData, TableSpec]:
    """Give each unit its account's segments; where they are not known, leave the segments out and say so."""
    if not form.segments:
        return gathered, form
    if accounts is None:
        note = (
            f"segments of the plan are not checked: {', '.join(form.segments)}; the event store holds no attributes "
            "of accounts, give them as accounts"
        )
        return replace(gathered, notes=(*gathered.notes, note)), replace(form, segments=())
    known = _account_segments(accounts, form.segments)
    rows = known.reindex(gathered.assigned.units).fillna("(none)")
    segments = {name: rows[name].to_numpy(dtype=object) for name in form.segments}
    return replace(gathered, assigned=replace(gathered.assigned, segments=segments)), form


def _account_segments(given: DataSource, segments: tuple[str, ...]) -> pd.DataFrame:
    """Segments as text by account."""
    opened = open_source(connect(), given, name="accounts")
    source = opened.table
    refuse_missing(source, [c.ACCOUNT_ID, *segments])
    picked = source.select(**{name: source[name].cast("string") for name in (c.ACCOUNT_ID, *segments)})
    frame: pd.DataFrame = picked.to_pandas().dropna(subset=[c.ACCOUNT_ID]).set_index(c.ACCOUNT_ID)
    if not frame.index.is_unique:
        raise ReadoutError(
            f"{opened.location}: {len(frame):,} rows of {frame.index.nunique():,} accounts, must be one row an "
            "account; keep what was known before the start"
        )
    return frame.astype(object)


def read_log(
    store: EventStore, experiment_id: str, now: datetime, *, version: int | None = None, currency: str | None = None
) -> ExperimentLog:
    """Return the log of one version of an experiment until `now`, with the orders in one currency.

    Units that were assigned at the planned end or later are left out, and orders after the last window's end. Once the
    decision is due it is read as it stood then, so that every look until it is stored finds the same; after that all
    that came since is read too.

    Raises:
        CurrencyError: the orders are in several currencies and none was chosen, or none is in the one chosen.
        ReadoutError: the store has no such experiment or version.
    """
    record = _record(store, experiment_id, version)
    locked = LockedPlan(parse_plan(record["plan"]), record["plan_hash"], record["started_at"], record["stopped_at"])
    plan, since = locked.plan, locked.started_at
    last_event = last_event_at(store)
    decision = decisions_of(store, experiment_id).get((experiment_id, plan.version))
    is_due = decision is None and last_event is not None and min(now, last_event) >= locked.decision_due
    until = locked.decision_due if is_due else now
    who = c.ACCOUNT_ID if plan.unit == "account" else "visitor_id"
    assignments = _frame(store, EventQuery("assignments", until=until, experiment_id=experiment_id))
    assignments = assignments[assignments["version"] == record["version"]]
    columns = (c.DECISION_ID, who, "experiment_id", _ARM, DECIDED_AT)
    asked = EventQuery("decisions", since=since, until=until, experiment_id=experiment_id, columns=columns)
    decisions = _typed(read_assigned(store, asked)).rename(columns={who: UNIT_ID})
    decisions = decisions[decisions[UNIT_ID].notna()]
    offers = _frame(
        store,
        EventQuery("decision_offers", since=since, until=until, columns=(c.DECISION_ID, c.PRODUCT_ID, PRESENTED_AT)),
    )
    columns = (c.DECISION_ID, c.PRODUCT_ID, c.KIND, OCCURRED_AT, RECORDED_AT)
    outcomes = _frame(store, EventQuery("outcomes", until=until, columns=columns))
    lines = _frame(store, EventQuery("order_lines", until=min(until, plan.windows_end)))
    notes: tuple[str, ...] = ()
    if is_due:
        outcomes, lines, notes = _recorded_by(until, outcomes, lines)
    priced = priced_lines(lines, who, currency)
    return ExperimentLog(
        plan=locked,
        assignments=assignments[[UNIT_ID, _ARM, ASSIGNED_AT]].reset_index(drop=True),
        decisions=decisions.reset_index(drop=True),
        offers=offers[offers[c.DECISION_ID].isin(decisions[c.DECISION_ID])].reset_index(drop=True),
        outcomes=outcomes[outcomes[c.DECISION_ID].isin(decisions[c.DECISION_ID])].reset_index(drop=True),
        lines=priced.lines,
        line_facts=priced.facts,
        notes=notes if priced.left_out is None else (*notes, priced.left_out),
        currency=priced.currency,
        concurrent=concurrent_experiments(store, locked, until),
        last_event=last_event,
        decision=decision,
        others=other_arms(store, record, min(until, plan.windows_end)),
    )


def _recorded_by(
    due: datetime, outcomes: pd.DataFrame, lines: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """What was recorded until the decision was due, and a sentence about what came later still."""
    kept = [rows[rows[RECORDED_AT] < due].reset_index(drop=True) for rows in (outcomes, lines)]
    n_late = len(outcomes) + len(lines) - sum(map(len, kept))
    said = f"{n_late:,} order lines and outcomes were recorded after the decision was due, {due:%Y-%m-%d}; left out"
    return kept[0], kept[1], (said,) if n_late else ()


def _record(store: EventStore, experiment_id: str, version: int | None) -> dict[str, Any]:
    rows: list[dict[str, Any]] = store.read(EventQuery("experiments")).to_pylist()
    own = [row for row in rows if row["experiment_id"] == experiment_id and version in {None, row["version"]}]
    if not own:
        known = ", ".join(sorted({row["experiment_id"] for row in rows})) or "none"
        raise ReadoutError(f"the store has no experiment {experiment_id!r}; it has {known}")
    return max(own, key=lambda row: row["version"])


def _frame(store: EventStore, query: EventQuery) -> pd.DataFrame:
    return _typed(store.read(query))


def _typed(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    for name in (ASSIGNED_AT, DECIDED_AT, PRESENTED_AT, OCCURRED_AT, RECORDED_AT):
        if name in frame:
            frame[name] = frame[name].astype("datetime64[us, UTC]")
    return frame


def _own_metrics(gathered: ExperimentData) -> dict[str, Ratio]:
    """Offer conversion where every arm presents offers; a holdout presents none, so that it has no such rate."""
    presented = pd.Series(gathered.extra[PRESENTED]).groupby(pd.Series(gathered.assigned.arms)).sum()
    if presented.min() <= 0 or not gathered.extra[ACCEPTED].any():
        return {}
    return {OFFER_CONVERSION: Ratio(ACCEPTED, PRESENTED)}
