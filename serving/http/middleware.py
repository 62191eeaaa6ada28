"""What every request passes: its host, admission, its body's bounds, its answer's headers, and the answer to errors."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.admission import ADMISSION, CLOSE, AdmissionControl, too_large
from serving.http.problems import problem_of
from serving.ids import RequestIds
from serving.settings import Settings

_REMEMBERED: Final = 64


class AllowedHosts:
    """Checks the `Host` of a request; the names of loopback always pass.

    A page of any site can send requests to a name of its own that it lets lead to 127.0.0.1 (DNS rebinding); its
    browser takes them for requests to that site, and the server without keys for its user's. The `Host` tells.

    Args:
        names: that pass besides, without a port.
        any_name: let every name pass.
    """

    def __init__(self, names: Collection[str], *, any_name: bool) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._any_name = any_name
        self._passes = lru_cache(_REMEMBERED)(self._look_up)

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Let a request with these headers pass.

        Raises:
            HTTPException: 400 without a host, 421 for another one's.
        """
        if self._any_name:
            return
        host = next((value for name, value in headers if name == b"host"), b"")
        if not host:
            raise HTTPException(400, "there is no Host header; send the name of the server")
        if not self._passes(host):
            name = host.decode("latin-1")[:100]
            detail = f"Host == {name!r}, must be a name of loopback or one of allowed_hosts in the server's settings"
            raise HTTPException(421, detail)

    def _look_up(self, host: bytes) -> bool:
        text = host.decode("latin-1").lower()
        name, _, port = text.rpartition(":")
        if not port.isdigit():
            name = text
        return name == "localhost" or name in self._names or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_CONTENT_POLICY: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""What a browser may load for an answer: nothing. A page that needs more brings a policy of its own."""


class RequestMiddleware:
    """ASGI middleware around the application and its fast path.

    Args:
        app: what answers.
        admission: decides whether a request may pass.
        settings: bounds of a body, and what `Retry-After` says.
    """

    def __init__(self, app: ASGIApp, admission: AdmissionControl, settings: Settings) -> None:
        self._app = app
        self._admission = admission
        self._settings = settings
        has_keys = settings.keys_file is not None
        self._hosts = AllowedHosts(settings.allowed_hosts, any_name=has_keys and not settings.allowed_hosts)
        self._next_request_id = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        given = next((value for name, value in headers if name == b"x-request-id"), b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else self._next_request_id()
        answer = _Answer(send, request_id)
        try:
            self._hosts.check(headers)
            admit = self._admission.admit
            scope[ADMISSION] = admit(scope["method"], scope["path"], scope["query_string"], headers, request_id)
            body = _BoundedBody(receive, self._settings.max_body_bytes, self._settings.body_seconds)
            await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:  # who has gone reads no answer; who sent a body that can't be read does
            if not answer.started:
                error = HTTPException(400, "the body ended before it was whole, or its chunks can't be read", CLOSE)
                await problem_of(error, request_id, self._settings.retry_after_seconds)(scope, receive, answer.send)
        except Exception as error:
            if answer.started:  # too late for another status: the server cuts the connection
                raise
            problem = problem_of(error, request_id, self._settings.retry_after_seconds)
            await problem(scope, receive, answer.send)


class _BoundedBody:
    """Hands on a body that comes in time and is not too large."""

    __slots__ = ("_deadline", "_is_complete", "_max_bytes", "_receive", "_seconds", "_seen")

    def __init__(self, receive: Receive, max_bytes: int, seconds: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._seen = 0
        self._is_complete = False

    async def receive(self) -> Message:
        """Return the next piece; behind the last one, whatever the server says of the connection."""
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            detail = f"the body did not arrive within {self._seconds:g} seconds; send it faster or in smaller requests"
            raise HTTPException(408, detail, CLOSE) from None
        self._seen += len(message.get("body", b""))
        if self._seen > self._max_bytes:
            raise too_large(self._max_bytes)
        self._is_complete = not message.get("more_body", False)
        return message


class _Answer:
    """Adds headers to an answer and knows whether it has begun."""

    __slots__ = ("_request_id", "_send", "started")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False

    async def send(self, message: Message) -> None:
        """Send on."""
        if message["type"] == "http.response.start":
            self.started = True
            headers = [*message["headers"], *_HEADERS, (b"x-request-id", self._request_id.encode())]
            if all(name != _CONTENT_POLICY[0] for name, _ in message["headers"]):
                headers.append(_CONTENT_POLICY)
            message["headers"] = headers
        await self._send(message)
