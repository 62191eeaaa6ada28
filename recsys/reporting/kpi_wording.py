"""Figures as people read them."""

from __future__ import annotations

from typing import Final

from recsys.evaluation.kpis.definition import Basis, Unit

DASH: Final = "–"
BASIS_WORDS: Final[dict[Basis, str]] = {
    "organic": "organic",
    "attributed": "attributed",
    "history": "all sales",
    "log": "offers",
}


def shown(value: float | None, unit: Unit, currency: str | None = None) -> str:
    """Return a value with its unit.

    Example:
        >>> shown(0.1234, "share"), shown(1234.5, "money", "GBP"), shown(None, "share")
        ('12.3 %', 'GBP 1,234.50', '–')
    """
    if value is None:
        return DASH
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "money":
        sign = "-" if value < 0 else ""
        return f"{sign}{currency} {abs(value):,.2f}" if currency else f"{value:,.2f}"
    return f"{value:,.2f}"


def shown_difference(value: float, unit: Unit, currency: str | None = None) -> str:
    """Return a difference with its sign; shares differ by percentage points.

    Example:
        >>> shown_difference(-0.0123, "share"), shown_difference(2, "products")
        ('-1.2 pp', '+2.00')
    """
    sign = "-" if value < 0 else "+"
    size = abs(value)
    if unit == "share":
        return f"{sign}{100 * size:.1f} pp"
    return f"{sign}{shown(size, unit, currency)}"


def counted(value: float) -> str:
    """Return a numerator or denominator: whole where it is whole.

    Example:
        >>> counted(1234.0), counted(12.345)
        ('1,234', '12.35')
    """
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
