"""Starting, stopping and listing the experiments of an event store."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from recsys.contracts.events import EventQuery, ExperimentDecision, ExperimentRecord
from recsys.errors import PlanError
from recsys.experiments.known_metrics import guardrails_without_direction
from recsys.experiments.plan import ExperimentPlan, canonical_json, lock_plan, parse_plan, plan_hash

if TYPE_CHECKING:
    from recsys.events.store import EventStore


def start_experiment(store: EventStore, plan: ExperimentPlan, now: datetime) -> ExperimentRecord:
    """Return the experiment that was started at `now`.

    Raises:
        PlanError: a guardrail has no direction, arms are assigned by cluster, the planned end has passed, another
            version runs, this version has run already, or an experiment of the same layer has some of its units.
    """
    if unstated := guardrails_without_direction(plan):
        raise PlanError(
            f"guardrail {unstated[0]!r} has no direction, must say which way is good: with the wrong one any harm "
            'passes; give direction = "lower_is_better" or "higher_is_better"'
        )
    if plan.cluster is not None:
        raise PlanError(
            f"cluster == {plan.cluster!r}, must be left out of a plan that servers run: a request names its account, "
            "and no server knows attributes of accounts; assign by the cluster elsewhere, and read its table out"
        )
    for record in list_experiments(store, plan.id):
        if record.version == plan.version:
            state = "runs already" if record.stopped_at is None else "has been stopped"
            raise PlanError(f"{plan.id} version {plan.version} {state}; raise `version` in the plan for a new start")
        if record.stopped_at is None:
            raise PlanError(f"{plan.id} version {record.version} runs; stop it first: offers experiment stop {plan.id}")
    _refuse_taken_layer(plan, list_experiments(store), now)
    locked = lock_plan(plan, now)
    started = ExperimentRecord(plan.id, plan.version, canonical_json(plan), locked.plan_hash, now)
    store.append([started])
    kept = next(record for record in list_experiments(store, plan.id) if record.version == plan.version)
    if kept.plan_hash != started.plan_hash:  # somebody else was faster
        raise PlanError(f"{plan.id} version {plan.version} was started with another plan at the same time; look at it")
    earlier = [one for one in list_experiments(store) if (one.started_at, one.experiment_id) < (now, plan.id)]
    try:
        _refuse_taken_layer(plan, earlier, now)  # another one may have been started since the first look
    except PlanError:
        stop_experiment(store, plan.id, now)
        raise
    return kept


def _refuse_taken_layer(plan: ExperimentPlan, records: list[ExperimentRecord], now: datetime) -> None:
    if plan.layer is None:
        return
    begin, end = plan.layer_share
    for record in records:
        other = _layered(record)
        if other is None or other.id == plan.id or other.layer != plan.layer or now >= other.windows_end:
            continue
        if other.unit != plan.unit:
            raise PlanError(
                f"unit == {plan.unit!r}, must be {other.unit!r} in the layer {plan.layer}, as that of {other.id}"
            )
        if begin < other.layer_share[1] and other.layer_share[0] < end:
            raise PlanError(
                f"layer_share == {begin:g} to {end:g} of the layer {plan.layer} overlaps {other.id}, which has "
                f"{other.layer_share[0]:g} to {other.layer_share[1]:g}; experiments of one layer exclude each other: "
                "choose a share beside it, wait for its end, or take another layer"
            )


def _layered(record: ExperimentRecord) -> ExperimentPlan | None:
    """The plan of an experiment that runs; None where it is stopped or can't be read, and so is not served."""
    if record.stopped_at is not None:
        return None
    try:
        return parse_plan(record.plan)
    except PlanError:
        return None


def stop_experiment(store: EventStore, experiment_id: str, now: datetime) -> ExperimentRecord:
    """Return the experiment that was stopped at `now`.

    Raises:
        PlanError: no version of it runs.
    """
    found = list_experiments(store, experiment_id)
    running = [record for record in found if record.stopped_at is None]
    if not running:
        known = "every version of it is stopped" if found else "the store has no such experiment"
        raise PlanError(f"{experiment_id}: {known}, must be one that runs; see offers experiment status")
    stopped = replace(running[0], stopped_at=now)
    store.append([stopped])
    return stopped


def list_experiments(store: EventStore, experiment_id: str | None = None) -> list[ExperimentRecord]:
    """Return the experiments of a store, or the versions of one, the earliest start first."""
    rows: list[dict[str, Any]] = store.read(EventQuery("experiments")).to_pylist()
    return [ExperimentRecord(**row) for row in rows if experiment_id in {None, row["experiment_id"]}]


def decisions_of(store: EventStore, experiment_id: str | None = None) -> dict[tuple[str, int], ExperimentDecision]:
    """Return the stored decisions by experiment and version."""
    rows = store.read(EventQuery("experiment_decisions", experiment_id=experiment_id)).to_pylist()
    return {(row["experiment_id"], row["version"]): ExperimentDecision(**row) for row in rows}


ExperimentState = Literal["running", "closing", "ended", "stopped"]


def state_of(record: ExperimentRecord, now: datetime) -> ExperimentState:
    """Return how far an experiment has come: running, closing (nobody enters any more), ended, or stopped by somebody.

    Raises:
        PlanError: the stored plan can't be read.
    """
    if record.stopped_at is not None:
        return "stopped"
    plan = parse_plan(record.plan)
    if now < plan.planned_end:
        return "running"
    return "closing" if now < plan.windows_end else "ended"


def units_by_arm(store: EventStore) -> dict[tuple[str, int], dict[str, int]]:
    """Return how many units each experiment and version has in each arm."""
    columns = ("experiment_id", "version", "arm")
    counted = (
        store.read(EventQuery("assignments", columns=columns)).group_by(list(columns)).aggregate([([], "count_all")])
    )
    found: dict[tuple[str, int], dict[str, int]] = {}
    for row in counted.to_pylist():
        found.setdefault((row["experiment_id"], row["version"]), {})[row["arm"]] = row["count_all"]
    return found


def is_unchanged(record: ExperimentRecord) -> bool:
    """Return whether the stored plan still has the hash that it was locked with."""
    try:
        return plan_hash(parse_plan(record.plan)) == record.plan_hash
    except PlanError:
        return False
