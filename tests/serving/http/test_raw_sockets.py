"""A server among hostile and broken clients: everybody gets the answers to his own requests and holds a bounded share.

One process serves them all; what one of them left behind would show in the answers of the next.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from recsys.contracts.events import EventQuery
from recsys.events.store import open_store
from tests.serving.http.raw_http import Connection, connected, page, request
from tests.serving.http.raw_tricks import TRICKS, judge

CONNECTIONS = 200
LIMITS = f"""
body_seconds = 2
[limits]
head_bytes = 16384
idle_seconds = 2
connections = {CONNECTIONS}
"""
MEGABYTE = 1_000_000


class Target:
    """A running `offers serve`.

    Attributes:
        address: host and port.
        pid: of the process that serves.
        store: URL of its event store.
    """

    def __init__(self, served: Any, store: str) -> None:
        url = urlsplit(served.url)
        self.address = (str(url.hostname), int(url.port or 0))
        self.pid: int = served.process.pid
        self.store = store

    def memory(self) -> int:
        """Bytes of the process that are in memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1_024

    def sockets(self) -> int:
        """Sockets that the process holds."""
        links = Path(f"/proc/{self.pid}/fd").iterdir()
        return sum(_target_of(link).startswith("socket:") for link in links)

    def answers(self, n: int = 1) -> None:
        """Ask `n` times on connections of their own; each answer must be the one to its question."""
        for _ in range(n):
            marked = page("Connection: close")
            with connected(self.address) as connection:
                connection.send(marked.sent)
                (answer,) = connection.read_to_end()
            assert (answer.status, answer.request_id, answer.asked_for()) == (200, marked.request_id, marked.limit)


def _target_of(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""


@pytest.fixture(scope="module")
def target(serve_in: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("raw")
    (folder / "limits.toml").write_text(LIMITS)
    store = f"sqlite:///{folder}/e.db"
    with serve_in(store, "--config", str(folder / "limits.toml")) as served:
        yield Target(served, store)


@pytest.mark.parametrize("name", TRICKS)
def test_everybody_gets_the_answers_to_his_own_requests(target: Target, name: str) -> None:
    judge(TRICKS[name](), target.address)


def test_head_has_no_body_and_its_own_is_no_request(target: Target) -> None:
    hidden = page().sent
    with connected(target.address) as connection:
        connection.send(request("HEAD /livez HTTP/1.1", "Connection: close", body=hidden).sent)
        while connection.read():
            pass
    assert connection.received.count(b"HTTP/1.1 ") <= 1
    assert connection.received.endswith(b"\r\n\r\n") or not connection.received


def test_who_sends_no_more_but_reads_gets_his_answer_or_none(target: Target) -> None:
    for marked in (page(), request(), request()):
        with connected(target.address) as connection:
            connection.send(marked.sent)
            connection.socket.shutdown(socket.SHUT_WR)
            assert [answer.request_id for answer in connection.read_to_end()] in ([], [marked.request_id])
    target.answers()


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99, 1.0])
@pytest.mark.parametrize("end", [Connection.close, Connection.reset])
def test_nobody_gets_the_answer_of_who_left(target: Target, share: float, end: Any) -> None:
    for _ in range(20):
        marked = request()
        connection = Connection(target.address)
        connection.send(marked.sent[: int(share * len(marked.sent))])
        end(connection)
        target.answers()


@pytest.mark.parametrize("piece", [b"y" * 65_536, b"x-more: y\r\n" * 6_000], ids=["one line", "many lines"])
def test_a_head_without_end_is_not_read_on(target: Target, piece: bytes) -> None:
    sent = 0
    with connected(target.address) as connection:
        connection.send(b"GET /livez HTTP/1.1\r\nx: ")
        while sent < 50 * MEGABYTE and connection.send(piece):
            sent += len(piece)
        assert sent < 50 * MEGABYTE  # what the buffers of two sockets hold
        assert [answer.status for answer in connection.read_to_end()] in ([], [431])
    target.answers()


