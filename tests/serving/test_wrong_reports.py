"""Dates, money and names from outside: what can never be right is refused whole, the rest is kept and named."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.contracts.events import EventQuery
from recsys.events.memory import MemoryStore
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel, LoadedModel
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def line(product_id: str = "P1", **more: Any) -> dict[str, Any]:
    return {"product_id": product_id, **more}


def order(order_id: str = "o1", *lines: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"order_id": order_id, "account_id": "A0", "lines": list(lines) or [line()], **more}


def post_orders(api: httpx.Client, *orders: dict[str, Any]) -> httpx.Response:
    return api.post("/v1/orders", json={"orders": list(orders)})


def outcome(**more: Any) -> dict[str, Any]:
    return {"outcome_id": "x1", "decision_id": "d1", "kind": "clicked", **more}


def refusals(answered: httpx.Response) -> dict[str, str]:
    assert answered.status_code == 409, answered.text
    return {item["pointer"]: item["detail"] for item in answered.json()["errors"]}


def server(store: MemoryStore, model: LoadedModel, **changes: Any) -> FastAPI:
    return create_app(Settings(**changes), bundles=FixedModel(model), store=store, clock=lambda: NOW)


@pytest.fixture
def without_currency(store: MemoryStore, running: Any) -> Iterator[httpx.Client]:
    """A server whose model says no currency."""
    with running(server(store, fake_model(currency=None))) as client:
        yield client


FUTURE = "2026-03-01T12:05:00.001Z"


@pytest.mark.parametrize("when", ["2199-01-01T00:00:00Z", FUTURE])
def test_an_order_of_the_future_is_refused_whole(api: httpx.Client, store: MemoryStore, when: str) -> None:
    found = refusals(post_orders(api, order("o1"), order("o2", ordered_at=when)))
    assert set(found) == {"/orders/1/ordered_at"}
    assert "must be at most 300 s after the server's time, 2026-03-01 12:00:00" in found["/orders/1/ordered_at"]
    assert store.size("order_lines") == 0


@pytest.mark.parametrize("when", ["2030-01-01T00:00:00Z", FUTURE, "1970-01-01T00:00:00Z"])
def test_an_outcome_of_no_credible_date_is_refused_whole(api: httpx.Client, store: MemoryStore, when: str) -> None:
    body = {"outcomes": [outcome(), outcome(outcome_id="x2", occurred_at=when)]}
    assert set(refusals(api.post("/v1/outcomes", json=body))) == {"/outcomes/1/occurred_at"}
    assert store.size("outcomes") == 0


def test_a_clock_that_runs_ahead_a_little_is_believed(api: httpx.Client, store: MemoryStore) -> None:
    ahead = (NOW + timedelta(seconds=300)).isoformat()
    assert post_orders(api, order(ordered_at=ahead)).status_code == 200
    assert api.post("/v1/outcomes", json={"outcomes": [outcome(occurred_at=ahead)]}).status_code == 200
    assert (store.size("order_lines"), store.size("outcomes")) == (1, 1)


def test_how_far_a_clock_may_run_ahead_is_a_setting(store: MemoryStore, running: Any) -> None:
    with running(server(store, fake_model(), future_tolerance_seconds=0)) as api:
        assert post_orders(api, order(ordered_at=NOW.isoformat())).status_code == 200
        late = (NOW + timedelta(microseconds=1)).isoformat()
        assert set(refusals(post_orders(api, order("o2", ordered_at=late)))) == {"/orders/0/ordered_at"}


@pytest.mark.parametrize("when", ["0001-01-02T00:00:00Z", "1900-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
def test_what_systems_write_for_an_empty_date_is_refused(api: httpx.Client, store: MemoryStore, when: str) -> None:
    found = refusals(post_orders(api, order(ordered_at=when)))
    assert "must be 1990-01-01 or later" in found["/orders/0/ordered_at"]
    assert store.size("order_lines") == 0


def test_old_orders_are_kept_and_counted(api: httpx.Client, store: MemoryStore) -> None:
    old = order("old", line(), line("P2"), ordered_at="1990-01-01T00:00:00Z")
    assert post_orders(api, old, order("new")).json() == {
        "received_lines": 3,
        "conflicts": [],
        "unknown_products": [],
        "anonymous_orders": 0,
        "before_as_of": 2,
    }
    assert store.size("order_lines") == 3


def test_another_currency_is_refused_whole(api: httpx.Client, store: MemoryStore) -> None:
    found = refusals(post_orders(api, order("o1", currency="EUR"), order("o2", currency="USD"), order("o3")))
    assert set(found) == {"/orders/1/currency"}
    assert "currency == 'USD', must be EUR, the currency of the model" in found["/orders/1/currency"]
    assert store.size("order_lines") == 0
    assert post_orders(api, order("o1", currency="EUR"), order("o3")).status_code == 200
    assert [row["currency"] for row in store.read(EventQuery("order_lines")).to_pylist()] == ["EUR", "EUR"]


def test_a_model_without_a_currency_takes_any_one(without_currency: httpx.Client, store: MemoryStore) -> None:
    found = refusals(post_orders(without_currency, order("o1", currency="USD"), order("o2", currency="SEK")))
    assert "currency == 'SEK', must be USD, as in /orders/0" in found["/orders/1/currency"]
    assert store.size("order_lines") == 0
    assert post_orders(without_currency, order("o1", currency="USD"), order("o2", currency="USD")).status_code == 200


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"unit_price": 1e6, "quantity": 1e7}, "unit_price"),
        ({"unit_price": 2.0, "quantity": 3, "discount": 6.02}, "discount"),
        ({"discount": 1.5}, "discount"),
    ],
)
def test_money_that_can_never_be_right_is_refused(
    api: httpx.Client, store: MemoryStore, wrong: dict[str, Any], field: str
) -> None:
    found = refusals(post_orders(api, order("o1", line("P2"), line(**wrong))))
    assert set(found) == {f"/orders/0/lines/1/{field}"}
    assert store.size("order_lines") == 0


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *[("quantity", text) for text in ("0", "-1", "1e12", "NaN")],
        *[(field, text) for field in ("unit_price", "discount") for text in ("-0.01", "1e300", "1e999", "Infinity")],
    ],
)
def test_numbers_that_the_document_forbids_are_refused(
    api: httpx.Client, store: MemoryStore, field: str, text: str
) -> None:
    body = f'{{"orders":[{{"order_id":"o","lines":[{{"product_id":"P1","{field}":{text}}}]}}]}}'
    answered = api.post("/v1/orders", content=body, headers={"Content-Type": "application/json"})
    assert answered.status_code in {400, 422}
    assert store.size("order_lines") == 0


@given(
    price=st.floats(0, 1e6),
    quantity=st.floats(1e-3, 1e6),
    share=st.floats(0, 2),
    days=st.integers(-20_000, 20_000),
    currency=st.sampled_from(["EUR", "USD", None]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_kept_has_credible_dates_and_money(
    api: httpx.Client,
    store: MemoryStore,
    price: float,
    quantity: float,
    share: float,
    days: int,
    currency: str | None,
) -> None:
    before = store.size("order_lines")
    when = NOW + timedelta(days=days)
    bought = line(unit_price=price, quantity=quantity, discount=share * price * quantity)
    answered = post_orders(api, order(f"o{before}", bought, ordered_at=when.isoformat(), currency=currency))
    worth = price * quantity
    credible = (
        datetime(1990, 1, 1, tzinfo=UTC) <= when <= NOW + timedelta(minutes=5)
        and share * worth <= worth + 0.01
        and worth <= 1e12
        and currency != "USD"
    )
    assert answered.status_code in ({200} if credible else {409, 422})  # 422: the discount is beyond any money
    assert store.size("order_lines") == before + credible


def test_every_wrong_order_is_named(api: httpx.Client) -> None:
    wrong = [order(f"o{i}", currency="USD", ordered_at="2199-01-01T00:00:00Z") for i in range(3)]
    found = refusals(post_orders(api, *wrong))
    assert set(found) == {f"/orders/{i}/{field}" for i in range(3) for field in ("currency", "ordered_at")}


def test_an_answer_lists_no_more_than_a_thousand(api: httpx.Client) -> None:
    lines = [line(discount=1.0) for _ in range(500)]
    answered = post_orders(api, *[order(f"o{i}", *lines) for i in range(3)])
    assert answered.status_code == 409
    assert answered.json()["errors"] == []
    assert answered.json()["detail"] == "1500 fields can't be right; send fewer items to see which"


def test_unknown_products_and_orders_of_nobody_are_kept_and_named(api: httpx.Client, store: MemoryStore) -> None:
    nobody = {"order_id": "o2", "lines": [line("X1"), line("P2")]}
    visitor = {"order_id": "o3", "visitor_id": "v1", "lines": [line("X0")]}
    answered = post_orders(api, order("o1", line("X1"), line("P1")), nobody, visitor).json()
    assert answered["unknown_products"] == ["X1", "X0"]
    assert answered["anonymous_orders"] == 1
    assert store.size("order_lines") == 5


def test_an_unknown_segment_is_kept_and_named(api: httpx.Client, store: MemoryStore) -> None:
    accounts = [{"account_id": "A1", "segment": name} for name in ("retail", "whoelsale", "whoelsale")]
    answered = api.post("/v1/accounts", json={"accounts": [*accounts, {"account_id": "A2"}]}).json()
    assert answered == {"received": 4, "unknown_segments": ["whoelsale"]}
    assert store.size("account_overrides") == 2


def decide(api: httpx.Client) -> tuple[str, list[str]]:
    answer = api.post("/v1/offers", json={"account_id": "A0", "limit": 5}).json()
    return answer["decision_id"], [offer["product_id"] for offer in answer["offers"]]


def test_an_outcome_before_its_decision_is_kept_and_named(api: httpx.Client, store: MemoryStore) -> None:
    decision_id, _ = decide(api)
    midnight = "2026-03-01T00:00:00Z"  # a system that knows the day only
    sent = [
        outcome(decision_id=decision_id, occurred_at=midnight),
        outcome(outcome_id="x2", decision_id=decision_id, occurred_at=(NOW - timedelta(seconds=300)).isoformat()),
        outcome(outcome_id="x3", decision_id=decision_id),
    ]
    answered = api.post("/v1/outcomes", json={"outcomes": sent}).json()
    assert answered["before_decision"] == ["x1"]
    assert store.size("outcomes") == 3


def test_a_refusal_dated_before_its_decision_rests_from_the_decision_on(api: httpx.Client) -> None:
    decision_id, before = decide(api)
    body = outcome(decision_id=decision_id, kind="declined", product_id=before[0], occurred_at="1995-01-01T00:00:00Z")
    assert api.post("/v1/outcomes", json={"outcomes": [body]}).json()["before_decision"] == ["x1"]
    assert before[0] not in decide(api)[1]
