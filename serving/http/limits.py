"""How much one key may ask: a token bucket (Turner 1986), counted by each worker for itself."""

from __future__ import annotations

import math


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
