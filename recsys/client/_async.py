"""The client for event loops; all that talks to a server stands here, for both clients."""

from __future__ import annotations

import asyncio
import logging
import random
import reprlib
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar, Unpack

import httpx

from recsys.client import _calls as calls
from recsys.client._answers import (
    Answer,
    BatchItem,
    BoardCell,
    Order,
    PostedDecision,
    PostedOrders,
    Reported,
    ReportedOutcome,
    RunningExperiment,
    empty_answer,
    parse_answer,
    read_line,
)
from recsys.client._calls import DECIDING_MS, ApiCall
from recsys.client._exchange import (
    ApiQuestion,
    ClientConfig,
    Received,
    RequestRefusedError,
    ServiceError,
    checked_number,
    drawn_pause,
    http_client,
    pause_seconds,
    read_answer,
    receive,
    received_lines,
    within,
)
from recsys.client._outbox import SHORTEST_PAUSE, Outbox, QueueState
from recsys.contracts.answers import CallList, RunningModel, WhyNotResult
from recsys.contracts.offers import AccountChange, OfferRequest, ProductChange
from recsys.errors import ConfigError

_T = TypeVar("_T")

_SENDING_MS: Final = 10_000.0
"""Deadline of a post of queued events: nobody waits for it, and a page's would be too short for a hundred of them."""
_BETWEEN_PROBES: Final = 0.1
"""Seconds between two looks at a server that is not ready yet."""

_log = logging.getLogger(__name__)


