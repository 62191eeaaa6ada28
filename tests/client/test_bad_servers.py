"""Both clients against real sockets that do everything wrong: a page gets an answer, within its deadline."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from recsys.client import Answer, AsyncOfferClient, ClientConfig, OfferClient, ServiceError
from recsys.contracts.offers import OfferRequest

Behaviour = Callable[[socket.socket, threading.Event], None]
DEADLINE_MS = 300.0
HURRIED = ClientConfig(retries=1, backoff_seconds=0.01)
LATE_SECONDS = 5.0
"""Later than this a busy machine is no excuse any more; the servers here would keep a caller for 30 s and more."""


def says_nothing(_: socket.socket, stopped: threading.Event) -> None:
    stopped.wait(30)


def closes_at_once(connection: socket.socket, _: threading.Event) -> None:
    connection.close()


def talks_nonsense(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(b"\x00\xff nonsense \r\n\r\n" * 20)


def answers_in_drops(connection: socket.socket, stopped: threading.Event) -> None:
    """A byte at a time: no single wait is ever too long."""
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b" " * 1_500:
        if stopped.wait(0.02):
            return
        connection.sendall(bytes([byte]))


def breaks_off(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"decision_id":')


def wants_an_hour(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 503 Busy\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n")


def is_another_site(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>")


def sends_elsewhere(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")


def nests_deeply(connection: socket.socket, _: threading.Event) -> None:
    body = b"[" * 200_000
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


def refuses_deeply(connection: socket.socket, _: threading.Event) -> None:
    body = b'{"detail":' * 50_000
    connection.sendall(b"HTTP/1.1 422 No\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


def never_ends(connection: socket.socket, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
    while not stopped.is_set():
        connection.sendall(b" " * 65_536)


def sends_a_hundred_megabytes_compressed(connection: socket.socket, _: threading.Event) -> None:
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(b" " * 1_000_000) for _ in range(100)) + packer.flush()
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    connection.sendall(head + body)


BEHAVIOURS = (
    *(says_nothing, closes_at_once, talks_nonsense, answers_in_drops, breaks_off, wants_an_hour, is_another_site),
    *(sends_elsewhere, nests_deeply, refuses_deeply, never_ends, sends_a_hundred_megabytes_compressed),
)


@contextmanager
def serving(behave: Behaviour) -> Iterator[str]:
    stopped = threading.Event()

    def accept(listening: socket.socket) -> None:
        while not stopped.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(connection,), daemon=True).start()

    def attend(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                behave(connection, stopped)
                # Closed with a part of the question unread, the answer would be lost with the connection.
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.5)
                while connection.recv(65_536):
                    pass
            except OSError:
                return  # the client has gone

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        stopped.set()


def ask(url: str) -> Answer:
    with OfferClient(url, HURRIED) as client:
        return client.offers(OfferRequest(limit=4), deadline_ms=DEADLINE_MS)


def ask_in_a_loop(url: str) -> Answer:
    async def asked() -> Answer:
        async with AsyncOfferClient(url, HURRIED) as client:
            return await client.offers(OfferRequest(limit=4), deadline_ms=DEADLINE_MS)

    return asyncio.run(asked())


@pytest.mark.parametrize("client", [ask, ask_in_a_loop], ids=["sync", "async"])
@pytest.mark.parametrize("behave", BEHAVIOURS)
def test_whatever_a_server_does_there_is_an_answer(behave: Behaviour, client: Callable[[str], Answer]) -> None:
    with serving(behave) as url:
        begun = time.monotonic()
        empty = client(url)
        took = time.monotonic() - begun
    assert took < DEADLINE_MS / 1_000 + LATE_SECONDS
    assert (empty.offers, empty.requested, empty.logged) == ((), 4, False)
    assert empty.shortfall


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (never_ends, "the answer is longer than 4,000,000 bytes; ask for less"),
        (sends_a_hundred_megabytes_compressed, "the answer is in 'gzip', must be sent as it is"),
        (nests_deeply, "does not answer like an offer engine: RecursionError"),
    ],
)
def test_an_answer_of_any_size_takes_little_memory(behave: Behaviour, reason: str) -> None:
    with serving(behave) as url, OfferClient(url, HURRIED) as client:
        client.offers(OfferRequest(), deadline_ms=25_000)  # what is loaded and compiled at the first call counts not
        tracemalloc.start()
        empty = client.offers(OfferRequest(), deadline_ms=25_000)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        batch = client.offers_batch([OfferRequest()])
        with pytest.raises(ServiceError):
            next(batch)
    assert reason in str(empty.shortfall)
    assert most < 25e6


def test_waiting_for_a_server_keeps_its_own_limit() -> None:
    with serving(says_nothing) as url, OfferClient(url, ClientConfig(deadline_ms=25_000)) as client:
        begun = time.monotonic()
        with pytest.raises(ServiceError, match=r"not ready within 0\.2 s: no answer within"):
            client.wait_until_ready(0.2)
        assert time.monotonic() - begun < LATE_SECONDS


@pytest.mark.parametrize("client", [ask, ask_in_a_loop], ids=["sync", "async"])
@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://127.0.0.1:1"])
def test_where_nobody_is_there_is_an_answer_too(url: str, client: Callable[[str], Answer]) -> None:
    empty = client(url)
    assert empty.offers == ()
    assert empty.shortfall


def test_past_the_deadline_the_connection_is_closed() -> None:
    """A server that hangs must not gather connections that nobody waits for."""
    closed = threading.Event()

    def waits(connection: socket.socket, _: threading.Event) -> None:
        connection.settimeout(30)
        while connection.recv(65_536):
            pass  # the rest of the question
        closed.set()

    with serving(waits) as url, OfferClient(url, HURRIED) as client:
        assert client.offers(OfferRequest(), deadline_ms=100).shortfall == "no answer within 100 ms"
        assert closed.wait(20)


def test_each_answer_of_a_batch_has_the_deadline() -> None:
    first = b'{"index": 0, "answer": null, "problem": {"detail": "no"}}\n'

    def answers_one(connection: socket.socket, stopped: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + first)
        stopped.wait(30)

    with serving(answers_one) as url, OfferClient(url, ClientConfig(deadline_ms=500)) as client:
        items = client.offers_batch([OfferRequest()] * 2)
        assert next(items).problem == "no"
        with pytest.raises(ServiceError, match="no answer within 500 ms"):
            next(items)


def test_calls_under_way_end_when_another_thread_closes_the_client(caplog: pytest.LogCaptureFixture) -> None:
    asked = threading.Event()

    def notes(_: socket.socket, stopped: threading.Event) -> None:
        asked.set()
        stopped.wait(30)

    with serving(notes) as url, ThreadPoolExecutor() as pool:
        client = OfferClient(url, ClientConfig(retries=0))
        under_way = pool.submit(client.offers, OfferRequest(), deadline_ms=25_000)
        assert asked.wait(20)
        client.close()
        assert under_way.result(10).offers == ()
    assert not caplog.records
