"""What hostile or careless callers send: nobody else's request may fail or wait because of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys.contracts.events import Event, EventQuery, FeedPosition, Outcome, OutcomeKind, PostedLine, TableName
from recsys.contracts.offers import AccountState
from recsys.events.maintenance import erase_account
from recsys.events.memory import MemoryStore
from recsys.events.store import SqlStore, open_store
from serving.app import create_app
from serving.fakes import fake_model
from serving.http.admission import AdmissionControl
from serving.http.middleware import RequestMiddleware
from serving.http.problems import MOST_LISTED
from serving.models.by_alias import FixedModel
from serving.online.change_feed import DecisionRef, Subject, reactions_of
from serving.online.state import OnlineState
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JSON = {"Content-Type": "application/json"}


def outcome(api: httpx.Client, decision_id: str, kind: str, when: str) -> int:
    body = {"outcome_id": f"{kind}-{when}", "decision_id": decision_id, "kind": kind, "product_id": "P3"}
    return api.post("/v1/outcomes", json={"outcomes": [body | {"occurred_at": when}]}).status_code


@pytest.mark.parametrize("kind", ["declined", "shown"])
@pytest.mark.parametrize("when", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
def test_an_outcome_at_the_end_of_time_in_the_log_stops_no_answer(
    api: httpx.Client, store: MemoryStore, running: Any, when: datetime, kind: OutcomeKind
) -> None:
    decision = api.post("/v1/offers", json={"account_id": "A1"}).json()
    store.append(
        [
            Outcome(
                outcome_id="O1",
                decision_id=decision["decision_id"],
                kind=kind,
                occurred_at=when,
                recorded_at=NOW,
                product_id="P3",
            )
        ]
    )
    with running(create_app(Settings(), bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)) as later:
        assert later.post("/v1/offers", json={"account_id": "A1"}).status_code == 200


def test_an_order_of_the_year_1_in_the_log_does_not_stretch_the_report(api: httpx.Client, store: MemoryStore) -> None:
    days = (datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
    store.append(
        [
            PostedLine(
                order_id=str(day),
                line_id="1",
                product_id="P3",
                quantity=1.0,
                ordered_at=day,
                recorded_at=NOW,
                account_id="A1",
                unit_price=2.0,
            )
            for day in days
        ]
    )
    begun = time.process_time()
    report = api.get("/v1/kpis", params={"period": "month"}).json()
    assert report["periods"] == ["2026-02", "2026-03"]
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("when", [datetime(9999, 12, 31, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)])
def test_an_outcome_of_the_future_counts_from_when_it_was_reported(when: datetime) -> None:
    told = {"D1": DecisionRef(Subject("A1", None), ["P3"], (), NOW)}
    early = Outcome(
        outcome_id="O1", decision_id="D1", kind="declined", occurred_at=when, recorded_at=NOW, product_id="P3"
    )
    (reaction,) = reactions_of([early], told)
    assert reaction.when == NOW
    (kept,) = reactions_of(
        [
            Outcome(
                outcome_id="O2", decision_id="D1", kind="declined", occurred_at=NOW, recorded_at=when, product_id="P3"
            )
        ],
        told,
    )
    assert kept.when == NOW


def test_a_shown_outcome_of_tomorrow_does_not_lift_the_caps_of_today(store: MemoryStore, running: Any) -> None:
    settings = Settings.model_validate({"fatigue": {"product_a_day": 1}})
    late = NOW.replace(hour=23, minute=58)
    with running(create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: late)) as api:
        decision = api.post("/v1/offers", json={"account_id": "A1"}).json()
        assert "P3" in [offer["product_id"] for offer in decision["offers"]]
        assert outcome(api, decision["decision_id"], "shown", "2026-03-02T00:02:00Z") == 200
        after = api.post("/v1/offers", json={"account_id": "A1"}).json()
        assert "P3" not in [offer["product_id"] for offer in after["offers"]]


def test_half_a_million_broken_fields_are_counted_and_not_listed(api: httpx.Client) -> None:
    question = b'{"cart":[' + b",".join([b"0"] * 200) + b'],"exclude":[' + b",".join([b"0"] * 700) + b"]}"
    body = b'{"requests":[' + b",".join([question] * 500) + b"]}"
    begun = time.process_time()
    answered = api.post("/v1/offers:batch", content=body, headers=JSON)
    assert answered.status_code == 422
    assert answered.json()["detail"].startswith("450000 fields break a rule")
    assert len(answered.content) < 1_000
    assert time.process_time() - begun < 3  # of the processor; it took four and 36 MB
    listed = api.post("/v1/offers:batch", json={"requests": [{"limit": 0}] * 500})
    assert len(listed.json()["errors"]) == 500 < MOST_LISTED


class FailingOnce(MemoryStore):
    """Fails to be read once it is told to, in a way that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.failed = 0

    def read(self, query: EventQuery) -> pa.Table:
        if self.fails:
            self.fails = False
            self.failed += 1
            raise RuntimeError("A-private")
        return super().read(query)


