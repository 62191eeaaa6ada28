"""Sixty wrong requests, asked without keys and with a key that opens everything, and what keys themselves refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.golden.comparison import Case
from tests.golden.exchange import FixedClock, Names, client_of, content_of, masked_case
from tests.golden.markets import NORTH
from tests.golden.system import application, must

JSON = {"Content-Type": "application/json"}
KEPT_HEADERS = ("content-type", "allow", "retry-after", "www-authenticate", "x-request-id")

Wrong = tuple[str, str, dict[str, Any]]
"""Method, path, and what else httpx takes of a request."""


def _offers(**body: Any) -> Wrong:
    return "POST", "/v1/offers", {"json": body}


def _raw(content: bytes, **headers: str) -> Wrong:
    return "POST", "/v1/offers", {"content": content, "headers": JSON | headers}


def _post(path: str, body: Any) -> Wrong:
    return "POST", path, {"json": body}


_OUTCOME = {"outcome_id": "o", "decision_id": "d", "kind": "shown"}
_LINE = {"product_id": "P000001"}
_ORDER = {"order_id": "1", "lines": [_LINE]}

WRONG: dict[str, Wrong] = {
    "no such route": ("GET", "/v1/nothing", {}),
    "root": ("GET", "/", {}),
    "wrong method": ("DELETE", "/v1/offers", {}),
    "get where post is meant": ("GET", "/v1/offers", {}),
    "post where get is meant": _post("/v1/accounts/A0000001/offers", {}),
    "method nobody knows": ("BREW", "/v1/kpis", {}),
    "no body": ("POST", "/v1/offers", {"headers": JSON}),
    "not json": _raw(b"{account_id: 1"),
    "not utf-8": _raw(b'{"account_id": "\xff\xfe"}'),
    "cut off": _raw(b'{"account_id": "A0000001"'),
    "two documents": _raw(b"{}{}"),
    "lone surrogate": _raw(b'{"account_id": "\\ud800"}'),
    "number that is none": _raw(b'{"cart": [{"product_id": "P000001", "quantity": NaN}]}'),
    "number beyond all": _raw(b'{"cart": [{"product_id": "P000001", "quantity": 1e999}]}'),
    "limit of many digits": _raw(b'{"limit": ' + b"9" * 400 + b"}"),
    "deeply nested": _raw(b'{"cart": ' + b"[" * 500 + b"]" * 500 + b"}"),
    "list for an object": _raw(b"[]"),
    "text for an object": _raw(b'"A0000001"'),
    "null for an object": _raw(b"null"),
    "body too large": _raw(b'{"account_id": "' + b"a" * 1_100_000 + b'"}'),
    "another media type": ("POST", "/v1/offers", {"content": b"a=b", "headers": {"Content-Type": "text/plain"}}),
    "unknown field": _offers(account="A0000001"),
    "account is a number": _offers(account_id=17850),
    "account is empty": _offers(account_id=""),
    "account too long": _offers(account_id="A" * 201),
    "control character": _offers(account_id="A\x00B"),
    "limit 0": _offers(limit=0),
    "limit 101": _offers(limit=101),
    "limit 2.5": _offers(limit=2.5),
    "limit is a text": _offers(limit="4"),
    "limit is a boolean": _offers(limit=True),
    "no kinds": _offers(kinds=[]),
    "unknown kind": _offers(kinds=["downsell"]),
    "three kinds": _offers(kinds=["upsell", "cross_sell", "upsell"]),
    "unknown objective": _offers(objective="fame"),
    "unknown explain": _offers(explain="loud"),
    "cart is a text": _offers(cart="P000001"),
    "cart line without product": _offers(cart=[{"quantity": 1}]),
    "cart of 201 lines": _offers(cart=[_LINE] * 201),
    "quantity 0": _offers(cart=[_LINE | {"quantity": 0}]),
    "quantity below 0": _offers(cart=[_LINE | {"quantity": -1}]),
    "price below 0": _offers(filters={"min_price": -1}),
    "price is a text": _offers(filters={"max_price": "5"}),
    "cart line is a list": _offers(cart=[["P000001", 1]]),
    "unknown filter": _offers(filters={"colour": "red"}),
    "several at once": _offers(limit=0, kinds=[], cart=[{"quantity": -1}], colour="red", account_id=1),
    "batch of none": _post("/v1/offers:batch", {"requests": []}),
    "batch of 501": _post("/v1/offers:batch", {"requests": [{}] * 501}),
    "batch with one wrong": _post("/v1/offers:batch", {"requests": [{}, {"limit": 0}]}),
    "query limit": ("GET", "/v1/accounts/A0000001/offers", {"params": {"limit": "many"}}),
    "query kind": ("GET", "/v1/accounts/A0000001/offers", {"params": {"kinds": "downsell"}}),
    "query boolean": ("GET", "/v1/accounts/A0000001/offers", {"params": {"new_only": "perhaps"}}),
    "capacity 0": ("GET", "/v1/products/P000001/accounts", {"params": {"capacity": 0}}),
    "unknown product": ("GET", "/v1/products/X1/complements", {}),
    "unknown decision": _post("/v1/decisions/none/why-not", {"product_id": "P000001"}),
    "unknown outcome": _post("/v1/outcomes", {"outcomes": [_OUTCOME | {"kind": "liked"}]}),
    "time without a zone": _post("/v1/outcomes", {"outcomes": [_OUTCOME | {"occurred_at": "2025-07-01T12:00:00"}]}),
    "order without lines": _post("/v1/orders", {"orders": [_ORDER | {"lines": []}]}),
    "currency of four letters": _post("/v1/orders", {"orders": [_ORDER | {"currency": "EURO"}]}),
    "experiment that is none": ("GET", "/v1/experiments/none/readout", {}),
}  # fmt: skip


def wrong_requests(bundle: Path, folder: Path) -> list[Case]:
    """Return what a server without keys and one with keys answer."""
    return [*_open(bundle, folder / "open"), *_with_keys(bundle, folder / "keys")]


def _open(bundle: Path, folder: Path) -> list[Case]:
    folder.mkdir()
    with application(f"sqlite:///{folder}/offers.db", bundle, FixedClock(NORTH.now), {}) as app:
        return asyncio.run(_ask(app, [(f"no keys: {name}", asked, {}) for name, asked in WRONG.items()]))


def _with_keys(bundle: Path, folder: Path) -> list[Case]:
    folder.mkdir()
    file = folder / "keys.json"

    def key(name: str, *scopes: str, options: Sequence[str] = ()) -> dict[str, str]:
        wanted = [part for scope in scopes for part in ("--scope", scope)]
        made = must("key", "create", "--name", name, "--owner", "team", *wanted, "--keys", file, *options)
        return {"Authorization": f"Bearer {made.strip()}"}

    every = key("every", "offers", "outcomes", "sales", "admin")
    shop = key("shop", "offers")
    slow = key("slow", "offers", options=("--rate", "0.001", "--burst", "1"))
    unknown = {"Authorization": f"Bearer ofk_{'0' * 12}_{'a' * 43}"}
    asked = [(f"keys: {name}", wrong, every) for name, wrong in WRONG.items()]
    good = _offers(limit=1)
    asked += [
        ("no key", good, {}),
        ("no key: wrong body", WRONG["not json"], {}),
        ("no key: no such route", WRONG["no such route"], {}),
        ("unknown key", good, unknown),
        ("not a key", good, {"Authorization": "Bearer nonsense"}),
        ("another scheme", good, {"Authorization": "Basic YTpi"}),
        ("empty key", good, {"X-API-Key": ""}),
        ("scope sales", ("GET", "/v1/accounts/A0000001/offers", {}), shop),
        ("scope outcomes", _post("/v1/outcomes", {"outcomes": [_OUTCOME]}), shop),
        ("scope admin", ("GET", "/v1/kpis", {}), shop),
        ("scope of an unknown route", WRONG["no such route"], shop),
        ("rate: first", _offers(limit=0), slow),
        ("rate: second", good, slow),
    ]
    settings = {"keys_file": file}
    with application(f"sqlite:///{folder}/offers.db", bundle, FixedClock(NORTH.now), settings) as app:
        return asyncio.run(_ask(app, asked))


async def _ask(app: Any, asked: Sequence[tuple[str, Wrong, dict[str, str]]]) -> list[Case]:
    async with client_of(app) as client:
        return [await _answer(client, *each) for each in asked]


async def _answer(client: httpx.AsyncClient, name: str, asked: Wrong, key: dict[str, str]) -> Case:
    method, path, more = asked
    given = {"X-Request-ID": name.replace(" ", "-").replace(":", "")} | more.get("headers", {}) | key
    response = await client.request(method, path, **(more | {"headers": given}))
    headers = {header: response.headers[header] for header in KEPT_HEADERS if header in response.headers}
    if "retry-after" in headers and int(headers["retry-after"]) > 60:
        headers["retry-after"] = "long"
    shown = {part: _short(value) for part, value in more.items()}
    answer = {"status": response.status_code, "headers": headers, "body": content_of(response)}
    return masked_case({"case": name, "request": {"method": method, "path": path} | shown, "answer": answer}, Names())


def _short(value: Any) -> Any:
    """What was sent, as far as people want to read it."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return text if len(str(text)) <= 200 else f"{str(text)[:100]}... {len(str(text))} characters"
