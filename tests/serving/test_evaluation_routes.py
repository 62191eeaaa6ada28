"""Readouts and KPIs over HTTP, from what the same server has logged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from recsys.client import OfferClient
from recsys.contracts.events import PostedLine
from recsys.events.memory import MemoryStore
from recsys.experiments.lifecycle import decisions_of, start_experiment
from recsys.experiments.plan import Arm, ExperimentPlan, Policy
from serving.app import create_app
from serving.fakes import fake_model
from serving.models.by_alias import FixedModel
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = ExperimentPlan(
    id="cards",
    arms=(Arm(name="offers", weight=1), Arm(name="holdout", weight=1, policy=Policy(kind="none"), is_control=True)),
    planned_start=NOW,
    planned_end=NOW + timedelta(days=28),
    planned_size=10,
)


class Clock:
    """Shows what a test says."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api(store: MemoryStore, running: Any, clock: Clock) -> Iterator[httpx.Client]:
    start_experiment(store, PLAN, NOW)
    app = create_app(Settings(), bundles=FixedModel(fake_model()), store=store, clock=clock)
    with running(app) as client:
        yield client


def shop(api: httpx.Client, clock: Clock, n_accounts: int) -> None:
    for i in range(n_accounts):
        clock.now = NOW + timedelta(minutes=i)
        decision = api.post("/v1/offers", json={"account_id": f"U{i}", "limit": 2}).json()
        if decision["offers"]:
            shown = {"outcome_id": f"x{i}", "decision_id": decision["decision_id"], "kind": "shown"}
            assert api.post("/v1/outcomes", json={"outcomes": [shown]}).status_code == 200
        clock.now += timedelta(hours=1)
        line = {"product_id": "P0", "quantity": 1 + i % 3, "unit_price": 5.0}
        order = {"account_id": f"U{i}", "currency": "EUR", "lines": [line]}
        orders = [order | {"order_id": f"o{i}-{number}"} for number in range((1, 2, 1, 0)[i % 4])]
        assert not orders or api.post("/v1/orders", json={"orders": orders}).status_code == 200
    clock.now = NOW + timedelta(days=20)
    assert api.post("/v1/offers", json={"limit": 1}).status_code == 200  # the log reaches until then


def test_a_readout_is_made_from_the_log_of_the_server(api: httpx.Client, clock: Clock) -> None:
    shop(api, clock, 60)
    answered = api.get("/v1/experiments/cards/readout")
    assert answered.status_code == 200, answered.text
    readout = answered.json()
    assert readout["counts"]["offers"] + readout["counts"]["holdout"] == 60
    assert readout["health"]
    assert readout["verdict"]


def test_figures_over_a_log_of_several_currencies_keep_one(
    api: httpx.Client, clock: Clock, store: MemoryStore, running: Any
) -> None:
    shop(api, clock, 60)
    before = api.get("/v1/kpis").json(), api.get("/v1/experiments/cards/readout").json()
    when = NOW + timedelta(hours=2)
    usd = PostedLine(
        order_id="usd",
        line_id="1",
        product_id="P0",
        quantity=1.0,
        ordered_at=when,
        recorded_at=when,
        account_id="U1",
        unit_price=1e6,
        currency="USD",
    )
    store.append([usd])  # by a server whose model was in another currency
    after = api.get("/v1/kpis").json(), api.get("/v1/experiments/cards/readout").json()
    assert (after[0]["values"], after[1]["effects"]) == (before[0]["values"], before[1]["effects"])
    assert "1 in USD" in after[0]["notes"][0]
    assert any("1 in USD" in note for note in after[1]["notes"])
    assert api.get("/v1/kpis?currency=USD").json()["n_orders"] == 1
    assert "must be one of EUR, USD" in api.get("/v1/experiments/cards/readout?currency=SEK").json()["detail"]
    with running(
        create_app(Settings(), bundles=FixedModel(fake_model(currency=None)), store=store, clock=clock)
    ) as one:
        for path in ("/v1/kpis", "/v1/experiments/cards/readout"):
            refused = one.get(path)
            assert refused.status_code == 409
            assert "USD (1 lines), must be one; choose" in refused.json()["detail"]


