"""Values, ids, addresses and keys that can not be sent are named, and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from recsys.client import (
    AsyncOfferClient,
    ClientConfig,
    OfferClient,
    ReportedOutcome,
)
from recsys.contracts.offers import CartLine, OfferRequest, ProductChange
from recsys.errors import ConfigError
from tests.support.scripted_clients import BODY, EXPECTED, FAST, Script, Sync, good

ODD: Any = (b"P1", "P1\ud800", object(), {1: object()}, float("nan"), 10**400)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    ("name", "call", "given"),
    [
        (r"cart\[0\]\.product_id", "offers", lambda odd: [OfferRequest(cart=(CartLine(odd),))]),
        (r"cart\[0\]\.quantity", "offers", lambda odd: [OfferRequest(cart=(CartLine("P1", odd),))]),
        ("limit", "offers", lambda odd: [OfferRequest(limit=odd)]),
        ("exclude", "offers", lambda odd: [OfferRequest(exclude=cast("Any", [odd]))]),
        ("max_price", "offers", lambda odd: [OfferRequest(max_price=odd)]),
        ("region", "offers", lambda odd: [OfferRequest(region=odd)]),
        ("account_id", "account_offers", lambda odd: [OfferRequest(account_id=odd)]),
        ("kinds", "account_offers", lambda odd: [OfferRequest(account_id="A1", kinds=(odd,))]),
        ("product_id", "complements", lambda odd: [odd]),
        ("product_id", "why_not", lambda odd: ["d1", odd]),
        ("decision_id", "why_not", lambda odd: [odd, "P1"]),
        ("visitor_id", "link_visitor", lambda odd: [odd, "A1"]),
        ("account_id", "link_visitor", lambda odd: ["v1", odd]),
        (r"outcomes\[0\]\.reason", "report", lambda odd: [[ReportedOutcome("o1", "d1", "shown", reason=odd)]]),
        (r"products\[0\]\.price", "update_products", lambda odd: [[ProductChange("P1", price=odd)]]),
    ],
)
def test_a_value_that_can_not_be_sent_is_named_and_nothing_is(
    odd: Any, name: str, call: str, given: Callable[[Any], list[Any]]
) -> None:
    script = Script(good())
    with pytest.raises(ConfigError, match=rf"^{name}.* == .*must be"):
        Sync()(script, call, *given(odd))
    assert script.seen == []


@pytest.mark.parametrize("odd", [b"x", "150", None, object(), float("nan"), float("inf")])
def test_a_deadline_that_is_no_number_is_named(ask: Any, odd: Any) -> None:
    if odd is not None:
        with pytest.raises(ConfigError, match=r"deadline_ms == .*finite number"):
            ask(Script(good()), "offers", OfferRequest(), deadline_ms=odd)
    with pytest.raises(ConfigError, match=r"seconds == .*finite number"):
        ask(Script(good()), "wait_until_ready", odd)


def test_what_is_no_request_is_named(ask: Any) -> None:
    for call in ("offers", "account_offers"):
        with pytest.raises(ConfigError, match="request == 'A1', must be of OfferRequest"):
            ask(Script(good()), call, "A1")
    with (
        OfferClient("http://test", transport=httpx.MockTransport(Script(good()))) as client,
        pytest.raises(ConfigError, match="requests == 5, must be a list"),
    ):
        next(client.offers_batch(5))  # type: ignore[arg-type]


@pytest.mark.parametrize("dots", [".", ".."])
def test_an_id_of_dots_reaches_no_other_route(ask: Any, dots: str) -> None:
    script = Script(good())
    for call, *given in (
        ("account_offers", OfferRequest(account_id=dots)),
        *(("complements", dots), ("upgrades", dots), ("call_list", dots), ("white_space", dots)),
        ("why_not", dots, "P1"),
    ):
        with pytest.raises(ConfigError, match=rf"_id == '{dots}', must be text other than"):
            ask(script, str(call), *given)
    assert script.seen == []


def test_an_id_too_long_for_a_url_is_told(ask: Any) -> None:
    with pytest.raises(ConfigError, match=r"no request can be made for '/v1/products.*URL too long; check the ids"):
        ask(Script(good()), "complements", "P" * 100_000)


def test_no_cookie_is_kept_and_an_odd_one_harms_no_later_call() -> None:
    odd = [(b"set-cookie", b"plain=1; path=/"), (b"set-cookie", "odd=\xfc\x80; path=/".encode("latin-1"))]
    script = Script(httpx.Response(200, json=BODY, headers=odd))
    with OfferClient("http://test", FAST, transport=httpx.MockTransport(script)) as client:
        assert [client.offers(OfferRequest(limit=2)) for _ in range(3)] == [EXPECTED] * 3
    assert len(script.seen) == 3
    assert not any("cookie" in request.headers for request in script.seen)


def test_a_key_that_no_header_takes_is_told_without_showing_it() -> None:
    for key in ("sécret", "sec\nret"):
        with pytest.raises(ConfigError, match="api_key holds a character") as caught:
            OfferClient("http://test", ClientConfig(api_key=cast("Any", key)))
        assert key not in str(caught.value)


def test_a_proxy_that_can_not_be_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every HTTP client does, this one obeys what the environment says of proxies."""
    monkeypatch.setenv("HTTP_PROXY", "nonsense://proxy")
    with pytest.raises(ConfigError, match=r"what the environment says of proxies .*HTTP_PROXY"):
        OfferClient("http://test")


@pytest.mark.parametrize(
    "url", ["nonsense://x", "not a url", "", "http://", "http://[::", b"http://x", "http://x:70000"]
)
@pytest.mark.parametrize("kind", [OfferClient, AsyncOfferClient])
def test_what_is_no_url_is_told_at_once(kind: Any, url: str) -> None:
    with pytest.raises(ConfigError, match="base_url == "):
        kind(url)
