"""Money with the digits of its currency."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Final

_USUAL_DIGITS: Final = 2
_NO_DIGITS: Final = ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV")
_OTHER_DIGITS: Final = {
    **dict.fromkeys((*_NO_DIGITS, "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
"""ISO 4217, list one: the minor units of the currencies that have another number of digits than two."""
_MOST_CHANGE: Final = Decimal("0.01")
"""A unit price that rounding would move by a larger share stays: a screw costs less than a cent."""


def currency_digits(currency: str | None) -> int:
    """Return how many digits behind the point a currency has: 2 for one that is not known.

    Example:
        >>> [currency_digits(currency) for currency in ("JPY", "EUR", "KWD", None)]
        [0, 2, 3, 2]
    """
    return _OTHER_DIGITS.get(currency or "", _USUAL_DIGITS)


def after_discount(price: float, share: float, currency: str | None) -> tuple[float, float]:
    """Return the money off a unit and the price to pay, which add up to the price.

    Example:
        >>> after_discount(12.75, 0.1, "EUR"), after_discount(1290.0, 0.125, "JPY")
        ((1.27, 11.48), (161.0, 1129.0))
    """
    listed = Decimal(repr(price))
    to_pay = round_money(float(listed * (1 - Decimal(repr(share)))), currency)
    return float(listed - Decimal(repr(to_pay))), to_pay


def round_money(amount: float, currency: str | None) -> float:
    """Return an amount in the digits of its currency, halves up; one that this would move by over 1 % as it is.

    Example:
        >>> round_money(11.475, "EUR"), round_money(11.475, "JPY"), round_money(0.0125, "EUR")
        (11.48, 11.475, 0.0125)
    """
    exact = Decimal(repr(float(amount)))
    if not exact.is_finite():
        return amount
    rounded = exact.quantize(Decimal(1).scaleb(-currency_digits(currency)), ROUND_HALF_UP)
    return float(rounded) if abs(rounded - exact) <= _MOST_CHANGE * abs(exact) else amount
