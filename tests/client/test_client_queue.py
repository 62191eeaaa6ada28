"""The queue of outcomes and orders: bounded, sent until the server has them, under the ids that they were given."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from recsys.client import (
    AsyncOfferClient,
    OfferClient,
    Order,
    OrderLine,
    QueueState,
    ReportedOutcome,
)
from recsys.errors import ConfigError
from tests.support.queue_server import (
    HURRIED,
    NOBODY,
    THEN,
    Server,
    order,
    outcome,
    refusal,
    takes_all,
)

pytestmark = pytest.mark.slow


def test_all_that_is_queued_is_sent_by_the_time_the_client_is_closed(send: Any) -> None:
    server = Server(takes_all)
    with server.running() as url:
        assert send(url, HURRIED, 30) == (60, QueueState(0, 60, 0, 0))
    assert server.ids == Counter([f"{kind}{i}" for i in range(30) for kind in "ow"])
    assert {event.get("occurred_at") or event["ordered_at"] for event in server.taken} == {"2026-03-01T12:00:00+00:00"}


def test_what_fails_is_sent_again_with_the_same_ids(send: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Also by a key that was revoked and a proxy's page: they say nothing of the events."""
    refused: list[tuple[int, dict[str, Any]]] = [(503, {}), (401, {"detail": "no key"}), (200, {"hello": 1}), (404, {})]
    answers = iter(refused)
    server = Server(lambda kind, events: next(answers, None) or takes_all(kind, events))
    with server.running() as url:
        assert send(url, HURRIED, 3) == (6, QueueState(0, 6, 0, 0))
    resent = server.ids - Counter(dict.fromkeys(server.ids, 1))
    assert set(server.ids) == {f"{kind}{i}" for i in range(3) for kind in "ow"}
    assert resent.total() <= server.sizes[2]  # what was answered with something that is no offer engine's
    assert caplog.text.count("events can't be sent") == caplog.text.count("events are sent again;") == 1


def test_a_full_queue_drops_what_is_new_and_counts_it(send: Any, caplog: pytest.LogCaptureFixture) -> None:
    config = HURRIED.model_copy(update={"max_queued": 5, "flush_seconds": 0.0})
    assert send(NOBODY, config, 20) == (5, QueueState(5, 0, 35, 0))
    assert caplog.text.count("were dropped") == 1  # once, not for every one of them
    assert "5 events of the queue were not sent and are lost" in caplog.text


def test_one_wrong_event_takes_no_other_with_it(send: Any, caplog: pytest.LogCaptureFixture) -> None:
    def refuses_one(kind: str, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        wrong = [event for event in events if event.get("outcome_id") == "o7"]
        return refusal(409, "o7 can't be right") if wrong else takes_all(kind, events)

    server = Server(refuses_one)
    with server.running() as url:
        kept, state = send(url, HURRIED, 12)
    assert (kept, state) == (24, QueueState(0, 23, 0, 1))
    assert server.ids == Counter([f"{kind}{i}" for i in range(12) for kind in "ow" if (kind, i) != ("o", 7)])
    assert "1 outcomes refused and dropped: the server answered 409: o7 can't be right" in caplog.text


def test_events_that_the_server_names_are_dropped_at_once(caplog: pytest.LogCaptureFixture) -> None:
    def names_them(kind: str, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        wrong = [f"/{kind}/{i}/reason" for i, event in enumerate(events) if event["outcome_id"] in {"o3", "o8"}]
        return refusal(422, "2 fields break a rule", *wrong) if wrong else takes_all(kind, events)

    server = Server(names_them)
    with server.running() as url, OfferClient(url, HURRIED) as client:
        client.queue_outcomes([outcome(i) for i in range(10)])
        assert client.close() == 0
        assert client.queue == QueueState(0, 8, 0, 2)
    assert server.sizes == [10, 8]
    assert "2 outcomes refused and dropped: the server answered 422: 2 fields break a rule (/outcomes/3" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        (400, {}),  # a proxy's, by the size of a header or a page of its own
        (400, {"detail": "Bad Request"}),
        (413, {"detail": "too large"}),
        (422, {"detail": "Unprocessable"}),
        (500, {"detail": "the server failed", "request_id": "r-1", "errors": []}),
        (200, {"received": 0, "received_lines": 0}),
        (200, {"received": "all", "received_lines": None}),
    ],
)
def test_what_is_no_refusal_of_an_event_drops_none(send: Any, answer: tuple[int, dict[str, Any]]) -> None:
    answers = iter([answer] * 4)
    server = Server(lambda kind, events: next(answers, None) or takes_all(kind, events))
    with server.running() as url:
        assert send(url, HURRIED, 5) == (10, QueueState(0, 10, 0, 0))
    assert set(server.ids) == {f"{kind}{i}" for i in range(5) for kind in "ow"}


