"""The queue of outcomes and orders: bounded, sent until the server has them, under the ids that they were given."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from recsys.client import (
    AsyncOfferClient,
    ClientConfig,
    OfferClient,
    Order,
    OrderLine,
    QueueState,
    ReportedOutcome,
)
from recsys.errors import ConfigError

THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
HURRIED = ClientConfig(retries=0, backoff_seconds=0.01, max_backoff_seconds=0.05, flush_seconds=20)
Answering = Callable[[str, list[dict[str, Any]]], tuple[int, dict[str, Any]]]


def outcome(name: object) -> ReportedOutcome:
    return ReportedOutcome(f"o{name}", "d1", "shown", occurred_at=THEN)


def order(name: object) -> Order:
    return Order(f"w{name}", (OrderLine("P1"),), account_id="A1", ordered_at=THEN)


def refusal(status: int, detail: str, *pointers: str) -> tuple[int, dict[str, Any]]:
    """What an offer engine says of events that it does not take, with the fields that it names."""
    errors = [{"pointer": pointer, "detail": "breaks a rule"} for pointer in pointers]
    return status, {"detail": detail, "request_id": "r-1", "errors": errors}


def takes_all(kind: str, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    if kind == "outcomes":
        return 200, {"received": len(events)}
    return 200, {"received_lines": sum(len(event["lines"]) for event in events)}


class Server:
    """Answers posts as it is told to; keeps what it answered with 200, and the size of every post."""

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.taken: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.asked = threading.Event()

    @property
    def ids(self) -> Counter[str]:
        return Counter(event.get("outcome_id") or event["order_id"] for event in self.taken)

    @contextmanager
    def running(self, port: int = 0) -> Iterator[str]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                kind = self.path.rpartition("/")[2]
                events = json.loads(self.rfile.read(int(self.headers["content-length"])))[kind]
                status, body = server.answer(kind, events)
                if status == 200:
                    server.taken += events
                server.sizes.append(len(events))
                server.asked.set()
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                if "request_id" in body:  # a proxy's answers have none
                    self.send_header("content-type", "application/problem+json")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as listening:
            thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{listening.server_address[1]}"
            finally:
                listening.shutdown()
                thread.join()


NOBODY = "http://127.0.0.1:1"


def in_threads(url: str, config: ClientConfig, n: int) -> tuple[int, QueueState]:
    with OfferClient(url, config) as client:
        kept = sum(client.queue_outcomes([outcome(i)]) + client.queue_orders([order(i)]) for i in range(n))
        client.close()
        return kept, client.queue


def in_a_loop(url: str, config: ClientConfig, n: int) -> tuple[int, QueueState]:
    async def run() -> tuple[int, QueueState]:
        async with AsyncOfferClient(url, config) as client:
            kept = 0
            for i in range(n):
                kept += await client.queue_outcomes([outcome(i)]) + await client.queue_orders([order(i)])
            await client.close()
            return kept, client.queue

    return asyncio.run(run())


@pytest.fixture(params=[in_threads, in_a_loop], ids=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["sync", "async"])
def send_batch(request: pytest.FixtureRequest) -> Any:
    """Puts orders into the queue of either client and closes it."""

    def in_thread(url: str, orders: list[Order]) -> None:
        with OfferClient(url, HURRIED) as client:
            client.queue_orders(orders)

    async def in_loop(url: str, orders: list[Order]) -> None:
        async with AsyncOfferClient(url, HURRIED) as client:
            await client.queue_orders(orders)

    return in_thread if request.param == "sync" else lambda *given: asyncio.run(in_loop(*given))


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
    server = Server(takes_all)

    async def run(url: str) -> int:
        client = AsyncOfferClient(url, HURRIED)
        await client.queue_outcomes([outcome(1)])
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        await client.queue_outcomes([outcome(2)])
        return await client.close()

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


def test_a_queue_in_a_file_survives_a_restart_of_either_side(tmp_path: Path) -> None:
    config = HURRIED.model_copy(update={"queue_file": tmp_path / "queue.db", "flush_seconds": 0.0})
    with OfferClient(NOBODY, config) as client:
        client.queue_outcomes([outcome(1)])
        assert client.close() == 1
    with OfferClient(NOBODY, config) as client:
        client.queue_orders([order(2)])
        assert client.queue.waiting == 2
        with pytest.raises(ConfigError, match=r"queue_file == .*queue.db'.* one for each client"):
            OfferClient(NOBODY, config)
    server = Server(takes_all)
    with server.running() as url, OfferClient(url, config):
        assert server.asked.wait(20)  # though nothing new was queued
    with server.running() as url, OfferClient(url, config.model_copy(update={"flush_seconds": 20.0})) as client:
        assert client.close() == 0
    assert set(server.ids) == {"o1", "w2"}


def test_a_process_that_is_killed_loses_nothing_of_a_queue_in_a_file(tmp_path: Path) -> None:
    _in_a_process(f"queue_file=Path({str(tmp_path / 'queue.db')!r})", NOBODY, "os._exit(9)", code=9)
    server = Server(takes_all)
    with server.running() as url, OfferClient(url, ClientConfig(queue_file=tmp_path / "queue.db")) as client:
        assert client.close() == 0
    assert server.ids == Counter(["o0"])


def test_a_process_that_forgets_to_close_its_client_sends_what_waits() -> None:
    server = Server(takes_all)
    with server.running() as url:
        _in_a_process("", url, "pass", code=0)
    assert server.ids == Counter(["o0"])


def _in_a_process(options: str, url: str, ending: str, code: int) -> None:
    script = (
        "import os\nfrom pathlib import Path\nfrom recsys.client import *\n"
        f"client = OfferClient({url!r}, ClientConfig({options}))\n"
        f"assert client.queue_outcomes([ReportedOutcome('o0', 'd1', 'shown')]) == 1\n{ending}\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == code


def test_a_file_that_can_not_be_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, whatever its name says, and must stay as it is")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE queued (id TEXT, job TEXT)")
    other.close()
    for file, sentence in (
        (tmp_path / "nowhere" / "queue.db", r"its folder does not exist; make it"),
        (tmp_path / "text.db", r"name a file"),
        (tmp_path / "other.db", r"its table `queued` has the columns id, job, must have position, kind, body"),
    ):
        with pytest.raises(ConfigError, match=rf"queue_file == .*{sentence}"):
            OfferClient(NOBODY, ClientConfig(queue_file=file))


def test_a_page_that_makes_its_client_waits_no_longer_than_its_deadline_for_a_locked_file(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "queue.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        took = []
        for _ in range(5):  # the best of several, on a machine that does other things
            begun = time.monotonic()
            with pytest.raises(ConfigError, match=r"queue_file == .*locked"):
                OfferClient(NOBODY, ClientConfig(queue_file=tmp_path / "queue.db", deadline_ms=20))
            took.append(time.monotonic() - begun)
    assert min(took) < 0.9  # it was 1 s whatever the deadline


def test_after_a_fork_a_client_says_that_it_belongs_to_the_other_process() -> None:
    """Its thread is not there: without a word every page would wait for its deadline."""
    script = (
        "import os\nfrom recsys.client import OfferClient\n"
        f"client = OfferClient({NOBODY!r})\n"
        "if child := os.fork():\n    client.close()\n"
        "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "try:\n    client.models()\nexcept RuntimeError as error:\n    os._exit(7 if 'forked' in str(error) else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == 7
