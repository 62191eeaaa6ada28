"""Every error is problem+json that says what broke which rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from recsys.events.memory import MemoryStore
from recsys.events.reading import read_decisions
from serving.http.problems import Problem

JSON = {"Content-Type": "application/json"}


def problem(answered: Any, status: int) -> Problem:
    assert answered.status_code == status, answered.text
    assert answered.headers["Content-Type"] == "application/problem+json"
    parsed = Problem.model_validate(answered.json(), extra="forbid")
    assert parsed.status == status
    assert parsed.request_id == answered.headers["X-Request-ID"]
    return parsed


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"limit": }', b"\xff\xfe", b'{"account_id": "\xff"}', b'{"account_id": "\\ud800"}', b"[" * 5_000],
    ids=["empty", "cut", "hole", "no UTF-8", "bad byte in a text", "half a surrogate", "very deep"],
)
def test_malformed_json_is_400(api: httpx.Client, body: bytes) -> None:
    assert "JSON" in problem(api.post("/v1/offers", content=body, headers=JSON), 400).detail


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"limit": 0}, "/limit"),
        ({"limit": 101}, "/limit"),
        ({"limit": 10**30}, "/limit"),
        ({"limit": "many"}, "/limit"),
        ({"limit": "5"}, "/limit"),
        ({"limit": 5.5}, "/limit"),
        ({"new_only": 1}, "/new_only"),
        ({"kinds": []}, "/kinds"),
        ({"kinds": ["gift"]}, "/kinds/0"),
        ({"account_id": ""}, "/account_id"),
        ({"account_id": "a\x00b"}, "/account_id"),
        ({"account_id": "x" * 201}, "/account_id"),
        ({"account_id": 17850}, "/account_id"),
        ({"cart": [{"product_id": "P1", "quantity": 0}]}, "/cart/0/quantity"),
        ({"cart": [{"product_id": "P1", "quantity": 1e300}]}, "/cart/0/quantity"),
        ({"cart": [{}]}, "/cart/0/product_id"),
        ({"cart": [{"product_id": "P"}] * 201}, "/cart"),
        ({"exclude": ["P"] * 1_001}, "/exclude"),
        ({"objective": "glory"}, "/objective"),
        ({"limits": 3}, "/limits"),
        ({"a/b~c": 3}, "/a~1b~0c"),
        ([1, 2], ""),
    ],
)
def test_a_field_that_breaks_a_rule_is_422_and_is_pointed_at(api: httpx.Client, body: Any, pointer: str) -> None:
    found = problem(api.post("/v1/offers", json=body), 422)
    assert pointer in {item.pointer for item in found.errors}


def test_numbers_that_json_does_not_know_are_refused(api: httpx.Client, store: MemoryStore) -> None:
    body = b'{"cart": [{"product_id": "P1", "quantity": NaN}]}'
    assert api.post("/v1/offers", content=body, headers=JSON).status_code in {400, 422}
    assert list(read_decisions(store)) == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "query/limit"),
        ("limit=x", "query/limit"),
        ("kinds=gift", "query/kinds/0"),
        ("explain=all", "query/explain"),
    ],
)
def test_a_query_that_breaks_a_rule_is_422(api: httpx.Client, query: str, pointer: str) -> None:
    found = problem(api.get(f"/v1/accounts/A1/offers?{query}"), 422)
    assert [item.pointer for item in found.errors] == [pointer]


def test_what_the_running_model_can_not_do_is_409_with_its_sentence(api: httpx.Client) -> None:
    assert "needs costs" in problem(api.post("/v1/offers", json={"objective": "margin"}), 409).detail


def test_no_such_route_and_no_such_method(api: httpx.Client) -> None:
    assert "/docs" in problem(api.get("/v1/nothing"), 404).detail
    refused = api.delete("/v1/offers")
    problem(refused, 405)
    assert refused.headers["Allow"] == "POST"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"])
def test_a_body_that_is_not_declared_as_json_is_415(api: httpx.Client, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert "application/json" in problem(api.post("/v1/offers", content=b"{}", headers=headers), 415).detail


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/patch+json"])
def test_json_by_its_other_names_is_taken(api: httpx.Client, kind: str) -> None:
    assert api.post("/v1/offers", content=b"{}", headers={"Content-Type": kind}).status_code == 200


def test_a_body_that_is_too_large_is_413_by_its_declared_length(api: httpx.Client) -> None:
    body = json.dumps({"exclude": ["x" * 150] * 9_000}).encode()
    assert "1048576 bytes" in problem(api.post("/v1/offers", content=body, headers=JSON), 413).detail


def test_a_body_that_is_too_large_is_413_as_it_comes(api: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(1_100):
            yield b" " * 1_000

    problem(api.post("/v1/offers", content=chunks(), headers=JSON), 413)


def test_the_callers_request_id_is_echoed_and_a_bad_one_replaced(api: httpx.Client) -> None:
    assert api.post("/v1/offers", json={}, headers={"X-Request-ID": "shop-42"}).headers["X-Request-ID"] == "shop-42"
    for bad in ("x" * 129, "with space", ""):
        given = api.get("/livez", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        assert given != bad
        assert 16 < len(given) < 40


def test_every_answer_has_the_security_headers(api: httpx.Client) -> None:
    for answered in (api.get("/livez"), api.get("/v1/nothing"), api.post("/v1/offers", json={})):
        assert answered.headers["X-Content-Type-Options"] == "nosniff"
        assert answered.headers["Cache-Control"] == "no-store"


def test_no_error_repeats_what_was_sent(api: httpx.Client) -> None:
    for body in ({"account_id": ["very private"]}, {"cart": [{"product_id": "P", "quantity": "very private"}]}):
        assert "very private" not in api.post("/v1/offers", json=body).text
