"""Numbers as people read them."""

from __future__ import annotations

import math

from recsys.evaluation.readout.results import Effect


def number(value: float | None, *, signed: bool = False) -> str:
    """Return a number with about four significant digits.

    Example:
        >>> [number(x) for x in (21306, 113.502, 0.005726, None)], number(0.7674, signed=True)
        (['21,306', '113.5', '0.005726', '–'], '+0.7674')
    """
    if value is None or not math.isfinite(value):
        return "–"
    sign = "+" if signed else ""
    if value == 0:
        return "0"
    if abs(value) >= 1_000:
        return f"{value:{sign},.0f}"
    places = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:{sign}.{min(places, 8)}f}"
    return text if abs(value) >= 1e-8 else f"{value:{sign}.2e}"


def percent(value: float | None, *, signed: bool = True) -> str:
    """Return a share in percent.

    Example:
        >>> percent(0.1173), percent(-0.0042), percent(None), percent(0.95, signed=False)
        ('+11.7 %', '-0.4 %', '–', '95.0 %')
    """
    if value is None or not math.isfinite(value):
        return "–"
    sign = "+" if signed else ""
    return f"{100 * value:{sign},.1f} %"


def interval(low: float | None, high: float | None) -> str:
    """Return the two limits in brackets.

    Example:
        >>> interval(-0.5, 1.25)
        '[-0.5000, +1.250]'
    """
    return f"[{number(low, signed=True)}, {number(high, signed=True)}]"


def relative_interval(effect: Effect) -> str:
    """Return the relative effect with its limits, or a dash where it makes no sense."""
    if effect.relative is None:
        return "–"
    low, high = percent(effect.relative_low), percent(effect.relative_high)
    return f"{percent(effect.relative)} [{low}, {high}]"


def p_text(value: float | None) -> str:
    """Return a p-value.

    Example:
        >>> p_text(0.03141), p_text(1e-9), p_text(None)
        ('0.031', '< 0.0001', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value < 0.0001:
        return "< 0.0001"
    return f"{value:.4f}" if value < 0.001 else f"{value:.3f}"