def test_what_can_not_be_read_out_is_a_sentence(api: httpx.Client) -> None:
    assert api.get("/v1/experiments/none/readout").status_code == 404
    empty = api.get("/v1/experiments/cards/readout")
    assert (empty.status_code, empty.headers["content-type"]) == (409, "application/problem+json")
    assert len(empty.json()["detail"]) > 20


def test_kpis_count_the_posted_orders_and_the_log(api: httpx.Client, clock: Clock) -> None:
    assert "no orders were posted yet" in api.get("/v1/kpis").json()["detail"]
    shop(api, clock, 12)
    answered = api.get("/v1/kpis?period=week&window_days=7")
    assert answered.status_code == 200, answered.text
    kpis = answered.json()
    assert (kpis["n_orders"], kpis["period"], kpis["window_days"], kpis["currency"]) == (12, "week", 7, "EUR")


def test_a_decision_is_stored_once_with_who_and_a_look_stores_nothing(
    api: httpx.Client, clock: Clock, store: MemoryStore
) -> None:
    shop(api, clock, 60)
    path = "/v1/experiments/cards"
    early = api.post(f"{path}/decision", json={"by": "Ann"})
    assert early.status_code == 409
    assert "cards is decided as of 2026-04-14 12:00 UTC" in early.json()["detail"]
    assert api.post("/v1/experiments/none/decision", json={"by": "Ann"}).status_code == 404
    clock.now = PLAN.decision_due + timedelta(days=1)
    assert api.post("/v1/offers", json={"limit": 1}).status_code == 200
    assert api.get(f"{path}/readout").json()["decision"] is None
    assert store.size("experiment_decisions") == 0
    listed = api.get("/v1/experiments").json()["experiments"][0]
    assert (listed["state"], listed["decided"], listed["signed_by"]) == ("ended", None, None)
    assert "nobody signs the decision" in api.post(f"{path}/decision", json={}).json()["detail"]
    assert api.post(f"{path}/decision", json={"by": "Ann", "override": "KEEP RUNNING"}).status_code == 422
    against = {"by": "Ann", "override": "SHIP", "reason": "the contract is signed"}
    made = api.post(f"{path}/decision", json=against)
    assert made.status_code == 200, made.text
    assert made.json()["is_new"]
    decision = made.json()["decision"]
    assert (decision["signed_by"], decision["override"], decision["plan_hash"]) == (
        "Ann",
        "SHIP",
        listed["plan_hash"],
    )
    again = api.post(f"{path}/decision", json={"by": "Bo"}).json()
    assert (again["is_new"], again["decision"]) == (False, decision)
    with OfferClient(str(api.base_url)) as client:
        shown, (entry,) = client.decide("cards", by="Cy"), client.experiments()
    assert (shown.is_new, shown.decision) == (False, decisions_of(store)["cards", 1])
    assert (entry.decided, entry.signed_by, entry.decision_due) == ("SHIP", "Ann", PLAN.decision_due)
    assert api.get(f"{path}/readout").json()["decision"]["signed_by"] == "Ann"
    listed = api.get("/v1/experiments").json()["experiments"][0]
    assert (listed["decided"], listed["signed_by"]) == ("SHIP", "Ann")


def test_five_days_of_a_plan_finish_nothing_when_the_servers_clock_runs_on(
    store: MemoryStore, running: Any, clock: Clock
) -> None:
    """Nothing is logged after the fifth day, however late it is by the clock of the server that is asked."""
    quick = PLAN.model_copy(update={"attribution_window_days": 1, "planned_end": NOW + timedelta(days=42)})
    start_experiment(store, quick, NOW)
    app = create_app(Settings(), bundles=FixedModel(fake_model()), store=store, clock=clock)
    with running(app) as api:
        shop(api, clock, 60)
        for days in (25, 42, 60, 600):
            clock.now = NOW + timedelta(days=days)
            found = api.get("/v1/experiments/cards/readout").json()
            assert found["verdict"]["verdict"] == "KEEP RUNNING"
            assert found["timing"]["last_event"].startswith("2026-03-21")
