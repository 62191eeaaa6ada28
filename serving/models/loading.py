"""From a folder to a model that is ready to answer; earlier models too, for questions about what they decided.

A bundle is tried in a process of its own before this one loads it: what it does there, a crash too, harms nobody.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias

from recsys.bundle.load import Bundle, load_bundle
from recsys.bundle.manifest import model_version
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.errors import BundleCorruptError
from recsys.ranking.explorer import ModelExplorer
from serving import logs
from serving.encoding import EncodingEngine
from serving.models.by_alias import LoadedModel
from serving.models.kept_models import KeptModels

_COMMAND: Final = (sys.executable, "-m", "serving.models.exercise")
_MOST_LOGGED: Final = 4_000

_log = logging.getLogger("serving")

FilesSeen: TypeAlias = tuple[tuple[str, int, int, int], ...]


class BundleTrial:
    """Runs trials of bundles, one at a time.

    Args:
        seconds: how long one may take, the comparison of digests included.
        command: what is run with the folder and the seconds as its arguments.
    """

    def __init__(self, seconds: float, command: Sequence[str] = _COMMAND) -> None:
        self._seconds = seconds
        self._command = tuple(command)
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self._is_over = False

    @property
    def is_running(self) -> bool:
        """Whether a trial runs now."""
        return self._process is not None and self._process.poll() is None

    def run(self, folder: Path, version: str) -> None:
        """Let a process compare the digests of the bundle in `folder`, load it and answer varied requests from it.

        Raises:
            BundleCorruptError: says what came of it: a refusal, a signal, no end in time.
        """
        with self._start(folder) as process:
            try:
                told, complaints = process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired:
                raise self._too_late(folder) from None
            finally:
                process.kill()
        if complaints:
            _log.warning("a trial complained", extra={logs.FIELDS: {"stderr": complaints[-_MOST_LOGGED:]}})
        self._judge(folder, version, process.returncode, told)

    def stop(self) -> None:
        """End the trial that runs, and begin no other."""
        with self._lock:
            self._is_over = True
            if self._process is not None:
                self._process.kill()

    def _start(self, folder: Path) -> subprocess.Popen[str]:
        command = [*self._command, str(folder), str(self._seconds)]
        with self._lock:
            self._refuse_when_over(folder)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            return self._process

    def _judge(self, folder: Path, version: str, code: int, told: str) -> None:
        self._refuse_when_over(folder)
        if code == -signal.SIGALRM:
            raise self._too_late(folder)
        if code < 0:
            name = signal.Signals(-code).name
            raise BundleCorruptError(f"{folder}: it ended the trial process by {name}; do not use this bundle")
        try:
            found = json.loads(told)
        except ValueError:
            raise BundleCorruptError(
                f"{folder}: its trial ended with exit code {code} and no result; do not use this bundle"
            ) from None
        if found["fault"] is not None:
            raise BundleCorruptError(found["fault"])
        if found["version"] != version:
            raise BundleCorruptError(f"{folder}: it was replaced while it was tried; it is tried again later")

    def _refuse_when_over(self, folder: Path) -> None:
        if self._is_over:
            raise BundleCorruptError(f"{folder}: it was not tried, the server is stopping")

    def _too_late(self, folder: Path) -> BundleCorruptError:
        return BundleCorruptError(
            f"{folder}: its trial did not end within {self._seconds:g} s; do not use this bundle, or give it longer "
            "with trial_seconds"
        )


def files_seen(folder: Path) -> FilesSeen:
    """Return name, number, size and time of every file: equal where nothing was replaced or written in between."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(str(path), path.stat()) for path in files]
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def load_model(
    folder: Path,
    *,
    source: str,
    now: datetime,
    verify: bool = True,
    trial: BundleTrial | None = None,
) -> LoadedModel:
    """Return the model of the bundle in `folder`.

    Args:
        folder: of the bundle.
        source: what the model was asked for by, for people to read.
        now: becomes `loaded_at`.
        verify: compare every file with its digest; left out by workers whose parent has done it.
        trial: tries the bundle in another process first, which compares the digests instead of this one.

    Raises:
        BundleCorruptError: a file is missing or altered, or the trial failed.
        BundleVersionError: another schema version wrote it.
    """
    version = model_version(folder)
    bundle = load_bundle(folder, verify=verify) if trial is None else _tried(folder, version, trial)
    engine = bundle.engine()
    return LoadedModel(
        version=version,
        source=source,
        engine=EncodingEngine(engine),
        as_of=_utc(bundle.manifest.as_of),
        horizon_days=bundle.manifest.horizon_days,
        currency=bundle.manifest.currency,
        n_accounts=len(bundle.model.accounts.ids),
        n_products=len(bundle.model.products.ids),
        loaded_at=now,
        warm_up=tuple(
            OfferRequest(account_id=item.account_id, cart=tuple(CartLine(product) for product in item.cart))
            for item in bundle.manifest.warm_up
        ),
        insight=ModelExplorer(engine),
    )


def _tried(folder: Path, version: str, trial: BundleTrial) -> Bundle:
    """Return the bundle in `folder` after its trial: the very files that the trial has read."""
    before = files_seen(folder)
    trial.run(folder, version)
    bundle = load_bundle(folder, verify=False)
    if files_seen(folder) != before:
        raise BundleCorruptError(f"{folder}: its files changed while it was tried; it is tried again later")
    return bundle


def _utc(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


_IN_MEMORY: Final = 2
"""Most questions are about the latest retrain; what is mapped twice is in memory once."""


class EarlierModels:
    """Loads kept bundles by version, the last ones asked for stay; may be used by any thread."""

    def __init__(self, kept: KeptModels, clock: Callable[[], datetime]) -> None:
        self._kept = kept
        self._clock = clock
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._loading = Lock()

    def get(self, version: str) -> LoadedModel | None:
        """Return the model of a version, None where its bundle is not kept any more.

        Raises:
            BundleCorruptError: the kept bundle was altered.
        """
        with self._loading:
            found = self._loaded.pop(version, None) or self._load(version)
            if found is not None:
                self._loaded[version] = found
                while len(self._loaded) > _IN_MEMORY:
                    self._loaded.popitem(last=False)
            return found

    def _load(self, version: str) -> LoadedModel | None:
        kept = self._kept.find(version)
        return None if kept is None else load_model(kept.path, source=str(kept.path), now=self._clock())
