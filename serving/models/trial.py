"""Tries a bundle in a process of its own before this one loads it: what it does there, a crash too, harms nobody."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias

from recsys.errors import BundleCorruptError
from serving import logs

_COMMAND: Final = (sys.executable, "-m", "serving.models.exercise")
_MOST_LOGGED: Final = 4_000

_log = logging.getLogger("serving")

FilesSeen: TypeAlias = tuple[tuple[str, int, int, int], ...]


class BundleTrial:
    """Runs trials, one at a time.

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
