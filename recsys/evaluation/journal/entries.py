"""The decision journal: every experiment of a store with its plan and its decision, and what all of them earned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from recsys.contracts.events import ExperimentDecision, ExperimentRecord
from recsys.errors import PlanError
from recsys.evaluation.journal.programme import DecidedExperiment, Programme, programme_of
from recsys.evaluation.readout.results import json_value
from recsys.evaluation.readout.verdict import VerdictName
from recsys.events.store import EventStore
from recsys.experiments.lifecycle import (
    ExperimentState,
    decisions_of,
    is_unchanged,
    list_experiments,
    state_of,
    units_by_arm,
)
from recsys.experiments.plan import ExperimentPlan, LockedPlan, parse_plan


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One version of one experiment.

    Attributes:
        experiment_id: its plan's id.
        version: of the plan.
        state: how far it has come.
        hypothesis: what was expected and why.
        started_at: when the plan was locked.
        stopped_at: when somebody stopped it; None where nobody did.
        plan_hash: as it was locked.
        is_unchanged: whether the stored plan still has that hash.
        decision_due: as of when it is decided; None where the plan can't be read.
        units: by arm.
        plan: what was to be tested; None where it can't be read.
        decision: that is stored; None before.
    """

    experiment_id: str
    version: int
    state: ExperimentState | Literal["unreadable"]
    hypothesis: str
    started_at: datetime
    stopped_at: datetime | None
    plan_hash: str
    is_unchanged: bool
    decision_due: datetime | None
    units: Mapping[str, int]
    plan: ExperimentPlan | None
    decision: ExperimentDecision | None


@dataclass(frozen=True, slots=True)
class Journal:
    """All experiments of a store.

    Attributes:
        entries: the earliest start first.
        programme: what the decided ones earned together.
    """

    entries: tuple[JournalEntry, ...]
    programme: Programme

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; an entry has its plan as it stands in the plan's file."""
        entries = []
        for entry in self.entries:
            fields = (name for name in JournalEntry.__slots__ if name not in {"plan", "decision"})
            values: dict[str, Any] = {name: json_value(getattr(entry, name)) for name in fields}
            values["plan"] = entry.plan and entry.plan.model_dump(mode="json")
            values["decided"] = entry.decision and entry.decision.decided
            values["decision"] = json_value(entry.decision)
            entries.append(values)
        return {"schema_version": 1, "experiments": entries, "programme": json_value(self.programme)}


def journal_of(store: EventStore, now: datetime, experiment_id: str | None = None) -> Journal:
    """Return the experiments of a store, or the versions of one, as they stand at `now`."""
    decisions, units = decisions_of(store, experiment_id), units_by_arm(store)
    entries = tuple(
        _entry(record, now, units.get(key, {}), decisions.get(key))
        for record in list_experiments(store, experiment_id)
        for key in [(record.experiment_id, record.version)]
    )
    decided = [found for entry in entries if (found := _decided(entry)) is not None]
    return Journal(entries, programme_of(decided))


def _entry(
    record: ExperimentRecord, now: datetime, units: Mapping[str, int], decision: ExperimentDecision | None
) -> JournalEntry:
    plan: ExperimentPlan | None
    state: ExperimentState | Literal["unreadable"]
    try:
        plan, state = parse_plan(record.plan), state_of(record, now)
        due = LockedPlan(plan, record.plan_hash, record.started_at, record.stopped_at).decision_due
    except PlanError:  # another version of this software wrote it
        plan, state, due = None, "unreadable", None
    return JournalEntry(
        experiment_id=record.experiment_id,
        version=record.version,
        state=state,
        hypothesis=plan.hypothesis if plan else "",
        started_at=record.started_at,
        stopped_at=record.stopped_at,
        plan_hash=record.plan_hash,
        is_unchanged=is_unchanged(record),
        decision_due=due,
        units=dict(sorted(units.items())),
        plan=plan,
        decision=decision,
    )


def _decided(entry: JournalEntry) -> DecidedExperiment | None:
    """Return what the programme needs of a decision; one without a relative effect is left out."""
    found = entry.decision
    if found is None or found.effect is None or not found.standard_error or not found.control_mean:
        return None
    return DecidedExperiment(
        experiment_id=f"{entry.experiment_id} version {entry.version}",
        # what a person decided counts, but invalid data tell nothing of an effect, whoever shipped it
        verdict="INVALID" if found.verdict == "INVALID" else cast("VerdictName", found.decided),
        effect=found.effect,
        standard_error=found.standard_error,
        control_mean=found.control_mean,
        higher_is_better=found.direction != "lower_is_better",
        measures_programme=entry.plan is not None and entry.plan.control.is_holdout,
        metric=found.metric or "",
    )