def test_a_worker_goes_on_looking_after_whatever_failure(running: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = FailingOnce()
    settings = Settings(refresh_seconds=0.01)
    app, other = (
        create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW) for _ in range(2)
    )
    with running(app) as api, running(other) as elsewhere:
        for _ in range(2):  # one failure for each worker, or two for one
            store.fails = True
            _until(lambda: not store.fails)
        assert elsewhere.post("/v1/products", json={"products": [{"product_id": "P1", "stock": 0}]}).status_code == 200
        _until(lambda: "P1" not in _offered(api))
    assert store.failed == 2
    assert "fresh state is late" in caplog.text


def _offered(api: httpx.Client) -> list[str]:
    return [offer["product_id"] for offer in api.post("/v1/offers", json={"account_id": "A1"}).json()["offers"]]


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class ErasedMeanwhile:
    """Erases an account in the moment in which its orders have been read."""

    def __init__(self, store: SqlStore) -> None:
        self.inner = store
        self.erased = False

    def append(self, events: Sequence[Event]) -> None:
        self.inner.append(events)

    def read(self, query: EventQuery) -> pa.Table:
        found = self.inner.read(query)
        if query.table == "order_lines" and not self.erased:
            self.erased = True
            erase_account(self.inner, "A1", NOW)
        return found

    def probe(self) -> None:
        self.inner.probe()

    def position(self) -> FeedPosition:
        return self.inner.position()

    def size(self, table: TableName) -> int:
        return self.inner.size(table)

    def close(self) -> None:
        self.inner.close()


def test_what_was_read_while_an_account_was_erased_goes_with_the_next_news(tmp_path: Path) -> None:
    store = ErasedMeanwhile(open_store(f"sqlite:///{tmp_path / 'events.db'}"))
    store.append(
        [
            PostedLine(
                order_id="O1",
                line_id="1",
                product_id="P3",
                quantity=1.0,
                ordered_at=NOW,
                recorded_at=NOW,
                account_id="A1",
            )
        ]
    )
    state = OnlineState(store, Settings(), since=NOW - timedelta(days=9), clock=lambda: NOW)
    for _ in range(2):
        state.apply(state.read_news())
    assert store.erased
    assert state.of("A1", None, NOW) == AccountState(is_forgotten=True)
    store.close()


async def _reading(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await Response(str(len(body)))(scope, receive, send)


def _ask(headers: dict[str, str], *messages: Message) -> list[Message]:
    """Return what the middleware sends to a request whose body comes as `messages`, without a server in between."""
    sent: list[Message] = []
    coming = iter(messages)
    named = [(name.encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": named}

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        sent.append(message)

    settings = Settings(max_body_bytes=1_024)
    admission = AdmissionControl(None, lambda: NOW, time.monotonic, settings.max_body_bytes, {})
    asyncio.run(_run(RequestMiddleware(_reading, admission, settings), scope, receive, send))
    return sent


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


@pytest.mark.parametrize("headers", [{"content-length": "2"}, {"transfer-encoding": "chunked"}])
def test_a_short_declared_length_does_not_let_a_long_body_pass(headers: dict[str, str]) -> None:
    sent = _ask(headers, *[{"type": "http.request", "body": b"x" * 600, "more_body": True}] * 2)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_caller_that_hangs_up_is_no_failure_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sent = _ask({"content-length": "9"}, {"type": "http.disconnect"})
    assert sent[0]["status"] == 400  # which nobody reads, unless it was the server that gave the body up
    assert caplog.text == ""
