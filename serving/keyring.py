"""The keys that hold now, as their file says."""

from __future__ import annotations

import hmac
import logging
from pathlib import Path
from typing import Final

from recsys.errors import ConfigError
from serving.keys import KeyEntry, key_digest, parse_key, read_keys

_NOBODY: Final = "0" * 64

_log = logging.getLogger("serving")


class Keyring:
    """The keys of a file, read again when it changes; while it can't be read, the last good ones hold."""

    def __init__(self, path: Path, refresh_seconds: float) -> None:
        self._path = path
        self._refresh_seconds = refresh_seconds
        self._stamp = self._stamp_now()
        self._entries = {entry.key_id: entry for entry in read_keys(path).keys}
        self._looked_at = float("-inf")

    def entry(self, given: bytes, now: float) -> KeyEntry | None:
        """Return the entry of a key, None for a key that the file does not hold; `now` in seconds of any clock."""
        if now - self._looked_at >= self._refresh_seconds:
            self._looked_at = now
            self._refresh()
        entry = self._entries.get(parse_key(given) or "")
        wanted = entry.sha256 if entry is not None else _NOBODY
        same = hmac.compare_digest(key_digest(given), wanted)
        return entry if same else None

    def _refresh(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        try:
            self._entries = {entry.key_id: entry for entry in read_keys(self._path).keys}
        except ConfigError as error:  # tried again at the next look: a key that was revoked must not live on
            _log.warning("the keys stay as they were: %s", error)
            return
        self._stamp = stamp

    def _stamp_now(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)
