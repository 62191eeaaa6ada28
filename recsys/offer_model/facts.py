"""What the tables of an offer model rest on: its moment, window, currency and counts, and the total lifetime value."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from recsys.contracts.config import Config

MOST_DAYS: Final = 36_500
"""A hundred years: no window is longer."""


def _moment(text: str) -> str:
    if not 1900 <= datetime.fromisoformat(text).year <= 2200:
        raise ValueError("must be a moment from 1900 to 2200")
    return text


IsoMoment = Annotated[str, AfterValidator(_moment)]
"""ISO 8601, UTC."""
Days = Annotated[int, Field(ge=1, le=MOST_DAYS)]
_Total = Annotated[int, Field(ge=0, le=2**53)]


class LifetimeValueFacts(Config):
    """Revenue that all known accounts are expected to bring in the twelve months after `as_of`, money.

    Attributes:
        expected: their sum.
        low: lower limit of its interval.
        high: upper limit.
        coverage: of this interval, and of the accounts' own.
    """

    expected: float = Field(ge=0)
    low: float = Field(ge=0)
    high: float = Field(ge=0)
    coverage: float = Field(gt=0, lt=1)


class ModelFacts(Config):
    """What the tables of a model rest on.

    Attributes:
        as_of: ISO 8601, UTC; no order line at or after it was used.
        horizon_days: the window of every probability, days.
        currency: of every price; None when it was not stated.
        n_accounts: accounts with an order in the training history.
        n_orders: orders in the training history, of known accounts or not.
        n_first_purchases: distinct pairs of an account and a product that it bought.
        reason_window_days: the window of "added B within", days.
        fallback_window_days: the window that the fallback lists count buyers in, days; None for the whole history.
        fallback_unit: what the fallback lists count: accounts, or orders where no order has an account.
        lifetime_value: of all accounts; None where a bundle of an earlier release does not know it.
    """

    as_of: IsoMoment
    horizon_days: Days
    currency: str | None = None
    n_accounts: _Total = 0
    n_orders: _Total = 0
    n_first_purchases: _Total = 0
    reason_window_days: Days = 60
    fallback_window_days: Days | None = None
    fallback_unit: Literal["accounts", "orders"] = "accounts"
    lifetime_value: LifetimeValueFacts | None = None
