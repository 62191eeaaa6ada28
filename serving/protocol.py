"""uvicorn's HTTP protocol, with a short way through it for the questions that `serving.lane` takes."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from serving.lane import Asked, Lane, header_lines

LANE: Final = "lane"
"""Name of the lane in the state that the application's lifespan gives; without it all requests take the usual way."""


class ShopProtocol(HttpToolsProtocol):
    """One connection.

    A request in the lane has no ASGI scope, no task and no future: its body is read here, its answer is written here as
    soon as its commit is done. It holds the connection's `cycle` meanwhile, so that a request that is pipelined behind
    it waits, a shutdown lets it finish, and a client that leaves is known to have left.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._lane: Lane | None = None if config.root_path else app_state.get(LANE)
        self._held = _Held()
        self._asked: Asked | None = None
        self._path = ""
        self._headers_of: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []

    def on_headers_complete(self) -> None:
        """Decide which way the request takes."""
        self._asked = self._question()
        if self._asked is None:
            super().on_headers_complete()
            return
        self._pieces = []
        self._held.begin()
        self.cycle = self._held  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if self._asked is None:
            super().on_body(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Begin with the answer."""
        asked, self._asked = self._asked, None
        if asked is None:
            super().on_message_complete()
            return
        assert self._lane is not None
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        method = self.parser.get_method().decode("ascii")
        if not self._lane.begin(asked, method, self._path, self._headers_of, body, self._answer):
            self._held.response_complete = True
            super().on_headers_complete()
            if body:
                super().on_body(body)
            super().on_message_complete()

    def _question(self) -> Asked | None:
        if self._lane is None or not self._is_plain():
            return None
        path, query = self._place()
        headers = dict(self.headers)
        if len(headers) != len(self.headers) or b"transfer-encoding" in headers:
            return None
        self._path, self._headers_of = path, headers
        return self._lane.question(self.parser.get_method(), path, query, headers)

    def _is_plain(self) -> bool:
        """Nothing is under way on this connection, its client reads what is sent, and it stays open."""
        parser = self.parser
        return (
            (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and not self.expect_100_continue
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
        )

    def _place(self) -> tuple[str, str]:
        """Path and query; a path with escapes is nobody's question here."""
        url = httptools.parse_url(self.url)
        path: bytes = url.path
        query: bytes = url.query or b""
        return ("" if b"%" in path else path.decode("ascii")), query.decode("latin-1")

    def _answer(self, status: int, lines: bytes, body: bytes) -> None:
        held = self._held
        held.response_complete = True
        if held.disconnected or self.transport.is_closing():
            return
        own = header_lines(self.server_state.default_headers)
        closing = b"" if held.keep_alive else b"connection: close\r\n"
        self.transport.write(
            b"%b%bcontent-length: %d\r\n%b%b\r\n%b" % (STATUS_LINE[status], own, len(body), lines, closing, body)
        )
        if not held.keep_alive:
            self.transport.close()
        self.on_response_complete()


class _Held:
    """Stands where uvicorn keeps the request that is under way.

    Attributes:
        response_complete: no request is under way any more.
        disconnected: the client has gone.
        keep_alive: the connection stays open behind the answer; False once the server stops.
        message_event: what uvicorn sets when a client goes; nobody waits for it here.
    """

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.message_event = _Unheard()
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = True

    def begin(self) -> None:
        """Hold the connection for a new request."""
        self.keep_alive = True
        self.response_complete = False


class _Unheard:
    def set(self) -> None:
        """Nobody waits."""
