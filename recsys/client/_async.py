"""The client for event loops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self, TypeVar

import httpx

from recsys.client import _calls as calls
from recsys.client._answers import (
    Answer,
    BatchItem,
    BoardCell,
    Order,
    PostedOrders,
    Reported,
    ReportedOutcome,
    RunningExperiment,
    empty_answer,
    parse_answer,
    parse_line,
    read_line,
)
from recsys.client._calls import ApiCall
from recsys.client._exchange import (
    ApiQuestion,
    ClientConfig,
    ServiceError,
    account_question,
    headers_of,
    offers_question,
    pause_seconds,
    read_answer,
)
from recsys.contracts.answers import CallListEntry, RunningModel, WhyNotResult
from recsys.contracts.offers import AccountChange, OfferRequest, ProductChange

_T = TypeVar("_T")


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
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=self._config.timeout_seconds,
            headers=headers_of(self._config),
            transport=transport,
        )
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
        experiment_id: str | None = None,
    ) -> Answer:
        """Return the server's offers.

        Raises:
            RequestRefusedError: the server refused the request.
            ServiceError: it did not answer, or could not serve, after all retries.
        """
        return await self._ask(
            ApiCall(offers_question(request, visitor_id, channel, surface, experiment_id), parse_answer)
        )

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
        return await self._ask(ApiCall(account_question(request, channel, surface), parse_answer))

    async def models(self) -> tuple[RunningModel, ...]:
        """Return the models that run in the server; the first one answers."""
        return await self._ask(calls.models())

    async def report(self, outcomes: Iterable[ReportedOutcome]) -> Reported:
        """Report what came of offers; return what the server makes of it: sending the same again is safe.

        Raises:
            RequestRefusedError: the server refused the request.
            ServiceError: it did not answer, or could not serve, after all retries; trying again later is safe.
        """
        return await self._ask(calls.outcomes_call(outcomes))

    async def post_orders(self, orders: Iterable[Order]) -> PostedOrders:
        """Post orders as they come; sending the same again is safe. Raises what `outcomes_call` does."""
        return await self._ask(calls.orders_call(orders))

    async def update_products(self, changes: Iterable[ProductChange]) -> int:
        """Post prices, stock and flags of products; return how many. Raises what `outcomes_call` does."""
        return await self._ask(calls.update_call("products", changes))

    async def update_accounts(self, changes: Iterable[AccountChange]) -> int:
        """Post segment, region and flags of accounts; return how many. Raises what `outcomes_call` does."""
        return await self._ask(calls.update_call("accounts", changes))

    async def link_visitor(self, visitor_id: str, account_id: str) -> str:
        """Let a visitor become an account; return the account. Raises what `outcomes_call` does."""
        return await self._ask(calls.link_visitor(visitor_id, account_id))

    async def why_not(self, decision_id: str, product_id: str) -> WhyNotResult:
        """Return why a decision did not offer a product. Raises what `outcomes_call` does."""
        return await self._ask(calls.why_not_call(decision_id, product_id))

    async def complements(self, product_id: str, *, limit: int = 10) -> Answer:
        """Return what goes with a product. Raises what `outcomes_call` does."""
        return await self._ask(calls.product_offers(product_id, "complements", limit))

    async def upgrades(self, product_id: str, *, limit: int = 10) -> Answer:
        """Return higher-value versions of a product. Raises what `outcomes_call` does."""
        return await self._ask(calls.product_offers(product_id, "upgrades", limit))

    async def call_list(self, product_id: str, *, capacity: int = 50) -> tuple[CallListEntry, ...]:
        """Return whom to call about a product. Raises what `outcomes_call` does."""
        return await self._ask(calls.call_list_call(product_id, capacity))

    async def white_space(self, account_id: str, *, products_per_category: int = 20) -> tuple[BoardCell, ...]:
        """Return what is left to sell to an account. Raises what `outcomes_call` does."""
        return await self._ask(calls.white_space(account_id, products_per_category))

    async def experiments(self) -> tuple[RunningExperiment, ...]:
        """Return what is being tested. Raises what `outcomes_call` does."""
        return await self._ask(calls.experiments())

    async def offers_batch(
        self, requests: Iterable[OfferRequest], *, channel: str | None = None, surface: str | None = None
    ) -> AsyncIterator[BatchItem]:
        """Yield the answers to many questions, each as soon as it is ready; nothing is tried again.

        Raises:
            RequestRefusedError: the server refused the batch.
            ServiceError: it did not answer, or its answer broke off.
        """
        question = calls.batch_question(requests, channel, surface)
        try:
            async with self._http.stream("POST", question.path, json=question.json) as response:
                if not response.is_success:
                    await response.aread()
                    read_answer(response, parse_line)
                async for line in response.aiter_lines():
                    yield read_line(line)
        except httpx.TransportError as error:
            raise ServiceError(f"the answer broke off: {error or type(error).__name__}") from error

    async def _ask(self, call: ApiCall[_T]) -> _T:
        attempt = 0
        while True:
            result = await self._send(call.question)
            pause = pause_seconds(attempt, result, self._config, self._rng)
            if pause is None:
                return read_answer(result, call.parse)
            await asyncio.sleep(pause)
            attempt += 1

    async def _send(self, question: ApiQuestion) -> httpx.Response | httpx.TransportError:
        try:
            return await self._http.request(question.method, question.path, json=question.json, params=question.params)
        except httpx.TransportError as error:
            return error
