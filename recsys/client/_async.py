"""The client for event loops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from recsys.client._answers import Answer, RunningModel, empty_answer, parse_answer, parse_models
from recsys.client._exchange import (
    ClientConfig,
    Question,
    account_question,
    offers_question,
    pause_seconds,
    read_answer,
)
from recsys.contracts.offers import OfferRequest

T = TypeVar("T")


class AsyncOfferClient:
    """Asks a server for offers, from within an event loop; the same calls as `OfferClient`, awaited."""

    def __init__(
        self,
        base_url: str,
        config: ClientConfig | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config or ClientConfig()
        self._http = httpx.AsyncClient(base_url=base_url, timeout=self._config.timeout_seconds, transport=transport)
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret

    async def __aenter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def offers(
        self,
        request: OfferRequest,
        *,
        visitor_id: str | None = None,
        channel: str | None = None,
        surface: str | None = None,
    ) -> Answer:
        """Return the server's offers.

        Raises:
            RequestRefusedError: the server refused the request.
            ServiceError: it did not answer, or could not serve, after all retries.
        """
        return await self._ask(offers_question(request, visitor_id, channel, surface), parse_answer)

    async def offers_or_empty(
        self,
        request: OfferRequest,
        *,
        deadline_ms: float,
        visitor_id: str | None = None,
        channel: str | None = None,
        surface: str | None = None,
    ) -> Answer:
        """Return the server's offers, or after `deadline_ms` or any failure an answer without offers that says why."""
        try:
            async with asyncio.timeout(max(deadline_ms, 0) / 1_000):
                return await self.offers(request, visitor_id=visitor_id, channel=channel, surface=surface)
        except TimeoutError:
            return empty_answer(request, f"no answer within {deadline_ms:g} ms")
        except Exception as error:  # noqa: BLE001 - a page must not fail because its offers did
            return empty_answer(request, str(error) or type(error).__name__)

    async def account_offers(
        self, request: OfferRequest, *, channel: str | None = None, surface: str | None = None
    ) -> Answer:
        """Return what to say to one account.

        Raises:
            ConfigError: the request holds more than an account's page takes (a cart, exclusions).
            RequestRefusedError: the server refused the request.
            ServiceError: it did not answer, or could not serve, after all retries.
        """
        return await self._ask(account_question(request, channel, surface), parse_answer)

    async def models(self) -> tuple[RunningModel, ...]:
        """Return the models that run in the server; the first one answers."""
        return await self._ask(Question("/v1/models"), parse_models)

    async def _ask(self, question: Question, parse: Callable[[dict[str, Any]], T]) -> T:
        attempt = 0
        while True:
            result = await self._send(question)
            pause = pause_seconds(attempt, result, self._config, self._rng)
            if pause is None:
                return read_answer(result, parse)
            await asyncio.sleep(pause)
            attempt += 1

    async def _send(self, question: Question) -> httpx.Response | httpx.TransportError:
        try:
            return await self._http.request(question.method, question.path, json=question.json, params=question.params)
        except httpx.TransportError as error:
            return error
