"""Files of API keys for tests: one more key, or other keys altogether."""

from __future__ import annotations

from pathlib import Path

from serving.http.keys import KeyEntry, KeyFile, change_keys


def write_keys(path: Path, keys: KeyFile) -> None:
    """Put keys in place of those that a file holds; it is made where there is none."""
    change_keys(path, lambda _: keys)


def with_key(keys: KeyFile, entry: KeyEntry) -> KeyFile:
    """Return the file with one more key."""
    return KeyFile(keys=(*keys.keys, entry))
