"""The fast path: the same answers as the plain way, at the same price, and nothing lost on it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI, Request

from recsys.contracts.events import Event, EventQuery
from recsys.errors import StoreError
from recsys.events.memory import MemoryStore
from recsys.events.writer import WriterConfig
from serving.app import create_app
from serving.fakes import fake_model
from serving.http.keys import KEY_SCOPES, KeyFile, new_key
from serving.models.by_alias import FixedModel
from serving.services import Services, services_of
from serving.settings import Settings
from tests.support.key_files import with_key, write_keys

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BODY = {"account_id": "A1", "cart": [{"product_id": "P3", "quantity": 2}], "limit": 4, "surface": "cart"}
SHOP = "/v1/offers"
PAGE = "/v1/accounts/A1/offers"
ORIGIN = "https://shop.example"

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


def app_of(store: MemoryStore, *, fast_path: bool = True, **settings: Any) -> FastAPI:
    bundles = FixedModel(fake_model())
    return create_app(Settings(**settings), bundles=bundles, store=store, clock=lambda: NOW, fast_path=fast_path)


def port_of(client: httpx.Client) -> int:
    port = client.base_url.port
    assert port is not None
    return port


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port_of(client)), timeout=20) as connection:
        yield connection


def post(body: Any, *headers: str, path: str = SHOP, kind: str | None = "application/json") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    lines += [] if kind is None else [f"Content-Type: {kind}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + content


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def answers(connection: socket.socket, n: int) -> list[Answer]:
    """Read `n` answers with a body of declared length."""
    found: list[Any] = []
    data = b""
    while len(found) < n:
        while b"\r\n\r\n" not in data:
            data += _more(connection)
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        length = int(dict(headers)["content-length"])
        while len(data) < length:
            data += _more(connection)
        found.append(Answer(int(first.split()[1]), headers, data[:length]))
        data = data[length:]
    assert not data
    return found


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    assert data, "the server closed the connection"
    return data


def ask(client: httpx.Client, request: bytes) -> Answer:
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


REQUESTS: dict[str, bytes] = {
    "a cart": post(BODY),
    "nobody": post({}),
    "its own request id": post(BODY, "X-Request-ID: mine"),
    "a bad request id": post(BODY, "X-Request-ID: with space"),
    "another origin": post(BODY, f"Origin: {ORIGIN}"),
    "an origin that may not": post(BODY, "Origin: https://else.example"),
    "a last request": post(BODY, "Connection: close"),
    "HTTP 1.0": post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "JSON by another name": post(BODY, kind="application/json; charset=utf-8"),
    "no JSON by its type": post(BODY, kind="text/plain"),
    "no type": post(BODY, kind=None),
    "no body": post(b""),
    "bad JSON": post(b'{"limit": '),
    "no UTF-8": post(b'{"account_id": "\xff"}'),
    "very deep": post(b"[" * 5_000),
    "an unknown field": post(BODY | {"limits": 4}),
    "many bad fields": post({"limit": "x", "kinds": ["gift"], "cart": [{}]}),
    "what the model can't do": post({"objective": "margin"}),
    "chunks": post(BODY)
    .replace(f"Content-Length: {len(json.dumps(BODY))}".encode(), b"Transfer-Encoding: chunked")
    .replace(json.dumps(BODY).encode(), b"%x\r\n%b\r\n0\r\n\r\n" % (len(json.dumps(BODY)), json.dumps(BODY).encode())),
    "declared too large": post(b" " * 2_000),
    "a query of a post": post(BODY, path=f"{SHOP}?limit=4"),
    "a header twice": post(BODY, "Content-Type: application/json"),
    "two keys": post(BODY, "X-API-Key: ofk_other"),
    "a person's page": get(PAGE),
    "a page by its options": get(f"{PAGE}?limit=3&kinds=upsell&kinds=cross_sell&new_only=true&channel=phone&surface="),
    "a page by its escaped options": get(f"{PAGE}?limit=3&kinds=ups%65ll&channel=by+phone"),
    "an escaped account": get("/v1/accounts/a%2Fb%3F/offers"),
    "an account that is none": get(f"/v1/accounts/{'x' * 201}/offers?limit=0"),
    "an account with a line's end": get("/v1/accounts/a%0Ab/offers"),
    "an account without a name": get("/v1/accounts//offers"),
    "a page with a body": get(PAGE, "Content-Length: 2") + b"{}",
    "a limit of 0": get(f"{PAGE}?limit=0"),
    "options that are none": get(f"{PAGE}?limit=x&kinds=gift&explain=all&new_only=perhaps"),
    "an unknown option": get(f"{PAGE}?limits=3"),
    "an option twice": get(f"{PAGE}?limit=3&limit=4"),
    "another method": post(BODY, path=PAGE),
    "a foreign scope": get("/metrics?x=1"),
}


class Keys(NamedTuple):
    shop: str
    sales: str
    slow: str


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Keys of the two scopes, and one that may ask twice."""
    made = [
        new_key("shop", ("offers",), now=NOW),
        new_key("sales", ("sales",), now=NOW),
        new_key("slow", KEY_SCOPES, now=NOW, requests_per_second=0.001, burst=2),
    ]
    file = KeyFile()
    for _, entry in made:
        file = with_key(file, entry)
    write_keys(tmp_path / "keys.json", file)
    return Keys(*(key for key, _ in made))