class AsyncOfferClient:
    """Asks a server for offers, from within an event loop; the same calls as `OfferClient`, awaited.

    One event loop uses it at a time. Another one may follow, and goes on sending what waits.
    """

    def __init__(
        self,
        base_url: str,
        config: ClientConfig | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config or ClientConfig()
        self._connect = partial(http_client, base_url, self._config, transport)
        self._http = self._connect()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._outbox = Outbox(self._config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._filled = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._is_closing = self._is_closed = False

    async def __aenter__(self) -> Self:
        """Begin to send what an earlier client left in the queue's file; return the client, closed after the block."""
        self._begin_sending()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> int:
        """Send what is queued, for `flush_seconds` at most, and close the connections; return how many were not sent.

        Those stay in the queue's file; without one they are lost, and the log says so.
        """
        if self._is_closed:
            return self._outbox.state.waiting
        self._is_closing = True
        end = asyncio.get_running_loop().time() + self._config.flush_seconds
        is_cancelled = True  # by others: a sending task that was being cancelled ends without having sent anything
        while is_cancelled:
            sending = self._begin_sending()
            self._filled.set()
            await asyncio.wait([sending], timeout=max(end - asyncio.get_running_loop().time(), 0))
            is_cancelled = sending.done() and sending.cancelled()
        if not sending.done():
            sending.cancel()
            await asyncio.wait([sending])
        if self._outbox.state.waiting:
            left = "stay in its file" if self._config.queue_file else "are lost"
            _log.error("%d events of the queue were not sent and %s", self._outbox.state.waiting, left)
        self._is_closed = True
        await self._http.aclose()
        self._outbox.close()
        return self._outbox.state.waiting

    @property
    def queue(self) -> QueueState:
        """What has become of the outcomes and orders that were queued."""
        return self._outbox.state

    async def offers(
        self,
        request: OfferRequest,
        *,
        visitor_id: str | None = None,
        channel: str | None = None,
        surface: str | None = None,
        experiment_id: str | None = None,
        deadline_ms: float | None = None,
    ) -> Answer:
        """Return the server's offers, or an answer without offers whose `shortfall` says why none came.

        That is so past the deadline, with the server away or broken, and where it refuses the request; a refusal is
        logged too. `deadline_ms`: of this call; None: the configuration's.

        Raises:
            ConfigError: the request asks for what is not served over HTTP.
        """
        question = calls.offers_question(request, visitor_id, channel, surface, experiment_id)
        return await self._slate(question, request, deadline_ms)

    async def account_offers(
        self,
        request: OfferRequest,
        *,
        channel: str | None = None,
        surface: str | None = None,
        deadline_ms: float | None = None,
    ) -> Answer:
        """Return what to say to one account; without an answer in time as `offers`.

        Raises:
            ConfigError: the request holds more than an account's page takes (a cart, exclusions).
        """
        return await self._slate(calls.account_question(request, channel, surface), request, deadline_ms)

    async def complements(
        self, product_id: str, *, deadline_ms: float | None = None, **options: Unpack[calls.ProductPage]
    ) -> Answer:
        """Return what goes with a product; without an answer in time as `offers`.

        Raises:
            ConfigError: an option is none of a product's page, or can't be sent.
        """
        question = calls.product_question(product_id, "complements", options)
        return await self._slate(question, OfferRequest(limit=options.get("limit", 10)), deadline_ms)

    async def upgrades(
        self, product_id: str, *, deadline_ms: float | None = None, **options: Unpack[calls.ProductPage]
    ) -> Answer:
        """Return higher-value versions of a product; otherwise as `complements`."""
        question = calls.product_question(product_id, "upgrades", options)
        return await self._slate(question, OfferRequest(limit=options.get("limit", 10)), deadline_ms)

    async def queue_outcomes(self, outcomes: Iterable[ReportedOutcome]) -> int:
        """Put what came of offers into the queue, to be sent until the server has it; return how many found room.

        It waits for no server and fails for none. An outcome without a time happened now. Each counts once, by its id.

        Raises:
            ConfigError: names the outcomes that can't be sent; the others are in the queue.
        """
        return self._put("outcomes", outcomes)

    async def queue_orders(self, orders: Iterable[Order]) -> int:
        """Put orders into the queue, to be sent until the server has them; otherwise as `queue_outcomes`."""
        return self._put("orders", orders)

    async def report(self, outcomes: Iterable[ReportedOutcome]) -> Reported:
        """Report what came of offers now; return what the server makes of it: sending the same again is safe.

        Raises:
            RequestRefusedError: the server refused the request.
            ServiceError: it did not answer in time, or could not serve; trying again later is safe.
        """
        return await self._ask(calls.outcomes_call(outcomes))

    async def post_orders(self, orders: Iterable[Order]) -> PostedOrders:
        """Post orders now; sending the same again is safe. Raises what `report` does."""
        return await self._ask(calls.orders_call(orders))

    async def update_products(self, changes: Iterable[ProductChange]) -> int:
        """Post prices, stock and flags of products; return how many. Raises what `report` does."""
        return await self._ask(calls.update_call("products", changes))

    async def update_accounts(self, changes: Iterable[AccountChange]) -> int:
        """Post segment, region and flags of accounts; return how many. Raises what `report` does."""
        return await self._ask(calls.update_call("accounts", changes))

    async def link_visitor(self, visitor_id: str, account_id: str) -> str:
        """Let a visitor become an account; return the account. Raises what `report` does."""
        return await self._ask(calls.link_visitor(visitor_id, account_id))

    async def models(self) -> tuple[RunningModel, ...]:
        """Return the models that run in the server; the first one answers. Raises what `report` does."""
        return await self._ask(calls.models())

    async def why_not(self, decision_id: str, product_id: str) -> WhyNotResult:
        """Return why a decision did not offer a product. Raises what `report` does."""
        return await self._ask(calls.why_not_call(decision_id, product_id))

    async def call_list(self, product_id: str, *, capacity: int = 50, language: str | None = None) -> CallList:
        """Return whom to call about a product. Raises what `report` does."""
        return await self._ask(calls.call_list_call(product_id, capacity, language))

    async def white_space(self, account_id: str, *, products_per_category: int = 20) -> tuple[BoardCell, ...]:
        """Return what is left to sell to an account. Raises what `report` does."""
        return await self._ask(calls.white_space(account_id, products_per_category))

    async def experiments(self) -> tuple[RunningExperiment, ...]:
        """Return what is and was tested, and what was decided of it. Raises what `report` does."""
        return await self._ask(calls.experiments())

    async def decide(
        self,
        experiment_id: str,
        *,
        by: str | None = None,
        override: str | None = None,
        reason: str = "",
        arm: str | None = None,
        currency: str | None = None,
        deadline_ms: float = DECIDING_MS,
    ) -> PostedDecision:
        """Decide an experiment once, signed; return what is stored and whether it is new. Raises what `report` does."""
        return await self._ask(calls.decide_call(experiment_id, by, override, reason, arm, currency), deadline_ms)

    async def offers_batch(
        self, requests: Iterable[OfferRequest], *, channel: str | None = None, surface: str | None = None
    ) -> AsyncGenerator[BatchItem, None]:
        """Yield the answers to many questions, each as soon as it is ready; nothing is tried again.

        The deadline is of each answer's wait: a batch may take as long as it goes on.

        Raises:
            RequestRefusedError: the server refused the batch.
            ServiceError: an answer did not come in time, or the whole broke off.
        """
        asked = self._request(calls.batch_question(requests, channel, surface))
        async with aclosing(received_lines(self._http, asked)) as lines:
            while (line := await within(self._config.deadline_ms, anext(lines, None))) is not None:
                yield read_line(line)

    async def wait_until_ready(self, seconds: float) -> str:
        """Return the version of the model that answers, as soon as the server is ready.

        Raises:
            ServiceError: it was not ready within `seconds`.
        """
        end = time.monotonic() + checked_number("seconds", seconds)
        ready = ApiCall(ApiQuestion("/readyz"), lambda body: str(body["model_version"]))
        while True:
            left = max(end - time.monotonic(), 0.0)
            try:
                return await self._ask(ready, min(1_000 * left, self._config.deadline_ms))
            except ServiceError as error:
                if time.monotonic() + _BETWEEN_PROBES >= end:
                    raise ServiceError(f"the server was not ready within {seconds:g} s: {error}") from error
            await asyncio.sleep(_BETWEEN_PROBES)

    async def _slate(self, question: ApiQuestion, request: OfferRequest, deadline_ms: float | None) -> Answer:
        try:
            return await self._ask(ApiCall(question, parse_answer), deadline_ms)
        except ServiceError as error:
            return empty_answer(request, str(error))
        except RequestRefusedError as error:
            _log.error("%s was refused: %s; request %s", question.path, error, error.request_id)
            return empty_answer(request, str(error))

    async def _ask(self, call: ApiCall[_T], deadline_ms: float | None = None) -> _T:
        """The answer; what is wrong with the question itself raises before anything is sent."""
        deadline = self._config.deadline_ms if deadline_ms is None else checked_number("deadline_ms", deadline_ms)
        return await within(deadline, self._answer(self._request(call.question), call))

    def _request(self, question: ApiQuestion) -> httpx.Request:
        self._enter_loop()
        try:
            return self._http.build_request(question.method, question.path, json=question.json, params=question.params)
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            path = reprlib.repr(question.path)
            raise ConfigError(f"no request can be made for {path}: {error}; check the ids in it") from None

    async def _answer(self, asked: httpx.Request, call: ApiCall[_T]) -> _T:
        attempt = 0
        while True:
            result = await self._send(asked)
            pause = pause_seconds(attempt, result, self._config, self._rng)
            if pause is None:
                return read_answer(result, call.parse)
            await asyncio.sleep(pause)
            attempt += 1

    async def _send(self, asked: httpx.Request) -> Received | httpx.HTTPError:
        try:
            async with aclosing(await self._http.send(asked, stream=True)) as response:
                return await receive(response)
        except httpx.HTTPError as error:
            return error
        except ServiceError:
            raise
        except Exception as error:  # whatever a library does with what a server sends, no page fails by it
            if self._is_closed:
                raise ServiceError("the client was closed before the answer came") from error
            _log.error("the exchange with the server failed", exc_info=error)
            raise ServiceError(f"the exchange with the server failed: {error!r}") from error

    def _put(self, kind: str, events: Iterable[ReportedOutcome] | Iterable[Order]) -> int:
        self._enter_loop()
        bodies, wrong = calls.dated_events(kind, events, datetime.now(UTC))
        kept = self._outbox.put(kind, bodies)
        self._begin_sending()
        self._filled.set()
        if wrong:
            others = f"the other {len(bodies)} {kind} are in the queue" if kept == len(bodies) else "the queue is full"
            raise ConfigError(f"{'; '.join(wrong)}; {others}")
        return kept

    def _enter_loop(self) -> None:
        """Make anew what belongs to an event loop where another one runs than before."""
        if self._is_closed:
            raise RuntimeError("the client is closed; make another one")
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            self._http, self._filled, self._sending = self._connect(), asyncio.Event(), None
        self._loop = loop

    def _begin_sending(self) -> asyncio.Task[None]:
        self._enter_loop()
        if self._sending is None or self._sending.done():  # it may have been cancelled with all others of its loop
            self._sending = asyncio.create_task(self._keep_sending())
        return self._sending

    async def _keep_sending(self) -> None:
        while True:
            await self._send_queued()
            if self._is_closing:
                return
            self._filled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._outbox.seconds_until_due()):
                    await self._filled.wait()

    async def _send_queued(self) -> None:
        """Send what waits until nothing does; whatever goes wrong, it is tried again after a pause."""
        attempt = 0
        while True:
            try:
                is_sent = await self._send_batch()
            except Exception as error:  # noqa: BLE001 - a task that ended would never send anything again
                self._outbox.failing(error)
                is_sent = False
            if is_sent is None:
                return
            attempt = 0 if is_sent else attempt + 1
            if not is_sent:
                await asyncio.sleep(max(drawn_pause(attempt - 1, self._config, self._rng), SHORTEST_PAUSE))

    async def _send_batch(self) -> bool | None:
        """Whether the server took or refused the next events; None where there is nothing to send."""
        batch = self._outbox.head(is_closing=self._is_closing)
        if batch is None:
            return None
        try:
            self._outbox.sent(batch, await self._ask(batch.call, _SENDING_MS))
        except Exception as error:  # noqa: BLE001 - whatever it is, it may be of these events alone
            return self._outbox.failed(batch, error)
        return True
