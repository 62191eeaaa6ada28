"""What every request passes first: its id, its key, the limits of its body, and the headers of every answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access import Gate
from serving.ids import RequestIds
from serving.problems import problem_of

LeanHandler: TypeAlias = Callable[[Request], Awaitable[Response | bytes]]
"""Bytes are the JSON of an answer with status 200."""


REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
CONTENT_POLICY: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""What a browser may load for an answer: nothing. A page that needs more brings a policy of its own."""
JSON_HEADERS: Final = ((b"content-type", b"application/json"), *HEADERS, CONTENT_POLICY)


class Edge:
    """ASGI middleware around the application.

    Args:
        app: the application.
        max_body_bytes: longer bodies are refused.
        retry_after_seconds: what `Retry-After` says when the event store is busy.
        gate: checks the key of every request; None lets everybody in.
        lean: (method, path) -> handler of a route that is answered right here. The same route stands in `app`, where
            its documentation comes from; the way there takes longer than the engine.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        retry_after_seconds: int,
        gate: Gate | None = None,
        lean: Mapping[tuple[str, str], LeanHandler] | None = None,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._retry_after_seconds = retry_after_seconds
        self._gate = gate
        self._lean = dict(lean or {})
        self._next_request_id = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else self._next_request_id()
        scope["request_id"] = request_id
        answering = _Answering(send, (b"x-request-id", request_id.encode()))
        try:
            await self._answer(scope, headers, receive, answering)
        except ClientDisconnect:
            return  # nobody waits for an answer, and nothing has failed
        except Exception as error:
            if answering.started:  # too late for another status: the server cuts the connection
                raise
            await problem_of(error, request_id, self._retry_after_seconds)(scope, receive, answering.send)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, answering: _Answering) -> None:
        if self._gate is not None:
            self._gate.check(scope["method"], scope["path"], headers)
        receive = self._limited(headers, receive)
        handler = self._lean.get((scope["method"], scope["path"]))
        if handler is None:
            await self._app(scope, receive, answering.send)
        else:
            response = await handler(Request(scope, receive))
            if isinstance(response, bytes):
                await answering.send_json(response)
            else:
                await response(scope, receive, answering.send)

    def _limited(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        length = headers.get(b"content-length")
        if b"transfer-encoding" in headers:  # it says where the body ends, whatever length is declared beside it
            return self._counted(receive)
        if length is not None and int(length) > self._max_body_bytes:
            raise self._too_large()
        return receive

    def _counted(self, receive: Receive) -> Receive:
        """A body without a declared length is counted as it comes."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body_bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body passes {self._max_body_bytes} bytes; send fewer items at a time")


class _Answering:
    """Adds headers to an answer and knows whether it has begun."""

    __slots__ = ("_request_id", "_send", "started")

    def __init__(self, send: Send, request_id: tuple[bytes, bytes]) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = [*message["headers"], *HEADERS, self._request_id]
            if all(name != CONTENT_POLICY[0] for name, _ in message["headers"]):
                headers.append(CONTENT_POLICY)
            message["headers"] = headers
        await self._send(message)

    async def send_json(self, content: bytes) -> None:
        """Send an answer that is JSON, with status 200."""
        self.started = True
        headers = [(b"content-length", b"%d" % len(content)), *JSON_HEADERS, self._request_id]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": content})
