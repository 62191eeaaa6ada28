"""`offers_or_empty` against real sockets that do everything wrong: it never raises, and keeps to its deadline."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from recsys.client import Answer, AsyncOfferClient, ClientConfig, OfferClient
from recsys.contracts.offers import OfferRequest

Behaviour = Callable[[socket.socket, threading.Event], None]
DEADLINE_MS = 300.0
HURRIED = ClientConfig(timeout_seconds=0.2, retries=1, backoff_seconds=0.01)


def says_nothing(_: socket.socket, stopped: threading.Event) -> None:
    stopped.wait(30)


def closes_at_once(connection: socket.socket, _: threading.Event) -> None:
    connection.close()


def talks_nonsense(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(b"\x00\xff nonsense \r\n\r\n" * 20)


def answers_in_drops(connection: socket.socket, stopped: threading.Event) -> None:
    """A byte at a time: no single wait is ever too long."""
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b" " * 30:
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


BEHAVIOURS = (
    *(says_nothing, closes_at_once, talks_nonsense, answers_in_drops, breaks_off, wants_an_hour, is_another_site),
    sends_elsewhere,
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
            except OSError:
                return  # the client has gone

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        stopped.set()


def ask(url: str) -> Answer:
    with OfferClient(url, HURRIED) as client:
        return client.offers_or_empty(OfferRequest(limit=4), deadline_ms=DEADLINE_MS)


def ask_in_a_loop(url: str) -> Answer:
    async def asked() -> Answer:
        async with AsyncOfferClient(url, HURRIED) as client:
            return await client.offers_or_empty(OfferRequest(limit=4), deadline_ms=DEADLINE_MS)

    return asyncio.run(asked())


@pytest.mark.parametrize("client", [ask, ask_in_a_loop], ids=["sync", "async"])
@pytest.mark.parametrize("behave", BEHAVIOURS)
def test_whatever_a_server_does_there_is_an_answer(behave: Behaviour, client: Callable[[str], Answer]) -> None:
    with serving(behave) as url:
        empty = client(url)
    assert (empty.offers, empty.requested, empty.logged) == ((), 4, False)
    assert empty.shortfall


@pytest.mark.parametrize("client", [ask, ask_in_a_loop], ids=["sync", "async"])
@pytest.mark.parametrize("url", ["http://no-such-host.invalid", "http://127.0.0.1:1", "nonsense://x", "not a url"])
def test_where_nobody_is_there_is_an_answer_too(url: str, client: Callable[[str], Answer]) -> None:
    empty = client(url)
    assert empty.offers == ()
    assert empty.shortfall


def test_questions_that_nobody_waits_for_any_more_are_not_asked() -> None:
    asked = []

    def counts(connection: socket.socket, stopped: threading.Event) -> None:
        asked.append(connection)
        stopped.wait(30)

    config = ClientConfig(timeout_seconds=1.0, retries=0, max_waiting=1)
    with serving(counts) as url, OfferClient(url, config) as client:
        begun = time.monotonic()
        for _ in range(20):
            client.offers_or_empty(OfferRequest(), deadline_ms=5)
        waited = time.monotonic() - begun
    assert waited >= 0.1
    assert len(asked) == 1
