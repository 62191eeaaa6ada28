"""Environments of some of the installed distributions, made of links: what an installation without the others finds."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import cache_from_source
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
OURS = "offer-engine"


def locked(lock: Path) -> set[str]:
    """Return the distributions that a lock file names."""
    return {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", lock.read_text("utf-8"), re.MULTILINE)}


def brought_by(names: Iterable[str]) -> set[str]:
    """Return these distributions and those that they need, directly or not, on this machine."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        needed = waiting.pop()
        if canonicalize_name(needed.name) in found:
            continue
        found.add(canonicalize_name(needed.name))
        needs = [Requirement(line) for line in distribution(needed.name).requires or ()]
        waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def link_distributions(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Link what these distributions installed, and this one's facts, into a folder.

    Returns:
        The environment in which `python -S` finds them, the sources here and the standard library, and nothing else.
    """
    for name in [*names, OURS]:
        try:
            files = distribution(name).files or ()
        except PackageNotFoundError:  # for another platform or Python
            continue
        for file in files:
            if ".." not in file.parts and file.suffix != ".pth":
                _link(Path(str(file.locate())), folder / PurePosixPath(file))
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))},
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def python_of_links(*arguments: str) -> list[str]:
    """Return the command that runs Python without the distributions of its own environment."""
    return [sys.executable, "-S", *arguments]


def _link(source: Path, place: Path) -> None:
    if place.exists() or not source.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(source)
    if source.suffix == ".py":  # compiled once already
        _link(Path(cache_from_source(str(source))), Path(cache_from_source(str(place))))
