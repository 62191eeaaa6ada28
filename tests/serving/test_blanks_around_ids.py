"""Blanks around ids and names are taken off, as training does: a stray one made a stranger of an account."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from recsys.contracts.events import EventQuery
from recsys.events.memory import MemoryStore


def offers(api: httpx.Client, **body: Any) -> dict[str, Any]:
    answered = api.post("/v1/offers", json=body)
    assert answered.status_code == 200, answered.text
    return answered.json()


@pytest.mark.parametrize("account_id", [" A1", "A1 ", "\u00a0A1\u2003", "  A1\t"])
def test_an_account_is_known_whatever_blanks_stand_around_it(api: httpx.Client, account_id: str) -> None:
    expected = offers(api, account_id="A1")["offers"]
    assert offers(api, account_id=account_id)["offers"] == expected
    page = api.get("/v1/accounts/%20A1%20/offers")
    assert page.json()["tier"] == "account"


def test_what_is_kept_has_no_blanks_around_it(api: httpx.Client, store: MemoryStore) -> None:
    offers(api, account_id=" A1 ", visitor_id=" v1", cart=[{"product_id": "P1 "}], channel=" web ")
    line = {"product_id": " P2", "line_id": " 1 "}
    order = {"order_id": " o1 ", "account_id": "A1 ", "channel": "web ", "lines": [line]}
    assert api.post("/v1/orders", json={"orders": [order]}).json()["unknown_products"] == []
    assert api.post("/v1/accounts", json={"accounts": [{"account_id": " A1", "segment": "retail "}]}).json() == {
        "received": 1,
        "unknown_segments": [],
    }
    (kept,) = store.read(EventQuery("decisions", columns=("account_id", "visitor_id", "channel"))).to_pylist()
    assert kept == {"account_id": "A1", "visitor_id": "v1", "channel": "web"}
    (row,) = store.read(EventQuery("order_lines", columns=("order_id", "line_id", "account_id"))).to_pylist()
    assert row == {"order_id": "o1", "line_id": "1", "account_id": "A1"}
    assert store.read(EventQuery("account_overrides"))["segment"].to_pylist() == ["retail"]


def test_blanks_alone_are_no_id(api: httpx.Client) -> None:
    for body in ({"account_id": "  "}, {"cart": [{"product_id": " "}]}, {"channel": " "}):
        assert api.post("/v1/offers", json=body).status_code == 422


@pytest.mark.parametrize("text", ["A\u00001", "A\n1", "A" * 201])
def test_control_characters_and_endless_ids_are_refused(api: httpx.Client, text: str) -> None:
    assert api.post("/v1/offers", json={"account_id": text}).status_code == 422
