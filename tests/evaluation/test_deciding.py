"""An experiment is decided once, as of a moment that its plan fixed, signed and stored; the journal keeps all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.cli import main as door
from recsys.contracts.events import EventQuery, ExperimentDecision, ExperimentRecord
from recsys.errors import ReadoutError
from recsys.evaluation.journal.deciding import decide_experiment
from recsys.evaluation.journal.entries import journal_of
from recsys.evaluation.readout.from_event_store import ExperimentLog, store_readout
from recsys.evaluation.readout.verdict import VerdictOverride
from recsys.events.memory import MemoryStore
from recsys.events.store import EventStore, open_store
from recsys.experiments.lifecycle import decisions_of, stop_experiment
from recsys.experiments.plan import ExperimentPlan, Policy, canonical_json, plan_hash
from recsys.reporting.formatting import decision_text
from recsys.reporting.journal_page import journal_page
from tests.evaluation.readout.conftest import clean_log
from tests.evaluation.readout.conftest import plan as plan_fixture
from tests.support.stored_experiments import heartbeat, stored

pytestmark = pytest.mark.slow

plan = plan_fixture
NOW = datetime(2026, 6, 1, tzinfo=UTC)
DUE = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def better() -> Callable[[ExperimentPlan], ExperimentLog]:
    return lambda plan: clean_log(plan, lift=2.0)


@pytest.fixture
def store(plan: ExperimentPlan, better: Callable[[ExperimentPlan], ExperimentLog]) -> EventStore:
    """An experiment that ended with a clear effect, and a log that goes on."""
    found = stored(better(plan), MemoryStore())
    found.append([heartbeat(DUE + timedelta(days=3))])
    return found


def test_it_is_refused_before_its_moment_and_says_when(store: EventStore) -> None:
    early = DUE - timedelta(seconds=1)
    when = (
        r"offers-q1 is decided as of 2026-03-04 00:00 UTC \(planned end 2026-02-02, 28 days until the last window is "
        r"over, 2 days for late rows\), now it is 2026-03-03 23:59; decide then"
    )
    with pytest.raises(ReadoutError, match=when):
        decide_experiment(store, "offers-q1", early, signed_by="Ann")
    assert decisions_of(store) == {}


def test_a_log_that_ended_before_the_moment_decides_nothing(
    plan: ExperimentPlan, better: Callable[[ExperimentPlan], ExperimentLog]
) -> None:
    silent = stored(better(plan), MemoryStore())
    with pytest.raises(ReadoutError, match=r"the log reaches 2026-02-2.*are decisions and orders still recorded"):
        decide_experiment(silent, "offers-q1", NOW, signed_by="Ann")


def test_it_is_decided_once_and_later_looks_are_anytime_valid(store: EventStore) -> None:
    before = store_readout(store, "offers-q1", NOW)
    assert decisions_of(store) == {}  # a look stores nothing
    found = decide_experiment(store, "offers-q1", NOW, signed_by=" Ann ")
    made = found.decision
    effect = before.effect("revenue_per_account", "engine")
    assert found.is_new
    assert (made.verdict, made.arm, made.metric, made.decided_by) == ("SHIP", "engine", effect.metric, "fixed")
    assert (made.effect, made.standard_error, made.control_mean) == (
        effect.effect,
        effect.standard_error,
        effect.control_mean,
    )
    assert (made.effect_low, made.effect_high) == (effect.decision_low, effect.decision_high)
    assert (made.as_of, made.decided_at, made.signed_by, made.override) == (DUE, NOW, "Ann", None)
    assert (made.n_units, made.planned_size, made.plan_hash) == (4_000, 1_900, before.plan and before.plan.plan_hash)
    again = decide_experiment(store, "offers-q1", NOW + timedelta(days=9), signed_by="Bo")
    assert (again.is_new, again.decision) == (False, made)
    later = store_readout(store, "offers-q1", NOW)
    assert later.decision == made
    assert {one.decided_by for one in later.effects} == {"anytime"}
    assert later.verdict.verdict == "SHIP"


def test_a_later_look_without_a_clear_anytime_effect_points_to_the_decision(
    plan: ExperimentPlan,
) -> None:
    flat = stored(clean_log(plan, 4_000), MemoryStore())
    flat.append([heartbeat(NOW)])
    made = decide_experiment(flat, "offers-q1", NOW, signed_by="Ann").decision
    assert made.verdict == "DISCUSS"
    later = store_readout(flat, "offers-q1", NOW)
    assert later.verdict.verdict == "DISCUSS"
    assert "it was decided already, and a later look does not change that" in later.verdict.reason


def test_an_override_needs_its_reason_and_both_are_kept(store: EventStore) -> None:
    with pytest.raises(ReadoutError, match="without a reason"):
        decide_experiment(store, "offers-q1", NOW, signed_by="Ann", override=VerdictOverride("ROLL BACK", " "))
    with pytest.raises(ReadoutError, match="override 'KEEP RUNNING', must be a decision"):
        decide_experiment(store, "offers-q1", NOW, signed_by="Ann", override=VerdictOverride("KEEP RUNNING", "x"))
    with pytest.raises(ReadoutError, match="nobody signs"):
        decide_experiment(store, "offers-q1", NOW, signed_by=" ")
    against = VerdictOverride("ROLL BACK", "the supplier stops")
    made = decide_experiment(store, "offers-q1", NOW, signed_by="Ann", override=against).decision
    assert (made.verdict, made.decided, made.override_reason) == ("SHIP", "ROLL BACK", "the supplier stops")


def _small(plan: ExperimentPlan, log: ExperimentLog | None = None) -> EventStore:
    """400 units, of whom a person decides what the rules leave open."""
    found = stored(clean_log(plan, 400) if log is None else log, MemoryStore())
    found.append([heartbeat(NOW)])
    return found


def test_another_decision_is_refused_with_the_one_that_stands(plan: ExperimentPlan) -> None:
    store = _small(plan)
    decide_experiment(store, "offers-q1", NOW, signed_by="Ann", override=VerdictOverride("SHIP", "a contract"))
    stands = r"offers-q1 version 1 was decided already: SHIP, engine, signed by Ann on 2026-06-01 00:00 UTC; it stays"
    with pytest.raises(ReadoutError, match=stands + ", and FLAT, engine was not stored"):
        decide_experiment(store, "offers-q1", NOW, signed_by="Bo", override=VerdictOverride("FLAT", "too dear"))
    with pytest.raises(ReadoutError, match="without a reason"):
        decide_experiment(store, "offers-q1", NOW, signed_by="Bo", override=VerdictOverride("SHIP", ""))
    same = decide_experiment(store, "offers-q1", NOW, signed_by="Bo", override=VerdictOverride("SHIP", "as the rules"))
    assert not same.is_new


def test_an_override_decides_on_an_arm_of_the_plan(plan: ExperimentPlan) -> None:
    third = plan.arms[1].model_copy(update={"name": "second"})
    three = clean_log(plan.model_copy(update={"arms": (*plan.arms, third)}), 120)
    found = _small(plan, three)
    for arm, sentence in (
        (None, "override 'FLAT' without an arm, must name one of engine, second"),
        ("control", "override 'FLAT' of arm 'control', must be one of engine, second"),
    ):
        with pytest.raises(ReadoutError, match=sentence):
            decide_experiment(found, "offers-q1", NOW, signed_by="Ann", override=VerdictOverride("FLAT", "x", arm))
    with pytest.raises(ReadoutError, match="must be of none: invalid data decide no arm"):
        decide_experiment(found, "offers-q1", NOW, signed_by="Ann", override=VerdictOverride("INVALID", "x", "engine"))
    made = decide_experiment(
        found, "offers-q1", NOW, signed_by="Ann", override=VerdictOverride("FLAT", "x", "second")
    ).decision
    assert (made.decided, made.arm) == ("FLAT", "second")


def test_invalid_data_decide_no_arm(plan: ExperimentPlan) -> None:
    broken = clean_log(plan, 400)
    found = _small(plan, replace(broken, decisions=broken.decisions.iloc[:0]))
    made = decide_experiment(found, "offers-q1", NOW, signed_by="Ann").decision
    assert (made.verdict, made.arm) == ("INVALID", None)
    assert decision_text(made).startswith("Decided: INVALID, as of ")


def test_a_look_before_the_start_names_both_moments(plan: ExperimentPlan) -> None:
    store = _small(plan)
    both = "as_of == 2026-01-01 00:00 UTC, must lie after the start on 2026-01-05 00:00 UTC"
    with pytest.raises(ReadoutError, match=both):
        store_readout(store, "offers-q1", datetime(2026, 1, 1, tzinfo=UTC))


def test_of_two_who_decide_at_once_one_is_kept(store: EventStore) -> None:
    made = decide_experiment(store, "offers-q1", NOW, signed_by="Ann").decision
    store.append([replace(made, signed_by="Bo", verdict="FLAT")])
    assert decisions_of(store) == {("offers-q1", 1): made}


def test_what_was_stopped_early_is_decided_by_the_anytime_interval(
    plan: ExperimentPlan, better: Callable[[ExperimentPlan], ExperimentLog]
) -> None:
    found, stopped = stored(better(plan), MemoryStore()), datetime(2026, 2, 1, tzinfo=UTC)
    found.append([heartbeat(NOW)])
    stop_experiment(found, "offers-q1", stopped)
    with pytest.raises(ReadoutError, match=r"as of 2026-02-03 00:00 UTC .it was stopped on 2026-02-01, 2 days for"):
        decide_experiment(found, "offers-q1", stopped, signed_by="Ann")
    made = decide_experiment(found, "offers-q1", NOW, signed_by="Ann").decision
    assert (made.as_of, made.decided_by, made.verdict) == (stopped + timedelta(days=2), "anytime", "DISCUSS")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        door(["experiment", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out + err


def test_deciding_and_listing_at_the_command_line(
    plan: ExperimentPlan,
    better: Callable[[ExperimentPlan], ExperimentLog],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hoped = plan.model_copy(update={"hypothesis": "the engine <sells> more"})
    url = f"sqlite:///{tmp_path / 'offers.db'}"
    store = stored(better(hoped), open_store(url))
    store.append([heartbeat(DUE)])
    store.close()
    listed = run(capsys, "list", "--store", url, "--format", "json")[1]
    entry = json.loads(listed)["experiments"][0]
    assert (entry["state"], entry["decided"], entry["is_unchanged"]) == ("ended", None, True)
    shown = run(capsys, "status", "--store", url)[1]
    assert "offers-q1 version 1: ended 2026-03-02 00:00 UTC, to be decided as of 2026-03-04 00:00 UTC\n" in shown
    assert "; 1,900 planned in the smallest arm; in no layer\n" in shown
    against = ("--override", "flat", "--reason", "too | dear & late")
    code, text = run(capsys, "decide", "offers-q1", "--by", "Ann", *against, "--store", url)
    assert code == 0
    assert "Decided: FLAT, engine, as of 2026-03-04, signed by Ann on 20" in text
    assert "against the rules, which said SHIP: too | dear & late" in text
    assert "\nStored.\n" in text
    again = run(capsys, "decide", "offers-q1", "--by", "Bo", "--store", url)[1]
    assert "signed by Ann" in again
    assert "It was decided before; nothing was stored." in again
    assert "offers-q1 version 1: ended, decided FLAT on 20" in run(capsys, "status", "--store", url)[1]
    code, text = run(capsys, "decide", "offers-q1", "--by", "Bo", "--override", "ship", "--reason", "x", "--store", url)
    assert code == 1
    assert "offers-q1 version 1 was decided already: FLAT, engine, signed by Ann on 20" in text
    page = tmp_path / "journal.html"
    text = run(capsys, "list", "--store", url, "--out", page)[1]
    assert "offers-q1 version 1: ended; plan" in text
    assert "Decided: FLAT, engine, as of 2026-03-04, signed by Ann" in text
    html = page.read_text()
    assert "the engine &lt;sells&gt; more" in html
    assert "which said SHIP: too | dear &amp; late" in html
    assert "http" not in html
    values = json.loads(run(capsys, "list", "offers-q1", "--store", url, "--format", "json")[1])
    entry = values["experiments"][0]
    assert (entry["decided"], entry["decision"]["signed_by"], entry["plan"]["id"]) == ("FLAT", "Ann", "offers-q1")
    assert values["programme"]["n_decided"] == 1
    assert run(capsys, "list", "none", "--store", url)[0] == 1


def test_the_journal_of_many_experiments_shrinks_what_was_shipped(plan: ExperimentPlan) -> None:
    store = MemoryStore()
    made = ExperimentDecision(
        experiment_id="e0",
        version=1,
        verdict="SHIP",
        rule="r",
        reason="r",
        arm="engine",
        metric="revenue",
        direction="higher_is_better",
        effect=5.0,
        standard_error=2.0,
        effect_low=1.0,
        effect_high=9.0,
        decided_by="fixed",
        control_mean=100.0,
        arm_mean=105.0,
        n_control=900,
        n_arm=900,
        n_units=1_800,
        planned_size=900,
        plan_hash="h",
        as_of=DUE,
        decided_at=NOW,
        signed_by="Ann",
    )
    for i, effect in enumerate((5.0, 1.0, -1.0, 0.5, 2.0, 4.5)):
        one = plan.model_copy(update={"id": f"e{i}"})
        store.append([ExperimentRecord(one.id, 1, canonical_json(one), plan_hash(one), one.planned_start)])
        verdict = "SHIP" if effect > 4 else "DISCUSS"
        store.append([replace(made, experiment_id=one.id, effect=effect, verdict=verdict)])
    assert store.size("experiment_decisions") == len(store.read(EventQuery("experiment_decisions"))) == 6
    rate = plan.model_copy(update={"id": "rate"})
    control, *others = (arm.model_copy(update={"policy": Policy(kind="none")}) for arm in plan.arms)
    held = plan.model_copy(update={"id": "no-offers", "arms": (control, *others)})
    for one, changes in ((rate, {"metric": "buyer_rate"}), (held, {"effect": 3.0})):
        store.append([ExperimentRecord(one.id, 1, canonical_json(one), plan_hash(one), one.planned_start)])
        store.append([replace(made, experiment_id=one.id, **changes)])
    found = journal_of(store, NOW)
    assert [one.experiment_id for one in found.programme.shipped] == ["e0 version 1", "e5 version 1"]
    assert found.programme.shrunken_total is not None
    assert found.programme.shrunken_total.value < found.programme.naive_total.value == pytest.approx(0.095)
    assert found.programme.sentence.replace("&", "&amp;") in journal_page(found, NOW)
    assert (found.programme.metric, found.programme.n_decided, found.programme.n_other_metrics) == ("revenue", 7, 1)
    (beside,) = found.programme.holdouts
    assert (beside.experiment_id, beside.cumulated.value) == ("no-offers version 1", pytest.approx(0.03))
    page = journal_page(found, NOW)
    broken = plan.model_copy(update={"id": "broken"})
    store.append([ExperimentRecord("broken", 1, canonical_json(broken), plan_hash(broken), broken.planned_start)])
    store.append([replace(made, experiment_id="broken", effect=90.0, verdict="INVALID", override="SHIP")])
    assert journal_of(store, NOW).programme.naive_total == found.programme.naive_total, "invalid data tell no effect"
    assert "<th>all that were shipped</th>" in page
    assert "all offers against none: no-offers version 1" in page
