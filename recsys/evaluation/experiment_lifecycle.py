"""`offers experiment start`, `status`, `stop`: the plan is locked, hashed, and in every server within a second."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recsys.errors import PlanError

if TYPE_CHECKING:
    from rich.table import Table

    from recsys.contracts.events import ExperimentRecord
    from recsys.events import EventStore
    from recsys.experiments.plan import ExperimentPlan

Store = Annotated[str, typer.Option(help="Event store of the servers: sqlite:///FILE or postgresql://HOST/NAME.")]
DEFAULT_STORE = "sqlite:///var/offers.db"


def start(
    plan: Annotated[Path, typer.Argument(help="TOML file of the experiment's plan.")], store: Store = DEFAULT_STORE
) -> None:
    """Lock a plan and start its experiment: every server of the store assigns units within a second."""
    from recsys.events import open_store
    from recsys.experiments.plan import read_plan

    events = open_store(store)
    try:
        record = start_experiment(events, read_plan(plan), datetime.now(UTC))
    finally:
        events.close()
    typer.echo(f"{record.experiment_id} version {record.version} runs; plan {record.plan_hash}")


def status(
    experiment_id: Annotated[str | None, typer.Argument(help="Only this experiment.")] = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Show the experiments of a store: since when they run, whether their plan is unchanged, units by arm."""
    from rich.console import Console

    from recsys.events import open_store

    events = open_store(store)
    try:
        Console().print(_table(events, experiment_id, datetime.now(UTC)))
    finally:
        events.close()


def stop(experiment_id: Annotated[str, typer.Argument(help="The experiment.")], store: Store = DEFAULT_STORE) -> None:
    """Stop an experiment: no server assigns units to it any more; what was logged stays."""
    from recsys.events import open_store

    events = open_store(store)
    try:
        record = stop_experiment(events, experiment_id, datetime.now(UTC))
    finally:
        events.close()
    typer.echo(f"{record.experiment_id} version {record.version} is stopped; it ran since {record.started_at:%Y-%m-%d}")


def start_experiment(store: EventStore, plan: ExperimentPlan, now: datetime) -> ExperimentRecord:
    """Return the experiment that was started at `now`.

    Raises:
        PlanError: the planned end has passed, another version runs, or this version has run already.
    """
    from recsys.contracts.events import ExperimentRecord
    from recsys.experiments.plan import canonical_json, lock_plan

    for record in records(store, plan.id):
        if record.version == plan.version:
            state = "runs already" if record.stopped_at is None else "has been stopped"
            raise PlanError(f"{plan.id} version {plan.version} {state}; raise `version` in the plan for a new start")
        if record.stopped_at is None:
            raise PlanError(f"{plan.id} version {record.version} runs; stop it first: offers experiment stop {plan.id}")
    locked = lock_plan(plan, now)
    started = ExperimentRecord(plan.id, plan.version, canonical_json(plan), locked.plan_hash, now)
    store.append([started])
    kept = next(record for record in records(store, plan.id) if record.version == plan.version)
    if kept.plan_hash != started.plan_hash:  # somebody else was faster
        raise PlanError(f"{plan.id} version {plan.version} was started with another plan at the same time; look at it")
    return kept


def stop_experiment(store: EventStore, experiment_id: str, now: datetime) -> ExperimentRecord:
    """Return the experiment that was stopped at `now`.

    Raises:
        PlanError: no version of it runs.
    """
    from dataclasses import replace

    found = records(store, experiment_id)
    running = [record for record in found if record.stopped_at is None]
    if not running:
        known = "every version of it is stopped" if found else "the store has no such experiment"
        raise PlanError(f"{experiment_id}: {known}, must be one that runs; see offers experiment status")
    stopped = replace(running[0], stopped_at=now)
    store.append([stopped])
    return stopped


def records(store: EventStore, experiment_id: str | None = None) -> list[ExperimentRecord]:
    """Return the experiments of a store, or the versions of one, the earliest start first."""
    from recsys.contracts.events import EventQuery, ExperimentRecord

    rows: list[dict[str, Any]] = store.read(EventQuery("experiments")).to_pylist()
    return [ExperimentRecord(**row) for row in rows if experiment_id in {None, row["experiment_id"]}]


def units_by_arm(store: EventStore) -> dict[tuple[str, int], dict[str, int]]:
    """Return how many units each experiment and version has in each arm."""
    from recsys.contracts.events import EventQuery

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
    from recsys.experiments.plan import parse_plan, plan_hash

    try:
        return plan_hash(parse_plan(record.plan)) == record.plan_hash
    except PlanError:
        return False


def _table(store: EventStore, experiment_id: str | None, now: datetime) -> Table:
    from rich.table import Table

    found = records(store, experiment_id)
    if not found:
        what = "no experiment" if experiment_id is None else f"no experiment {experiment_id!r}"
        raise PlanError(f"the store has {what}; start one: offers experiment start PLAN")
    units = units_by_arm(store)
    table = Table("experiment", "version", "started", "state", "plan", "units by arm")
    for record in found:
        of_arms = units.get((record.experiment_id, record.version), {})
        table.add_row(
            record.experiment_id,
            str(record.version),
            f"{record.started_at:%Y-%m-%d %H:%M}",
            _state(record, now),
            f"{record.plan_hash[:12]} {'unchanged' if is_unchanged(record) else 'CHANGED'}",
            ", ".join(f"{arm} {count:,}" for arm, count in sorted(of_arms.items())) or "none yet",
        )
    return table


def _state(record: ExperimentRecord, now: datetime) -> str:
    if record.stopped_at is not None:
        return f"stopped {record.stopped_at:%Y-%m-%d %H:%M}"
    return f"runs, day {(now - record.started_at).days + 1}"
