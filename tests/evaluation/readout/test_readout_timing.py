"""As of when a readout judges: neither a late `as_of` nor a small sample finishes a plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from recsys.cli import main as door
from recsys.contracts.events import PostedLine
from recsys.evaluation.api import experiment_readout
from recsys.evaluation.readout.from_event_store import ExperimentLog, readout_from_log, store_readout
from recsys.evaluation.readout.from_table import stage_of_plan
from recsys.evaluation.readout.results import Readout
from recsys.events.memory import MemoryStore
from recsys.events.store import open_store
from recsys.experiments.plan import ExperimentPlan, LockedPlan, canonical_json, plan_hash
from tests.support.stored_experiments import heartbeat, stored

pytestmark = pytest.mark.slow

START = datetime(2026, 1, 5, tzinfo=UTC)
ENDED = START + timedelta(days=42)
ANY_AS_OF = [START + timedelta(days=days, hours=1) for days in (5, 47)] + [datetime(2099, 1, 1, tzinfo=UTC)]


@pytest.fixture
def six_weeks(plan: ExperimentPlan) -> ExperimentPlan:
    """Six weeks, a window of one day, and a margin so wide that any effect is flat."""
    changes = {"planned_end": ENDED, "attribution_window_days": 1, "guardrails": (), "practical_margin": 0.9}
    return plan.model_copy(update=changes | {"planned_size": 1_900})


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as stop:
        door(["experiment", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert not stop.value.code, err
    return out


def days_of(log: ExperimentLog, days: float) -> ExperimentLog:
    """The log as it stood after so many days, with all who came until then."""
    until = START + timedelta(days=days)
    decisions = log.decisions[log.decisions["decided_at"] < until]
    known = decisions["decision_id"]
    return replace(
        log,
        assignments=log.assignments[log.assignments["assigned_at"] < until],
        decisions=decisions,
        offers=log.offers[log.offers["decision_id"].isin(known)],
        outcomes=log.outcomes[log.outcomes["decision_id"].isin(known) & (log.outcomes["occurred_at"] < until)],
        lines=log.lines[log.lines["ordered_at"] < until],
    )


def quick(log: ExperimentLog, lift: float) -> ExperimentLog:
    """Nine in ten buy half an hour after coming, the arm `engine` so many times as much."""
    came = log.assignments[log.assignments.index % 10 > 0]
    lines = pd.DataFrame(
        {
            "order_id": "Q" + came["unit_id"],
            "account_id": came["unit_id"],
            "product_id": "P9",
            "ordered_at": came["assigned_at"] + pd.Timedelta(minutes=30),
            "revenue": (10 + came.index % 3) * (lift - 1) * (came["arm"] == "engine") + 10 + came.index % 3,
        }
    )
    return replace(log, lines=lines)


@pytest.mark.parametrize("lift", [1.0, 3.0])
def test_five_days_of_a_plan_of_six_weeks_never_ship_whatever_moment_is_asked_for(
    six_weeks: ExperimentPlan,
    make_log: Callable[..., ExperimentLog],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lift: float,
) -> None:
    log = days_of(quick(make_log(six_weeks, 6_000), lift), 5)
    url = f"sqlite:///{tmp_path / 'offers.db'}"
    store = stored(log, open_store(url))
    for as_of in ANY_AS_OF:
        found = [store_readout(store, "offers-q1", as_of), experiment_readout(store, "offers-q1", now=as_of)]
        for readout in found:
            assert {verdict.verdict for verdict in readout.verdict.arms} == {"KEEP RUNNING"}
            assert {effect.decided_by for effect in readout.effects} == {"anytime"}
            assert readout.timing.last_event is not None
            assert readout.timing.counted_until is not None
            assert readout.timing.counted_until <= min(as_of, START + timedelta(days=5))
            assert readout.timing.planned_size == 1_900
            assert readout.timing.smallest_arm == min(readout.counts.values())
    store.close()
    out = tmp_path / "review"
    text = run(capsys, "readout", "offers-q1", "--store", url, "--as-of", "2099-01-01", "--out", out)
    assert "KEEP RUNNING" in text
    assert "last event 2026-01-09" in text
    assert "planned" in text
    timing = json.loads((out / "readout.json").read_text())["timing"]
    assert timing["last_event"].startswith("2026-01-")
    assert timing["planned_size"] == 1_900


def ended(log: ExperimentLog) -> Readout:
    return readout_from_log(log, log.plan.plan.decision_due)


def test_the_planned_size_is_needed_to_ship_and_to_call_it_flat(
    six_weeks: ExperimentPlan, make_log: Callable[..., ExperimentLog]
) -> None:
    for lift, verdict in ((3.0, "SHIP"), (1.0, "FLAT")):
        log = quick(make_log(six_weeks), lift)
        n_smallest = min(ended(log).counts.values())
        assert ended(log).verdict.verdict == verdict
        larger = six_weeks.model_copy(update={"planned_size": n_smallest + 1})
        small = ended(replace(log, plan=LockedPlan(larger, plan_hash(larger), START)))
        assert small.verdict.verdict == "DISCUSS"
        assert "the run ended without the planned size" in small.verdict.reason


def test_the_fixed_interval_decides_once_windows_are_over_and_late_rows_are_in(six_weeks: ExperimentPlan) -> None:
    locked = LockedPlan(six_weeks, plan_hash(six_weeks), START)

    def final(moment: datetime, plan: LockedPlan = locked, *, decided: bool = False) -> bool:
        return stage_of_plan(plan, moment, mature_share=1.0, smallest_arm=10_000, is_decided=decided).is_final

    due = ENDED + timedelta(days=1 + 2)
    assert locked.decision_due == due
    assert not final(ENDED)
    assert not final(due - timedelta(seconds=1))
    assert final(due)
    assert not final(due, decided=True)
    early = replace(locked, stopped_at=START + timedelta(days=9))
    assert early.decision_due == START + timedelta(days=9 + 2)
    assert not final(due, early)


def test_every_look_at_a_due_decision_finds_the_same_and_counts_who_came_late(
    six_weeks: ExperimentPlan, make_log: Callable[..., ExperimentLog]
) -> None:
    log = quick(make_log(six_weeks, 2_000), 1.5)
    store, due = stored(log, MemoryStore()), six_weeks.decision_due
    store.append([heartbeat(due + timedelta(days=30))])
    first = store_readout(store, "offers-q1", due)
    unit, came = log.assignments["unit_id"].iloc[0], log.assignments["assigned_at"].iloc[0].to_pydatetime()
    within = PostedLine(
        order_id="late",
        line_id="1",
        product_id="P1",
        quantity=1.0,
        unit_price=1e6,
        account_id=unit,
        ordered_at=came + timedelta(hours=3),
        recorded_at=due - timedelta(seconds=1),
    )
    store.append([within])
    counted = store_readout(store, "offers-q1", due)
    assert counted.effects != first.effects
    store.append([replace(within, order_id="too late", recorded_at=due)])
    for later in (due, due + timedelta(days=20)):
        found = store_readout(store, "offers-q1", later)
        assert (found.effects, found.verdict) == (counted.effects, counted.verdict)
        assert any(
            "1 order lines and outcomes were recorded after the decision was due" in note for note in found.notes
        )


def test_units_that_enter_after_the_planned_end_are_left_out(
    six_weeks: ExperimentPlan, make_log: Callable[..., ExperimentLog]
) -> None:
    log = quick(make_log(six_weeks, 2_000), 1.0)
    late = log.assignments["unit_id"].head(100)
    moved = log.assignments["assigned_at"].where(~log.assignments["unit_id"].isin(late), ENDED)
    found = ended(replace(log, assignments=log.assignments.assign(assigned_at=moved)))
    assert sum(found.counts.values()) == 1_900
    assert "100 units were assigned at the planned end or later; they are left out" in found.notes
    unassigned = next(check for check in found.health if check.name == "exposure_without_assignment")
    assert unassigned.status == "passed"


@pytest.mark.parametrize("form", ["table", "orders"])
def test_a_table_and_orders_with_a_plan_are_not_finished_by_a_late_moment(
    six_weeks: ExperimentPlan,
    make_log: Callable[..., ExperimentLog],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    """The plan ends after today for the table, which has no times, and after the last order for the orders."""
    log = days_of(quick(make_log(six_weeks, 6_000), 3.0), 5)
    moved = timedelta(days=0) if form == "orders" else datetime.now(UTC) - ENDED + timedelta(days=5)
    plan = six_weeks.model_copy(update={"planned_start": START + moved, "planned_end": ENDED + moved})
    (tmp_path / "plan.toml").write_text(_toml(plan))
    units = log.assignments.merge(log.lines, left_on="unit_id", right_on="account_id", how="left").fillna(
        {"revenue": 0}
    )
    units[["unit_id", "arm", "assigned_at", "revenue"]].to_csv(tmp_path / "units.csv", index=False)
    log.lines.assign(quantity=1, unit_price=log.lines["revenue"]).to_parquet(tmp_path / "orders.parquet")
    columns = ("--data", tmp_path / "units.csv", "--unit", "unit_id", "--plan", tmp_path / "plan.toml")
    read: tuple[str | Path, ...] = ("--metric", "revenue_per_account=revenue")
    if form == "orders":
        read = ("--orders", tmp_path / "orders.parquet", "--assigned-at", "assigned_at")
    for as_of in (f"{ENDED + moved:%Y-%m-%d}", "2027-01-01", "2099-01-01"):
        text = run(capsys, "readout", *columns, *read, "--as-of", as_of)
        assert "KEEP RUNNING" in text
        assert "SHIP" not in text


def _toml(plan: ExperimentPlan) -> str:
    values = json.loads(canonical_json(plan))
    arms = values.pop("arms")
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if value is not None]
    for arm in arms:
        lines += ["[[arms]]", f'name = "{arm["name"]}"', f"weight = {arm['weight']}"]
        lines += [f"is_control = {json.dumps(arm['is_control'])}", f'policy = {{ kind = "{arm["policy"]["kind"]}" }}']
    return "\n".join(lines)
