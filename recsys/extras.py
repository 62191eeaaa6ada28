"""The extras of the distribution, and what to say where one is missing.

The client needs httpx and pydantic alone. Whatever else is imported comes with an extra, as `pyproject.toml` lists it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, requires
from typing import Final, Literal

from recsys.errors import MissingExtraError

Extra = Literal["serve", "train", "lightgbm"]

_NAME: Final = "offer-engine"
_REQUIREMENT = re.compile(r"""([\w.-]+)[^;]*;.*\bextra\s*==\s*['"]([\w-]+)['"]""")
_NAMED: Final = 3


def require(*extras: Extra, what: str) -> None:
    """Raise unless one of the extras is installed whole.

    Args:
        extras: those of which one is enough; the first is the one that the error names.
        what: what needs it.

    Raises:
        MissingExtraError: each of them lacks something.

    Example:
        >>> require("train", what="recsys.backtest")
    """
    missing = [tuple(_missing(extra)) for extra in extras]
    if not all(missing):
        return
    raise missing_extra(extras[0], missing[0], what=what)


def missing_extra(extra: Extra, names: Sequence[str], *, what: str) -> MissingExtraError:
    """Return the error that says which extra brings what is not there."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return MissingExtraError(
        f"{what} needs {', '.join(names[:_NAMED])}{more}, which the extra {extra!r} brings: "
        f'pip install "{_NAME}[{extra}]"'
    )


def _missing(extra: Extra) -> Iterator[str]:
    """Yield what an extra asks for and what is not there."""
    for line in _requirements():
        match = _REQUIREMENT.match(line)
        if match is not None and match[2] == extra and not _is_installed(match[1]):
            yield match[1]


def _requirements() -> list[str]:
    try:
        return requires(_NAME) or []
    except PackageNotFoundError:  # sources on the path without an installation: the imports themselves will say
        return []


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
