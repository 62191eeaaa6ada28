"""Both clients against one suite of answers: what they send, what they make of it, when they try again."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from recsys.client import (
    Answer,
    AsyncOfferClient,
    ClientConfig,
    OfferClient,
    RequestRefusedError,
    RunningModel,
    ServiceError,
)
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.errors import ConfigError
from serving.schemas.evaluation import DecisionBody
from tests.support.scripted_clients import BODY, EXPECTED, OFFER, Script, good


def test_an_answer_becomes_typed_values(ask: Any) -> None:
    answer = ask(Script(good()), "offers", OfferRequest(limit=2))
    assert answer == EXPECTED
    assert answer.returned == 1


def test_fields_of_a_newer_server_are_left_out(ask: Any) -> None:
    newer = BODY | {"mood": "good", "offers": [OFFER | {"colour": "red"}]}
    assert ask(Script(good(newer)), "offers", OfferRequest(limit=2)) == EXPECTED


def test_everything_that_is_asked_is_sent(ask: Any) -> None:

    script = Script(good())
    request = OfferRequest(
        account_id="A1",
        cart=(CartLine("P3", 2.0),),
        viewed_product_id="P4",
        kinds=("upsell",),
        limit=3,
        exclude=frozenset({"P9", "P8"}),
        new_only=True,
        objective="revenue",
        explain="full",
        mix="none",
        variants="keep",
    )
    ask(script, "offers", request, visitor_id="v1", channel="web", surface="cart")
    assert (script.seen[0].method, script.seen[0].url.path) == ("POST", "/v1/offers")
    assert json.loads(script.seen[0].content) == {
        "account_id": "A1",
        "visitor_id": "v1",
        "cart": [{"product_id": "P3", "quantity": 2.0}],
        "viewed_product_id": "P4",
        "kinds": ["upsell"],
        "limit": 3,
        "exclude": ["P8", "P9"],
        "new_only": True,
        "objective": "revenue",
        "explain": "full",
        "mix": "none",
        "variants": "keep",
        "channel": "web",
        "surface": "cart",
    }


def test_an_accounts_page_is_asked_by_its_id(ask: Any) -> None:
    script = Script(good())
    ask(script, "account_offers", OfferRequest(account_id="a/b ?", limit=2, mix="kinds"), channel="phone")
    url = script.seen[0].url
    assert url.raw_path.startswith(b"/v1/accounts/a%2Fb%20%3F/offers?")
    assert url.params.get_list("kinds") == ["cross_sell", "upsell"]
    assert (url.params["limit"], url.params["channel"], url.params["new_only"]) == ("2", "phone", "false")
    assert (url.params["mix"], "variants" in url.params) == ("kinds", False)


@pytest.mark.parametrize("page", ["complements", "upgrades"])
def test_a_products_page_is_asked_with_every_option_of_its_route(ask: Any, page: str) -> None:
    script = Script(good())
    given = {"explain": "full", "channel": "web", "surface": "product", "language": "de", "mix": "none"}
    ask(script, page, "P1", limit=3, variants="keep", **given)
    assert script.seen[0].url.path == f"/v1/products/P1/{page}"
    assert dict(script.seen[0].url.params) == given | {"limit": "3", "variants": "keep"}
    with pytest.raises(ConfigError, match="new_only == True: a product's page takes limit, explain"):
        ask(script, page, "P1", new_only=True)


@pytest.mark.parametrize("name", ["account_id", "mix", "variants", "language", "region", "channel", "surface"])
def test_an_empty_text_is_sent_for_the_server_to_refuse(ask: Any, name: str) -> None:
    script = Script(good())
    request = OfferRequest(**{name: ""})  # type: ignore[arg-type]
    ask(script, "offers", request)
    assert json.loads(script.seen[0].content)[name] == ""
    if name in {"mix", "variants", "language"}:
        ask(script, "account_offers", replace(request, account_id="A1"))
        assert script.seen[1].url.params[name] == ""


def test_what_a_route_does_not_take_is_refused_before_it_is_sent(ask: Any) -> None:
    script = Script(good())
    with pytest.raises(ConfigError, match="raw == True"):
        ask(script, "offers", OfferRequest(raw=True))
    with pytest.raises(ConfigError, match="an account's page takes"):
        ask(script, "account_offers", OfferRequest(account_id="A1", cart=(CartLine("P1"),)))
    with pytest.raises(ConfigError, match="an account's page takes"):
        ask(script, "account_offers", OfferRequest())
    assert script.seen == []


def test_what_runs(ask: Any) -> None:
    times = {"as_of": "2026-01-01T00:00:00Z", "loaded_at": "2026-01-02T00:00:00Z"}
    plain: dict[str, Any] = {
        "alias": "champion",
        "version": "7",
        "source": "s",
        "horizon_days": 30,
        "currency": None,
        "n_accounts": 1,
        "n_products": 2,
    }
    assert ask(Script(good({"models": [plain | times]})), "models") == (
        RunningModel(**plain, as_of=datetime(2026, 1, 1, tzinfo=UTC), loaded_at=datetime(2026, 1, 2, tzinfo=UTC)),
    )


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(ask: Any, status: int) -> None:
    script = Script(httpx.Response(status), httpx.Response(status), good())
    assert ask(script, "offers", OfferRequest(limit=2)) == EXPECTED
    assert len(script.seen) == 3


def test_a_lost_connection_is_tried_again(ask: Any) -> None:
    script = Script(httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), good())
    assert ask(script, "offers", OfferRequest(limit=2)) == EXPECTED


def test_after_the_last_retry_the_failure_is_told(ask: Any) -> None:
    script = Script(httpx.ConnectError("connection refused"))
    with pytest.raises(ServiceError, match="did not answer: connection refused") as caught:
        ask(script, "models", config=ClientConfig(retries=4, backoff_seconds=0.0))
    assert isinstance(caught.value, ConnectionError)
    assert len(script.seen) == 5
    with pytest.raises(ServiceError, match="answered 503: the store is busy"):
        ask(Script(httpx.Response(503, json={"detail": "the store is busy"})), "models")


def test_a_refusal_is_not_tried_again_and_tells_the_fields(ask: Any) -> None:
    problem = {"detail": "1 field breaks a rule", "errors": [{"pointer": "/limit", "detail": "too large"}]}
    script = Script(httpx.Response(422, json=problem, headers={"X-Request-ID": "r-1"}))
    with pytest.raises(RequestRefusedError, match=r"422: 1 field breaks a rule \(/limit: too large\)") as caught:
        ask(script, "models")
    assert (caught.value.status, caught.value.request_id) == (422, "r-1")
    assert len(script.seen) == 1


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), good({"hello": 1}), good([])])
def test_another_kind_of_server_is_told_as_such(ask: Any, answer: httpx.Response) -> None:
    with pytest.raises(ServiceError, match="does not answer like an offer engine"):
        ask(Script(answer), "models")


def test_the_server_may_ask_for_a_pause_and_the_client_has_its_own_bound(ask: Any) -> None:
    begun = time.monotonic()
    busy = httpx.Response(503, headers={"Retry-After": "3600"})
    config = ClientConfig(backoff_seconds=0.0, max_backoff_seconds=0.15, retries=1)
    assert ask(Script(busy, good()), "offers", OfferRequest(limit=2), config=config) == EXPECTED
    assert 0.15 <= time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.ConnectError("refused"), "the server did not answer: refused"),
        (httpx.Response(500), "the server answered 500: Internal Server Error"),
        (httpx.Response(422, json={"detail": "no"}), "the server answered 422: no"),
        (good({"x": 1}), "does not answer like an offer engine"),
        (RuntimeError("anything"), "anything"),
    ],
)
def test_a_page_gets_an_empty_slate_with_the_reason(ask: Any, answer: Any, reason: str) -> None:
    for call, argument in (
        ("offers", OfferRequest(limit=7)),
        ("account_offers", OfferRequest(account_id="A1", limit=7)),
        ("complements", "P1"),
        ("upgrades", "P1"),
    ):
        empty = ask(Script(answer), call, argument, **({} if isinstance(argument, OfferRequest) else {"limit": 7}))
        assert (empty.offers, empty.requested, empty.decision_id, empty.logged) == ((), 7, None, False)
        assert reason in empty.shortfall


def test_a_refusal_is_logged_with_the_id_of_its_request(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    ask(Script(httpx.Response(422, json={"detail": "no"}, headers={"X-Request-ID": "r-1"})), "offers", OfferRequest())
    assert "/v1/offers was refused: the server answered 422: no; request r-1" in caplog.text


def test_a_closed_client_says_so() -> None:
    client = OfferClient("http://test", transport=httpx.MockTransport(Script(good())))
    assert client.close() == client.close() == 0
    with pytest.raises(RuntimeError, match="is closed"):
        client.offers(OfferRequest())

    async def run() -> None:
        async with AsyncOfferClient("http://test") as closed:
            pass
        assert await closed.close() == 0
        for call in (closed.offers(OfferRequest()), closed.queue_orders([])):
            with pytest.raises(RuntimeError, match="is closed"):
                await call

    asyncio.run(run())


async def hang(_: httpx.Request) -> httpx.Response:
    await asyncio.sleep(30)
    return good()


def test_the_deadline_is_of_the_configuration_or_of_the_call(ask: Any) -> None:
    hurried = ClientConfig(deadline_ms=40)
    assert ask(hang, "offers", OfferRequest(), config=hurried).shortfall == "no answer within 40 ms"
    assert ask(hang, "offers", OfferRequest(), deadline_ms=50).shortfall == "no answer within 50 ms"
    assert ask(hang, "complements", "P1", deadline_ms=-1).shortfall == "no answer within -1 ms"
    with pytest.raises(ServiceError, match="no answer within 40 ms"):
        ask(hang, "models", config=hurried)


def test_the_deadline_covers_all_attempts(ask: Any) -> None:
    busy = Script(httpx.Response(503, headers={"Retry-After": "1"}))
    empty = ask(busy, "offers", OfferRequest(), deadline_ms=80, config=ClientConfig(retries=3))
    assert empty.shortfall == "no answer within 80 ms"


def test_waiting_for_a_server_that_starts_and_for_one_that_does_not() -> None:
    ready = Script(httpx.ConnectError("no"), httpx.Response(503), good({"status": "ready", "model_version": "7"}))
    patient = ClientConfig(retries=0)
    with OfferClient("http://test", patient, transport=httpx.MockTransport(ready)) as client:
        assert client.wait_until_ready(10) == "7"
    never = Script(httpx.ConnectError("no"))
    with (
        OfferClient("http://test", patient, transport=httpx.MockTransport(never)) as client,
        pytest.raises(ServiceError, match="did not answer: no"),
    ):
        client.wait_until_ready(0.05)


def test_one_client_serves_many_threads() -> None:
    answers = Script(good())
    with OfferClient("http://test", transport=httpx.MockTransport(answers)) as client:
        got: list[Answer] = []
        callers = [threading.Thread(target=lambda: got.append(client.offers(OfferRequest(limit=2)))) for _ in range(20)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(20)
    assert got == [EXPECTED] * 20


DECIDED = {
    "experiment_id": "engine-q1",
    "version": 1,
    "verdict": "SHIP",
    "rule": "the primary is better",
    "reason": "revenue rose",
    "n_units": 8_000,
    "planned_size": 4_000,
    "plan_hash": "h",
    "as_of": "2027-01-06T00:00:00Z",
    "decided_at": "2027-01-07T09:00:00Z",
    "signed_by": "Ann",
    "override": "FLAT",
    "mood": "good",
}


def test_a_decision_is_posted_by_the_names_of_its_route_and_comes_as_it_is_stored(ask: Any) -> None:
    script = Script(good({"is_new": True, "decision": DECIDED}))
    options = {"by": "Ann", "override": "FLAT", "reason": "too dear", "arm": "engine", "currency": "EUR"}
    found = ask(script, "decide", "engine q1", **options)
    asked = script.seen[0]
    assert (asked.method, asked.url.raw_path) == ("POST", b"/v1/experiments/engine%20q1/decision?currency=EUR")
    assert json.loads(asked.content) == {"by": "Ann", "override": "FLAT", "reason": "too dear", "arm": "engine"}
    assert set(options) == {*DecisionBody.model_fields, "currency"}
    assert (found.is_new, found.decision.verdict, found.decision.decided) == (True, "SHIP", "FLAT")
    assert found.decision.as_of == datetime(2027, 1, 6, tzinfo=UTC)
    assert found.decision.effect is None, "which a server without a primary does not name"
