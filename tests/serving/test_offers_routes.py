"""Offers over HTTP: what is asked matters, what is answered is kept."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from recsys.contracts.events import EventQuery
from recsys.contracts.offers import EMPTY_STATE, AccountState, CartLine, Offer, OfferRequest
from recsys.errors import StoreBusyError, StoreError
from recsys.events.memory import MemoryStore
from recsys.events.reading import read_decisions
from serving.app import create_app
from serving.fakes import AS_OF, FakeEngine, fake_model
from serving.models.by_alias import FixedModel
from serving.schemas.offers import OffersAnswer
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def post(api: httpx.Client, **body: Any) -> dict[str, Any]:
    answered = api.post("/v1/offers", json=body)
    assert answered.status_code == 200, answered.text
    return answered.json()


def products(answer: dict[str, Any]) -> list[str]:
    return [offer["product_id"] for offer in answer["offers"]]


def test_the_answer_has_the_declared_shape_and_no_other_field(api: httpx.Client) -> None:
    answer = post(api, account_id="A1", cart=[{"product_id": "P3", "quantity": 2}], limit=3, explain="full")
    parsed: Any = OffersAnswer.model_validate(answer, extra="forbid")
    assert set(answer) == set(OffersAnswer.model_fields)
    assert [offer.rank for offer in parsed.offers] == [1, 2, 3]
    assert parsed.offers[0].evidence == {"n_orders": 412}
    assert (parsed.model_version, parsed.as_of, parsed.horizon_days) == ("fake-1", AS_OF, 30)
    assert (parsed.requested, parsed.returned, parsed.shortfall) == (3, 3, None)


def test_account_and_cart_both_matter(api: httpx.Client) -> None:
    plain = products(post(api, account_id="A0"))
    assert products(post(api, account_id="A1")) != plain
    assert products(post(api, account_id="A0", cart=[{"product_id": "P7"}])) != plain


def test_an_unknown_account_gets_a_fallback_and_the_answer_says_so(api: httpx.Client) -> None:
    assert post(api, account_id="A1")["tier"] == "account"
    assert post(api, account_id="nobody")["tier"] == "popular"
    assert post(api)["tier"] == "popular"
    assert post(api, account_id="nobody", cart=[{"product_id": "P1"}])["tier"] == "cart"


def test_an_unknown_product_in_the_cart_is_tolerated_and_reported(api: httpx.Client) -> None:
    answer = post(api, cart=[{"product_id": "P1"}, {"product_id": "no such"}])
    assert answer["unknown_products"] == ["no such"]


def test_unknown_categories_are_reported_and_tolerated(api: httpx.Client) -> None:
    filters = {"categories": ["Toys", "Tyos", "Toys", "Tyos"]}
    answer = api.post("/v1/offers", json={"account_id": "A1", "filters": filters}).json()
    assert (answer["unknown_categories"], answer["returned"]) == (["Tyos"], 10)
    assert api.post("/v1/offers", json={"account_id": "A1"}).json()["unknown_categories"] == []
    assert answer["returned"] == 10


def test_fewer_than_asked_says_why(api: httpx.Client) -> None:
    answer = post(api, limit=100)
    assert (answer["requested"], answer["returned"]) == (100, 30)
    assert answer["shortfall"] == "only 30 products may be offered"


def test_every_answer_is_in_the_store_as_it_was_given(api: httpx.Client, store: MemoryStore) -> None:
    answered = api.post(
        "/v1/offers",
        json={
            "account_id": "A1",
            "visitor_id": "v9",
            "cart": [{"product_id": "P3", "quantity": 2}, {"product_id": "X"}],
            "limit": 2,
            "exclude": ["P4"],
            "channel": "web",
            "surface": "cart",
        },
        headers={"X-Request-ID": "r-77"},
    )
    answer = answered.json()
    (kept,) = read_decisions(store)
    assert kept.decision_id == answer["decision_id"]
    assert kept.request == OfferRequest(
        account_id="A1",
        cart=(CartLine("P3", 2.0), CartLine("X")),
        limit=2,
        exclude=frozenset({"P4"}),
        channel="web",
        surface="cart",
    )
    assert (kept.visitor_id, kept.channel, kept.surface, kept.request_id) == ("v9", "web", "cart", "r-77")
    assert (kept.decided_at, kept.model_version, kept.tier) == (NOW, "fake-1", "account")
    assert (kept.unknown_products, kept.n_considered) == (("X",), 30)
    assert (kept.shown, kept.presented, kept.assignments) == (True, False, ())
    assert [offer.logged() for offer in kept.offers] == [Offer(**offer).logged() for offer in answer["offers"]]
    assert {offer.propensity for offer in kept.offers} == {1.0}


def test_decision_ids_are_version_7_and_sort_by_time(api: httpx.Client) -> None:
    ids = [post(api)["decision_id"] for _ in range(20)]
    assert ids == sorted(ids)
    assert {one[14] for one in ids} == {"7"}


def test_a_surface_that_shows_what_it_gets_is_kept_as_presented(api: httpx.Client, store: MemoryStore) -> None:
    post(api, surface="newsletter", limit=1)
    post(api, surface="cart", limit=1)
    kept = {decision.surface: decision.presented for decision in read_decisions(store)}
    assert kept == {"newsletter": True, "cart": False}


def test_the_server_has_an_objective_and_a_request_may_name_another(store: MemoryStore, running: Any) -> None:
    app = create_app(Settings(objective="revenue"), bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)
    with running(app) as api:
        assert post(api)["objective"] == "revenue"
        assert post(api, objective="conversion")["objective"] == "conversion"
        assert api.get("/v1/accounts/A1/offers").json()["objective"] == "revenue"


def test_a_page_for_a_person_has_full_evidence_by_default(api: httpx.Client, store: MemoryStore) -> None:
    answer = api.get("/v1/accounts/A1/offers", params={"limit": 2, "kinds": "upsell"}).json()
    assert OffersAnswer.model_validate(answer, extra="forbid").returned == 2
    assert answer["offers"][0]["evidence"] == {"n_orders": 412}
    assert {offer["kind"] for offer in answer["offers"]} == {"upsell"}
    (kept,) = read_decisions(store)
    assert (kept.account_id, kept.presented) == ("A1", False)


@pytest.mark.parametrize("account_id", ["with/slash", "with space", "ümläut", "a?b#c", "..%2F..", "offers"])
def test_an_account_id_may_hold_any_text(api: httpx.Client, store: MemoryStore, account_id: str) -> None:
    answered = api.get(f"/v1/accounts/{quote(account_id, safe='')}/offers")
    assert answered.status_code == 200, answered.text
    assert [decision.account_id for decision in read_decisions(store)] == [account_id]


class DyingStore(MemoryStore):
    """Fails from the moment that a test says so."""

    failure: Exception | None = None

    def append(self, events: Any) -> None:
        if self.failure is not None:
            raise self.failure
        super().append(events)

    def read(self, query: EventQuery) -> Any:
        if self.failure is not None:
            raise self.failure
        return super().read(query)


def dying_app(store: DyingStore, **changes: Any) -> FastAPI:
    return create_app(Settings(**changes), bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)


@pytest.mark.parametrize("failure", [StoreError("dead, host db.internal"), StoreBusyError("locked")])
def test_a_store_that_fails_sheds_the_request_and_is_used_again(failure: Exception, running: Any) -> None:
    store = DyingStore()
    with running(dying_app(store, retry_after_seconds=3, refresh_seconds=0.01)) as api:
        store.failure = failure
        for answered in (api.post("/v1/offers", json={}), api.get("/v1/accounts/A1/offers")):
            assert answered.status_code == 503
            assert answered.headers["Retry-After"] == "3"
            assert answered.headers["Content-Type"] == "application/problem+json"
            assert "db.internal" not in answered.text
        assert api.get("/readyz").status_code == 503
        assert api.get("/livez").status_code == 200
        time.sleep(0.05)
        store.failure = None
        assert post(api)["logged"] is True
        assert api.get("/readyz").status_code == 200


def test_where_so_configured_the_answer_comes_unlogged(running: Any) -> None:
    store = DyingStore()
    with running(dying_app(store, answer_unlogged=True)) as api:
        store.failure = StoreError("dead")
        assert post(api, limit=1)["logged"] is False


class BrokenEngine(FakeEngine):
    def recommend(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> Any:
        if request.viewed_product_id == "boom":
            raise RuntimeError("a secret of account A1")
        return super().recommend(request, state)


def test_what_nobody_foresaw_is_a_500_that_tells_no_secret(store: MemoryStore, running: Any) -> None:
    app = create_app(Settings(), bundles=FixedModel(fake_model(BrokenEngine())), store=store, clock=lambda: NOW)
    with running(app) as api:
        answered = api.post("/v1/offers", json={"viewed_product_id": "boom"}, headers={"X-Request-ID": "r-1"})
        assert answered.status_code == 500
        assert answered.headers["X-Request-ID"] == "r-1"
        assert answered.json()["request_id"] == "r-1"
        assert "secret" not in answered.text
        assert post(api)["returned"] == 10


def test_liveness_readiness_and_what_runs(api: httpx.Client) -> None:
    assert api.get("/livez").json() == {"status": "alive"}
    assert api.get("/readyz").json() == {"status": "ready", "model_version": "fake-1", "warnings": []}
    (model,) = api.get("/v1/models").json()["models"]
    assert (model["version"], model["n_products"], model["as_of"]) == ("fake-1", 30, "2026-01-01T00:00:00Z")


def test_a_whole_number_may_be_written_as_a_decimal(api: httpx.Client) -> None:
    assert post(api, limit=2.0)["returned"] == 2


def test_metrics_tell_all_that_an_operator_asks_for(api: httpx.Client) -> None:
    decision = post(api, account_id="A1", limit=3)["decision_id"]
    told = {"outcomes": [{"outcome_id": "x1", "decision_id": decision, "kind": "shown"}]}
    assert api.post("/v1/outcomes", json=told).status_code == 200
    text = api.get("/metrics").text
    helped = set(re.findall(r"^# HELP (\S+)", text, re.MULTILINE))
    assert {
        "offers_answer_seconds",  # latency by route and tier
        "offers_returned_total",
        "offers_presented_total",
        "offers_shortfalls_total",
        "offers_store_commit_seconds",
        "offers_store_queue",
        "offers_model_age_seconds",
        "offers_arm_decisions_total",  # with offers_outcomes: acceptance by arm
        "offers_outcomes_total",
        "offers_unlogged_total",
        "offers_model_swaps_total",
        "offers_model_refusals_total",
        "offers_worker",
    } <= helped
    assert "offers_presented_total 3.0" in text
    assert "offers_store_commit_seconds_count 2.0" in text
    (age,) = re.findall(r"^offers_model_age_seconds (\S+)$", text, re.MULTILINE)
    assert float(age) == (NOW - AS_OF).total_seconds()


def test_metrics_count_answers_by_route_and_tier(api: httpx.Client) -> None:
    post(api, account_id="A1", limit=3)
    post(api, limit=100)
    api.get("/v1/accounts/A1/offers?limit=2")
    text = api.get("/metrics").text
    assert 'offers_answer_seconds_count{route="POST /v1/offers",tier="account"} 1.0' in text
    assert 'offers_answer_seconds_count{route="GET /v1/accounts/{account_id}/offers",tier="account"} 1.0' in text
    assert 'offers_returned_total{tier="account"} 5.0' in text
    assert 'offers_returned_total{tier="popular"} 30.0' in text
    assert "offers_shortfalls_total 1.0" in text
    assert "offers_store_requests_written 3.0" in text
    assert 'version="fake-1"} 1.0' in text
    (as_of,) = re.findall(r"^offers_model_as_of_seconds (\S+)$", text, re.MULTILINE)
    assert float(as_of) == AS_OF.timestamp()
