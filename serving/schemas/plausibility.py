"""Reports that can never be right: their dates, money and currency are refused before anything of them is kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from serving.http.problems import FieldProblem, ImplausibleError
from serving.schemas.events import OrderLineBody, OrdersBody, OutcomesBody

EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""Where a date is empty, systems write the years 1, 1900, 1970 and 1980; no order that is posted is as old."""
MOST_VALUE: Final = 1e12
"""Money of one line. The largest invoices in the smallest units of money are below it, and a sum of a thousand such
lines in 64 bits is still exact to an eighth of a unit."""
ROUNDING: Final = 0.01
"""Money: a discount of the whole line may be rounded up by the sender."""


class ReportTimes(NamedTuple):
    """Which times are credible.

    Attributes:
        now: of the server, UTC.
        tolerance_seconds: how far the sender's clock may run ahead of it.
    """

    now: datetime
    tolerance_seconds: float

    def refusal(self, field: str, when: datetime | None) -> str | None:
        """Return why a time can't be right, None where it can; without one it is now."""
        if when is None:
            return None
        if (when - self.now).total_seconds() > self.tolerance_seconds:
            return (
                f"{field} == '{when}', must be at most {self.tolerance_seconds:g} s after the server's time, "
                f"{self.now:%Y-%m-%d %H:%M:%S} UTC; check the date and the clock that wrote it"
            )
        if when < EARLIEST:
            return (
                f"{field} == '{when}', must be {EARLIEST:%Y-%m-%d} or later; most often the sender's field was empty: "
                "send when it happened"
            )
        return None


def check_outcomes(body: OutcomesBody, clock: ReportTimes) -> None:
    """Refuse a batch of outcomes where one can never be right.

    Raises:
        ImplausibleError: names every wrong field.
    """
    _refuse(
        FieldProblem(pointer=f"/outcomes/{position}/occurred_at", detail=detail)
        for position, outcome in enumerate(body.outcomes)
        if (detail := clock.refusal("occurred_at", outcome.occurred_at)) is not None
    )


def check_orders(body: OrdersBody, clock: ReportTimes, currency: str | None) -> None:
    """Refuse a batch of orders where one can never be right.

    Args:
        body: the batch.
        clock: which times are credible.
        currency: of the model's prices; None where it says none: then of the batch's first order that says one. The
            event log is added up, so that it holds one currency.

    Raises:
        ImplausibleError: names every wrong field.
    """
    _refuse(_wrong_orders(body, clock, currency))


def _wrong_orders(body: OrdersBody, clock: ReportTimes, currency: str | None) -> Iterator[FieldProblem]:
    wanted, whose = (currency, "the currency of the model") if currency is not None else _first_currency(body)
    for position, order in enumerate(body.orders):
        place = f"/orders/{position}"
        if (detail := clock.refusal("ordered_at", order.ordered_at)) is not None:
            yield FieldProblem(pointer=f"{place}/ordered_at", detail=detail)
        if order.currency not in {None, wanted}:
            detail = f"currency == {order.currency!r}, must be {wanted}, {whose}; convert the order's money"
            yield FieldProblem(pointer=f"{place}/currency", detail=detail)
        for number, line in enumerate(order.lines):
            if (wrong := _wrong_money(line)) is not None:
                yield FieldProblem(pointer=f"{place}/lines/{number}/{wrong[0]}", detail=wrong[1])


def _first_currency(body: OrdersBody) -> tuple[str | None, str]:
    """The first currency that an order of the batch says, and where."""
    said = ((order.currency, f"as in /orders/{position}") for position, order in enumerate(body.orders))
    return next(((currency, where) for currency, where in said if currency is not None), (None, ""))


def _wrong_money(line: OrderLineBody) -> tuple[str, str] | None:
    """Which field of a line's money is wrong, and why."""
    if line.unit_price is None:
        if line.discount > 0:
            return "discount", f"discount == {line.discount:g} without unit_price, must have one; send both or neither"
        return None
    worth = line.quantity * line.unit_price
    if worth > MOST_VALUE:
        detail = f"quantity x unit_price == {worth:g}, must be at most {MOST_VALUE:g}; check both, and their units"
        return "unit_price", detail
    if line.discount > worth + ROUNDING:
        return "discount", (
            f"discount == {line.discount:g}, must be at most quantity x unit_price == {worth:g}; "
            "spread an order's discount over its lines"
        )
    return None


def _refuse(wrong: Iterator[FieldProblem]) -> None:
    fields = list(wrong)
    if fields:
        raise ImplausibleError(fields)
