"""One currency: several are refused unless one is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import ibis

from recsys.contracts import columns as c
from recsys.data.report import Reason
from recsys.errors import CurrencyError

OTHER_CURRENCY = Reason("other_currency", "left_out", "in another currency than the one chosen", (c.CURRENCY,))
NO_CURRENCY = Reason("no_currency", "rejected", "the currency is empty where several are in use", (c.CURRENCY,))
CURRENCY_REASONS = (OTHER_CURRENCY, NO_CURRENCY)


class OneCurrency(NamedTuple):
    """Lines in one currency.

    Attributes:
        lines: with `drop_reason` set where a line is in another one, and without the column.
        currency: the one, None if the source does not say.
    """

    lines: ibis.Table
    currency: str | None


def keep_one_currency(lines: ibis.Table, chosen: str | None, location: str) -> OneCurrency:
    """Return the lines in the currency `chosen`, or in the only one that the lines without a `drop_reason` have.

    A line that says no currency is in the only one there is.

    Raises:
        CurrencyError: several and none chosen, or none of the lines is in the one chosen.
    """
    if c.CURRENCY not in lines.columns:
        return OneCurrency(lines, chosen.upper() if chosen is not None else None)
    found = _currencies(lines)
    currency = choose_currency(found, chosen, location)
    said = lines[c.CURRENCY]
    branches = [(said != currency, OTHER_CURRENCY.name)] if currency is not None else []
    if len(found) > 1:
        branches.append((said.isnull(), NO_CURRENCY.name))
    if not branches:
        return OneCurrency(lines.drop(c.CURRENCY), currency)
    reason = ibis.cases(*branches, else_=ibis.null("string"))
    judged = lines.mutate(**{c.DROP_REASON: lines[c.DROP_REASON].fill_null(reason)})
    return OneCurrency(judged.drop(c.CURRENCY), currency)


def choose_currency(found: Mapping[str, int], chosen: str | None, location: str) -> str | None:
    """Return the currency to keep, None where neither the lines nor anybody says one.

    Args:
        found: how many lines say each currency.
        chosen: the one that is wanted; None: the only one there is.
        location: what errors name.

    Raises:
        CurrencyError: several and none chosen, or none of the lines is in the one chosen.

    Example:
        >>> choose_currency({"GBP": 12}, None, "orders")
        'GBP'
    """
    chosen = chosen.upper() if chosen is not None else None
    if len(found) > 1 and chosen is None:
        most = max(sorted(found), key=lambda name: found[name])
        shown = ", ".join(f"{name} ({found[name]:,} lines)" for name in sorted(found))
        raise CurrencyError(
            f"{location}: currencies {shown}, must be one; "
            f"choose the one to keep (--currency {most}) or convert the prices"
        )
    if found and chosen is not None and chosen not in found:
        raise CurrencyError(f"{location}: currency == {chosen!r}, must be one of {', '.join(sorted(found))}; choose it")
    return chosen or next(iter(found), None)


class FigureCurrency(NamedTuple):
    """The currency of figures over order lines that were logged.

    Attributes:
        name: None where neither the lines nor the caller say one.
        left_out: a sentence about the lines that are not in it and must not be added up; None: all of them may be.
    """

    name: str | None
    left_out: str | None


def figure_currency(counts: Mapping[str | None, int], chosen: str | None, location: str) -> FigureCurrency:
    """Return the currency of figures over lines that were logged, by the rule of `keep_one_currency`.

    Args:
        counts: how many lines say each currency, and how many say none.
        chosen: the one that is wanted; None: the only one there is.
        location: what errors name.

    Raises:
        CurrencyError: several and none chosen, or none of the lines is in the one chosen.

    Example:
        >>> figure_currency({"EUR": 12, "USD": 2, None: 1}, "EUR", "orders").left_out
        'order lines that are not known to be in EUR are left out: 2 in USD, 1 that say no currency'
    """
    named = {name: n for name, n in counts.items() if name is not None}
    currency = choose_currency(named, chosen, location)
    if len(named) < 2:
        return FigureCurrency(currency, None)
    others = [f"{named[name]:,} in {name}" for name in sorted(named) if name != currency]
    nameless = [f"{counts[None]:,} that say no currency"] if counts.get(None) else []
    sentence = f"order lines that are not known to be in {currency} are left out: {', '.join([*others, *nameless])}"
    return FigureCurrency(currency, sentence)


def _currencies(lines: ibis.Table) -> dict[str, int]:
    """How many good lines say each currency."""
    good = lines.filter(lines[c.DROP_REASON].isnull() & lines[c.CURRENCY].notnull())
    counts = good.group_by(c.CURRENCY).agg(n=good.count()).to_pyarrow().to_pylist()
    return {str(item[c.CURRENCY]): int(item["n"]) for item in counts}
