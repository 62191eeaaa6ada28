"""The queue of outcomes and orders: bounded, sent until the server has them, under the ids that they were given."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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


def takes_all(kind: str, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    return 200, {"received": len(events)} if kind == "outcomes" else {"received_lines": len(events)}


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
        return (409, {"detail": "o7 is from the future"}) if wrong else takes_all(kind, events)

    server = Server(refuses_one)
    with server.running() as url:
        kept, state = send(url, HURRIED, 12)
    assert (kept, state) == (24, QueueState(0, 23, 0, 1))
    assert server.ids == Counter([f"{kind}{i}" for i in range(12) for kind in "ow" if (kind, i) != ("o", 7)])
    assert "refused and is dropped: the server answered 409: o7 is from the future" in caplog.text


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
    for file in (tmp_path / "nowhere" / "queue.db", tmp_path / "text.db"):
        with pytest.raises(ConfigError, match=r"queue_file == .*name a file"):
            OfferClient(NOBODY, ClientConfig(queue_file=file))


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
