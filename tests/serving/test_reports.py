"""Outcomes and orders: kept once, in force at once, in every worker, after a restart too."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from recsys.contracts.events import EventQuery
from recsys.events.memory import MemoryStore
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTHING_WRONG: dict[str, list[str]] = {"not_offered": [], "before_decision": [], "conflicts": []}


def outcome(decision_id: str, kind: str, outcome_id: str = "x1", **more: Any) -> dict[str, Any]:
    return {"outcome_id": outcome_id, "decision_id": decision_id, "kind": kind, **more}


def one_order(**changes: Any) -> dict[str, Any]:
    return {"orders": [{"order_id": "o", "lines": [{"product_id": "P"}], **changes}]}


def report(api: httpx.Client, *outcomes: dict[str, Any]) -> dict[str, Any]:
    answered = api.post("/v1/outcomes", json={"outcomes": list(outcomes)})
    assert answered.status_code == 200, answered.text
    return answered.json()


def order(api: httpx.Client, order_id: str, account_id: str | None, *lines: dict[str, Any], **more: Any) -> int:
    body = {"order_id": order_id, "account_id": account_id, "lines": list(lines), **more}
    answered = api.post("/v1/orders", json={"orders": [body]})
    assert answered.status_code == 200, answered.text
    return answered.json()["received_lines"]


def decide(api: httpx.Client, account_id: str | None = "A0", **more: Any) -> tuple[str, list[str]]:
    answer = api.post("/v1/offers", json={"account_id": account_id, "limit": 5, **more}).json()
    return answer["decision_id"], [offer["product_id"] for offer in answer["offers"]]


def test_an_outcome_is_kept_with_all_it_says(api: httpx.Client, store: MemoryStore) -> None:
    decision_id, _ = decide(api)
    when = "2026-03-01T13:00:00+02:00"
    told = outcome(decision_id, "declined", product_id="P1", reason="too dear", actor_id="rep-7", occurred_at=when)
    assert report(api, told) == {"received": 1, "unknown_decisions": []} | NOTHING_WRONG | {"before_decision": ["x1"]}
    assert store.read(EventQuery("outcomes")).to_pylist() == [
        {
            "outcome_id": "x1",
            "decision_id": decision_id,
            "product_id": "P1",
            "kind": "declined",
            "occurred_at": NOW - timedelta(hours=1),
            "recorded_at": NOW,
            "reason": "too dear",
            "actor_id": "rep-7",
        }
    ]


def test_a_shown_outcome_presents_the_offer(api: httpx.Client, store: MemoryStore) -> None:
    decision_id, products = decide(api)
    report(api, outcome(decision_id, "shown", product_id=products[1]))
    rows = store.read(EventQuery("decision_offers")).to_pylist()
    assert [row["presented_at"] for row in rows] == [None, NOW, None, None, None]


def test_a_decision_that_nobody_knows_is_reported_and_its_outcome_kept(api: httpx.Client, store: MemoryStore) -> None:
    told = report(api, outcome("no such", "shown"), outcome("no such", "declined", "x2", product_id="P1"))
    assert told == {"received": 2, "unknown_decisions": ["no such"]} | NOTHING_WRONG
    assert store.read(EventQuery("outcomes")).num_rows == 2


def test_a_product_that_its_decision_did_not_offer_is_named(api: httpx.Client) -> None:
    (one, products), (other, _) = decide(api), decide(api, "A9")
    told = report(api, outcome(one, "clicked", "x1", product_id=products[0]), outcome(one, "shown", "x2"))
    assert told["not_offered"] == []
    assert report(api, outcome(other, "clicked", "x3", product_id=products[0]))["not_offered"] == ["x3"]


def test_a_declined_product_rests_for_that_account_only(api: httpx.Client) -> None:
    decision_id, before = decide(api)
    report(api, outcome(decision_id, "declined", product_id=before[0]))
    assert before[0] not in decide(api)[1]
    assert before[0] in decide(api, None)[1]


def test_a_dismissed_decision_rests_with_all_its_offers(api: httpx.Client) -> None:
    decision_id, before = decide(api)
    report(api, outcome(decision_id, "dismissed"))
    assert not set(before) & set(decide(api)[1])


def test_a_click_makes_nothing_rest(api: httpx.Client) -> None:
    decision_id, before = decide(api)
    report(api, outcome(decision_id, "clicked", product_id=before[0]))
    assert decide(api)[1] == before


@pytest.mark.parametrize(("days", "rests"), [(29, True), (31, False)])
def test_a_refusal_ends_with_the_cooldown(store: MemoryStore, running: Any, days: int, rests: bool) -> None:
    moments = [NOW - timedelta(days=days)]
    app = create_app(Settings(), bundles=FixedModel(fake_model()), store=store, clock=lambda: moments[-1])
    with running(app) as api:
        decision_id, before = decide(api)
        moments.append(NOW)
        when = moments[0].isoformat()
        report(api, outcome(decision_id, "declined", product_id=before[0], occurred_at=when))
        assert (before[0] not in decide(api)[1]) is rests


def test_what_is_ordered_is_owned_at_once(api: httpx.Client, store: MemoryStore) -> None:
    _, before = decide(api)
    line = {"product_id": before[0], "quantity": 6, "unit_price": 4.95}
    assert order(api, "o1", "A0", line, currency="EUR", channel="web") == 1
    assert before[0] not in decide(api)[1]
    (kept,) = store.read(EventQuery("order_lines")).to_pylist()
    assert (kept["order_id"], kept["line_id"], kept["quantity"], kept["unit_price"]) == ("o1", "1", 6.0, 4.95)
    assert (kept["currency"], kept["channel"], kept["ordered_at"], kept["status"]) == ("EUR", "web", NOW, "completed")


def test_what_comes_back_is_owned_no_more(api: httpx.Client) -> None:
    _, before = decide(api)
    order(api, "o1", "A0", {"product_id": before[0], "quantity": 2})
    order(api, "o1", "A0", {"product_id": before[0], "quantity": 1, "status": "returned", "line_id": "r1"})
    assert before[0] not in decide(api)[1]
    order(api, "o1", "A0", {"product_id": before[0], "quantity": 1, "status": "returned", "line_id": "r2"})
    assert decide(api)[1] == before


def test_an_order_that_the_model_knows_changes_nothing(api: httpx.Client) -> None:
    _, before = decide(api)
    order(api, "old", "A0", {"product_id": before[0]}, ordered_at="2025-12-31T00:00:00Z")
    assert decide(api)[1] == before


def test_the_same_order_posted_together_counts_once(api: httpx.Client, store: MemoryStore) -> None:
    lines = [{"product_id": "P1"}, {"product_id": "P2"}]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: order(api, "o1", "A0", *lines), range(24))) == [2] * 24
    assert store.read(EventQuery("order_lines")).num_rows == 2
    order(api, "o1", "A0", {"product_id": "P1", "status": "returned", "line_id": "r"})
    assert "P1" in decide(api, cart=[{"product_id": "P0"}])[1]


def test_the_same_outcome_posted_together_counts_once(api: httpx.Client, store: MemoryStore) -> None:
    decision_id, _ = decide(api)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: report(api, outcome(decision_id, "shown")), range(24)))
    assert store.read(EventQuery("outcomes")).num_rows == 1


def test_another_worker_and_a_restart_know_it(store: MemoryStore, running: Any) -> None:
    def worker() -> Any:
        settings = Settings(refresh_seconds=0.02)
        return running(create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW))

    with worker() as one, worker() as other:
        decision_id, before = decide(one)
        order(one, "o1", "A0", {"product_id": before[0]})
        report(one, outcome(decision_id, "declined", product_id=before[1]))
        end = time.monotonic() + 20
        while {before[0], before[1]} & set(decide(other)[1]):
            assert time.monotonic() < end, "the other worker does not hear of it"
            time.sleep(0.01)
        expected = decide(one)[1]
        assert decide(other)[1] == expected
    with worker() as later:
        assert decide(later)[1] == expected


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("outcomes", {"outcomes": []}, "/outcomes"),
        ("outcomes", {"outcomes": [outcome("d", "loved")]}, "/outcomes/0/kind"),
        ("outcomes", {"outcomes": [outcome("d", "shown", occurred_at="soon")]}, "/outcomes/0/occurred_at"),
        ("outcomes", {"outcomes": [outcome("d", "shown", occurred_at="2026-03-01T12:00")]}, "/outcomes/0/occurred_at"),
        ("orders", one_order(lines=[]), "/orders/0/lines"),
        ("orders", one_order(lines=[{"product_id": "P", "quantity": -1}]), "/orders/0/lines/0/quantity"),
        ("orders", one_order(currency="pounds"), "/orders/0/currency"),
    ],
)
def test_reports_that_break_a_rule_are_refused_whole(
    api: httpx.Client, store: MemoryStore, path: str, body: Any, pointer: str
) -> None:
    answered = api.post(f"/v1/{path}", json=body)
    assert answered.status_code == 422
    assert pointer in {item["pointer"] for item in answered.json()["errors"]}
    assert store.read(EventQuery("outcomes")).num_rows == store.read(EventQuery("order_lines")).num_rows == 0
