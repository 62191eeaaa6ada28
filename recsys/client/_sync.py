"""The client for threads: the one for event loops, in a loop and a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import random
import threading
from collections.abc import Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

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
)
from recsys.client._async import AsyncOfferClient
from recsys.client._calls import DECIDING_MS, ProductPage
from recsys.client._exchange import ClientConfig
from recsys.client._outbox import QueueState
from recsys.contracts.answers import CallList, RunningModel, WhyNotResult
from recsys.contracts.offers import AccountChange, OfferRequest, ProductChange

_T = TypeVar("_T")


class OfferClient:
    """Asks a server for offers. One client serves many threads and keeps its connections.

    Use as ``with OfferClient("http://127.0.0.1:8000") as client: client.offers(OfferRequest(account_id="17850"))``, or
    keep it as long as the process: it is closed at its end. A process that forks makes its client after that.
    """

    def __init__(
        self,
        base_url: str,
        config: ClientConfig | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._asking = AsyncOfferClient(base_url, config, transport=transport, rng=rng)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="offer-client", daemon=True)
        self._entry = threading.Lock()
        self._is_closed = False
        self._thread.start()
        self._run(self._asking.__aenter__())
        atexit.register(self.close)

    def __enter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the client."""
        self.close()

    def close(self) -> int:
        """Send what is queued, for `flush_seconds` at most, and close the connections; return how many were not sent.

        Those stay in the queue's file; without one they are lost, and the log says so.
        """
        with self._entry:  # no call is begun that the loop would not end
            was_closed, self._is_closed = self._is_closed or not self._thread.is_alive(), True
        if not was_closed:
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            atexit.unregister(self.close)
        return self.queue.waiting

    @property
    def queue(self) -> QueueState:
        """What has become of the outcomes and orders that were queued."""
        return self._asking.queue

    def offers(
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
        places = {"visitor_id": visitor_id, "channel": channel, "surface": surface, "experiment_id": experiment_id}
        return self._run(self._asking.offers(request, **places, deadline_ms=deadline_ms))

    def account_offers(
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
        asked = self._asking.account_offers(request, channel=channel, surface=surface, deadline_ms=deadline_ms)
        return self._run(asked)

    def complements(
        self, product_id: str, *, deadline_ms: float | None = None, **options: Unpack[ProductPage]
    ) -> Answer:
        """Return what goes with a product; without an answer in time as `offers`.

        Raises:
            ConfigError: an option is none of a product's page, or can't be sent.
        """
        return self._run(self._asking.complements(product_id, deadline_ms=deadline_ms, **options))

    def upgrades(self, product_id: str, *, deadline_ms: float | None = None, **options: Unpack[ProductPage]) -> Answer:
        """Return higher-value versions of a product; otherwise as `complements`."""
        return self._run(self._asking.upgrades(product_id, deadline_ms=deadline_ms, **options))

    def queue_outcomes(self, outcomes: Iterable[ReportedOutcome]) -> int:
        """Put what came of offers into the queue, to be sent until the server has it; return how many found room.

        It waits for no server and fails for none. An outcome without a time happened now. Each counts once, by its id.

        Raises:
            ConfigError: names the outcomes that can't be sent; the others are in the queue.
        """
        return self._run(self._asking.queue_outcomes(outcomes))

    def queue_orders(self, orders: Iterable[Order]) -> int:
        """Put orders into the queue, to be sent until the server has them; otherwise as `queue_outcomes`."""
        return self._run(self._asking.queue_orders(orders))

    def report(self, outcomes: Iterable[ReportedOutcome]) -> Reported:
        """Report what came of offers now; return what the server makes of it: sending the same again is safe.

        Raises:
            RequestRefusedError: the server refused the request.
            ServiceError: it did not answer in time, or could not serve; trying again later is safe.
        """
        return self._run(self._asking.report(outcomes))

    def post_orders(self, orders: Iterable[Order]) -> PostedOrders:
        """Post orders now; sending the same again is safe. Raises what `report` does."""
        return self._run(self._asking.post_orders(orders))

    def update_products(self, changes: Iterable[ProductChange]) -> int:
        """Post prices, stock and flags of products; return how many. Raises what `report` does."""
        return self._run(self._asking.update_products(changes))

    def update_accounts(self, changes: Iterable[AccountChange]) -> int:
        """Post segment, region and flags of accounts; return how many. Raises what `report` does."""
        return self._run(self._asking.update_accounts(changes))

    def link_visitor(self, visitor_id: str, account_id: str) -> str:
        """Let a visitor become an account; return the account. Raises what `report` does."""
        return self._run(self._asking.link_visitor(visitor_id, account_id))

    def models(self) -> tuple[RunningModel, ...]:
        """Return the models that run in the server; the first one answers. Raises what `report` does."""
        return self._run(self._asking.models())

    def why_not(self, decision_id: str, product_id: str) -> WhyNotResult:
        """Return why a decision did not offer a product. Raises what `report` does."""
        return self._run(self._asking.why_not(decision_id, product_id))

    def call_list(self, product_id: str, *, capacity: int = 50, language: str | None = None) -> CallList:
        """Return whom to call about a product. Raises what `report` does."""
        return self._run(self._asking.call_list(product_id, capacity=capacity, language=language))

    def white_space(self, account_id: str, *, products_per_category: int = 20) -> tuple[BoardCell, ...]:
        """Return what is left to sell to an account. Raises what `report` does."""
        return self._run(self._asking.white_space(account_id, products_per_category=products_per_category))

    def experiments(self) -> tuple[RunningExperiment, ...]:
        """Return what is and was tested, and what was decided of it. Raises what `report` does."""
        return self._run(self._asking.experiments())

    def decide(
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
        """Decide an experiment once, signed; a second time the server shows what is stored.

        Args:
            experiment_id: its plan's id.
            by: who decides; None: the name of the API key.
            override: what that person decides against the rules; needs `reason`.
            reason: why the rules are overridden.
            arm: which arm the override decides on, where several are compared with control.
            currency: of the figures; None: the model's.
            deadline_ms: the server reads the whole log, so that this call has a deadline of its own.

        Raises:
            RequestRefusedError: it is too early, nobody signs, or there is nothing to read out.
            ServiceError: it did not answer in time, or could not serve; trying again later is safe.
        """
        return self._run(
            self._asking.decide(
                experiment_id,
                by=by,
                override=override,
                reason=reason,
                arm=arm,
                currency=currency,
                deadline_ms=deadline_ms,
            )
        )

    def offers_batch(
        self, requests: Iterable[OfferRequest], *, channel: str | None = None, surface: str | None = None
    ) -> Iterator[BatchItem]:
        """Yield the answers to many questions, each as soon as it is ready; nothing is tried again.

        The deadline is of each answer's wait: a batch may take as long as it goes on.

        Raises:
            RequestRefusedError: the server refused the batch.
            ServiceError: an answer did not come in time, or the whole broke off.
        """
        items = self._asking.offers_batch(requests, channel=channel, surface=surface)

        async def following() -> BatchItem | None:
            return await anext(items, None)

        try:
            while (item := self._run(following())) is not None:
                yield item
        finally:
            if not self._is_closed:
                self._run(items.aclose())

    def wait_until_ready(self, seconds: float) -> str:
        """Return the version of the model that answers, as soon as the server is ready.

        Raises:
            ServiceError: it was not ready within `seconds`.
        """
        return self._run(self._asking.wait_until_ready(seconds))

    def _run(self, asked: Coroutine[Any, Any, _T]) -> _T:
        """What a coroutine returns or raises, from the loop's thread."""
        with self._entry:
            if self._is_closed or not self._thread.is_alive():
                asked.close()
                raise RuntimeError("the client is closed, or was made before the process forked; make another one")
            begun = asyncio.run_coroutine_threadsafe(asked, self._loop)
        return begun.result()

    async def _finish(self) -> None:
        """Close the client; calls that are under way in other threads end, and say that they got no answer."""
        await self._asking.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)
