"""API keys in a file: the file holds hashes, the key itself is shown once.

A key reads `ofk_ID_SECRET`. Its id finds the entry and is no secret; the secret has 256 random bits, so that one round
of SHA-256 is enough (a slow hash protects what people can remember, and would be paid on every request).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Self, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from recsys.contracts.config import validation_sentences
from recsys.errors import ConfigError
from serving.http import mounted_file

KeyScope = Literal["offers", "outcomes", "sales", "admin"]
KEY_SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)

KeyRole = Literal["storefront", "sales", "orders", "operator", "administrator"]
ROLES: Final[dict[KeyRole, tuple[KeyScope, ...]]] = {
    "storefront": ("offers", "outcomes"),
    "sales": ("offers", "outcomes", "sales"),
    "orders": ("outcomes",),
    "operator": ("admin",),
    "administrator": KEY_SCOPES,
}
"""What each role opens: a shop's pages, a salesperson's tools, the system that posts orders, who runs the server."""

_KEY: Final = re.compile(rb"ofk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


class _KeyDocument(BaseModel):
    """Part of a file of keys; no `Config`, whose errors repeat what was given."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KeyEntry(_KeyDocument):
    """One key, as the file keeps it."""

    key_id: str = Field(pattern=r"^[0-9a-f]{12}$")
    """The part of the key that is no secret."""
    name: str = Field(min_length=1, max_length=100)
    """What uses it, for people."""
    owner: str | None = Field(default=None, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
    """Who answers for it, a person or a team; None in files of before there were owners."""
    role: KeyRole | None = None
    """What it is for; a release that changes what the role opens changes every key that has it."""
    scopes: tuple[KeyScope, ...] = ()
    """What a key without a role opens; see `serving.http.access.SCOPES`."""
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

    @model_validator(mode="after")
    def _one_of_role_and_scopes(self) -> Self:
        if (self.role is None) == (not self.scopes):
            raise ValueError("a key must have either a role or scopes; give one of them")
        return self

    @property
    def granted_scopes(self) -> tuple[KeyScope, ...]:
        """What it opens."""
        return self.scopes if self.role is None else ROLES[self.role]


class KeyFile(_KeyDocument):
    """All keys of a server."""

    keys: tuple[KeyEntry, ...] = ()
    """In the order in which they were made."""

    @model_validator(mode="after")
    def _one_entry_a_key(self) -> Self:
        if len({entry.key_id for entry in self.keys}) < len(self.keys):
            raise ValueError("two keys have one key_id; remove one of them")
        return self


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


def parse_role(given: str) -> KeyRole:
    """Return a role by its name.

    Raises:
        ConfigError: there is no such role.
    """
    for role in ROLES:
        if role == given:
            return role
    raise ConfigError(f"role == {given!r}, must be of {', '.join(ROLES)}; --scope names single scopes instead")


def new_key(
    name: str,
    scopes: tuple[KeyScope, ...] = (),
    *,
    now: datetime,
    owner: str | None = None,
    role: KeyRole | None = None,
    expires_at: datetime | None = None,
    requests_per_second: float | None = None,
    burst: int = 20,
) -> tuple[str, KeyEntry]:
    """Return a new key and its entry, which does not hold it.

    Raises:
        ConfigError: a value is out of range, or there is neither a role nor scopes, or both.
    """
    key_id = secrets.token_hex(6)
    key = f"ofk_{key_id}_{secrets.token_urlsafe(32)}"
    try:
        entry = KeyEntry(
            key_id=key_id,
            name=name,
            owner=owner,
            role=role,
            scopes=scopes,
            sha256=key_digest(key.encode()),
            created_at=now,
            expires_at=expires_at,
            requests_per_second=requests_per_second,
            burst=burst,
        )
    except ValidationError as error:
        raise ConfigError(validation_sentences(error)) from None
    return key, entry


def read_keys(path: Path) -> KeyFile:
    """Return the keys that stand in a file.

    Raises:
        ConfigError: there is no such file, or it holds something else; no value of it is repeated.
    """
    return parse_keys(path, read_content(path))


def read_content(path: Path) -> bytes:
    """Return what a file of keys holds, as it is.

    Raises:
        ConfigError: there is no such file, or this user may not read it.
    """
    try:
        return mounted_file.read(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `offers key create --keys {path}` makes one") from None


def parse_keys(path: Path, content: bytes) -> KeyFile:
    """Return the keys in the content of a file.

    Raises:
        ConfigError: it holds something else; no value of it is repeated.
    """
    if not mounted_file.is_whole(content):
        raise ConfigError(f"{path}: {mounted_file.remedy(path)}")
    try:
        return KeyFile.model_validate_json(content)
    except ValidationError as error:
        found_at = [(".".join(map(str, item["loc"])) or "file", item["msg"]) for item in error.errors()]
        places = "; ".join(f"{place}: {message.removeprefix('Value error, ')}" for place, message in found_at)
        raise ConfigError(f"{path}: {places}; restore it or make the keys again") from None


def change_keys(path: Path, change: Callable[[KeyFile], KeyFile]) -> None:
    """Change the keys of a file, which is made where there is none; changes at the same time wait for each other.

    Raises:
        ConfigError: the file holds something else or may not be written here, or `change` raises it.
    """

    def changed(content: bytes) -> bytes:
        known = parse_keys(path, content) if content else KeyFile()
        # What is None is left out: a server of before there were owners reads the keys that have none.
        return (json.dumps(change(known).model_dump(mode="json", exclude_none=True), indent=2) + "\n").encode()

    mounted_file.change(path, changed)


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
