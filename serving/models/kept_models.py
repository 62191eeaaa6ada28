"""Bundles that were served, kept on disk for a stated time.

A server starts from them while the registry is away, and answers about decisions of an earlier model. `FOLDER/VERSION/`
is a bundle, its time of change says when it last served, and `FOLDER/references/` says which reference led to which
version. What is not whole yet is called `.new-...` and moved into its place; several servers may use one folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from recsys.bundle.load import check_file
from recsys.bundle.manifest import MANIFEST, model_version, read_manifest
from recsys.bundle.resolve import ResolvedModel, without_password
from recsys.errors import BundleCorruptError, BundleError
from serving.settings import KeptModelsConfig

_VERSION: Final = re.compile(r"[0-9a-f]{12}")
_REFERENCES: Final = "references"
_INCOMPLETE: Final = ".new-"
_SECONDS_A_DAY: Final = 86_400
_BYTES_A_GIGABYTE: Final = 1_000_000_000
_LATELY: Final = _SECONDS_A_DAY
"""Seconds since a bundle last served within which another server may serve it still: those say so every hour."""

_log = logging.getLogger("serving")


class KeptModels:
    """The bundles below one folder; every method may run in any thread.

    Args:
        config: where they are, and for how long.
        clock: says when a bundle last served.
    """

    def __init__(self, config: KeptModelsConfig, clock: Callable[[], datetime]) -> None:
        self.root = config.folder
        self._seconds = config.days * _SECONDS_A_DAY
        self._bytes = config.gigabytes * _BYTES_A_GIGABYTE
        self._clock = clock

    def find(self, version: str) -> ResolvedModel | None:
        """Return the kept bundle of a version, None where there is none."""
        folder = self.root / version
        known = _VERSION.fullmatch(version) and (folder / MANIFEST).is_file()
        return ResolvedModel(folder, version) if known else None

    def keep(self, found: ResolvedModel, *, link: bool) -> ResolvedModel:
        """Return a bundle's kept copy; its digests are compared when it is loaded, as those of every bundle.

        Args:
            found: where it lies now.
            link: make hard links where the disk can: for folders that nobody writes again.

        Raises:
            BundleCorruptError: a file is missing, or the bundle changed meanwhile.
            OSError: the folder can't be written.
        """
        kept = self.find(found.version)
        if kept is not None:
            return kept
        with self.incoming() as place:
            for file in read_manifest(found.path).files:
                check_file(found.path, file, verify=False)
                (place / file.name).parent.mkdir(parents=True, exist_ok=True)
                _copy(found.path / file.name, place / file.name, link=link)
            _copy(found.path / MANIFEST, place / MANIFEST, link=False)
            if model_version(place) != found.version:
                raise BundleCorruptError(f"{found.path}: it changed while it was copied; look again")
            return self.move_in(place, found.version)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Give a folder for what is not whole yet; what was not moved into its place is removed.

        Raises:
            OSError: the folder can't be written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=_INCOMPLETE, dir=self.root))
        try:
            with _held(place):
                yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def move_in(self, folder: Path, version: str) -> ResolvedModel:
        """Return the kept bundle that a whole one below `incoming` becomes; one that is there already stays."""
        kept = self.root / version
        with suppress(FileExistsError):
            try:
                folder.rename(kept)
            except OSError:
                if not (kept / MANIFEST).is_file():
                    raise
        self._touch(kept)
        return ResolvedModel(kept, version)

    def is_whole(self, version: str) -> bool:
        """Return whether every file of a kept bundle has the digest that its manifest says."""
        kept = self.find(version)
        if kept is None or model_version(kept.path) != version:
            return False
        try:
            for file in read_manifest(kept.path).files:
                check_file(kept.path, file, verify=True)
        except BundleError:
            return False
        return True

    def discard(self, version: str) -> None:
        """Remove a kept bundle that was altered."""
        if self.find(version) is not None:
            self._remove(self.root / version)

    def led_to(self, name: str) -> ResolvedModel | None:
        """Return the kept bundle that a reference, or a URI of artifacts, last led to; None where none is kept."""
        try:
            version = json.loads(self._note(name).read_bytes())["version"]
        except (OSError, ValueError, KeyError):
            return None
        return self.find(str(version))

    def note(self, name: str, version: str) -> None:
        """Keep in mind where a reference, or a URI of artifacts, leads.

        Raises:
            OSError: the folder can't be written.
        """
        known = self.led_to(name)
        if known is not None and known.version == version:
            return
        content = {"name": without_password(name), "version": version, "at": self._clock().isoformat()}
        with self.incoming() as place:
            (place / "note").write_text(json.dumps(content), "utf-8")
            note = self._note(name)
            note.parent.mkdir(exist_ok=True)
            (place / "note").replace(note)

    def tidy(self, in_use: Collection[str]) -> None:
        """Remove what served too long ago, what is too much, and what others left half-copied.

        Args:
            in_use: versions that serve now: they stay, and count as having served until now.
        """
        if not self.root.is_dir():
            return
        for version in in_use:
            if self.find(version) is not None:
                self._touch(self.root / version)
        for folder in self.root.glob(f"{_INCOMPLETE}*"):
            with suppress(OSError), _held(folder):  # whoever works in it holds it
                shutil.rmtree(folder, ignore_errors=True)
        now, total = self._clock().timestamp(), 0
        for served_at, folder in sorted(self._bundles(), reverse=True):
            total += _size(folder)
            idle = now - served_at
            if folder.name not in in_use and idle > _LATELY and (idle > self._seconds or total > self._bytes):
                self._remove(folder)
                _log.info("model removed from disk", extra={"fields": {"version": folder.name}})

    def _bundles(self) -> Iterator[tuple[float, Path]]:
        for folder in self.root.iterdir():
            if _VERSION.fullmatch(folder.name):
                with suppress(FileNotFoundError):
                    yield folder.stat().st_mtime, folder

    def _touch(self, folder: Path) -> None:
        now = self._clock().timestamp()
        with suppress(FileNotFoundError):  # another server may have removed it
            os.utime(folder, (now, now))

    def _remove(self, folder: Path) -> None:
        gone = self.root / f"{_INCOMPLETE}{uuid.uuid4().hex}"  # a half-removed bundle must not look like a kept one
        with suppress(FileNotFoundError):
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _note(self, name: str) -> Path:
        return self.root / _REFERENCES / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _copy(file: Path, place: Path, *, link: bool) -> None:
    if link:
        try:
            place.hardlink_to(file.resolve())
        except OSError:
            pass  # another disk, or a file of somebody else
        else:
            return
    shutil.copyfile(file, place)
    with place.open("rb") as copied:
        os.fsync(copied.fileno())


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; a process that dies lets go of it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


def _size(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            size += file.stat().st_size
    return size
