"""One declaration of a decision: its row is made and read in one way, also where it has several assignments."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from recsys.client import AssignedArm as ClientsArm
from recsys.client._answers import parse_answer
from recsys.contracts.decisions import AssignedArm, Context, Decision, DecisionRow, assignments_of, record_decision
from recsys.contracts.events import EventQuery
from recsys.contracts.offers import AccountState, OfferRequest
from recsys.events.memory import MemoryStore
from recsys.events.reading import read_assigned, read_decisions
from recsys.events.schema import EVENT_TABLES, TABLES
from serving.decisions import answer_json
from serving.fakes import FakeEngine, fake_model
from serving.schemas.offers import OffersAnswer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LAYERS = (AssignedArm("ranking", "engine", 0.5), AssignedArm("page", "large", 0.25))
REQUEST = OfferRequest(account_id="A1", limit=2)


def decision(*assignments: AssignedArm, decision_id: str = "d1", **changes: Any) -> Decision:
    return Decision(
        decision_id=decision_id,
        decided_at=NOON,
        request=REQUEST,
        model_version="fake-1",
        objective="conversion",
        tier="account",
        horizon_days=30,
        n_considered=30,
        assignments=assignments,
        **changes,
    )


def as_read(row: DecisionRow) -> dict[str, object]:
    """A row as a store reads it back."""
    return row._asdict() | {"decided_at": NOON}


def test_two_assignments_go_from_the_row_to_the_client() -> None:
    slate = FakeEngine().answer(REQUEST)
    store = MemoryStore()
    row = record_decision(decision(*LAYERS), slate.kept, slate.returned)
    assert (row.experiment_id, row.arm, row.assignment_probability) == LAYERS[0]
    store.append([row])
    (kept,) = read_decisions(store)
    assert (kept.assignments, len(kept.offers)) == (LAYERS, 2)
    body = json.loads(answer_json(kept, slate, fake_model(), logged=True))
    listed = [{"experiment_id": "ranking", "arm": "engine"}, {"experiment_id": "page", "arm": "large"}]
    assert (body["experiment"], body["arm"], body["assignments"]) == ("ranking", "engine", listed)
    parsed: Any = OffersAnswer.model_validate(body, extra="forbid")
    assert parsed.assignments[1].arm == "large"
    answer = parse_answer(body)
    assert answer.assignments == (ClientsArm("ranking", "engine"), ClientsArm("page", "large"))
    assert (answer.experiment, answer.arm) == ("ranking", "engine")


def test_without_an_experiment_the_list_is_empty_and_an_older_servers_answer_is_understood() -> None:
    body = json.loads(answer_json(decision(), FakeEngine().answer(REQUEST), fake_model(), logged=True))
    assert (body["experiment"], body["arm"], body["assignments"]) == (None, None, [])
    assert (parse_answer(body).assignments, parse_answer(body).arm) == ((), None)
    older = {name: value for name, value in body.items() if name != "assignments"}
    assert parse_answer(older).assignments == ()
    assert parse_answer(older | {"experiment": "e1", "arm": "a"}).assignments == (ClientsArm("e1", "a"),)


def test_one_assignment_stands_in_the_columns_alone() -> None:
    row = record_decision(decision(LAYERS[0]))
    assert (row.experiment_id, row.arm, row.assignment_probability, row.context) == (*LAYERS[0], None)
    assert assignments_of(as_read(row)) == LAYERS[:1]
    assert record_decision(decision()).context is None


def test_a_row_comes_back_as_its_decision_and_newer_additions_are_left_out() -> None:
    context = Context(AccountState(("P8",), {"P9": "declined"}, "retail"), {"P7": "out_of_stock"}, "abc", "ended")
    whole = decision(*LAYERS, context=context, unknown_products=("X",), surface="cart", shown=False)
    row = record_decision(whole)
    assert Decision.from_row(as_read(row)) == whole
    newer = {name: json.dumps(json.loads(getattr(row, name)) | {"newer": [1]}) for name in ("request", "context")}
    assert Decision.from_row(as_read(row) | newer) == whole


def test_the_tables_columns_are_the_declarations_fields() -> None:
    assert tuple(TABLES["decisions"].columns.keys()) == DecisionRow._fields
    for name, kept in EVENT_TABLES.items():
        assert len(TABLES[name].primary_key.columns) == kept.n_key
        assert kept.time in TABLES[name].columns


def test_an_experiment_finds_its_decisions_beside_other_layers() -> None:
    store = MemoryStore()
    store.append([decision(*LAYERS), decision(LAYERS[1], decision_id="d2"), decision(decision_id="d3")])
    columns = ("decision_id", "experiment_id", "arm")
    found = read_assigned(store, EventQuery("decisions", columns=columns))
    assert sorted(tuple(row.values()) for row in found.to_pylist()) == [
        ("d1", "page", "large"),
        ("d1", "ranking", "engine"),
        ("d2", "page", "large"),
    ]


def test_what_is_kept_of_an_accounts_state_has_the_names_it_always_had() -> None:
    state = AccountState(suppressed={"P1": "declined lately"}, opt_out_reason="12 offers were presented today")
    row = record_decision(decision(context=Context(state)))
    assert row.context is not None
    assert json.loads(row.context) == {"withheld": dict(state.suppressed), "silence": state.opt_out_reason}
    assert Decision.from_row(as_read(row)).context.state == state
