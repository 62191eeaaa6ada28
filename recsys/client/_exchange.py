"""How both clients ask, ask again and read an answer, and what can go wrong.

The tree::

    OfferEngineError
    ├── ServiceError (ConnectionError)       no answer, or the server could not serve; trying again may help
    └── RequestRefusedError (ValueError)     the request breaks a rule; trying again does not help
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import reprlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
from pydantic import Field, SecretStr

from recsys.contracts.config import Config
from recsys.errors import ConfigError, OfferEngineError


class ServiceError(OfferEngineError, ConnectionError):
    """The server did not answer, or could not serve, however often it was asked."""


class RequestRefusedError(OfferEngineError, ValueError):
    """The server refused the request.

    Attributes:
        status: the HTTP status.
        request_id: under which the server knows the request; None where it gave none.
        is_engines: whether it is an offer engine's own refusal, and not that of a proxy in front of it.
        fields: the fields that break a rule, as JSON pointers, each with the rule.
    """

    def __init__(
        self,
        sentence: str,
        status: int,
        request_id: str | None,
        *,
        is_engines: bool = False,
        fields: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.request_id = request_id
        self.is_engines = is_engines
        self.fields = fields


_T = TypeVar("_T")

MOST_BYTES: Final = 4_000_000
"""Of an answer, or of a line of a batch. A hundred offers with their evidence take less than a tenth of a megabyte."""

UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading an answer raises where it is no offer engine's, deeply nested JSON included."""

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


@dataclass(frozen=True, slots=True)
class Received:
    """An answer that was read to its end.

    Attributes:
        url: that was asked.
        status: the HTTP status.
        reason: the status in words.
        headers: by name.
        content: the body.
    """

    url: str
    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes


def http_client(base_url: str, config: ClientConfig, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """Return the HTTP client, which waits without end, keeps no cookies and asks for answers that are not compressed.

    Raises:
        ConfigError: `base_url` is no URL, the key no key, or a proxy or certificate that the environment names can't
            be used.
    """
    _check_url(base_url)
    headers = {"Accept-Encoding": "identity"}  # a few bytes must not become gigabytes
    if config.api_key is not None:
        key = config.api_key.get_secret_value()
        if not (key.isascii() and key.isprintable()):
            raise ConfigError("api_key holds a character that no header takes, must be printable ASCII; copy it anew")
        headers["Authorization"] = f"Bearer {key}"
    try:
        return httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(None),  # the deadline bounds a call as a whole
            headers=headers,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            transport=transport,
        )
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        raise ConfigError(
            f"what the environment says of proxies and certificates can't be used: {error}; see HTTP_PROXY, "
            "HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        ) from None


def _check_url(base_url: str) -> None:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise ConfigError(f"base_url == {base_url!r}: {error}; give one as http://127.0.0.1:8000") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"base_url == {base_url!r}, must begin with http:// or https://, as http://127.0.0.1:8000")
    if url.port is not None and not 0 < url.port < 65_536:
        raise ConfigError(f"base_url == {base_url!r}, its port must be 1 to 65535; give one as http://127.0.0.1:8000")


def checked_number(name: str, value: float) -> float:
    """Return a number that a caller gives.

    Raises:
        ConfigError: it is no finite number.
    """
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{name} == {reprlib.repr(value)}, must be a finite number; give one as 150.0")
    return value


async def within(deadline_ms: float, awaited: Awaitable[_T]) -> _T:
    """Return what is awaited.

    Raises:
        ServiceError: it did not come in time; it is cancelled, its connection closed.
    """
    try:
        async with asyncio.timeout(max(deadline_ms, 0) / 1_000):
            return await awaited
    except TimeoutError:
        raise ServiceError(f"no answer within {deadline_ms:g} ms") from None


async def receive(response: httpx.Response) -> Received:
    """Return an answer, read to its end.

    Raises:
        ServiceError: it is longer than `MOST_BYTES`, or compressed.
    """
    check_encoding(response)
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        check_length(len(content))
    url, reason = str(response.url), response.reason_phrase
    return Received(url, response.status_code, reason, response.headers, bytes(content))