def plain(answer: Answer) -> Answer:
    """The answer without what no two answers share."""
    own = dict(answer.headers)["x-request-id"]
    headers = [(name, value.replace(own, "ID")) for name, value in answer.headers if name != "date"]
    content = json.loads(answer.body)
    decision = content.get("decision_id") if isinstance(content, dict) else None
    body = answer.body.replace(own.encode(), b"ID")
    return Answer(answer.status, headers, body.replace(decision.encode(), b"DECISION") if decision else body)


def rows(store: MemoryStore) -> list[dict[str, Any]]:
    kept = store.read(EventQuery("decisions")).to_pylist()
    for row in kept:
        row.pop("decision_id")
        if len(row["request_id"]) > 16:
            row.pop("request_id")
    return kept


@pytest.mark.parametrize("origins", [(), (ORIGIN,)], ids=["one site", "several sites"])
@pytest.mark.parametrize("name", ["nobody needs one", "none", "wrong", *Keys._fields])
def test_both_ways_give_the_same_answers_and_keep_the_same(
    running: Running, tmp_path: Path, keys: Keys, name: str, origins: tuple[str, ...]
) -> None:
    """Status, headers, bytes and rows, with a key of each scope; the slow one is refused by its rate from the third."""
    key = {**keys._asdict(), "wrong": keys.shop[:-1] + "~"}.get(name)
    settings: dict[str, Any] = {"cors_origins": origins, "max_body_bytes": 1_500}
    settings |= {} if name == "nobody needs one" else {"keys_file": tmp_path / "keys.json"}
    found, kept = [], []
    for fast_path in (True, False):
        store = MemoryStore()
        sent = [
            one.replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {key}\r\n\r\n".encode(), 1) if key else one
            for one in REQUESTS.values()
        ]
        with running(app_of(store, fast_path=fast_path, **settings)) as client:
            found.append([plain(ask(client, request)) for request in sent])
        kept.append(rows(store))
    for what, ours, theirs in zip(REQUESTS, *found, strict=True):
        assert ours == theirs, what
    assert kept[0] == kept[1]
    statuses = [answer.status for answer in found[0]]
    assert len(kept[0]) == statuses.count(200)
    expected = {
        "nobody needs one": {200, 400, 404, 405, 409, 413, 415, 422},
        "shop": {200, 400, 403, 409, 413, 415, 422},
        "sales": {200, 400, 403, 404, 422},
        "slow": {200, 400, 429},
    }
    assert set(statuses) == expected.get(name, {400, 401})


def test_the_usual_questions_take_the_fast_path(running: Running, store: MemoryStore) -> None:
    """Only what gets to a route's dependencies has taken the plain way."""
    plainly: list[str] = []

    async def counted(request: Request) -> Services:
        plainly.append(request.url.path)
        return await services_of(request)

    app = app_of(store)
    app.dependency_overrides[services_of] = counted
    with running(app) as client:
        for request in REQUESTS.values():
            ask(client, request)
        assert plainly == [SHOP, SHOP, SHOP, "/v1/accounts//offers"]  # a type that is not exactly JSON's, or none
        for request in (get("/v1/accounts/A1/whitespace"), get("/readyz")):
            ask(client, request)
    assert len(plainly) == 6


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "plain way"])
@pytest.mark.parametrize(
    "request_bytes",
    [post(BODY), post(b"{"), post({"limit": 0}), post(b" " * 2_000), post({"objective": "margin"}), get(f"{PAGE}?x=1")],
    ids=["answered", "bad JSON", "a bad field", "too large", "not with this model", "an unknown option"],
)
def test_a_question_costs_one_token_whatever_its_answer(
    running: Running, store: MemoryStore, tmp_path: Path, keys: Keys, request_bytes: bytes, *, fast_path: bool
) -> None:
    settings = {"keys_file": tmp_path / "keys.json", "max_body_bytes": 1_500}
    request = request_bytes.replace(b"\r\n\r\n", f"\r\nX-API-Key: {keys.slow}\r\n\r\n".encode(), 1)
    with running(app_of(store, fast_path=fast_path, **settings)) as client:
        statuses = [ask(client, request).status for _ in range(3)]
    assert statuses[0] == statuses[1] != 429
    assert statuses[2] == 429


