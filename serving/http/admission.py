"""May this request pass: decided once a request, before its body, for every way through the server.

`read_body` and `JsonBody` take a body after it: bounded, and validated in one step from its bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from serving.http.access import SCOPES, RouteScopes, TokenBucket, retry_after
from serving.http.keyring import Keyring
from serving.http.keys import KeyEntry, KeyScope

Header: TypeAlias = tuple[bytes, bytes]
QueryParameters: TypeAlias = Mapping[tuple[str, str], Mapping[str, bool]]
"""(path as in the OpenAPI document, method) -> name of each query parameter -> whether it may be repeated."""

ADMISSION: Final = "admission"
"""Name of the `Admission` in the ASGI scope."""
CLOSE: Final = {"Connection": "close"}
"""Header of an answer to a request whose body is not read to its end."""
_SINGLE: Final = frozenset(
    {b"authorization", b"content-length", b"content-type", b"host", b"transfer-encoding", b"x-api-key", b"x-request-id"}
)
"""Headers that a request may have once: of two, another server on the way may have read the other one."""
_MOST_DIGITS: Final = 18
"""Of a declared length; more are more than any limit."""
_MOST_NAMED: Final = 20
"""Query parameters that an answer names, each by its first `_MOST_LETTERS` letters."""
_MOST_LETTERS: Final = 100


class Admission(NamedTuple):
    """A request that may pass.

    Attributes:
        request_id: given by the caller, or new.
        key: of the caller; None where nobody needs one or the route is open to all.
        scope: that the route asks for; None: open to all.
        route: path as in the OpenAPI document, None for a path that is not in it.
        query: names and values, decoded, in the order given.
        body_bytes: declared size of the body; None where its end comes with its last piece.
    """

    request_id: str
    key: KeyEntry | None
    scope: KeyScope | None
    route: str | None
    query: Sequence[tuple[str, str]]
    body_bytes: int | None


class AdmissionControl:
    """Lets a request pass, or raises the answer to it.

    Args:
        keyring: the keys; None lets everybody in.
        clock: UTC, for keys that expire.
        monotonic: seconds that never run backwards, for rates.
        max_body_bytes: longer bodies are refused.
        query_parameters: what each route takes.
    """

    def __init__(
        self,
        keyring: Keyring | None,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        max_body_bytes: int,
        query_parameters: QueryParameters,
    ) -> None:
        self._keyring = keyring
        self._clock = clock
        self._monotonic = monotonic
        self._max_body_bytes = max_body_bytes
        self._query_parameters = query_parameters
        self._routes = RouteScopes()
        self._buckets: dict[str, tuple[KeyEntry, TokenBucket]] = {}  # at most one entry a key

    def admit(self, method: str, path: str, query: bytes, headers: Sequence[Header], request_id: str) -> Admission:
        """Let the request pass, and count it against the rate of its key.

        Raises:
            HTTPException: 400 for headers that contradict one another, 401 without a key that holds, 403 without the
                scope, 413 for a body that is declared too large, 429 beyond the key's rate.
            RequestValidationError: a query parameter that the route does not take, or takes once.
        """
        named = dict(headers)
        if len(named) != len(headers):
            _refuse_repeated(headers)
        given = given_key(named)
        body_bytes = self._declared_bytes(named)
        route = self._routes.route_of(path)
        scope = self._routes.scope_of_route(method, route)
        key = None if scope is None or self._keyring is None else self._checked(self._keyring, given, scope)
        if body_bytes is not None and body_bytes > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        asked = self._asked(method, route, query) if query else ()
        return Admission(request_id, key, scope, route, asked, body_bytes)

    def charge(self, admission: Admission, more: int) -> None:
        """Count a request that has passed as so many more: a batch costs what its questions would have cost alone."""
        if admission.key is not None and (known := self._buckets.get(admission.key.key_id)):
            known[1].owe(more)

    def _declared_bytes(self, headers: Mapping[bytes, bytes]) -> int | None:
        length = headers.get(b"content-length")
        if b"transfer-encoding" in headers:
            if length is not None:
                raise HTTPException(400, "Content-Length and Transfer-Encoding contradict each other; send one", CLOSE)
            return None
        if length is None:
            return 0
        if not length.isdigit():
            raise HTTPException(400, "Content-Length must be digits, the number of bytes", CLOSE)
        return int(length) if len(length) <= _MOST_DIGITS else self._max_body_bytes + 1

    def _checked(self, keyring: Keyring, given: bytes, scope: KeyScope) -> KeyEntry:
        now = self._monotonic()
        entry = keyring.entry(given, now)
        if entry is None or (entry.expires_at is not None and self._clock() >= entry.expires_at):
            detail = "no API key that holds; send Authorization: Bearer KEY"
            raise HTTPException(401, detail, {"WWW-Authenticate": 'Bearer realm="offers"'})
        if scope not in entry.granted_scopes:
            raise HTTPException(403, f"this key lacks the scope {scope}; ask for a key that has it")
        if entry.requests_per_second is not None:
            self._limit(entry, entry.requests_per_second, now)
        return entry

    def _limit(self, entry: KeyEntry, rate: float, now: float) -> None:
        known = self._buckets.get(entry.key_id)
        if known is None or known[0] != entry:  # a file that was read again may allow more or less
            known = entry, TokenBucket(rate=rate, burst=entry.burst, now=now)
            self._buckets[entry.key_id] = known
        seconds = known[1].wait(now)
        if seconds > 0:
            detail = f"this key may ask {rate:g} times a second; try again after the pause"
            raise HTTPException(429, detail, {"Retry-After": retry_after(seconds)})

    def _asked(self, method: str, route: str | None, query: bytes) -> Sequence[tuple[str, str]]:
        asked = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        if route is None or method not in SCOPES[route]:
            return asked  # no such route: the answer says so
        allowed = self._query_parameters.get((route, method), {})
        counts = Counter(name for name, _ in asked)
        wrong = [name for name, n in counts.items() if name not in allowed or (n > 1 and not allowed[name])]
        if wrong:
            takes = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
            raise RequestValidationError(
                [
                    {
                        "type": "query_parameter",
                        "loc": ("query", name[:_MOST_LETTERS]),
                        "msg": "Give this parameter once" if name in allowed else f"The route has no such one; {takes}",
                    }
                    for name in wrong[:_MOST_NAMED]
                ]
            )
        return asked


def given_key(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the API key that a request was sent with, empty without one.

    Raises:
        HTTPException: 400 for two keys that differ.
    """
    kind, _, bearer = headers.get(b"authorization", b"").partition(b" ")
    other = headers.get(b"x-api-key")
    if kind.lower() != b"bearer":
        return other or b""
    key = bearer.strip()
    if other is not None and other != key:
        raise HTTPException(400, "Authorization and X-API-Key hold different keys; send one of them")
    return key