@pytest.mark.parametrize("failure", [(500, {}), (403, {"detail": "blocked by a rule of the firewall"}), (502, {})])
def test_an_event_that_can_not_be_sent_lets_all_others_pass(
    failure: tuple[int, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    def fails_at_one(kind: str, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        return failure if any(event.get("outcome_id") == "o7" for event in events) else takes_all(kind, events)

    server = Server(fails_at_one)
    with server.running() as url, OfferClient(url, HURRIED.model_copy(update={"flush_seconds": 0.3})) as client:
        client.queue_outcomes([outcome(i) for i in range(150)])
        client.queue_orders([order(i) for i in range(20)])
        _until(lambda: client.queue.sent == 169)
        client.queue_orders([order("-later")])
        _until(lambda: client.queue.sent == 170)
        assert client.close() == 1
        assert client.queue == QueueState(1, 170, 0, 0)
    assert set(server.ids) == {f"o{i}" for i in range(150) if i != 7} | {f"w{i}" for i in [*range(20), "-later"]}
    assert caplog.text.count("events can't be sent") == 1
    assert "1 events of the queue were not sent and are lost" in caplog.text


def test_what_could_not_be_sent_is_sent_once_the_server_takes_it() -> None:
    mended = threading.Event()
    failed = threading.Event()

    def fails_for_a_while(kind: str, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if mended.is_set() or all(event["outcome_id"] != "o1" for event in events):
            return takes_all(kind, events)
        if len(events) == 1:
            failed.set()
        return 500, {}

    server = Server(fails_for_a_while)
    with server.running() as url, OfferClient(url, HURRIED) as client:
        client.queue_outcomes([outcome(i) for i in range(3)])
        assert failed.wait(20)
        mended.set()
        _until(lambda: client.queue == QueueState(0, 3, 0, 0))  # without a new event, and before it is closed


def test_events_of_a_clock_that_is_fast_wait_until_the_server_takes_them(caplog: pytest.LogCaptureFixture) -> None:
    """The server names them by index and field, and says the same of a date that can never be right."""
    is_later = threading.Event()
    soon = datetime.now(UTC) + timedelta(seconds=400)
    orders = {"now": THEN, "soon": soon, "empty": datetime(1970, 1, 1, tzinfo=UTC), "typo": soon.replace(year=2099)}

    def refuses_times(kind: str, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        taken = {"wnow", "wsoon"} if is_later.is_set() else {"wnow"}
        wrong = [f"/orders/{i}/ordered_at" for i, event in enumerate(events) if event["order_id"] not in taken]
        return refusal(409, "can't be right", *wrong) if wrong else takes_all(kind, events)

    server = Server(refuses_times)
    with server.running() as url, OfferClient(url, HURRIED) as client:
        client.queue_orders([Order(f"w{name}", (OrderLine("P1"),), ordered_at=when) for name, when in orders.items()])
        _until(lambda: client.queue == QueueState(1, 1, 0, 2))
        is_later.set()
        _until(lambda: client.queue == QueueState(0, 2, 0, 2))
    assert server.ids == Counter(["wnow", "wsoon"])
    assert "2 orders refused and dropped" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (OrderLine("P1", float("nan")), r"orders\[1\]\.lines\[0\]\.quantity == nan, must be a finite number"),
        (
            OrderLine("P1", unit_price=cast("Any", Decimal("9.5"))),
            r"unit_price == Decimal\('9.5'\), of Decimal, must be",
        ),
        (OrderLine("P1\ud800"), r"orders\[1\]\.lines\[0\]\.product_id == 'P1\\ud800', must be valid text"),
        (OrderLine(cast("Any", b"P1")), r"product_id == b'P1', of bytes, must be text"),
        (OrderLine("P1", 10**400), r"quantity == an integer beyond all floats, must be a finite number"),
        (OrderLine("P1", cast("Any", threading.Lock())), r"quantity == .*, of lock, must be"),
    ],
)
def test_a_value_that_can_not_be_sent_is_named_and_its_neighbours_are_kept(
    send_batch: Any, wrong: OrderLine, sentence: str
) -> None:
    server = Server(takes_all)
    with (
        server.running() as url,
        pytest.raises(ConfigError, match=sentence + ".*; the other 2 orders are in the queue"),
    ):
        send_batch(url, [order(0), Order("w1", (wrong,), ordered_at=THEN), order(2)])
    assert server.ids == Counter(["w0", "w2"])


@pytest.mark.parametrize("when", [date(2026, 3, 1), datetime(2026, 3, 1, 12)])  # noqa: DTZ001 - the fault
def test_a_time_without_a_zone_is_named(send_batch: Any, when: Any) -> None:
    server = Server(takes_all)
    naive = replace(order(1), ordered_at=when)
    with server.running() as url, pytest.raises(ConfigError, match=r"orders\[1\]\.ordered_at == .*zone"):
        send_batch(url, [order(0), naive])
    assert server.ids == Counter(["w0"])


def test_what_is_no_event_is_named() -> None:
    with OfferClient(NOBODY, HURRIED.model_copy(update={"flush_seconds": 0.0})) as client:
        with pytest.raises(ConfigError, match=r"outcomes\[0\] == {'outcome_id': 'o1'}, must be of ReportedOutcome"):
            client.queue_outcomes([{"outcome_id": "o1"}])  # type: ignore[list-item]
        with pytest.raises(ConfigError, match=r"orders == 5, must be a list"):
            client.queue_orders(5)  # type: ignore[arg-type]
        assert client.queue == QueueState(0, 0, 0, 0)


def test_a_second_event_loop_sends_what_the_first_one_left() -> None:
    """The first one ended with the client open, its sending task cancelled with all others."""
    server = Server(takes_all)

    async def first(url: str) -> AsyncOfferClient:
        left = AsyncOfferClient(url, HURRIED)
        await left.queue_outcomes([outcome(1)])
        return left

    async def second(left: AsyncOfferClient) -> int:
        await left.queue_outcomes([outcome(2)])
        return await left.close()

    with server.running() as url:
        client = asyncio.run(first(url))
        assert asyncio.run(second(client)) == 0
        assert client.queue.sent == 2
    assert set(server.ids) == {"o1", "o2"}


def test_a_client_can_be_closed_in_another_event_loop_than_its_own() -> None:
    async def begin() -> AsyncOfferClient:
        client = AsyncOfferClient(NOBODY, HURRIED.model_copy(update={"flush_seconds": 0.05}))
        await client.queue_outcomes([outcome(1)])
        await asyncio.sleep(0.05)
        return client

    client = asyncio.run(begin())
    assert asyncio.run(client.close()) == asyncio.run(client.close()) == 1


def test_after_its_sending_task_was_cancelled_a_client_sends_again() -> None:
    arrived, cancelled = threading.Event(), threading.Event()

    def waits_once(kind: str, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        arrived.set()
        return takes_all(kind, events) if cancelled.wait(20) else refusal(503, "nobody cancelled")

    async def run(url: str) -> int:
        client = AsyncOfferClient(url, HURRIED)
        await client.queue_outcomes([outcome(1)])
        sending = asyncio.all_tasks() - {asyncio.current_task()}
        assert await asyncio.to_thread(arrived.wait, 20)
        for task in sending:
            task.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        await client.queue_outcomes([outcome(2)])
        return await client.close()

    server = Server(waits_once)
    with server.running() as url:
        assert asyncio.run(run(url)) == 0
    assert set(server.ids) == {"o1", "o2"}


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_many_events_go_in_posts_that_the_server_takes() -> None:
    server = Server(takes_all)
    with server.running() as url, OfferClient(url, HURRIED) as client:
        assert client.queue_outcomes([outcome(i) for i in range(250)]) == 250
        assert client.close() == 0
    assert server.sizes == [100, 100, 50]


def test_ids_that_the_server_has_with_other_content_are_told(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(lambda *_: (200, {"received": 1, "conflicts": ["o1"]}))
    with server.running() as url, OfferClient(url, HURRIED) as client:
        client.queue_outcomes([outcome(1)])
        client.close()
        assert client.queue == QueueState(0, 1, 0, 0)
    assert "with other content, which counts: ('o1',)" in caplog.text


def test_what_has_no_time_happened_when_it_was_queued() -> None:
    server = Server(takes_all)
    before = datetime.now(UTC)
    with server.running() as url, OfferClient(url, HURRIED) as client:
        client.queue_outcomes([ReportedOutcome("o1", "d1", "shown")])
        client.queue_orders([Order("w1", (OrderLine("P1"),))])
        client.close()
    for event in server.taken:
        assert before <= datetime.fromisoformat(event.get("occurred_at") or event["ordered_at"]) <= datetime.now(UTC)
