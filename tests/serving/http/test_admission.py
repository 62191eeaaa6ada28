"""Admission: what contradicts itself, is unknown, too large or too slow is refused on every route alike."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from recsys.events.memory import MemoryStore
from serving.app import create_app
from serving.fakes import fake_model
from serving.http.access import SCOPES
from serving.http.admission import Admission, AdmissionControl, given_key
from serving.models.by_alias import FixedModel
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUERY = {("/v1/offers", "POST"): {}, ("/v1/accounts/{account_id}/offers", "GET"): {"limit": False, "kinds": True}}

Running = Callable[[FastAPI], Any]


def admit(*headers: tuple[str, str], method: str = "POST", path: str = "/v1/offers", query: str = "") -> Admission:
    control = AdmissionControl(None, lambda: NOW, time.monotonic, 1_024, QUERY)
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    return control.admit(method, path, query.encode(), pairs, "r-1")


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "a"), ("host", "b")],
        [("authorization", "Bearer a"), ("authorization", "Bearer a")],
        [("x-api-key", "a"), ("x-api-key", "b")],
        [("authorization", "Bearer a"), ("x-api-key", "b")],
        [("authorization", "Bearer"), ("x-api-key", "b")],
        [("content-type", "application/json"), ("content-type", "text/plain")],
        [("content-length", "2"), ("content-length", "3")],
        [("content-length", "2"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "chunked"), ("transfer-encoding", "identity")],
        [("content-length", "-1")],
        [("content-length", "1_0")],
        [("content-length", "")],
        [("x-request-id", "a"), ("x-request-id", "b")],
    ],
)
def test_headers_that_contradict_one_another_are_400(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(HTTPException) as refused:
        admit(*headers)
    assert refused.value.status_code == 400
    assert refused.value.detail


def test_headers_that_agree_or_may_be_repeated_pass() -> None:
    assert admit(("accept", "a"), ("accept", "b"), ("x-forwarded-for", "1"), ("x-forwarded-for", "2")).body_bytes == 0
    assert given_key({b"authorization": b"bearer  k", b"x-api-key": b"k"}) == b"k"
    assert given_key({b"authorization": b"Basic YTpi", b"x-api-key": b"k"}) == b"k"
    assert given_key({}) == b""


def test_the_declared_size_is_known_before_the_body() -> None:
    assert admit(("content-length", "1024")).body_bytes == 1_024
    assert admit(("transfer-encoding", "chunked")).body_bytes is None
    for length in ("1025", "9" * 5_000):
        with pytest.raises(HTTPException, match="413"):
            admit(("content-length", length))


PERSON = "/v1/accounts/A1/offers"


@pytest.mark.parametrize(
    ("method", "path", "query", "names", "says"),
    [
        ("GET", PERSON, "limits=3", ["limits"], "takes limit, kinds"),
        ("GET", PERSON, "limit=3&limit=4", ["limit"], "once"),
        ("GET", PERSON, "limit=3&b=1&kinds=upsell&a=&a=2", ["b", "a"], "takes limit, kinds"),
        ("POST", "/v1/offers", "limit=3", ["limit"], "takes none"),
        ("GET", PERSON, "x" * 1_000, ["x" * 100], "takes limit, kinds"),
        ("GET", PERSON, "&".join(f"{i}=1" for i in range(1_000)), [str(i) for i in range(20)], "takes limit, kinds"),
    ],
)
def test_a_query_parameter_that_is_unknown_or_repeated_is_named(
    method: str, path: str, query: str, names: list[str], says: str
) -> None:
    with pytest.raises(RequestValidationError) as refused:
        admit(method=method, path=path, query=query)
    assert [error["loc"] for error in refused.value.errors()] == [("query", name) for name in names]
    assert says in refused.value.errors()[0]["msg"]


def test_a_list_may_come_more_than_once_and_another_route_takes_what_it_likes() -> None:
    asked = admit(method="GET", path=PERSON, query="kinds=upsell&kinds=cross%5Fsell&limit=")
    assert asked.query == [("kinds", "upsell"), ("kinds", "cross_sell"), ("limit", "")]
    assert admit(method="GET", path="/nowhere", query="a=1").route is None
    assert admit(method="DELETE", query="a=1").route == "/v1/offers"


@pytest.mark.parametrize(("path", "method"), [(path, method) for path in SCOPES for method in SCOPES[path]])
def test_no_route_takes_an_unknown_query_parameter(api: httpx.Client, path: str, method: str) -> None:
    answered = api.request(method, f"{path.replace('{', 'x').replace('}', 'x')}?nonsense=1", json={})
    assert answered.status_code == 422 or path.startswith("/v1/referrals"), answered.text  # nothing answers there yet
    if answered.status_code == 422:
        assert [error["pointer"] for error in answered.json()["errors"]] == ["query/nonsense"]


def app_of(store: MemoryStore, *, fast_path: bool, **settings: Any) -> FastAPI:
    bundles = FixedModel(fake_model())
    return create_app(Settings(**settings), bundles=bundles, store=store, clock=lambda: NOW, fast_path=fast_path)


def until_closed(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(65_536):
        data += piece
    return data


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "plain way"])
@pytest.mark.parametrize("path", ["/v1/offers", "/v1/outcomes"])
def test_a_body_that_does_not_arrive_in_time_is_408_and_the_connection_closes(
    running: Running, store: MemoryStore, path: str, *, fast_path: bool
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n"
    with (
        running(app_of(store, fast_path=fast_path, body_seconds=0.3)) as client,
        socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=20) as connection,
    ):
        connection.sendall(head.encode())
        for _ in range(4):  # each piece comes in time, the whole does not
            connection.sendall(b"    ")
            time.sleep(0.05)
        found = until_closed(connection)
    lines, _, body = found.partition(b"\r\n\r\n")
    assert lines.startswith(b"HTTP/1.1 408")
    assert json.loads(body)["detail"].startswith("the body did not arrive within 0.3 seconds")
    assert store.size("decisions") == store.size("outcomes") == 0


@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "plain way"])
def test_a_body_without_end_is_413_and_the_connection_closes(
    running: Running, store: MemoryStore, *, fast_path: bool
) -> None:
    head = (
        b"POST /v1/offers HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with (
        running(app_of(store, fast_path=fast_path, max_body_bytes=1_024)) as client,
        socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=20) as connection,
    ):
        connection.sendall(head + b"200\r\n" + b" " * 0x200 + b"\r\n")
        connection.sendall(b"201\r\n" + b" " * 0x201)
        found = until_closed(connection)
    assert found.startswith(b"HTTP/1.1 413")
    assert store.size("decisions") == 0
