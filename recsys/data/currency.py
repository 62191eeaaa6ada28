"""One currency: several are refused unless one is chosen."""

from __future__ import annotations

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
    chosen = chosen.upper() if chosen is not None else None
    if c.CURRENCY not in lines.columns:
        return OneCurrency(lines, chosen)
    found = _currencies(lines)
    if len(found) > 1 and chosen is None:
        most = max(sorted(found), key=lambda name: found[name])
        shown = ", ".join(f"{name} ({found[name]:,} lines)" for name in sorted(found))
        raise CurrencyError(
            f"{location}: currencies {shown}, must be one; "
            f"choose the one to keep (--currency {most}) or convert the prices"
        )
    if found and chosen is not None and chosen not in found:
        raise CurrencyError(f"{location}: currency == {chosen!r}, must be one of {', '.join(sorted(found))}; choose it")
    currency = chosen or next(iter(found), None)
    said = lines[c.CURRENCY]
    branches = [(said != currency, OTHER_CURRENCY.name)] if currency is not None else []
    if len(found) > 1:
        branches.append((said.isnull(), NO_CURRENCY.name))
    if not branches:
        return OneCurrency(lines.drop(c.CURRENCY), currency)
    reason = ibis.cases(*branches, else_=ibis.null("string"))
    judged = lines.mutate(**{c.DROP_REASON: lines[c.DROP_REASON].fill_null(reason)})
    return OneCurrency(judged.drop(c.CURRENCY), currency)


def _currencies(lines: ibis.Table) -> dict[str, int]:
    """How many good lines say each currency."""
    good = lines.filter(lines[c.DROP_REASON].isnull() & lines[c.CURRENCY].notnull())
    counts = good.group_by(c.CURRENCY).agg(n=good.count()).to_pyarrow().to_pylist()
    return {str(item[c.CURRENCY]): int(item["n"]) for item in counts}
