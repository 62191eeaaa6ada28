"""Clients of both kinds over a transport that answers by a script."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from recsys.client import (
    Answer,
    AsyncOfferClient,
    ClientConfig,
    OfferClient,
)
from recsys.contracts.offers import Offer

OFFER: dict[str, Any] = {
    "rank": 1,
    "product_id": "P1",
    "kind": "cross_sell",
    "name": "Product 1",
    "price": 9.5,
    "currency": "GBP",
    "probability": 0.2,
    "probability_of": "buys_within_horizon",
    "expected_quantity": 2.0,
    "expected_value": 3.8,
    "score": 0.2,
    "tier": "cart",
    "reason": "Bought with P3.",
    "from_product_id": "P3",
    "evidence": {"n_orders": 3},
}
BODY = {
    "decision_id": "0199",
    "logged": True,
    "model_version": "7",
    "as_of": "2026-01-01T00:00:00Z",
    "horizon_days": 30,
    "objective": "conversion",
    "experiment": None,
    "arm": None,
    "tier": "cart",
    "offers": [OFFER],
    "requested": 2,
    "returned": 1,
    "shortfall": "only one",
    "unknown_products": ["X"],
    "unknown_categories": ["Tyos"],
    "unknown_experiment": "spring-cards-1",
}
EXPECTED = Answer(
    decision_id="0199",
    logged=True,
    model_version="7",
    as_of=datetime(2026, 1, 1, tzinfo=UTC),
    horizon_days=30,
    objective="conversion",
    tier="cart",
    offers=(Offer(**OFFER),),
    requested=2,
    shortfall="only one",
    unknown_products=("X",),
    unknown_categories=("Tyos",),
    unknown_experiment="spring-cards-1",
)
FAST = ClientConfig(backoff_seconds=0.0)
Handler = Callable[[httpx.Request], Any]


class Sync:
    """The synchronous client, by the names of its calls."""

    def __call__(self, handler: Handler, call: str, *arguments: Any, config: ClientConfig = FAST, **named: Any) -> Any:
        transport = httpx.MockTransport(handler)
        with OfferClient("http://test", config, transport=transport, rng=random.Random(1)) as client:
            return getattr(client, call)(*arguments, **named)


class Async:
    """The same through the asynchronous one."""

    def __call__(self, handler: Handler, call: str, *arguments: Any, config: ClientConfig = FAST, **named: Any) -> Any:
        async def run() -> Any:
            transport = httpx.MockTransport(handler)
            async with AsyncOfferClient("http://test", config, transport=transport, rng=random.Random(1)) as client:
                return await getattr(client, call)(*arguments, **named)

        return asyncio.run(run())


class Script:
    """Answers with what it is given, one after the other, the last one for ever; keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def good(body: Any = BODY) -> httpx.Response:
    return httpx.Response(200, json=body)
