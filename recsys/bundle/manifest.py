"""What a bundle says of itself: `manifest.json`, the only file of a bundle that is read before its digest is known."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import Field, ValidationError
from pydantic_core import from_json

from recsys.contracts.config import Config, validation_sentences
from recsys.errors import BundleCorruptError, BundleVersionError
from recsys.offer_model.facts import Days, IsoMoment
from recsys.ranking.config import RankingConfig

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
FACTS = "facts.json"
_MOST_WARM_UP: Final = 1_000
"""Requests to replay, and products of the cart of one."""


class FileEntry(Config):
    """One file of a bundle.

    Attributes:
        name: path within the bundle, with `/`.
        size: bytes.
        sha256: hexadecimal digest of the content.
    """

    name: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class WarmUp(Config):
    """A request to replay before a model answers: it touches the pages that real requests touch.

    Attributes:
        account_id: the account, or None.
        cart: product ids.
    """

    account_id: str | None = None
    cart: tuple[str, ...] = Field(default=(), max_length=_MOST_WARM_UP)


class Manifest(Config):
    """What a bundle holds and what it rests on.

    Attributes:
        schema_version: of the bundle's layout; another one is refused.
        model_kind: what the files are.
        as_of: ISO 8601, UTC; no order line at or after it was used.
        horizon_days: the window of every probability, days.
        currency: of every price.
        data_fingerprint: of the cleaned order lines.
        config: the whole configuration that trained it.
        ranking: how its candidates become a slate.
        metrics: figures of its backtest, by name.
        libraries: versions that wrote it.
        warm_up: requests to replay before it answers.
        files: every other file, sorted by name.
    """

    schema_version: int = SCHEMA_VERSION
    model_kind: Literal["offer-model"] = "offer-model"
    as_of: IsoMoment
    horizon_days: Days
    currency: str | None = None
    data_fingerprint: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    ranking: RankingConfig = RankingConfig()
    metrics: dict[str, float] = Field(default_factory=dict)
    libraries: dict[str, str] = Field(default_factory=dict)
    warm_up: tuple[WarmUp, ...] = Field(default=(), max_length=_MOST_WARM_UP)
    files: tuple[FileEntry, ...]

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON with sorted keys."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the bundle in `folder`.

    Raises:
        BundleCorruptError: there is none, it is no JSON, a field is wrong, or a file name leaves the folder.
        BundleVersionError: another schema version wrote it.
    """
    path = folder / MANIFEST
    try:
        fields = from_json(path.read_bytes())  # which refuses lone surrogates and nesting without bound
    except (FileNotFoundError, NotADirectoryError):
        raise BundleCorruptError(f"{folder}: no {MANIFEST}; name the folder of a bundle") from None
    except (OSError, ValueError) as error:
        raise BundleCorruptError(f"{path}: not readable as JSON ({error}); restore it or train again") from None
    _check_version(path, fields)
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        raise BundleCorruptError(f"{path}: {validation_sentences(error)}; restore it or train again") from None
    for file in manifest.files:
        check_name(file.name)
    return manifest


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_version(folder: Path) -> str:
    """Return the version of the bundle in `folder`: the first 12 hexadecimal digits of its manifest's SHA-256.

    The manifest holds the digest of every other file: the same content has the same version wherever it lies, and a
    decision names the very bytes that made it. It costs no more than reading the manifest.

    Raises:
        BundleCorruptError: there is no manifest.
    """
    try:
        return digest(folder / MANIFEST)[:12]
    except OSError:
        raise BundleCorruptError(f"{folder}: no {MANIFEST}; name the folder of a bundle") from None


def check_name(name: str) -> None:
    """Refuse a file name that could point outside the bundle.

    Raises:
        BundleCorruptError: the name is absolute, climbs, or is not in its plain form.
    """
    path = PurePosixPath(name)
    plain = name == str(path) and "\\" not in name and "\0" not in name
    if not plain or path.is_absolute() or ".." in path.parts or name in {".", MANIFEST}:
        raise BundleCorruptError(f"file name {name!r}, must be a plain path inside the bundle; do not use this bundle")


def _check_version(path: Path, fields: object) -> None:
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleVersionError(
            f"{path}: schema_version == {version!r}, must be {SCHEMA_VERSION}; train again with this version, "
            "or install the version that wrote it"
        )
