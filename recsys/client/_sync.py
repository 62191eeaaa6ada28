"""The client for threads."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from recsys.client._answers import Answer, RunningModel, empty_answer, parse_answer, parse_models
from recsys.client._errors import ServiceError
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


class OfferClient:
    """Asks a server for offers. One client serves many threads and keeps its connections.

    Use as ``with OfferClient("http://127.0.0.1:8000") as client: client.offers(OfferRequest(account_id="17850"))``.
    """

    def __init__(
        self,
        base_url: str,
        config: ClientConfig | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config or ClientConfig()
        self._http = httpx.Client(base_url=base_url, timeout=self._config.timeout_seconds, transport=transport)
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._pool = ThreadPoolExecutor(self._config.max_waiting, thread_name_prefix="offer-client")

    def __enter__(self) -> Self:
        """Return the client, to be closed at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections; calls that a deadline left behind end first."""
        self._pool.shutdown()
        self._http.close()

    def offers(
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
        return self._ask(offers_question(request, visitor_id, channel, surface), parse_answer)

    def offers_or_empty(
        self,
        request: OfferRequest,
        *,
        deadline_ms: float,
        visitor_id: str | None = None,
        channel: str | None = None,
        surface: str | None = None,
    ) -> Answer:
        """Return the server's offers, or after `deadline_ms` or any failure an answer without offers that says why."""
        places = {"visitor_id": visitor_id, "channel": channel, "surface": surface}
        try:
            return self._pool.submit(self.offers, request, **places).result(max(deadline_ms, 0) / 1_000)
        except TimeoutError:
            return empty_answer(request, f"no answer within {deadline_ms:g} ms")
        except Exception as error:  # noqa: BLE001 - a page must not fail because its offers did
            return empty_answer(request, str(error) or type(error).__name__)

    def account_offers(
        self, request: OfferRequest, *, channel: str | None = None, surface: str | None = None
    ) -> Answer:
        """Return what to say to one account.

        Raises:
            ConfigError: the request holds more than an account's page takes (a cart, exclusions).
            RequestRefusedError: the server refused the request.
            ServiceError: it did not answer, or could not serve, after all retries.
        """
        return self._ask(account_question(request, channel, surface), parse_answer)

    def models(self) -> tuple[RunningModel, ...]:
        """Return the models that run in the server; the first one answers."""
        return self._ask(Question("/v1/models"), parse_models)

    def wait_until_ready(self, seconds: float) -> str:
        """Return the version of the model that answers, as soon as the server is ready.

        Raises:
            ServiceError: it was not ready within `seconds`.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                return self._ask(Question("/readyz"), lambda body: str(body["model_version"]))
            except ServiceError:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.1)

    def _ask(self, question: Question, parse: Callable[[dict[str, Any]], T]) -> T:
        attempt = 0
        while True:
            result = self._send(question)
            pause = pause_seconds(attempt, result, self._config, self._rng)
            if pause is None:
                return read_answer(result, parse)
            time.sleep(pause)
            attempt += 1

    def _send(self, question: Question) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.request(question.method, question.path, json=question.json, params=question.params)
        except httpx.TransportError as error:
            return error
