"""Whoever decides at the same time, or later and otherwise: one decision is stored, in every kind of event store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

import recsys
from recsys.contracts.events import EventQuery
from recsys.errors import ReadoutError
from recsys.evaluation.journal.deciding import Decided
from recsys.events.memory import MemoryStore
from recsys.events.store import EventStore, open_store
from recsys.experiments.lifecycle import decisions_of
from recsys.experiments.plan import ExperimentPlan
from tests.evaluation.readout.conftest import clean_log
from tests.evaluation.readout.conftest import plan as plan_fixture
from tests.support.stored_experiments import heartbeat, stored

pytestmark = pytest.mark.slow

plan = plan_fixture
NOW = datetime(2026, 6, 1, tzinfo=UTC)
Opener = Callable[[], EventStore]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path, plan: ExperimentPlan) -> Iterator[Opener]:
    """Opens one store again and again, as servers and commands of several machines do; 400 units are in it."""
    if request.param == "memory":
        kept = MemoryStore()
    elif request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/e.db"
    else:
        url = request.getfixturevalue("postgresql_url")
    with ExitStack() as opened:

        def open_one() -> EventStore:
            return kept if request.param == "memory" else opened.enter_context(closing(open_store(url)))

        store = stored(clean_log(plan.model_copy(update={"planned_size": 150}), 400), open_one())
        store.append([heartbeat(NOW - timedelta(days=1))])
        yield open_one


def test_of_two_who_decide_otherwise_at_once_one_is_stored_and_both_are_told_it(opener: Opener) -> None:
    barrier = Barrier(2)

    def decide(by: str) -> Decided | ReadoutError:
        store = opener()
        barrier.wait()
        try:
            return recsys.experiment_decision(
                store, "offers-q1", by=by, now=NOW, override="FLAT" if by == "Ann" else "SHIP", reason=by
            )
        except ReadoutError as refused:
            return refused

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(decide, ("Ann", "Bo")))
    (made,) = [one for one in found if isinstance(one, Decided)]
    (refused,) = [one for one in found if isinstance(one, ReadoutError)]
    assert made.is_new
    assert f"decided already: {made.decision.decided}, engine, signed by {made.decision.signed_by}" in str(refused)
    store = opener()
    assert store.size("experiment_decisions") == len(store.read(EventQuery("experiment_decisions"))) == 1
    kept = decisions_of(store)["offers-q1", 1]
    assert kept == made.decision
    assert kept.decided == ("FLAT" if kept.signed_by == "Ann" else "SHIP")
    assert kept.override_reason == kept.signed_by


def test_a_second_and_different_decision_is_not_stored(opener: Opener) -> None:
    made = recsys.experiment_decision(opener(), "offers-q1", by="Ann", now=NOW).decision
    with pytest.raises(ReadoutError, match="was decided already: DISCUSS, engine, signed by Ann"):
        recsys.experiment_decision(
            opener(), "offers-q1", by="Bo", now=NOW, override="SHIP", reason="the contract is signed"
        )
    opener().append([replace(made, signed_by="Cy", verdict="SHIP")])  # a server that had not seen it yet
    assert decisions_of(opener()) == {("offers-q1", 1): made}
    (entry,) = recsys.journal(opener(), now=NOW).entries
    assert (entry.decision, entry.state) == (made, "ended")


def test_what_is_no_verdict_is_refused_and_an_unknown_experiment_has_no_entry(opener: Opener) -> None:
    unknown: Any = "PERHAPS"
    with pytest.raises(ReadoutError, match=r"override == 'PERHAPS', must be one of INVALID, ROLL BACK"):
        recsys.experiment_decision(opener(), "offers-q1", by="Ann", now=NOW, override=unknown, reason="x")
    assert recsys.journal(opener(), now=NOW, experiment_id="none").entries == ()
    assert decisions_of(opener()) == {}