@pytest.mark.parametrize("sent", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nx: y"])
def test_a_head_that_does_not_come_is_not_waited_for(target: Target, sent: bytes) -> None:
    with connected(target.address, timeout=60) as connection:
        connection.send(sent)
        assert not connection.read()


def test_a_head_that_trickles_is_not_waited_for(target: Target) -> None:
    with connected(target.address, timeout=0.1) as connection:
        connection.send(b"GET /livez HTTP/1.1\r\nx: ")
        until = time.monotonic() + 60
        while time.monotonic() < until and connection.send(b"y"):
            try:
                if not connection.read():
                    break
            except TimeoutError:
                continue
        assert connection.closed or not connection.send(b"y")


@pytest.mark.parametrize("sent", [0.0, 0.5, 0.99])
def test_a_body_that_does_not_come_is_not_waited_for(target: Target, sent: float) -> None:
    marked = request()
    with connected(target.address, timeout=60) as connection:
        connection.send(marked.head + marked.body[: int(sent * len(marked.body))])
        (answer,) = connection.read_to_end()
    assert (answer.status, answer.request_id) == (408, marked.request_id)


def test_a_body_that_trickles_is_not_waited_for(target: Target) -> None:
    marked = request(length="900000")
    with connected(target.address, timeout=0.1) as connection:
        connection.send(marked.head)
        until = time.monotonic() + 60
        while time.monotonic() < until and connection.send(b"y"):
            try:
                if not connection.read():
                    break
            except TimeoutError:
                continue
        assert [answer.status for answer in connection.answers()] in ([408], [])
        assert connection.closed or not connection.send(b"y")


def test_a_connection_without_requests_ends(target: Target) -> None:
    marked = page()
    with connected(target.address, timeout=60) as connection:
        connection.send(marked.sent)
        assert [answer.request_id for answer in connection.read_to_end()] == [marked.request_id]


def test_connections_beyond_the_limit_wait(target: Target) -> None:
    before = target.sockets()
    with ExitStack() as held:
        for _ in range(2 * CONNECTIONS):
            held.enter_context(connected(target.address))
        marked = page("Connection: close")
        last = held.enter_context(connected(target.address, timeout=60))
        last.send(marked.sent)
        most = 0
        waiting = threading.Thread(target=last.read_to_end)
        waiting.start()
        while waiting.is_alive():
            most = max(most, target.sockets())
            waiting.join(0.05)
        assert most <= before + CONNECTIONS
        assert [answer.request_id for answer in last.answers()] == [marked.request_id]


def _pipeline(target: Target, seconds: float, *, reads: bool) -> None:
    """Ask without pause, taking the answers or not."""
    many = b"".join(page().sent for _ in range(200))
    with connected(target.address, timeout=0.2) as connection:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if not connection.send(many):
                    return
                while reads and connection.read():
                    connection.received = b""
            except TimeoutError:
                continue


def _hold_half_sent(target: Target, seconds: float) -> None:
    """Two connections out of three of what the server takes, each with most of a large body."""
    marked = request(body=b"x" * 400_000, length="900000")
    with ExitStack() as held:
        for _ in range(CONNECTIONS * 2 // 3):
            connection = held.enter_context(connected(target.address, timeout=0.5))
            try:
                connection.send(marked.sent)
            except TimeoutError:
                continue
        time.sleep(seconds)


def test_what_hostile_clients_held_is_given_back(target: Target) -> None:
    target.answers(300)
    before = target.memory()
    hostile = [threading.Thread(target=_pipeline, args=(target, 3), kwargs={"reads": i % 2 == 0}) for i in range(4)]
    hostile.append(threading.Thread(target=_hold_half_sent, args=(target, 1)))
    for thread in hostile:
        thread.start()
    most = before
    while any(thread.is_alive() for thread in hostile):
        most = max(most, target.memory())
        time.sleep(0.05)
    target.answers(10)
    assert most < before + 400 * MEGABYTE  # the half-sent bodies alone may be 120
    kept = max(1.25 * before, before + (most - before) / 4)  # the allocator keeps some of what it once had
    until = time.monotonic() + 120
    while target.memory() > kept and time.monotonic() < until:
        time.sleep(0.2)
        target.answers()
    assert target.memory() <= kept, f"{before / 1e6:.0f} MB before, {most / 1e6:.0f} at most"


def test_nothing_was_decided_for_a_request_that_nobody_made(target: Target) -> None:
    """The last one: every decision that was kept is for a request of these tests, and none for one in a body."""
    judge(TRICKS["POST byte by byte"](), target.address)
    accounts = open_store(target.store).read(EventQuery("decisions"))["account_id"].to_pylist()
    asked = [account for account in accounts if account is not None]
    assert [account for account in asked if account.startswith("hidden")] == []
    assert len(asked) > 100
