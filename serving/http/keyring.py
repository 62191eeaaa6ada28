"""The keys that hold now, as their file says."""

from __future__ import annotations

import hmac
import logging
from pathlib import Path
from typing import Any, Final

from recsys.errors import ConfigError, ServerError
from serving import logs
from serving.http.keys import KeyEntry, key_digest, parse_key, parse_keys, read_content

_NOBODY: Final = "0" * 64

_log = logging.getLogger("serving")


class KeysUnreadableError(ServerError):
    """What is known of the keys is too old to go by, because their file can't be read."""


class Keyring:
    """The keys of a file, read again and again; what was read too long ago opens nothing.

    The whole file is read: neither its time nor its size would show every change. While it can't be read, or holds no
    keys, what was read last holds until it is `max_age_seconds` old, so that a moment of writing refuses nobody.

    Args:
        path: the file.
        refresh_seconds: how often it is read, at most.
        max_age_seconds: how old what was read of it may be.

    Raises:
        ConfigError: the file can't be read, or it holds something else.
    """

    def __init__(self, path: Path, refresh_seconds: float, max_age_seconds: float = 1.0) -> None:
        self._path = path
        self._refresh_seconds = refresh_seconds
        self._max_age_seconds = max_age_seconds
        self._content = read_content(path)
        self._entries = _entries(path, self._content)
        self._looked_at = self._read_at = float("-inf")
        self._told: str | None = None
        self.fault: str | None = None
        """Why the file could not be read at the last look; None: it could."""

    def entry(self, given: bytes, now: float) -> KeyEntry | None:
        """Return the entry of a key, None for a key that the file does not hold.

        Args:
            given: the key.
            now: seconds of any clock that never runs backwards.

        Raises:
            KeysUnreadableError: the file can't be read, and what was read of it is too old.
        """
        if not self.holds(now):
            raise KeysUnreadableError("the file of keys can't be read, so that no key holds; the log says why")
        entry = self._entries.get(parse_key(given) or "")
        wanted = entry.sha256 if entry is not None else _NOBODY
        same = hmac.compare_digest(key_digest(given), wanted)
        return entry if same else None

    def holds(self, now: float) -> bool:
        """Look at the file if it is time; return whether what is known of it is young enough to go by."""
        if now - self._looked_at >= self._refresh_seconds:
            self._looked_at = now
            self._look(now)
        return now - self._read_at <= self._max_age_seconds

    def _look(self, now: float) -> None:
        try:
            content = read_content(self._path)
            if content != self._content:
                self._take(content)
        except ConfigError as error:
            self.fault = str(error)
            self._tell(now)
            return
        if self.fault is not None:
            _log.info("the file of keys can be read again")
        self.fault = self._told = None
        self._read_at = now

    def _take(self, content: bytes) -> None:
        if read_content(self._path) != content:  # a read may run into a write, two can't find the same half of it
            raise ConfigError(f"{self._path}: is being written; read again at the next look")
        before, self._entries = self._entries, _entries(self._path, content)
        self._content = content
        made = [_named(entry) for key_id, entry in self._entries.items() if key_id not in before]
        revoked = [_named(entry) for key_id, entry in before.items() if key_id not in self._entries]
        _log.info("keys read", extra={logs.FIELDS: {"keys": len(self._entries), "made": made, "revoked": revoked}})

    def _tell(self, now: float) -> None:
        """Write a fault once, and once more when it has lasted too long."""
        too_old = now - self._read_at > self._max_age_seconds
        message = "no key opens anything: %s" if too_old else "the keys stay as they were for a moment: %s"
        if self._told != (told := message % self.fault):
            self._told = told
            _log.log(logging.ERROR if too_old else logging.WARNING, message, self.fault)


def _entries(path: Path, content: bytes) -> dict[str, KeyEntry]:
    return {entry.key_id: entry for entry in parse_keys(path, content).keys}


def _named(entry: KeyEntry) -> dict[str, Any]:
    return {"key_id": entry.key_id, "name": entry.name, "owner": entry.owner}
