"""What every request passes first: its id, the limits of its body, and the headers of every answer."""

from __future__ import annotations

import re
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.ids import RequestIds
from serving.problems import problem_of

_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)


class Edge:
    """ASGI middleware: echoes or gives the request id, refuses bodies that are too large."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, retry_after_seconds: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._retry_after_seconds = retry_after_seconds
        self._next_request_id = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else self._next_request_id()
        scope["request_id"] = request_id
        answering = _Answering(send, (*_HEADERS, (b"x-request-id", request_id.encode())))
        try:
            await self._app(scope, self._limited(headers, receive), answering.send)
        except Exception as error:
            if answering.started:  # too late for another status: the server cuts the connection
                raise
            await problem_of(error, request_id, self._retry_after_seconds)(scope, receive, answering.send)

    def _limited(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        length = headers.get(b"content-length")
        if length is None:
            return self._counted(receive) if b"transfer-encoding" in headers else receive
        if int(length) > self._max_body_bytes:
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

    __slots__ = ("_extra", "_send", "started")

    def __init__(self, send: Send, extra: tuple[tuple[bytes, bytes], ...]) -> None:
        self._send = send
        self._extra = extra
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message["headers"] = [*message["headers"], *self._extra]
        await self._send(message)
