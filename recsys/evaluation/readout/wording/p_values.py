"""P-values as people read them: none is zero."""

from __future__ import annotations

import math
from typing import Final

_LEAST: Final = 0.0001


def p_text(value: float | None) -> str:
    """Return a p-value for a table.

    Example:
        >>> p_text(0.03141), p_text(1e-9), p_text(None)
        ('0.031', '< 0.0001', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value < _LEAST:
        return f"< {_LEAST:.4f}"
    return f"{value:.4f}" if value < 0.001 else f"{value:.3f}"


def p_words(value: float) -> str:
    """Return a p-value for a sentence.

    Example:
        >>> p_words(0.03141), p_words(0.0)
        ('p = 0.031', 'p < 0.0001')
    """
    return f"p < {_LEAST:.4f}" if value < _LEAST else f"p = {value:.2g}"
