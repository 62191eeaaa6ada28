"""What every event store answers to a query: filters, columns, and what changed since a position of the feed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from recsys.contracts.decisions import AssignedArm, Context
from recsys.contracts.events import (
    AccountUpdate,
    EventQuery,
    FeedPosition,
    RecordedAssignment,
    VisitorLink,
)
from recsys.contracts.offers import AccountState, OfferRequest
from recsys.errors import ConfigError
from recsys.events.reading import last_event_at, read_assigned, read_decisions
from recsys.events.schema import FED
from recsys.events.store import EventStore
from tests.support.stored_events import NOON, decision, line, outcome, product


def test_filters_by_time_account_and_decision(store: EventStore) -> None:
    hours = [NOON + timedelta(hours=hour) for hour in range(4)]
    other = OfferRequest(account_id="A2")
    store.append([decision(f"d{i}", decided_at=when) for i, when in enumerate(hours)])
    store.append([decision("d9", decided_at=hours[1], request=other)])

    def found(**filters: Any) -> list[str]:
        return [made.decision_id for made in read_decisions(store, EventQuery("decisions", **filters))]

    assert found() == ["d0", "d1", "d9", "d2", "d3"]
    assert found(since=hours[1], until=hours[3]) == ["d1", "d9", "d2"]
    assert found(account_id="A2") == ["d9"]
    assert found(decision_ids=("d3", "d0")) == ["d0", "d3"]
    assert found(from_decision_id="d2") == ["d9", "d2", "d3"]
    assert found(account_id="nobody") == []


def test_outcomes_and_lines_by_their_ids(store: EventStore) -> None:
    store.append([outcome(f"x{i}", "clicked", None, i) for i in range(4)])
    store.append([line(f"o{i}") for i in range(4)])
    outcomes = store.read(EventQuery("outcomes", outcome_ids=("x2", "x0", "none")))
    assert outcomes["outcome_id"].to_pylist() == ["x0", "x2"]
    assert store.read(EventQuery("order_lines", order_ids=("o3",)))["order_id"].to_pylist() == ["o3"]
    assert (store.size("outcomes"), store.size("order_lines"), store.size("decisions")) == (4, 4, 0)


def test_a_filter_that_the_table_can_not_answer_is_refused(store: EventStore) -> None:
    with pytest.raises(ConfigError, match="outcomes has no account_id"):
        store.read(EventQuery("outcomes", account_id="A1"))
    with pytest.raises(ConfigError, match="order_lines has no decision_id"):
        store.read(EventQuery("order_lines", decision_ids=("d1",)))
    with pytest.raises(ConfigError, match="decisions has no recorded_at"):
        store.read(EventQuery("decisions", recorded_since=NOON))
    with pytest.raises(ConfigError, match="decisions has no outcome_id"):
        store.read(EventQuery("decisions", outcome_ids=("x1",)))
    with pytest.raises(ConfigError, match="outcomes has no order_id"):
        store.read(EventQuery("outcomes", order_ids=("o1",)))
    with pytest.raises(ConfigError, match="decisions has no colour"):
        store.read(EventQuery("decisions", columns=("colour",)))


def test_only_the_columns_that_are_wanted(store: EventStore) -> None:
    store.append([decision()])
    table = store.read(EventQuery("decisions", columns=("account_id", "decision_id")))
    assert table.to_pylist() == [{"account_id": "A1", "decision_id": "d1"}]


def test_what_reached_the_store_lately(store: EventStore) -> None:
    store.append([replace(line("o1"), recorded_at=NOON), replace(line("o2"), recorded_at=NOON + timedelta(hours=1))])
    recent = store.read(EventQuery("order_lines", recorded_since=NOON + timedelta(minutes=1)))
    assert recent["order_id"].to_pylist() == ["o2"]


def changed(store: EventStore, since: FeedPosition) -> dict[str, int]:
    found = {table: store.read(EventQuery(table, changed_since=since)).num_rows for table in FED}
    return {table: n_rows for table, n_rows in found.items() if n_rows}


def test_a_position_tells_what_changed_since_whatever_the_clocks_said(store: EventStore) -> None:
    store.append([outcome("x0", "clicked", "P1", 0), line("o0"), product(stock=1.0), VisitorLink("v0", "A1", NOON)])
    begun = store.position()
    assert changed(store, begun) == {}
    long_ago = -1e5
    store.append([outcome("x0", "clicked", "P1", 1), outcome("x1", "clicked", "P1", long_ago)])
    store.append([line("o0"), replace(line("o1"), recorded_at=NOON - timedelta(days=99))])
    assert changed(store, begun) == {"outcomes": 1, "order_lines": 1}
    middle = store.position()
    store.append([product(minutes=long_ago, stock=0.0), product("P2", minutes=long_ago, stock=0.0)])
    store.append([VisitorLink("v0", "A2", NOON), VisitorLink("v1", "A1", NOON - timedelta(days=99))])
    store.append([AccountUpdate(account_id="A1", recorded_at=NOON - timedelta(days=99), segment="s")])
    assert changed(store, middle) == {"product_overrides": 2, "visitor_links": 1, "account_overrides": 1}
    assert changed(store, store.position()) == {}


def test_of_decisions_the_feed_has_those_that_are_presented(store: EventStore) -> None:
    begun = store.position()
    store.append([decision("d1"), decision("d2", presented=True)])
    found = store.read(EventQuery("decisions", changed_since=begun, columns=("decision_id",)))
    assert found["decision_id"].to_pylist() == ["d2"]


def test_a_table_without_a_feed_says_so(store: EventStore) -> None:
    with pytest.raises(ConfigError, match="experiments has no feed of changes"):
        store.read(EventQuery("experiments", changed_since=store.position()))


def test_the_decisions_of_an_experiment_are_found_beside_other_layers(store: EventStore) -> None:
    """Ids that differ in case, hold what SQL and JSON give a meaning, or stand elsewhere too are not mixed up."""
    one, other, odd = (AssignedArm(name, "a", 0.5) for name in ("e1", "E1", 'e"_%1'))
    events = {"d1": (one, odd), "d2": (odd,), "d3": (other, odd), "d4": (), "d5": (other, one)}
    bought = Context(AccountState(bought=("e1", "experiment_id"), suppressed={"P1": "e1"}))
    store.append([decision(name, assignments=arms, context=bought) for name, arms in events.items()])
    columns = ("decision_id", "experiment_id")
    for wanted in (one, other, odd):
        query = EventQuery("decisions", experiment_id=wanted.experiment_id, columns=columns)
        expected = [name for name, arms in events.items() if wanted in arms]
        assert store.read(query)["decision_id"].to_pylist() == expected
        found = read_assigned(store, query)
        assert found.to_pylist() == [{"decision_id": name, "experiment_id": wanted.experiment_id} for name in expected]
    with pytest.raises(ConfigError, match="outcomes has no experiment_id"):
        store.read(EventQuery("outcomes", experiment_id="e1"))


def test_the_newest_row_and_how_far_the_log_reaches(store: EventStore) -> None:
    assert last_event_at(store) is None
    store.append([line("o1"), replace(line("o2"), ordered_at=NOON + timedelta(days=1), recorded_at=NOON)])
    newest = store.read(EventQuery("order_lines", columns=("order_id",), newest=True))
    assert newest["order_id"].to_pylist() == ["o2"]
    assert last_event_at(store) == NOON  # an order of tomorrow was recorded today
    store.append([decision("d1", decided_at=NOON + timedelta(hours=1))])
    assert last_event_at(store) == NOON + timedelta(hours=1)


def test_the_assignments_of_an_experiment(store: EventStore) -> None:
    assigned = RecordedAssignment(
        experiment_id="e1", version=1, unit_id="A1", arm="a", unit="account", probability=0.5, assigned_at=NOON
    )
    store.append([assigned, replace(assigned, experiment_id="E1", unit_id="A2")])
    found = store.read(EventQuery("assignments", experiment_id="e1", columns=("unit_id",)))
    assert found["unit_id"].to_pylist() == ["A1"]
