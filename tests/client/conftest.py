"""Both kinds of clients, for tests that hold for either."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from recsys.client import (
    AsyncOfferClient,
    OfferClient,
    Order,
)
from tests.support.queue_server import HURRIED, in_a_loop, in_threads
from tests.support.scripted_clients import Async, Sync


@pytest.fixture(params=[in_threads, in_a_loop], ids=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["sync", "async"])
def send_batch(request: pytest.FixtureRequest) -> Any:
    """Puts orders into the queue of either client and closes it."""

    def in_thread(url: str, orders: list[Order]) -> None:
        with OfferClient(url, HURRIED) as client:
            client.queue_orders(orders)

    async def in_loop(url: str, orders: list[Order]) -> None:
        async with AsyncOfferClient(url, HURRIED) as client:
            await client.queue_orders(orders)

    return in_thread if request.param == "sync" else lambda *given: asyncio.run(in_loop(*given))


@pytest.fixture(params=[Sync(), Async()], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Any:
    return request.param
