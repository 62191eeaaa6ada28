"""Who may call what: one table of routes and scopes, and the check that every request passes at the edge."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

from starlette.exceptions import HTTPException

from serving.keyring import Keyring
from serving.keys import KeyEntry, KeyScope
from serving.limits import TokenBucket, retry_after

SCOPES: Final[dict[str, dict[str, KeyScope | None]]] = {
    "/v1/offers": {"POST": "offers"},
    "/v1/offers:batch": {"POST": "offers"},
    "/v1/products/{product_id}/complements": {"GET": "offers"},
    "/v1/products/{product_id}/upgrades": {"GET": "offers"},
    "/v1/models": {"GET": "offers"},
    "/v1/outcomes": {"POST": "outcomes"},
    "/v1/orders": {"POST": "outcomes"},
    "/v1/visitors/{visitor_id}:link": {"POST": "outcomes"},
    "/v1/accounts/{account_id}/offers": {"GET": "sales"},
    "/v1/accounts/{account_id}/whitespace": {"GET": "sales"},
    "/v1/products/{product_id}/accounts": {"GET": "sales"},
    "/v1/decisions/{decision_id}/why-not": {"POST": "sales"},
    "/v1/referrals": {"GET": "sales"},
    "/v1/referrals/{referral_id}": {"POST": "sales"},
    "/v1/products": {"POST": "admin"},
    "/v1/accounts": {"POST": "admin"},
    "/v1/models:reload": {"POST": "admin"},
    "/v1/experiments": {"GET": "admin"},
    "/v1/experiments/{experiment_id}/readout": {"GET": "admin"},
    "/v1/kpis": {"GET": "admin"},
    "/metrics": {"GET": "admin"},
    "/livez": {"GET": None},
    "/readyz": {"GET": None},
    "/docs": {"GET": None},
    "/openapi.json": {"GET": None},
}
"""Path as in the OpenAPI document -> method -> the scope that it asks for; None: open to all."""

ELSEWHERE: Final[KeyScope] = "admin"
"""What a path or method asks for that the table does not list: nothing is open by mistake."""


class RouteScopes:
    """Looks the scope of a request up."""

    def __init__(self, table: Mapping[str, Mapping[str, KeyScope | None]] = SCOPES) -> None:
        self._plain = {path: methods for path, methods in table.items() if "{" not in path}
        self._patterns = [(_pattern(path), methods) for path, methods in table.items() if "{" in path]

    def scope_of(self, method: str, path: str) -> KeyScope | None:
        """Return the scope that a request asks for, None where it is open to all."""
        methods = self._plain.get(path) or next(self._matching(path), {})
        return methods.get(method, ELSEWHERE)

    def _matching(self, path: str) -> Iterator[Mapping[str, KeyScope | None]]:
        return (methods for pattern, methods in self._patterns if pattern.fullmatch(path))


class Gate:
    """Lets a request pass, or raises the answer to it.

    Args:
        keyring: the keys.
        clock: UTC, for keys that expire.
        monotonic: seconds that never run backwards, for rates.
    """

    def __init__(self, keyring: Keyring, clock: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._keyring = keyring
        self._clock = clock
        self._monotonic = monotonic
        self._scopes = RouteScopes()
        self._buckets: dict[str, tuple[KeyEntry, TokenBucket]] = {}  # at most one entry a key

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Let the request pass.

        Raises:
            HTTPException: 401 without a key that holds, 403 without the scope, 429 beyond the key's rate.
        """
        scope = self._scopes.scope_of(method, path)
        if scope is None:
            return
        now = self._monotonic()
        entry = self._keyring.entry(_given(headers), now)
        if entry is None or (entry.expires_at is not None and self._clock() >= entry.expires_at):
            detail = "no API key that holds; send Authorization: Bearer KEY"
            raise HTTPException(401, detail, {"WWW-Authenticate": 'Bearer realm="offers"'})
        if scope not in entry.scopes:
            raise HTTPException(403, f"this key lacks the scope {scope}; ask for a key that has it")
        if entry.requests_per_second is not None:
            self._limit(entry, entry.requests_per_second, now)

    def charge(self, headers: Mapping[bytes, bytes], more: int) -> None:
        """Count a request that has passed as so many more: a batch costs what its questions would have cost alone."""
        entry = self._keyring.entry(_given(headers), self._monotonic())
        if entry is not None and entry.key_id in self._buckets:
            self._buckets[entry.key_id][1].owe(more)

    def _limit(self, entry: KeyEntry, rate: float, now: float) -> None:
        known = self._buckets.get(entry.key_id)
        if known is None or known[0] != entry:  # a file that was read again may allow more or less
            known = entry, TokenBucket(rate=rate, burst=entry.burst, now=now)
            self._buckets[entry.key_id] = known
        seconds = known[1].wait(now)
        if seconds > 0:
            detail = f"this key may ask {rate:g} times a second; try again after the pause"
            raise HTTPException(429, detail, {"Retry-After": retry_after(seconds)})


def _given(headers: Mapping[bytes, bytes]) -> bytes:
    kind, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if kind.lower() == b"bearer" else headers.get(b"x-api-key", b"")


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{[a-z_]+\}", path)
    return re.compile(".+".join(re.escape(part) for part in parts), re.DOTALL)
