"""Starting, watching and stopping an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.cli import main
from recsys.contracts.events import Event, EventQuery, ExperimentRecord, RecordedAssignment
from recsys.errors import PlanError
from recsys.events.memory import MemoryStore
from recsys.events.store import open_store
from recsys.experiments.lifecycle import is_unchanged, list_experiments, start_experiment, stop_experiment
from recsys.experiments.plan import Arm, ExperimentPlan, Policy, canonical_json, parse_plan, plan_hash, read_plan

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = ExperimentPlan(
    id="autumn-cards",
    arms=(Arm(name="offers", weight=9), Arm(name="holdout", weight=1, policy=Policy(kind="none"), is_control=True)),
    planned_start=NOW,
    planned_end=NOW + timedelta(days=28),
    planned_size=100,
)


def test_a_started_plan_is_locked_and_hashed() -> None:
    store = MemoryStore()
    record = start_experiment(store, PLAN, NOW)
    assert (record.plan_hash, record.started_at, record.stopped_at) == (plan_hash(PLAN), NOW, None)
    assert list_experiments(store) == [record]
    assert parse_plan(record.plan) == PLAN
    assert is_unchanged(record)
    assert not is_unchanged(replace(record, plan=record.plan.replace('"planned_size":100', '"planned_size":7')))
    assert not is_unchanged(replace(record, plan="{}"))


def test_a_version_runs_once_and_only_one_version_at_a_time() -> None:
    store = MemoryStore()
    start_experiment(store, PLAN, NOW)
    second = PLAN.model_copy(update={"version": 2})
    with pytest.raises(PlanError, match="autumn-cards version 1 runs already; raise `version`"):
        start_experiment(store, PLAN, NOW)
    with pytest.raises(PlanError, match="version 1 runs; stop it first"):
        start_experiment(store, second, NOW)
    stopped = stop_experiment(store, "autumn-cards", NOW + timedelta(days=1))
    assert list_experiments(store) == [stopped]
    with pytest.raises(PlanError, match="version 1 has been stopped"):
        start_experiment(store, PLAN, NOW)
    assert start_experiment(store, second, NOW + timedelta(days=2)).version == 2


def test_what_does_not_run_can_not_be_stopped_or_started() -> None:
    store = MemoryStore()
    with pytest.raises(PlanError, match="the store has no such experiment"):
        stop_experiment(store, "autumn-cards", NOW)
    with pytest.raises(PlanError, match="must lie after the start"):
        start_experiment(store, PLAN, PLAN.planned_end)


class SlowerStore(MemoryStore):
    """Somebody else starts the same version with another plan, in the moment before we do."""

    def append(self, events: Sequence[Event]) -> None:
        (record,) = events
        assert isinstance(record, ExperimentRecord)
        super().append([replace(record, plan_hash="of another plan")])
        super().append(events)


def test_two_starts_at_the_same_time_with_two_plans_are_noticed() -> None:
    with pytest.raises(PlanError, match="started with another plan at the same time"):
        start_experiment(SlowerStore(), PLAN, NOW)


TOML = """
id = "spring"
planned_start = 2026-01-01
planned_end = 2099-01-01
planned_size = 100
[[arms]]
name = "offers"
weight = 1
[[arms]]
name = "none"
weight = 1
is_control = true
policy = {kind = "none"}
"""


def test_the_commands_start_show_and_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.toml").write_text(TOML)
    url = f"sqlite:///{tmp_path}/e.db"

    def run(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["experiment", *arguments, "--store", url])
        assert caught.value.code == code
        told = capsys.readouterr()
        return told.out if code == 0 else told.err

    assert "no experiment; start one" in run("status", code=1)
    assert run("start", str(tmp_path / "plan.toml")).startswith("spring version 1 runs; plan ")
    store = open_store(url)
    store.append(
        [
            RecordedAssignment(
                experiment_id="spring",
                version=1,
                unit_id="A1",
                unit="account",
                arm="offers",
                probability=0.5,
                assigned_at=NOW,
            )
        ]
    )
    shown = run("status")
    assert ("spring" in shown, "runs, day 1 of " in shown, "unchanged" in shown, "offers 1; " in shown) == (True,) * 4
    now = datetime.now(UTC)
    closing = read_plan(tmp_path / "plan.toml").model_copy(
        update={
            "id": "closing",
            "planned_start": now - timedelta(days=30),
            "planned_end": now - timedelta(days=2),
            "layer": "ranking",
            "layer_share": (0.0, 0.5),
        }
    )
    record = ExperimentRecord("closing", 1, canonical_json(closing), plan_hash(closing), closing.planned_start)
    store.append([record])
    shown = run("status", "closing")
    assert f"no unit enters since {closing.planned_end:%Y-%m-%d %H:%M} UTC, windows close on " in shown
    assert "  no unit yet; 100 planned in the smallest arm; in the layer ranking from 0 to 0.5" in shown
    assert run("stop", "spring").startswith("spring version 1 is stopped")
    assert "stopped" in run("status", "spring")
    assert "every version of it is stopped" in run("stop", "spring", code=1)
    assert store.read(EventQuery("experiments"))["stopped_at"].to_pylist() != [None]
    store.close()
