"""API keys in a file: the file holds hashes, the key itself is shown once.

A key reads `ofk_ID_SECRET`. Its id finds the entry and is no secret; the secret has 256 random bits, so that one round
of SHA-256 is enough (a slow hash protects what people can remember, and would be paid on every request).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import AwareDatetime, Field, ValidationError

from recsys.contracts.config import Config
from recsys.errors import ConfigError

KeyScope = Literal["offers", "outcomes", "sales", "admin"]
KEY_SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)

_KEY: Final = re.compile(rb"ofk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


class KeyEntry(Config):
    """One key, as the file keeps it."""

    key_id: str = Field(pattern=r"^[0-9a-f]{12}$")
    """The part of the key that is no secret."""
    name: str = Field(min_length=1, max_length=100)
    """Whose it is, for people."""
    scopes: tuple[KeyScope, ...] = Field(min_length=1)
    """What it opens; see `serving.access.SCOPES`."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the whole key."""
    created_at: AwareDatetime
    """When it was made."""
    expires_at: AwareDatetime | None = None
    """From then on it opens nothing; None: never."""
    requests_per_second: float | None = Field(default=None, gt=0)
    """What each worker lets it ask, every question of a batch counted; None: as much as it likes."""
    burst: int = Field(default=20, ge=1)
    """Requests that it may ask at once after a pause; a page of a shop asks for a few slates together."""


class KeyFile(Config):
    """All keys of a server."""

    keys: tuple[KeyEntry, ...] = ()
    """In the order in which they were made."""


def parse_key(given: bytes) -> str | None:
    """Return the id in a key, None where it is no key at all."""
    match = _KEY.fullmatch(given)
    return None if match is None else match[1].decode()


def key_digest(given: bytes) -> str:
    """Return the SHA-256 of a key, hexadecimal."""
    return hashlib.sha256(given).hexdigest()


def parse_scopes(given: Iterable[str]) -> tuple[KeyScope, ...]:
    """Return scopes by their names, in the order of `KEY_SCOPES`.

    Raises:
        ConfigError: there is no such scope.
    """
    wanted = set(given)
    if not wanted or not wanted <= set(KEY_SCOPES):
        raise ConfigError(f"scope == {', '.join(sorted(wanted)) or 'nothing'}, must be of {', '.join(KEY_SCOPES)}")
    return tuple(scope for scope in KEY_SCOPES if scope in wanted)


def new_key(
    name: str,
    scopes: tuple[KeyScope, ...],
    *,
    now: datetime,
    expires_at: datetime | None = None,
    requests_per_second: float | None = None,
    burst: int = 20,
) -> tuple[str, KeyEntry]:
    """Return a new key and its entry, which does not hold it."""
    key_id = secrets.token_hex(6)
    key = f"ofk_{key_id}_{secrets.token_urlsafe(32)}"
    entry = KeyEntry(
        key_id=key_id,
        name=name,
        scopes=scopes,
        sha256=key_digest(key.encode()),
        created_at=now,
        expires_at=expires_at,
        requests_per_second=requests_per_second,
        burst=burst,
    )
    return key, entry


def read_keys(path: Path) -> KeyFile:
    """Return the keys that stand in a file.

    Raises:
        ConfigError: there is no such file, or it holds something else; no value of it is repeated.
    """
    try:
        found = KeyFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `offers key create --keys {path}` makes one") from None
    except OSError as error:
        raise ConfigError(f"{path}: not readable ({error.strerror}); let the server's user read it") from None
    except ValidationError as error:
        found_at = [(".".join(map(str, item["loc"])) or "file", item["msg"]) for item in error.errors()]
        places = "; ".join(f"{place}: {message}" for place, message in found_at)
        raise ConfigError(f"{path}: {places}; restore it or make the keys again") from None
    if len({entry.key_id for entry in found.keys}) < len(found.keys):
        raise ConfigError(f"{path}: two keys have one key_id; remove one of them")
    return found


def write_keys(path: Path, keys: KeyFile) -> None:
    """Write a file of keys beside its place, readable by its owner only, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(keys.model_dump(mode="json"), indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)


def with_key(keys: KeyFile, entry: KeyEntry) -> KeyFile:
    """Return the file with one more key."""
    return KeyFile(keys=(*keys.keys, entry))


def without_key(keys: KeyFile, key_id: str) -> KeyFile:
    """Return the file without one key.

    Raises:
        ConfigError: it has no such key.
    """
    kept = tuple(entry for entry in keys.keys if entry.key_id != key_id)
    if len(kept) == len(keys.keys):
        known = ", ".join(entry.key_id for entry in keys.keys) or "no key"
        raise ConfigError(f"key id {key_id!r}, must be one of the file's: {known}")
    return KeyFile(keys=kept)
