"""Names that a server answers to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from recsys.events.memory import MemoryStore
from serving.app import create_app
from serving.fakes import fake_model
from serving.http.middleware import AllowedHosts
from serving.models.by_alias import FixedModel
from serving.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

LOOPBACK = [b"localhost", b"LOCALHOST:8000", b"127.0.0.1", b"127.0.0.1:8000", b"127.0.0.9", b"[::1]", b"[::1]:8000"]
FOREIGN = [
    b"shop.example",
    b"localhost.shop.example",
    b"127.0.0.1.nip.io",
    b"10.0.0.1",
    b"[::2]:80",
    b"\xff",
    b":1",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_the_names_of_loopback_pass(host: bytes) -> None:
    AllowedHosts((), any_name=False).check([(b"host", host)])


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_misdirected(host: bytes) -> None:
    with pytest.raises(HTTPException) as caught:
        AllowedHosts((), any_name=False).check([(b"host", host)])
    assert caught.value.status_code == 421
    AllowedHosts((), any_name=True).check([(b"host", host)])


def test_names_that_are_set_pass_besides() -> None:
    hosts = AllowedHosts(("Shop.example",), any_name=False)
    for host in (b"shop.example", b"SHOP.example:443", b"127.0.0.1"):
        hosts.check([(b"host", host)])
    with pytest.raises(HTTPException):
        hosts.check([(b"host", b"www.shop.example")])


@pytest.mark.parametrize("headers", [[], [(b"host", b"")]])
def test_a_request_without_a_host_is_refused_where_names_count(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(HTTPException) as caught:
        AllowedHosts((), any_name=False).check(headers)
    assert caught.value.status_code == 400
    AllowedHosts((), any_name=True).check(headers)


def test_a_server_answers_to_the_names_of_its_settings(
    running: Callable[[FastAPI], AbstractContextManager[httpx.Client]], store: MemoryStore
) -> None:
    settings = Settings(allowed_hosts=("shop.example",))
    with running(create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)) as client:
        for host, status in (("shop.example", 200), ("localhost", 200), ("other.example", 421)):
            assert client.get("/livez", headers={"Host": host}).status_code == status
