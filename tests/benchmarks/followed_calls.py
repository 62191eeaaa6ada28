"""Follows the calls of a running program from file to file.

A stay is one visit of a file: the entry, each distinct pair of a calling file and a called one, and the way back from
it. Loops and repeated calls count once, a call through a library belongs to the nearest file of the product, and what
runs while a module is imported does not count.
"""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import CO_COROUTINE, CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

PACKAGES: Final = ("recsys", "training", "serving")
_RESUME: Final = dis.opmap["RESUME"]


class Journey:
    """Which files of the product were entered from which.

    Attributes:
        pairs: calling file, called file; None calls where a thread, a task or the journey itself begins.
        arguments: of the watched function, when it was first entered.
    """

    def __init__(self) -> None:
        self.pairs: set[tuple[str | None, str]] = set()
        self.arguments: dict[str, Any] = {}

    @property
    def files(self) -> set[str]:
        """The files that were entered."""
        return {file for _, file in self.pairs}

    @property
    def stays(self) -> int:
        """One for each pair, and one for the way back to each calling file."""
        return len(self.pairs) + sum(caller is not None for caller, _ in self.pairs)


class Profiler:
    """Follows the calls of every thread that starts after it, while a journey is under way.

    Args:
        root: of the checkout.
        watched: a function whose arguments are kept when it is entered.
    """

    def __init__(self, root: Path, watched: Callable[..., Any]) -> None:
        self._prefixes = tuple(f"{root / package}/" for package in PACKAGES)
        self._root = f"{root}/"
        self._watched = watched.__code__
        self._files: dict[CodeType, str | None] = {}
        self._journey: Journey | None = None
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    @contextmanager
    def journey(self) -> Iterator[Journey]:
        """Record what is called meanwhile."""
        self._journey = journey = Journey()
        try:
            yield journey
        finally:
            self._journey = None

    def enter_compiled(self) -> None:
        """Let each call of machine code count as entering the file of its source: no profiler sees it."""
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in PACKAGES:
                for key, value in list(vars(module).items()):
                    if hasattr(value, "py_func") and hasattr(value, "nopython_signatures"):
                        setattr(module, key, self._entering(value))

    def _entering(self, compiled: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._enter(compiled.py_func.__code__, sys._getframe(1))
            return compiled(*arguments)

        return call

    def _event(self, frame: FrameType, event: str, _argument: object) -> None:
        if self._journey is None or event != "call" or _is_resumed(frame):
            return
        if frame.f_code is self._watched and not self._journey.arguments:
            self._journey.arguments = dict(frame.f_locals)
        self._enter(frame.f_code, frame.f_back)

    def _enter(self, code: CodeType, caller: FrameType | None) -> None:
        file = self._file(code)
        if file is None or self._journey is None or code.co_name == "<module>":
            return
        frame, from_file = caller, None
        while frame is not None and from_file is None:
            from_file, frame = self._file(frame.f_code), frame.f_back
        pair = from_file, file
        if from_file != file and pair not in self._journey.pairs and not _is_importing(caller):
            self._journey.pairs.add(pair)

    def _file(self, code: CodeType) -> str | None:
        if code not in self._files:
            name = code.co_filename
            is_ours = name.startswith(self._prefixes) and name.endswith(".py")  # a template's code names the template
            self._files[code] = name.removeprefix(self._root) if is_ours else None
        return self._files[code]


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            return True
        frame = frame.f_back
    return False


def _is_resumed(frame: FrameType) -> bool:
    """Return whether a generator or coroutine goes on that was entered before."""
    code = frame.f_code
    if not code.co_flags & (CO_GENERATOR | CO_COROUTINE) or frame.f_lasti < 0:
        return False
    return code.co_code[frame.f_lasti] == _RESUME and code.co_code[frame.f_lasti + 1] & 3 != 0
