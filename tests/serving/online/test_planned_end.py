"""At the planned end no new unit enters; who is in keeps its arm until the windows are over, on every server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from recsys.contracts.events import Erasure, EventQuery, ExperimentRecord, RecordedAssignment, forget_key
from recsys.events.memory import MemoryStore
from recsys.events.store import EventStore, open_store
from recsys.experiments.assignment import assign
from recsys.experiments.plan import Arm, ExperimentPlan, Policy, canonical_json, plan_hash
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel
from serving.online.entered_units import APART, read_entered
from serving.settings import Settings
from tests.serving.online.test_experiments_in_path import ask, eventually

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = ExperimentPlan(
    id="cards",
    arms=(Arm(name="offers", weight=1), Arm(name="holdout", weight=1, policy=Policy(kind="none"), is_control=True)),
    planned_start=START,
    planned_end=START + timedelta(days=28),
    planned_size=10,
)
IN, OUT = [f"in-{i}" for i in range(20)], [f"out-{i}" for i in range(20)]


class Clock:
    """Shows what a test says."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def started(store: EventStore, *plans: ExperimentPlan) -> None:
    for at, plan in enumerate(plans or (PLAN,)):
        store.append([ExperimentRecord(plan.id, 1, canonical_json(plan), plan_hash(plan), START + timedelta(hours=at))])


def app_of(store: EventStore, clock: Clock) -> FastAPI:
    return create_app(Settings(refresh_seconds=0.02), bundles=FixedModel(fake_model()), store=store, clock=clock)


def arms_of(api: httpx.Client, units: list[str]) -> list[str | None]:
    return [ask(api, unit)["arm"] for unit in units]


EXPECTED = [assign(PLAN, unit).arm for unit in IN]


def test_no_unit_enters_at_the_planned_end_and_who_is_in_stays_on_every_server(
    store: MemoryStore, running: Any
) -> None:
    started(store)
    clock = Clock(START + timedelta(days=27))
    with running(app_of(store, clock)) as one, running(app_of(store, clock)) as other:
        assert arms_of(one, IN[:10]) + arms_of(other, IN[10:]) == EXPECTED
        clock.now = PLAN.planned_end - timedelta(seconds=1)
        last = "in the last second"
        assert ask(other, last)["arm"] == assign(PLAN, last).arm
        assert eventually(lambda: _knows(one, clock, last))
        clock.now = PLAN.planned_end
        for api in (one, other):
            assert arms_of(api, [*IN, last]) == [*EXPECTED, assign(PLAN, last).arm]
            assert arms_of(api, OUT) == [None] * 20
            named = ask(api, OUT[0], experiment_id="cards")
            assert (named["experiment"], named["unknown_experiment"], named["returned"]) == (None, None, 3)
    clock.now = PLAN.windows_end - timedelta(seconds=1)
    with running(app_of(store, clock)) as restarted:
        assert arms_of(restarted, [*IN, *OUT]) == [*EXPECTED, *[None] * 20]
        clock.now = PLAN.windows_end
        assert arms_of(restarted, [*IN, *OUT]) == [None] * 40
        assert ask(restarted, IN[0], experiment_id="cards")["unknown_experiment"] == "cards"
    assert store.size("assignments") == 21


def _knows(api: httpx.Client, clock: Clock, unit: str) -> bool:
    """Whether a server that never saw a unit would keep it; asked a moment after the planned end."""
    before, clock.now = clock.now, PLAN.planned_end
    try:
        return ask(api, unit)["arm"] is not None
    finally:
        clock.now = before


def test_units_that_are_out_take_part_in_the_next_experiment(store: MemoryStore, running: Any) -> None:
    later = PLAN.model_copy(update={"id": "later", "planned_end": PLAN.planned_end + timedelta(days=28)})
    started(store, PLAN, later)
    clock = Clock(START + timedelta(days=27))
    with running(app_of(store, clock)) as api:
        assert ask(api, IN[0])["experiment"] == "cards"
        clock.now = PLAN.planned_end
        assert (ask(api, IN[0])["experiment"], ask(api, OUT[0])["experiment"]) == ("cards", "later")
        clock.now = PLAN.windows_end
        assert ask(api, IN[0])["experiment"] == "later"


def test_an_erased_account_is_in_no_experiment_that_has_ended(store: MemoryStore, running: Any) -> None:
    started(store)
    clock = Clock(START)
    with running(app_of(store, clock)) as api:
        assert ask(api, IN[0])["arm"] is not None
        clock.now = PLAN.planned_end
        with store.connection() as connection:
            connection.exec_driver_sql("DELETE FROM assignments")
        store.append([Erasure(forget_key(IN[0]), clock.now)])
        assert eventually(lambda: ask(api, IN[0])["arm"] is None)
    assert store.size("assignments") == 0


def assigned(unit: str, when: datetime, plan: ExperimentPlan = PLAN) -> RecordedAssignment:
    return RecordedAssignment(
        experiment_id=plan.id,
        version=plan.version,
        unit_id=unit,
        arm=assign(plan, unit).arm,
        unit="account",
        probability=0.5,
        assigned_at=when,
    )


def test_units_are_read_before_the_planned_end_and_what_comes_late_a_while_after(store: MemoryStore) -> None:
    started(store)
    rows, end = store.read(EventQuery("experiments")).to_pylist(), PLAN.planned_end
    store.append([assigned("a", START), assigned("b", end - timedelta(seconds=2))])
    assert read_entered(store, rows, end - 2 * APART, {}) == {}
    known = read_entered(store, rows, end - APART, {})
    assert [len(found) for found in known.values()] == [2]
    store.append([assigned("late", end - timedelta(seconds=1)), assigned("at the end", end)])
    grown = read_entered(store, rows, end + APART / 2, known)
    assert [len(found) for found in grown.values()] == [3]
    assert read_entered(store, rows, end + APART, grown) == {}
    assert [len(found) for found in read_entered(store, rows, end + APART, {}).values()] == [3]
    assert read_entered(store, rows, PLAN.windows_end, {}) == {}
    stopped = [row | {"stopped_at": end} for row in rows]
    assert read_entered(store, stopped, end, {}) == {}


@pytest.mark.slow
@pytest.mark.proof
def test_workers_of_real_servers_that_start_after_the_planned_end(serve: Callable[..., Any], tmp_path: Path) -> None:
    """Whoever let the units in is gone; two worker processes each know them, and a second server does."""
    url, now = f"sqlite:///{tmp_path / 'offers.db'}", datetime.now(UTC)
    run = {"planned_start": now - timedelta(days=29), "planned_end": now - timedelta(minutes=1)}
    plan = PLAN.model_copy(update=run)
    over = plan.model_copy(update={"id": "over", "planned_end": now - timedelta(days=15)})
    store = open_store(url)
    for one in (over, plan):
        store.append([ExperimentRecord(one.id, 1, canonical_json(one), plan_hash(one), one.planned_start)])
    store.append([assigned(unit, now - timedelta(days=20), plan) for unit in IN])
    store.append([assigned(unit, now - timedelta(days=20), over) for unit in OUT])
    for _ in range(2):
        server = serve(url, "--workers", "2")
        with httpx.Client(base_url=server.url, timeout=20, limits=httpx.Limits(max_keepalive_connections=0)) as api:
            assert arms_of(api, IN[:8] * 2) == EXPECTED[:8] * 2
            assert arms_of(api, OUT[:8]) == [None] * 8
        server.stop()
    assert store.size("assignments") == len(IN) + len(OUT)
    store.close()
