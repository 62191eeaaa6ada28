"""Whatever a body holds: an answer or a problem, never a failure, and the server goes on."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.http.problems import Problem

JSON = {"Content-Type": "application/json"}
ROUTES = (
    "/v1/offers",
    "/v1/offers:batch",
    "/v1/outcomes",
    "/v1/orders",
    "/v1/products",
    "/v1/accounts",
    "/v1/visitors/v1:link",
    "/v1/decisions/d1/why-not",
)
OUTER = ("cart", "requests", "outcomes", "orders", "products", "accounts", "account_id", "product_id")
NAMES = ("account_id", "product_id", "cart", "limit", "requests", "outcomes", "orders", "products", "accounts", "lines")

texts = st.text(max_size=12) | st.sampled_from(
    ["\x00", "\ud800", "\u202e", "🛒" * 40, "'; DROP TABLE decisions; --", "x" * 300]
)
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**30), 1e308, -0.0])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
bodies = values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)


def send(api: httpx.Client, route: str, body: bytes) -> None:
    answered = api.post(route, content=body, headers=JSON)
    assert answered.status_code in {200, 400, 404, 409, 413, 422}, answered.text
    if answered.status_code != 200:
        assert Problem.model_validate(answered.json(), extra="forbid").status == answered.status_code


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(route=st.sampled_from(ROUTES), body=bodies)
def test_any_body_is_answered(api: httpx.Client, route: str, body: bytes) -> None:
    send(api, route, body)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), value=values, nested=values)
def test_any_value_in_a_known_field_is_answered(api: httpx.Client, name: str, value: Any, nested: Any) -> None:
    for route, outer in zip(ROUTES, OUTER, strict=True):
        send(api, route, json.dumps({outer: [{name: value}], name: nested}).encode())


@pytest.mark.parametrize("route", ROUTES)
def test_very_deep_json_is_refused(api: httpx.Client, route: str) -> None:
    for opening in (b"[", b'{"a":'):
        assert api.post(route, content=opening * 100_000, headers=JSON).status_code == 400
    inside = b'{"account_id":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    assert api.post(route, content=inside, headers=JSON).status_code in {400, 422}


@pytest.mark.parametrize("text", ["Ünïcödé 人 🛒", "a/b?c#d%20", "'; DROP TABLE decisions; --", "\u202eright to left"])
def test_any_text_is_an_id(api: httpx.Client, text: str) -> None:
    answer = api.post("/v1/offers", json={"account_id": text, "visitor_id": text, "cart": [{"product_id": text}]})
    assert answer.json()["unknown_products"] == [text]
    order = {"order_id": text, "account_id": text, "lines": [{"product_id": text}]}
    assert api.post("/v1/orders", json={"orders": [order]}).status_code == 200
    assert api.post("/v1/products", json={"products": [{"product_id": text, "stock": 0}]}).status_code == 200
