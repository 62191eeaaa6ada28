"""Two experiments of one layer on a real server: each answers its own accounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from recsys.contracts.events import EventQuery
from recsys.events.memory import MemoryStore
from recsys.experiments.assignment import assign, takes_part
from recsys.experiments.lifecycle import start_experiment
from recsys.experiments.plan import Arm, ExperimentPlan
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _plan(name: str, begin: float, end: float) -> ExperimentPlan:
    return ExperimentPlan(
        id=name,
        arms=(Arm(name="control", weight=1, is_control=True), Arm(name="engine", weight=1)),
        planned_start=NOW,
        planned_end=NOW + timedelta(days=28),
        planned_size=10,
        layer="ranking",
        layer_share=(begin, end),
    )


def test_experiments_of_one_layer_run_side_by_side(store: MemoryStore, running: Any) -> None:
    """A request that names no experiment is in that which has its account; no account is ever in both."""
    first, second = _plan("first", 0.0, 0.4), _plan("second", 0.4, 1.0)
    for plan in (first, second):
        start_experiment(store, plan, NOW)
    app = create_app(Settings(refresh_seconds=0.02), bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)
    with running(app) as api:
        for i in range(40):
            plan = first if takes_part(first, f"U{i}") else second
            answer = api.post("/v1/offers", json={"limit": 3, "account_id": f"U{i}"}).json()
            assert (answer["experiment"], answer["arm"]) == (plan.id, assign(plan, f"U{i}").arm)
            named = {"limit": 3, "account_id": f"U{i}", "experiment_id": "first"}
            assert api.post("/v1/offers", json=named).json()["experiment"] == ("first" if plan is first else None)
    rows = store.read(EventQuery("assignments")).to_pylist()
    assert len({row["unit_id"] for row in rows}) == len(rows) == 40
    assert {row["experiment_id"] for row in rows} == {"first", "second"}
