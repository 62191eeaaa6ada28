"""Order lines as the contract wants them, in one currency: every step an Ibis expression, every row one outcome.

1. `recsys.data.checks` reads the types and gives a `drop_reason` to each row that can't be a line.
2. Rows at or after `as_of` are left out, whatever else they are: nothing below sees them.
3. One currency is kept; what can't be right beside the other lines goes (`recsys.data.suspicions`).
4. Of rows with the same order and line one stays; reversals are taken off their sales.
5. The lines that stay are stored in the order of time; every other row with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import ibis
from ibis.backends.duckdb import Backend

from recsys.contracts import columns as c
from recsys.contracts.tables import COMPLETED, ORDERS
from recsys.data.checks import (
    CHECK_REASONS,
    LINE_COLUMNS,
    LINE_REASONS,
    REMAINING,
    UNMATCHED,
    check_lines,
    duplicate_lines,
    is_reversal,
    net_reversals,
    with_line_ids,
)
from recsys.data.numbers import DecimalMark
from recsys.data.presets import Preset
from recsys.data.report import DropReason
from recsys.data.sources import TableSource, reading
from recsys.data.suspicions import SUSPICION_REASONS, HistoryEnd, find_history_end, find_repeats, judge_together
from recsys.data.times import naive_utc
from recsys.errors import CurrencyError, EmptyDataError

OTHER_CURRENCY = DropReason("other_currency", "left_out", "in another currency than the one chosen", (c.CURRENCY,))
NO_CURRENCY = DropReason("no_currency", "rejected", "the currency is empty where several are in use", (c.CURRENCY,))
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
            f"choose the one to keep (currency {most}) or convert the prices"
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


AFTER = DropReason("at_or_after_as_of", "left_out", "ordered at or after as_of", (c.ORDERED_AT,))
REVERSED = DropReason("reversed", "left_out", "a sale that later reversals took back whole", (c.ORDER_ID, c.QUANTITY))
REVERSAL = DropReason("reversal", "left_out", "a reversal taken off the sale it reverses", (c.ORDER_ID, c.QUANTITY))
PARTLY = DropReason(
    "reversal_partly_matched", "left_out", "a reversal of more units than were sold before it", (c.ORDER_ID, c.QUANTITY)
)
UNMATCHED_REVERSAL = DropReason(
    "reversal_unmatched",
    "rejected",
    "a reversal without an earlier sale of its account and product",
    (c.ORDER_ID, c.ACCOUNT_ID, c.QUANTITY),
)
ORDER_REASONS = (
    AFTER, *CHECK_REASONS, *CURRENCY_REASONS, *SUSPICION_REASONS, *LINE_REASONS, REVERSED, REVERSAL, PARTLY,
    UNMATCHED_REVERSAL,
)  # fmt: skip


@dataclass(frozen=True)
class CleanLines:
    """What cleaning made of a source of order lines.

    Attributes:
        lines: what the source has of the contract's columns and of the carried ones of products and accounts, with
            `line_id`, stored in the order of time, order and line.
        dropped: `source_row` and `drop_reason` of every other row of the source's table.
        as_of: nothing at or after this moment is in `lines`, UTC.
        currency: the one currency of `lines`; None if the source does not say.
        n_shortened: lines that stay with fewer units, because a reversal took some.
        warnings: what should be looked at before anything is learned, a sentence each.
    """

    lines: ibis.Table
    dropped: ibis.Table
    as_of: datetime
    currency: str | None
    n_shortened: int
    warnings: tuple[str, ...]

    @property
    def orders(self) -> ibis.Table:
        """The lines with all columns of the contract; what the source does not have is not stored."""
        absent = {
            c.CHANNEL: ibis.null("string"),
            c.DISCOUNT: ibis.literal(0.0),
            c.CURRENCY: ibis.literal(self.currency, type="string"),
            c.STATUS: ibis.literal(COMPLETED),
        }
        have = self.lines.columns
        return self.lines.select(**{name: self.lines[name] if name in have else absent[name] for name in ORDERS.names})


def clean_lines(
    connection: Backend,
    source: TableSource,
    mapping: Mapping[str, str],
    *,
    preset: Preset | None = None,
    as_of: datetime | None = None,
    currency: str | None = None,
    time_format: str | None = None,
    decimal: DecimalMark | None = None,
    now: datetime | None = None,
) -> CleanLines:
    """Return a source's lines as the contract wants them.

    Args:
        connection: where `source` is open.
        source: the order lines as they were found.
        mapping: contract name -> column of the source; the required ones are in it.
        preset: what else is known about the layout.
        as_of: UTC; default: the day after the last order that is neither after today nor far after the rest.
        currency: the one to keep where there are several.
        time_format: how times are written; default: found out.
        decimal: what stands before the decimals; default: found out.
        now: UTC; no order can be later unless `as_of` is given; default: by the clock.

    Raises:
        DataError: amounts can't be read, are all zero, or are totals of lines given as prices.
        EmptyDataError: no row has a time that can be read.
        CurrencyError: several currencies and none chosen.
    """
    with reading(source.location):
        expression = check_lines(source, mapping, preset=preset, time_format=time_format, decimal=decimal)
        checked = connection.create_table("checked", expression, temp=True)
    end = find_history_end(_good(checked), now or datetime.now(UTC)) if as_of is None else None
    moment = as_of or _day_after_last(checked, end, source)
    judged, kept_currency = keep_one_currency(_before(checked, moment, end), currency, source.location)
    found = judge_together(judged, source, mapping)
    judged, good = found.lines, _good(found.lines)
    repeats = find_repeats(good, source, found.n_lines)

    again = _again(judged, repeats.rows)
    if again is not None:
        again = connection.create_table("said_again", again, temp=True)
        good = good.anti_join(again, c.SOURCE_ROW)
    netted = connection.create_table("netted", net_reversals(good), temp=True) if found.n_reversals else None
    lines = connection.create_table("lines", _kept(good, netted), temp=True)
    dropped = connection.create_table("dropped", _dropped(judged, again, good, netted), temp=True)
    n_shortened = 0 if netted is None else _count_shortened(netted)
    for name, stored in {"checked": checked, "said_again": again, "netted": netted}.items():
        if stored is not None:
            connection.drop_table(name)
    return CleanLines(lines, dropped, moment, kept_currency, n_shortened, (*found.warnings, *repeats.warnings))


def _day_after_last(checked: ibis.Table, end: HistoryEnd | None, source: TableSource) -> datetime:
    """Midnight after the history's last day, or after the last that a row has at all."""
    last = end.last if end is not None else checked[c.ORDERED_AT].max().to_pyarrow().as_py()
    if last is None:
        raise EmptyDataError(
            f"{source.location}: no row has a time that can be read; write it as 2011-06-01 13:45:00 or say how it is "
            "written (time_format)"
        )
    return datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)


