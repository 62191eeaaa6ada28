"""Who may call what, by one table of routes and scopes, and how much one key may ask.

A key's rate is a token bucket (Turner 1986), counted by each worker for itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from serving.http.keys import KeyScope

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
    "/v1/experiments/{experiment_id}/decision": {"POST": "admin"},
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
        self._table = table
        self._plain = {path for path in table if "{" not in path}
        self._patterns = [(_pattern(path), path) for path in table if "{" in path]

    def route_of(self, path: str) -> str | None:
        """Return the path of the table that a request's path is an instance of, None where there is none."""
        if path in self._plain:
            return path
        return next((route for pattern, route in self._patterns if pattern.fullmatch(path)), None)

    def scope_of_route(self, method: str, route: str | None) -> KeyScope | None:
        """Return the scope that a method asks for at a path of the table, None where it is open to all."""
        return ELSEWHERE if route is None else self._table[route].get(method, ELSEWHERE)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{[a-z_]+\}", path)
    return re.compile(".+".join(re.escape(part) for part in parts), re.DOTALL)


class TokenBucket:
    """Holds up to `burst` tokens and gains `rate` a second; a request takes one, and a large one owes the rest.

    Over a time t at most `burst + rate x t` requests pass, and the last of them may be a large one: what it owes is
    paid before the next one passes, so that the rate holds in the long run however large the requests are.

    Example:
        >>> bucket = TokenBucket(rate=2.0, burst=1, now=0.0)
        >>> bucket.wait(now=0.0), bucket.wait(now=0.0), bucket.wait(now=0.5)
        (0.0, 0.5, 0.0)
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def wait(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one; `now` never runs backwards."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def owe(self, tokens: int) -> None:
        """Take tokens that need not be there yet."""
        self._tokens -= tokens


def retry_after(seconds: float) -> str:
    """Return the value of `Retry-After`: whole seconds, one at least."""
    return str(max(1, math.ceil(seconds)))
