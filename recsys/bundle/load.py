"""Reads a bundle: checks every digest, maps the tables, runs nothing that the bundle brings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

from pydantic import ValidationError

from recsys.bundle.arrow import read_arrow_table
from recsys.bundle.manifest import FACTS, FileEntry, Manifest, digest, read_manifest
from recsys.contracts.config import validation_sentences
from recsys.errors import BundleCorruptError
from recsys.offer_model.tables import ModelFacts, OfferModel
from recsys.ranking.engine import OfferEngine


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        path: its folder.
        manifest: what it says of itself.
        model: the tables, memory-mapped.
    """

    path: Path
    manifest: Manifest
    model: OfferModel

    def engine(self) -> OfferEngine:
        """Return an engine that ranks as the bundle says."""
        return OfferEngine(self.model, self.manifest.ranking)


def load_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Return the bundle in the folder `path`.

    Args:
        path: the folder.
        verify: compare every file with its digest first; without it a bundle of gigabytes opens in milliseconds, for
            workers whose parent has verified it.

    Raises:
        BundleCorruptError: a file is missing, altered, of another size, or not what its name says.
        BundleVersionError: another schema version wrote it.
    """
    manifest = read_manifest(path)
    for file in manifest.files:
        check_file(path, file, verify=verify)
    model = _read_model(path, manifest)
    if verify:
        model.check()
    return Bundle(path, manifest, model)


def checked_file(folder: Path, manifest: Manifest, name: str) -> Path:
    """Return the path of one file of a bundle after its digest was compared.

    Raises:
        BundleCorruptError: the manifest does not list it, or it does not match.
    """
    check_file(folder, _listed(folder, manifest, name), verify=True)
    return folder / name


def check_file(folder: Path, file: FileEntry, *, verify: bool) -> None:
    """Refuse a file of a bundle that is missing, no file of it, or of another size; with `verify`, of another digest.

    Raises:
        BundleCorruptError: it is.
    """
    path = folder / file.name
    try:
        fault = _fault_of(path, folder, file, verify=verify)
    except OSError as error:  # a name longer than the system takes, a file that may not be read
        fault = f"not readable ({error.strerror}); restore it or train again"
    if fault is not None:
        raise BundleCorruptError(f"{path}: {fault}")


def _fault_of(path: Path, folder: Path, file: FileEntry, *, verify: bool) -> str | None:
    if not path.is_file():
        return "missing, the manifest lists it; restore it or train again"
    if not path.resolve().is_relative_to(folder.resolve()):
        return "a link that leaves its folder; do not use it"
    size = path.stat().st_size
    if size != file.size:
        return f"{size} bytes, must be {file.size}; restore it or train again"
    if verify and digest(path) != file.sha256:
        return "its SHA-256 is not that of the manifest; restore it or train again"
    return None


def _read_model(folder: Path, manifest: Manifest) -> OfferModel:
    hints = get_type_hints(OfferModel)
    tables = {}
    for field in fields(OfferModel):
        if field.name != "facts":
            entry = _listed(folder, manifest, f"tables/{field.name}.arrow")
            tables[field.name] = read_arrow_table(hints[field.name], folder / entry.name)
    facts = folder / _listed(folder, manifest, FACTS).name
    try:
        return OfferModel(facts=ModelFacts.model_validate_json(facts.read_bytes()), **tables)
    except OSError as error:
        raise BundleCorruptError(f"{facts}: not readable ({error.strerror}); restore the bundle") from None
    except ValidationError as error:
        raise BundleCorruptError(f"{facts}: {validation_sentences(error)}; train again") from None


def _listed(folder: Path, manifest: Manifest, name: str) -> FileEntry:
    for file in manifest.files:
        if file.name == name:
            return file
    raise BundleCorruptError(f"{folder}: the manifest lists no {name!r}; restore it or train again")
