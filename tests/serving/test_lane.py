"""The short way of usual requests: the same answers as the usual way, and nothing lost on it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from recsys.contracts.events import Event, EventQuery
from recsys.errors import StoreError
from recsys.events import MemoryStore, WriterConfig
from serving import FixedModel, Settings, create_app
from serving.fakes import fake_model
from serving.keys import KeyFile, new_key, with_key, write_keys
from serving.lane import MAX_BODY_BYTES, Lane

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BODY = {"account_id": "A1", "cart": [{"product_id": "P3", "quantity": 2}], "limit": 4, "surface": "cart"}
PAGE = "/v1/accounts/A1/offers?limit=3&kinds=upsell&kinds=cross_sell"

Running = Callable[[FastAPI], Any]


class GatedStore(MemoryStore):
    """Commits when a test lets it, or fails as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def append(self, events: Sequence[Event]) -> None:
        self.entered.set()
        assert self.gate.wait(20)
        if self.failure is not None:
            raise self.failure
        super().append(events)


@pytest.fixture
def gated() -> Iterator[GatedStore]:
    store = GatedStore()
    yield store
    store.gate.set()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the lane took each request that it was asked to take."""
    found: list[bool] = []
    begin = Lane.begin

    def counted(self: Lane, *arguments: Any) -> bool:
        found.append(begin(self, *arguments))
        return found[-1]

    monkeypatch.setattr(Lane, "begin", counted)
    return found


def app_of(store: MemoryStore, **settings: Any) -> FastAPI:
    return create_app(Settings(**settings), bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)


def port_of(client: httpx.Client) -> int:
    port = client.base_url.port
    assert port is not None
    return port


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port_of(client)), timeout=20) as connection:
        yield connection


def post(body: Any, *headers: str) -> bytes:
    content = json.dumps(body).encode()
    lines = ["POST /v1/offers HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + content


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def answers(connection: socket.socket, n: int) -> list[tuple[int, dict[str, str], Any]]:
    """Read `n` answers: status, headers, JSON."""
    found = []
    data = b""
    while len(found) < n:
        while b"\r\n\r\n" not in data:
            data += _more(connection)
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert len(headers) == len(lines)
        while len(data) < int(headers["content-length"]):
            data += _more(connection)
        body, data = data[: int(headers["content-length"])], data[int(headers["content-length"]) :]
        found.append((int(first.split()[1]), headers, json.loads(body)))
    assert not data
    return found


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    assert data, "the server closed the connection"
    return data


def ask(client: httpx.Client, request: bytes) -> tuple[int, dict[str, str], Any]:
    with connected(client) as connection:
        connection.sendall(request)
        (answer,) = answers(connection, 1)
    return answer


def until_queued(client: httpx.Client, n: int) -> None:
    """Wait until `n` requests stand before the writer."""
    deadline = time.monotonic() + 20
    while f"offers_store_queue {n:.1f}" not in client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.005)


USUAL_TYPE = "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("short", "usual", "status"),
    [
        (post(BODY), post(BODY).replace(b"application/json", USUAL_TYPE.encode()), 200),
        (post({"cart": []}), post({"cart": []}).replace(b"application/json", USUAL_TYPE.encode()), 200),
        (post({"limit": "x"}), post({"limit": "x"}).replace(b"application/json", USUAL_TYPE.encode()), 422),
        (get(PAGE), get(PAGE.replace("A1", "%41%31")), 200),
        (get(PAGE + "&limit=0"), get(PAGE.replace("A1", "%41%31") + "&limit=0"), 422),
    ],
    ids=["post", "post for nobody", "bad post", "get", "bad get"],
)
def test_both_ways_give_the_same_answer(
    running: Running, store: MemoryStore, taken: list[bool], short: bytes, usual: bytes, status: int
) -> None:
    named = b"\r\nX-Request-ID: mine\r\n\r\n"
    with running(app_of(store)) as client:
        ours = ask(client, short.replace(b"\r\n\r\n", named, 1))
        assert taken == [status == 200]
        theirs = ask(client, usual.replace(b"\r\n\r\n", named, 1))
        assert len(taken) == 1
    for answer in (ours, theirs):
        answer[1].pop("date")
        answer[2].pop("decision_id", None)
    assert ours == theirs
    assert ours[0] == status
    rows = [row for row in store.read(EventQuery("decisions")).to_pylist() if row.pop("decision_id")]
    assert len(rows) == (2 if status == 200 else 0)
    assert not rows or rows[0] == rows[1]


def test_requests_behind_one_another_are_answered_in_order(
    running: Running, gated: GatedStore, taken: list[bool]
) -> None:
    """The second and third come while the first waits for its commit; one of them takes the usual way for itself."""
    gated.gate.clear()
    with running(app_of(gated)) as client, connected(client) as connection:
        connection.sendall(b"".join(post(BODY | {"limit": limit}) for limit in (1, 2, 3)) + get("/v1/health"))
        assert gated.entered.wait(20)
        gated.gate.set()
        found = answers(connection, 4)
        assert [body.get("requested") for _, _, body in found] == [1, 2, 3, None]
        connection.sendall(post(BODY))
        assert answers(connection, 1)[0][0] == 200
    assert taken == [True, True]
    assert gated.size("decisions") == 4


def test_a_body_in_pieces_and_a_long_one(running: Running, store: MemoryStore, taken: list[bool]) -> None:
    with running(app_of(store)) as client, connected(client) as connection:
        for piece in (request := post(BODY))[:40], request[40:-9], request[-9:-3], request[-3:]:
            connection.sendall(piece)
            time.sleep(0.02)
        assert answers(connection, 1)[0][2]["returned"] == 4
        assert taken == [True]
        long = BODY | {"exclude": [f"product-with-a-long-name-{number:020}" for number in range(900)]}
        while len(json.dumps(long)) <= MAX_BODY_BYTES:
            long["exclude"] = [f"{each}-longer" for each in long["exclude"]]
        connection.sendall(post(long))
        assert answers(connection, 1)[0][0] == 200
    assert taken == [True]


@pytest.mark.parametrize("request_bytes", [post(BODY), get(PAGE)], ids=["post", "get"])
def test_a_store_that_fails(running: Running, gated: GatedStore, request_bytes: bytes) -> None:
    gated.failure = StoreError("the disk is full")
    with running(app_of(gated, retry_after_seconds=7)) as client, connected(client) as connection:
        connection.sendall(request_bytes)
        ((status, headers, body),) = answers(connection, 1)
        assert (status, headers["retry-after"], headers["content-type"]) == (503, "7", "application/problem+json")
        assert body["request_id"] == headers["x-request-id"]
        gated.failure = None
        connection.sendall(request_bytes)
        assert answers(connection, 1)[0][0] == 200
    assert gated.size("decisions") == 1


def test_a_store_that_fails_where_answers_go_out_without_it(running: Running, gated: GatedStore) -> None:
    gated.failure = StoreError("the disk is full")
    with running(app_of(gated, answer_unlogged=True)) as client:
        status, _, body = ask(client, post(BODY))
        metrics = client.get("/metrics").text
    assert (status, body["logged"], body["returned"]) == (200, False, 4)
    assert "offers_unlogged_total 1.0" in metrics


def test_a_full_queue_sheds_load(running: Running, gated: GatedStore) -> None:
    gated.gate.clear()
    settings = {"writer": WriterConfig(max_queue=1, max_batch=1)}
    with running(app_of(gated, **settings)) as client, connected(client) as first, connected(client) as second:
        first.sendall(post(BODY))
        assert gated.entered.wait(20)
        second.sendall(post(BODY))
        until_queued(client, 1)
        assert ask(client, post(BODY))[0] == 503
        gated.gate.set()
        assert [answers(connection, 1)[0][0] for connection in (first, second)] == [200, 200]
    assert gated.size("decisions") == 2


def test_a_caller_that_leaves_before_its_commit(running: Running, gated: GatedStore) -> None:
    gated.gate.clear()
    with running(app_of(gated)) as client:
        with connected(client) as connection:
            connection.sendall(post(BODY))
            assert gated.entered.wait(20)
        gated.gate.set()
        assert ask(client, post(BODY))[0] == 200
    assert gated.size("decisions") == 2


def test_a_server_that_stops_finishes_what_it_took(running: Running, gated: GatedStore) -> None:
    gated.gate.clear()
    with running(app_of(gated)) as client:
        connection = socket.create_connection(("127.0.0.1", port_of(client)), timeout=20)
        connection.sendall(post(BODY))
        assert gated.entered.wait(20)
        threading.Timer(0.3, gated.gate.set).start()
    with connection:
        ((status, headers, _),) = answers(connection, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert connection.recv(1) == b""
    assert gated.size("decisions") == 1


def test_keys_are_checked_and_each_request_costs_one(
    running: Running, store: MemoryStore, tmp_path: Path, taken: list[bool]
) -> None:
    file = tmp_path / "keys.json"
    made = [new_key("test", (scope,), now=NOW, requests_per_second=0.001, burst=3) for scope in ("offers", "sales")]
    write_keys(file, with_key(with_key(KeyFile(), made[0][1]), made[1][1]))
    reader, other = (key for key, _ in made)
    with running(app_of(store, keys_file=file)) as client:
        assert ask(client, post(BODY))[0] == 401
        assert ask(client, post(BODY, f"Authorization: Bearer {other}"))[0] == 403
        found = [ask(client, post(BODY, f"Authorization: Bearer {reader}"))[0] for _ in range(4)]
    assert found == [200, 200, 200, 429]
    assert taken == [False, False, True, True, True, False]


def test_where_browsers_of_other_sites_may_ask_all_take_the_usual_way(
    running: Running, store: MemoryStore, taken: list[bool]
) -> None:
    with running(app_of(store, cors_origins=("https://shop.example",))) as client:
        _, headers, _ = ask(client, post(BODY, "Origin: https://shop.example"))
    assert headers["access-control-allow-origin"] == "https://shop.example"
    assert not taken


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(BODY, "Connection: close"),
        post(BODY, "Content-Type: application/json"),
        post(BODY).replace(b"/v1/offers", b"/v1/offers?x=1"),
        get(PAGE, "Content-Length: 2") + b"{}",
    ],
    ids=["HTTP 1.0", "close", "header twice", "query of a post", "body of a get"],
)
def test_unusual_requests_take_the_usual_way(
    running: Running, store: MemoryStore, taken: list[bool], request_bytes: bytes
) -> None:
    with running(app_of(store)) as client:
        assert ask(client, request_bytes)[0] == 200
    assert not taken