async def received_lines(http: httpx.AsyncClient, asked: httpx.Request) -> AsyncGenerator[bytes, None]:
    """Yield the lines of an answer, each as soon as it is there.

    Raises:
        RequestRefusedError: the server refused the request.
        ServiceError: it could not serve, or the answer broke off.
    """
    try:
        async with aclosing(await http.send(asked, stream=True)) as response:
            if not response.is_success:
                read_answer(await receive(response), dict)
            check_encoding(response)
            rest = b""
            async for part in response.aiter_bytes():
                *lines, rest = (rest + part).split(b"\n")
                check_length(len(rest))
                for line in lines:
                    yield line
            if rest:
                yield rest
    except httpx.HTTPError as error:
        raise ServiceError(f"the answer broke off: {error or type(error).__name__}") from error


def check_encoding(response: httpx.Response) -> None:
    """Refuse an answer that is compressed, as it was not asked for.

    Raises:
        ServiceError: it is.
    """
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ServiceError(f"the answer is in {encoding!r}, must be sent as it is; let no proxy compress it")


def check_length(n_bytes: int) -> None:
    """Refuse an answer that is too long to be read in a page.

    Raises:
        ServiceError: it is longer than `MOST_BYTES`.
    """
    if n_bytes > MOST_BYTES:
        raise ServiceError(f"the answer is longer than {MOST_BYTES:,} bytes; ask for less")


def pause_seconds(
    attempt: int, result: Received | httpx.HTTPError, config: ClientConfig, rng: random.Random
) -> float | None:
    """Return how long to wait before the next attempt, None where there is to be none.

    What `drawn_pause` says, at least what `Retry-After` asks for, at most `max_backoff_seconds`.
    """
    if attempt >= config.retries:
        return None
    asked = 0.0
    if isinstance(result, Received):
        if result.status not in _AGAIN:
            return None
        after = result.headers.get("retry-after", "")
        asked = float(after) if after.isdecimal() else 0.0
    return min(max(drawn_pause(attempt, config, rng), asked), config.max_backoff_seconds)


def drawn_pause(attempt: int, config: ClientConfig, rng: random.Random) -> float:
    """Return seconds, full jitter: uniform in [0, backoff x 2^attempt], at most `max_backoff_seconds`."""
    longest = config.backoff_seconds * 2 ** min(attempt, 20)
    return min(rng.uniform(0, longest), config.max_backoff_seconds)


def read_answer(result: Received | httpx.HTTPError, parse: Callable[[dict[str, Any]], _T]) -> _T:
    """Return what `parse` makes of a good answer's JSON.

    Raises:
        RequestRefusedError: the server refused the request.
        ServiceError: it did not answer, or could not serve.
    """
    if isinstance(result, httpx.HTTPError):
        raise ServiceError(f"the server did not answer: {str(result) or type(result).__name__}") from result
    if 200 <= result.status < 300:
        try:
            return parse(json.loads(result.content))
        except UNREADABLE as error:
            raise ServiceError(f"{result.url} does not answer like an offer engine: {error!r}") from error
    refused = _refusal(result)
    if result.status >= 500 or result.status in _AGAIN:
        raise ServiceError(str(refused))
    raise refused


def _refusal(result: Received) -> RequestRefusedError:
    """What an answer other than a good one says: the sentence of problem+json, else the status in words."""
    sentence, request_id = f"the server answered {result.status}: ", result.headers.get("x-request-id")
    try:
        body = json.loads(result.content)
        fields = tuple((str(item["pointer"]), str(item["detail"])) for item in body.get("errors", ()))
        sentence += str(body["detail"])
    except UNREADABLE:
        return RequestRefusedError(sentence + result.reason, result.status, request_id)
    listed = "; ".join(f"{pointer}: {rule}" for pointer, rule in fields)
    return RequestRefusedError(
        f"{sentence} ({listed})" if listed else sentence,
        result.status,
        request_id,
        is_engines=result.headers.get("content-type", "").startswith("application/problem+json"),
        fields=fields,
    )
