"""How both clients ask, ask again and read an answer, and what can go wrong.

The tree::

    OfferEngineError
    ├── ServiceError (ConnectionError)       no answer, or the server could not serve; trying again may help
    └── RequestRefusedError (ValueError)     the request breaks a rule; trying again does not help
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
from pydantic import Field, SecretStr

from recsys.contracts.config import Config
from recsys.contracts.offers import OfferRequest
from recsys.errors import ConfigError, OfferEngineError


class ServiceError(OfferEngineError, ConnectionError):
    """The server did not answer, or could not serve, however often it was asked."""


class RequestRefusedError(OfferEngineError, ValueError):
    """The server refused the request.

    Attributes:
        status: the HTTP status.
        request_id: under which the server knows the request; None where it gave none.
    """

    def __init__(self, sentence: str, status: int, request_id: str | None) -> None:
        super().__init__(sentence)
        self.status = status
        self.request_id = request_id


_T = TypeVar("_T")

_AGAIN: Final = frozenset({429, 502, 503, 504})


class ClientConfig(Config):
    """How patient a client is."""

    deadline_ms: float = Field(default=5_000.0, ge=0)
    """Of one call as a whole: connecting, sending, waiting, reading, further attempts and the pauses between them."""
    retries: int = Field(default=2, ge=0)
    """Further attempts after the first. Asking for offers again is safe: what is not presented counts for nothing."""
    backoff_seconds: float = Field(default=0.05, ge=0)
    """The first pause is drawn from 0 to this; each further one from twice as much."""
    max_backoff_seconds: float = Field(default=2.0, ge=0)
    """The longest pause, whatever the server's `Retry-After` asks for."""
    api_key: SecretStr | None = None
    """Sent as `Authorization: Bearer`; None where the server asks for no key."""
    max_queued: int = Field(default=10_000, ge=1)
    """Outcomes and orders that wait for the server; those beyond are dropped, counted and logged."""
    queue_file: Path | None = None
    """SQLite file where they wait, so that a restart loses none; one for each client. None: in memory."""
    flush_seconds: float = Field(default=5.0, ge=0)
    """How long `close` goes on sending what waits."""


@dataclass(frozen=True, slots=True)
class ApiQuestion:
    """One HTTP request to be.

    Attributes:
        path: under the server's URL.
        json: the body; None makes it a GET.
        params: the query.
    """

    path: str
    json: dict[str, Any] | None = None
    params: dict[str, Any] | None = None

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.json is None else "POST"


def offers_question(
    request: OfferRequest,
    visitor_id: str | None,
    channel: str | None,
    surface: str | None,
    experiment_id: str | None = None,
) -> ApiQuestion:
    """Return `POST /v1/offers`.

    Raises:
        ConfigError: the raw ranking is asked for, which is for evaluation and is not served.
    """
    if request.raw:
        raise ConfigError("raw == True, must be False over HTTP; `offers recommend --raw` gives the raw ranking")
    if request.sources != "all":
        raise ConfigError(f"sources == {request.sources!r}, must be 'all' over HTTP; an arm or a product page sets it")
    body: dict[str, Any] = {
        "account_id": request.account_id,
        "visitor_id": visitor_id,
        "cart": [{"product_id": line.product_id, "quantity": line.quantity} for line in request.cart],
        "viewed_product_id": request.viewed_product_id,
        "exclude": sorted(request.exclude),
        "channel": channel or request.channel,
        "surface": surface,
        "region": request.region,
        "experiment_id": experiment_id,
        "filters": _filters(request),
    }
    return ApiQuestion("/v1/offers", json=_asked(request) | {name: value for name, value in body.items() if value})


def account_question(request: OfferRequest, channel: str | None, surface: str | None) -> ApiQuestion:
    """Return `GET /v1/accounts/{id}/offers`; the cart and the exclusions have no place there.

    Raises:
        ConfigError: no account, or something that this route does not take.
    """
    plain = OfferRequest(
        account_id=request.account_id,
        kinds=request.kinds,
        limit=request.limit,
        new_only=request.new_only,
        objective=request.objective,
        explain=request.explain,
    )
    if request.account_id is None or request != plain:
        raise ConfigError("an account's page takes account_id, kinds, limit, new_only, objective and explain only")
    places = {name: value for name, value in (("channel", channel), ("surface", surface)) if value}
    return ApiQuestion(f"/v1/accounts/{quote(request.account_id, safe='')}/offers", params=_asked(request) | places)


def _asked(request: OfferRequest) -> dict[str, Any]:
    return {
        "kinds": list(request.kinds),
        "limit": request.limit,
        "new_only": request.new_only,
        "objective": request.objective,
        "explain": request.explain,
    }


def _filters(request: OfferRequest) -> dict[str, Any]:
    bounds = {"min_price": request.min_price, "max_price": request.max_price}
    given: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    return given | ({"categories": list(request.categories)} if request.categories else {})


def checked_url(base_url: str) -> str:
    """Return the server's URL.

    Raises:
        ConfigError: it is none.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"base_url == {base_url!r}: {error}; give one as http://127.0.0.1:8000") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"base_url == {base_url!r}, must begin with http:// or https://, as http://127.0.0.1:8000")
    return base_url


def headers_of(config: ClientConfig) -> dict[str, str]:
    """Return what goes with every request."""
    return {} if config.api_key is None else {"Authorization": f"Bearer {config.api_key.get_secret_value()}"}


def pause_seconds(
    attempt: int, result: httpx.Response | httpx.HTTPError, config: ClientConfig, rng: random.Random
) -> float | None:
    """Return how long to wait before the next attempt, None where there is to be none.

    What `drawn_pause` says, at least what `Retry-After` asks for, at most `max_backoff_seconds`.
    """
    if attempt >= config.retries:
        return None
    asked = 0.0
    if isinstance(result, httpx.Response):
        if result.status_code not in _AGAIN:
            return None
        after = result.headers.get("retry-after", "")
        asked = float(after) if after.isdecimal() else 0.0
    return min(max(drawn_pause(attempt, config, rng), asked), config.max_backoff_seconds)


def drawn_pause(attempt: int, config: ClientConfig, rng: random.Random) -> float:
    """Return seconds, full jitter: uniform in [0, backoff x 2^attempt], at most `max_backoff_seconds`."""
    longest = config.backoff_seconds * 2 ** min(attempt, 20)
    return min(rng.uniform(0, longest), config.max_backoff_seconds)


def read_answer(result: httpx.Response | httpx.HTTPError, parse: Callable[[dict[str, Any]], _T]) -> _T:
    """Return what `parse` makes of a good answer's JSON.

    Raises:
        RequestRefusedError: the server refused the request.
        ServiceError: it did not answer, or could not serve.
    """
    if isinstance(result, httpx.HTTPError):
        raise ServiceError(f"the server did not answer: {result or type(result).__name__}") from result
    if result.is_success:
        try:
            return parse(result.json())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ServiceError(f"{result.url} does not answer like an offer engine: {error!r}") from error
    sentence = f"the server answered {result.status_code}: {_detail(result)}"
    if result.status_code >= 500 or result.status_code in _AGAIN:
        raise ServiceError(sentence)
    raise RequestRefusedError(sentence, result.status_code, result.headers.get("x-request-id"))


def _detail(response: httpx.Response) -> str:
    """The sentence of a problem+json answer, with its fields."""
    try:
        body = response.json()
        listed = "; ".join(f"{item['pointer']}: {item['detail']}" for item in body.get("errors", ()))
        return f"{body['detail']} ({listed})" if listed else str(body["detail"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return response.reason_phrase