def too_large(max_body_bytes: int) -> HTTPException:
    """Return the answer to a body that passes the limit."""
    return HTTPException(413, f"the body passes {max_body_bytes} bytes; send fewer items at a time", CLOSE)


def _refuse_repeated(headers: Sequence[Header]) -> None:
    counts = Counter(name for name, _ in headers)
    repeated = sorted(name.decode() for name, n in counts.items() if n > 1 and name in _SINGLE)
    if repeated:
        raise HTTPException(400, f"the header {repeated[0]} came more than once; send it once", CLOSE)


BodyT = TypeVar("BodyT", bound=BaseModel)

_JSON: Final = re.compile(r"application/([a-z0-9.+-]*\+)?json\s*(;.*)?", re.IGNORECASE)


class JsonBody(Generic[BodyT]):
    """Dependency that reads the body of a request: `body: Annotated[OffersBody, Depends(JsonBody(OffersBody))]`.

    FastAPI makes Python objects of a body before it validates them. The models here are strict, which holds for JSON
    only as pydantic reads it (a date is a text there), and a post of 1,000 outcomes takes a third of the time so.

    Args:
        kind: the model of the body.
    """

    def __init__(self, kind: type[BodyT]) -> None:
        self.kind = kind

    async def __call__(self, request: Request) -> BodyT:
        """Return the validated body.

        Raises:
            HTTPException: 415 where it is not declared as JSON.
            ValidationError: it is no JSON, or breaks a rule of the model.
        """
        if not _JSON.fullmatch(request.headers.get("content-type", "")):
            raise HTTPException(415, "the body must be JSON: send Content-Type: application/json")
        return self.kind.model_validate_json(await read_body(request.receive))

    def described(self) -> dict[str, Any]:
        """Return the body as a route of the OpenAPI document declares it."""
        schema = {"$ref": f"#/components/schemas/{self.kind.__name__}"}
        return {"content": {"application/json": {"schema": schema}}, "required": True}


async def read_body(receive: Receive) -> bytes:
    """Return the whole body of a request.

    Raises:
        ClientDisconnect: the caller left before its end.
    """
    pieces = []
    while (message := await receive())["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)
    raise ClientDisconnect
