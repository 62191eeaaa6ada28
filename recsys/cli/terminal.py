"""Where tables are printed: as wide as a terminal, and as wide as they need to be in a file or a pipe."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

_NO_BOUND: Final = 10_000
"""Columns that no table of ours needs."""


def output_console() -> Console:
    """Return the console of standard output: nobody who reads a file later finds a cell cut off.

    A width that the environment names (`COLUMNS`) is kept.
    """
    from rich.console import Console

    is_bound = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if is_bound else _NO_BOUND)