def test_requests_behind_one_another_are_answered_in_order(running: Running, gated: GatedStore) -> None:
    """The second and third come while the first waits for its commit."""
    gated.gate.clear()
    with running(app_of(gated)) as client, connected(client) as connection:
        connection.sendall(b"".join(post(BODY | {"limit": limit}) for limit in (1, 2, 3)) + get("/v1/health"))
        assert gated.entered.wait(20)
        gated.gate.set()
        found = answers(connection, 4)
        assert [json.loads(answer.body).get("requested") for answer in found] == [1, 2, 3, None]
        connection.sendall(post(BODY))
        assert answers(connection, 1)[0].status == 200
    assert gated.size("decisions") == 4


def test_a_body_in_pieces_and_a_long_one(running: Running, store: MemoryStore) -> None:
    with running(app_of(store)) as client, connected(client) as connection:
        for piece in (request := post(BODY))[:40], request[40:-9], request[-9:-3], request[-3:]:
            connection.sendall(piece)
            time.sleep(0.02)
        assert json.loads(answers(connection, 1)[0].body)["returned"] == 4
        connection.sendall(post(BODY | {"exclude": [f"{number:0150}" for number in range(900)]}))
        assert answers(connection, 1)[0].status == 200


@pytest.mark.parametrize("request_bytes", [post(BODY), get(PAGE)], ids=["post", "get"])
def test_a_store_that_fails(running: Running, gated: GatedStore, request_bytes: bytes) -> None:
    gated.failure = StoreError("the disk is full")
    with running(app_of(gated, retry_after_seconds=7)) as client, connected(client) as connection:
        connection.sendall(request_bytes)
        (answer,) = answers(connection, 1)
        headers = dict(answer.headers)
        assert (answer.status, headers["retry-after"]) == (503, "7")
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(answer.body)["request_id"] == headers["x-request-id"]
        gated.failure = None
        connection.sendall(request_bytes)
        assert answers(connection, 1)[0].status == 200
    assert gated.size("decisions") == 1


def test_a_store_that_fails_where_answers_go_out_without_it(running: Running, gated: GatedStore) -> None:
    gated.failure = StoreError("the disk is full")
    with running(app_of(gated, answer_unlogged=True)) as client:
        answer = ask(client, post(BODY))
        metrics = client.get("/metrics").text
    body = json.loads(answer.body)
    assert (answer.status, body["logged"], body["returned"]) == (200, False, 4)
    assert "offers_unlogged_total 1.0" in metrics


def test_a_full_queue_sheds_load(running: Running, gated: GatedStore) -> None:
    gated.gate.clear()
    writer = WriterConfig(max_queue=1, max_batch=1)
    with running(app_of(gated, writer=writer)) as client, connected(client) as first, connected(client) as second:
        first.sendall(post(BODY))
        assert gated.entered.wait(20)
        second.sendall(post(BODY))
        until_queued(client, 1)
        assert ask(client, post(BODY)).status == 503
        gated.gate.set()
        assert [answers(connection, 1)[0].status for connection in (first, second)] == [200, 200]
    assert gated.size("decisions") == 2


def test_a_caller_that_leaves_before_its_commit(running: Running, gated: GatedStore) -> None:
    gated.gate.clear()
    with running(app_of(gated)) as client:
        with connected(client) as connection:
            connection.sendall(post(BODY))
            assert gated.entered.wait(20)
        gated.gate.set()
        assert ask(client, post(BODY)).status == 200
    assert gated.size("decisions") == 2


def test_a_server_that_stops_finishes_what_it_took(running: Running, gated: GatedStore) -> None:
    gated.gate.clear()
    with running(app_of(gated)) as client:
        connection = socket.create_connection(("127.0.0.1", port_of(client)), timeout=20)
        connection.sendall(post(BODY))
        assert gated.entered.wait(20)
        threading.Timer(0.3, gated.gate.set).start()
    with connection:
        (answer,) = answers(connection, 1)
        assert (answer.status, dict(answer.headers)["connection"]) == (200, "close")
        assert connection.recv(1) == b""
    assert gated.size("decisions") == 1