def _before(checked: ibis.Table, moment: datetime, end: HistoryEnd | None) -> ibis.Table:
    """Nothing that a row at or after the moment says counts, not even what is wrong with it."""
    time = checked[c.ORDERED_AT]
    # A row that could not be a line at all says nothing about where the history ends.
    reason = ibis.literal(AFTER.name) if end is None else ibis.coalesce(checked[c.DROP_REASON], end.reason(time))
    return checked.mutate(**{c.DROP_REASON: ibis.ifelse(time >= naive_utc(moment), reason, checked[c.DROP_REASON])})


def _again(judged: ibis.Table, repeated: ibis.Table | None) -> ibis.Table | None:
    """`source_row` and `drop_reason` of the good rows that stand for a line which another row has; None: none can."""
    parts = [part for part in (duplicate_lines(judged), repeated) if part is not None]
    return ibis.union(*parts) if len(parts) > 1 else next(iter(parts), None)


def _good(lines: ibis.Table) -> ibis.Table:
    return lines.filter(lines[c.DROP_REASON].isnull())


def _count_shortened(netted: ibis.Table) -> int:
    shortened = netted.filter((netted[REMAINING] > 0) & (netted[REMAINING] < netted[c.QUANTITY]))
    return int(shortened.count().to_pyarrow().as_py())


def _kept(good: ibis.Table, netted: ibis.Table | None) -> ibis.Table:
    """The sale lines with what reversals left of them, in the order of time, order and line."""
    placed = with_line_ids(good)
    stays = placed if netted is None else _left_by_reversals(placed, netted)
    own = [c.LINE_ID] if c.LINE_ID in good.columns else []  # else the place in the source, which counts past 9
    ordered = stays.order_by([c.ORDERED_AT, c.ORDER_ID, *own, c.SOURCE_ROW])
    return ordered.select(*(column.name for column in LINE_COLUMNS if column.name in ordered.columns))


def _left_by_reversals(lines: ibis.Table, netted: ibis.Table) -> ibis.Table:
    joined = lines.left_join(netted.select(c.SOURCE_ROW, REMAINING), c.SOURCE_ROW)
    units = joined[REMAINING].fill_null(joined[c.QUANTITY])
    shares = {c.DISCOUNT: joined[c.DISCOUNT] * (units / joined[c.QUANTITY])} if c.DISCOUNT in joined.columns else {}
    sales = joined.mutate(**{c.QUANTITY: units}, **shares)
    return sales.filter(sales[c.QUANTITY] > 0)


def _dropped(judged: ibis.Table, again: ibis.Table | None, good: ibis.Table, netted: ibis.Table | None) -> ibis.Table:
    """`source_row` and `drop_reason` of every row that is not among the kept lines."""
    failed = judged.filter(judged[c.DROP_REASON].notnull()).select(c.SOURCE_ROW, c.DROP_REASON)
    parts = [failed, *(() if again is None else (again,)), *(() if netted is None else _reversed(good, netted))]
    return ibis.union(*parts) if len(parts) > 1 else failed


def _reversed(good: ibis.Table, netted: ibis.Table) -> tuple[ibis.Table, ibis.Table]:
    """The sales that were taken back whole, and the reversals."""
    fate = ibis.cases(
        ((netted[c.QUANTITY] > 0) & (netted[REMAINING] == 0), REVERSED.name),
        (netted[c.QUANTITY] > 0, ibis.null("string")),
        (netted[UNMATCHED] == 0, REVERSAL.name),
        (netted[UNMATCHED] < -netted[c.QUANTITY], PARTLY.name),
        else_=UNMATCHED_REVERSAL.name,
    )
    matched = netted.select(c.SOURCE_ROW, fate.name(c.DROP_REASON))
    nobodys = good.filter(is_reversal(good) & good[c.ACCOUNT_ID].isnull()).select(
        c.SOURCE_ROW, ibis.literal(UNMATCHED_REVERSAL.name).name(c.DROP_REASON)
    )
    return matched.filter(matched[c.DROP_REASON].notnull()), nobodys
