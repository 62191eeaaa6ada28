"""The short way of the two questions that shops and salespeople ask most: one call before the commit, one after it.

Whatever is not usual is left to the application, which says what is wrong or answers it the longer way. Both ways give
the same bytes (tests/serving/test_lane.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from recsys.contracts.offers import OfferRequest
from recsys.errors import StoreError
from serving.access import Gate
from serving.answering import Asker, Begun
from serving.edge import CONTENT_POLICY, HEADERS, JSON_HEADERS, REQUEST_ID
from serving.ids import RequestIds
from serving.problems import problem_of
from serving.routes.lean import LeanQueryRoute, LeanRoute
from serving.routes.offers import asked_by_person, asked_by_shop, lean_router, router
from serving.services import Services

Header: TypeAlias = tuple[bytes, bytes]
Send: TypeAlias = Callable[[int, bytes, bytes], None]
"""Takes status, header lines beside the server's own, and body of an answer."""
Asked: TypeAlias = Callable[[Services, str, bytes], tuple[OfferRequest, Asker]]
"""Takes the services, the id of the request and its body."""

MAX_BODY_BYTES: Final = 65_536
"""A longer body takes the usual way, where its pieces wait for one another."""


def header_lines(headers: Iterable[Header]) -> bytes:
    """Return headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


_JSON_LINES: Final = header_lines(JSON_HEADERS)


class Lane:
    """Begins and ends usual requests.

    Args:
        services: the parts of the running server.
        gate: checks the key of every request; None lets everybody in.
    """

    def __init__(self, services: Services, gate: Gate | None) -> None:
        self._services = services
        self._gate = gate
        self._next_request_id = RequestIds()
        self._shop_path, self._read_body = _shop()
        self._page_path, self._read_page = _page()

    def question(self, method: bytes, path: str, query: str, headers: Mapping[bytes, bytes]) -> Asked | None:
        """Return what reads the question, or None where the request has to take the usual way."""
        if method == b"POST" and path == self._shop_path:
            length = headers.get(b"content-length", b"")
            is_usual = (
                headers.get(b"content-type") == b"application/json"
                and not query
                and length.isdigit()
                and int(length) <= min(MAX_BODY_BYTES, self._services.settings.max_body_bytes)
            )
            return self._asked_by_shop if is_usual else None
        if method == b"GET" and b"content-length" not in headers and (match := self._page_path.match(path)):
            account_id = match.groupdict()
            return lambda services, request_id, _: asked_by_person(
                services, request_id, **self._read_page(query, account_id)
            )
        return None

    def begin(
        self, asked: Asked, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes, send: Send
    ) -> bool:
        """Rank and hand the decision to the event store; `send` hears the answer after the commit.

        Returns:
            Whether the request was taken. Nothing was kept of one that was not.
        """
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else self._next_request_id()
        try:
            request, asker = asked(self._services, request_id, body)
            if self._gate is not None:
                self._gate.check(method, path, headers)
            begun = Begun(self._services, request, asker)
            ending = _Ending(self._services, begun, request_id, send)
        except Exception:  # noqa: BLE001 - the usual way runs into it again, and answers it
            return False
        try:
            self._services.writer.submit_telling(begun.events, ending.told)
        except StoreError as error:
            ending.told(error)
        return True

    def _asked_by_shop(self, services: Services, request_id: str, body: bytes) -> tuple[OfferRequest, Asker]:
        return asked_by_shop(services, self._read_body(body), request_id)


class _Ending:
    """What is left to do once the decision is durable, or can't be."""

    __slots__ = ("_begun", "_body", "_request_id", "_send", "_services")

    def __init__(self, services: Services, begun: Begun, request_id: str, send: Send) -> None:
        self._services = services
        self._begun = begun
        self._request_id = request_id
        self._send = send
        self._body = begun.body()

    def told(self, error: Exception | None) -> None:
        """Answer."""
        try:
            body = self._after(error)
        except Exception as failure:  # noqa: BLE001 - every error has an answer
            self._refuse(failure)
        else:
            self._send(200, b"%bx-request-id: %b\r\n" % (_JSON_LINES, self._request_id.encode()), body)

    def _after(self, error: Exception | None) -> bytes:
        if error is None:
            self._begun.durable()
            return self._body
        if isinstance(error, StoreError):
            return self._begun.unlogged(error)
        raise error

    def _refuse(self, error: Exception) -> None:
        problem = problem_of(error, self._request_id, self._services.settings.retry_after_seconds)
        own = [header for header in problem.raw_headers if header[0] != b"content-length"]
        lines = header_lines((*own, *HEADERS, (b"x-request-id", self._request_id.encode()), CONTENT_POLICY))
        self._send(problem.status_code, lines, bytes(problem.body))


def _shop() -> tuple[str, Callable[[bytes], Any]]:
    (route,) = [each for each in lean_router.routes if isinstance(each, LeanRoute)]
    return route.path, route.reader()


def _page() -> tuple[re.Pattern[str], Callable[[str, Mapping[str, str]], dict[str, Any]]]:
    (route,) = [each for each in router.routes if isinstance(each, LeanQueryRoute)]
    return route.path_regex, route.reader()
