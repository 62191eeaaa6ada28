"""Which names a server answers to."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

from starlette.exceptions import HTTPException

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
