"""What is wrong with lines that each look right by themselves, found by looking at them beside each other.

A date far after the rest, a quantity of a billion and an order that was exported twice are rejected with their rows.
Totals of lines taken for prices, and a history without any price, are refused. The rest is a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

import ibis
import numpy as np
from numpy.typing import NDArray

from recsys.contracts import columns as c
from recsys.data.numbers import as_text
from recsys.data.report import DropReason
from recsys.data.sources import TableSource
from recsys.data.times import FORMATS, as_time
from recsys.errors import DataError

IN_FUTURE = DropReason("after_today", "rejected", "ordered after today", (c.ORDERED_AT,))
FAR_AFTER = DropReason(
    "far_after_the_rest",
    "rejected",
    "ordered so long after all other lines that the date can't be right; give as_of to use it",
    (c.ORDERED_AT,),
)
ABSURD_QUANTITY = DropReason(
    "absurd_quantity",
    "rejected",
    "the quantity is above a million and 100,000 times what lines commonly have",
    (c.ORDER_ID, c.QUANTITY),
)
REPEATED_ORDER = DropReason(
    "repeated_order",
    "rejected",
    "each line of its order stands there again: it was exported twice",
    (c.ORDER_ID, c.PRODUCT_ID),
)
SUSPICION_REASONS = (IN_FUTURE, FAR_AFTER, ABSURD_QUANTITY, REPEATED_ORDER)

_FEW = 0.01  # of the lines, at most, may be taken for lines with a wrong date
_GAP_TIMES = 10
_GAP_DAYS = 90
_MOST_UNITS = 1_000_000
_TIMES_COMMON = 100_000
_SAMPLE_LINES = 200_000
_LEAST_LINES = 20
_TOTALS = 0.8
_REPEATED_ORDERS = 2
_REPEATED_SHARE = 0.005
_MANY_LINES = 1_000_000
_PROBE = 8
_EXAMPLES = 3
_SAME = (c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.QUANTITY, c.UNIT_PRICE)


class HistoryEnd(NamedTuple):
    """Where a history ends if nobody says it.

    Attributes:
        last: its last day.
        today: no line can be of a later day.
    """

    last: date
    today: date

    def reason(self, ordered_at: ibis.Value) -> ibis.ir.StringValue:
        """Return why a line is after the end, null where it is not."""
        day = ordered_at.date()
        return ibis.cases(
            (day > ibis.literal(self.today), IN_FUTURE.name),
            (day > ibis.literal(self.last), FAR_AFTER.name),
            else_=ibis.null("string"),
        )


def find_history_end(good: ibis.Table, now: datetime) -> HistoryEnd | None:
    """Return the last day of a history, None without a line.

    A clock may be ahead of UTC by less than a day. What lies more than 90 days, and more than ten times the longest gap
    before it, after all else and is at most a hundredth of the lines is not of the history.

    Args:
        good: `ordered_at` of the lines.
        now: by the clock, UTC.
    """
    today = now.date() + timedelta(days=1)
    by_day = good.group_by(day=good[c.ORDERED_AT].date()).agg(n=good.count()).order_by("day")
    found = by_day.to_pyarrow()
    days, counts = found["day"].to_numpy().astype("datetime64[D]"), found["n"].to_numpy()
    if not len(days):
        return None
    past = days <= np.datetime64(today, "D")
    last = days[past][_last_of_the_rest(days[past], counts[past])].item() if past.any() else today
    return HistoryEnd(last, today)


def _last_of_the_rest(days: NDArray[np.datetime64], counts: NDArray[np.int64]) -> int:
    """The position of the last day before a gap that is far longer than those before it, with few lines after it."""
    gaps = np.diff(days).astype(np.int64)
    if len(gaps) < 2:
        return len(days) - 1
    longest_before = np.maximum.accumulate(gaps)[:-1]
    few_after = counts[::-1].cumsum()[::-1][2:] <= _FEW * counts.sum()
    torn = np.flatnonzero((gaps[1:] > np.maximum(_GAP_DAYS, _GAP_TIMES * longest_before)) & few_after)
    return int(torn[0]) + 1 if len(torn) else len(days) - 1


class Suspicions(NamedTuple):
    """What looking at the lines together found.

    Attributes:
        lines: the lines, with `drop_reason` set where one can't be right.
        n_lines: how many good ones were looked at.
        n_reversals: how many of them take units back.
        warnings: a sentence each.
    """

    lines: ibis.Table
    n_lines: int
    n_reversals: int
    warnings: tuple[str, ...]


def judge_together(lines: ibis.Table, source: TableSource, columns: Mapping[str, str]) -> Suspicions:
    """Return the lines without those that can't be right, and what else should be looked at.

    Args:
        lines: checked lines, where a null `drop_reason` marks the good ones.
        source: where they come from, for the sentences.
        columns: contract name -> column of the source.

    Raises:
        DataError: no line has a price, or totals of lines are given as prices a unit.
    """
    good = lines.filter(lines[c.DROP_REASON].isnull())
    seen = _summary(good)
    if not seen.n_lines:
        return Suspicions(lines, 0, 0, ())
    warnings = _judge_prices(good, source, columns, seen)
    _refuse_totals(good, source, columns)
    bound = max(_MOST_UNITS, _TIMES_COMMON * seen.common_quantity)
    if seen.most_units > bound:
        absurd = lines[c.QUANTITY].abs() > bound
        lines = lines.mutate(
            **{
                c.DROP_REASON: lines[c.DROP_REASON].fill_null(
                    ibis.ifelse(absurd, ABSURD_QUANTITY.name, ibis.null("string"))
                )
            }
        )
    return Suspicions(lines, seen.n_lines, seen.n_reversals, tuple(warnings))


class _Summary(NamedTuple):
    n_lines: int
    most_units: float
    common_quantity: float
    n_free: int
    n_reversals: int


def _summary(good: ibis.Table) -> _Summary:
    units = good[c.QUANTITY].abs()
    counted = good.agg(
        n_lines=good.count(),
        most_units=units.max(),
        n_free=(good[c.UNIT_PRICE] == 0).sum(),
        n_reversals=(good[c.QUANTITY] < 0).sum(),
    )
    item = counted.to_pyarrow().to_pylist()[0]
    most = item["most_units"] or 0.0
    common = units.median().to_pyarrow().as_py() if most > _MOST_UNITS else 1.0
    return _Summary(item["n_lines"], most, common or 1.0, item["n_free"] or 0, item["n_reversals"] or 0)


def _judge_prices(good: ibis.Table, source: TableSource, columns: Mapping[str, str], seen: _Summary) -> list[str]:
    if 2 * seen.n_free <= seen.n_lines:
        return []
    theirs = columns.get(c.UNIT_PRICE) or columns[c.LINE_TOTAL]
    rows = _places(source, good.filter(good[c.UNIT_PRICE] == 0))
    if seen.n_free == seen.n_lines:
        raise DataError(
            f"{source.location}: {theirs} is 0 in all {seen.n_lines:,} lines ({rows}), some must have a price; map "
            "the column that holds prices, or say unit_price=1 where none are known"
        )
    sentence = (
        f"{theirs} is 0 in {seen.n_free:,} of {seen.n_lines:,} lines ({rows}): offers of these products are worth "
        "nothing; is it the right column?"
    )
    return [sentence]


class _Growth(NamedTuple):
    """How many lines have more units than the least of their product, and in how many money grew with the units."""

    n_lines: int
    n_grown: int
    grown: ibis.Table


def count_grown(lines: ibis.Table, value: str) -> _Growth:
    """Return in how many lines a value is nearer to a total than to one a unit, by what few units of the product cost.

    A line of q units is compared with the median value v of its product's lines with the fewest units u: a total is
    near ``v q / u``, a value a unit near ``v``; between them lies ``v sqrt(q / u)``.

    Args:
        lines: `source_row product_id quantity` and the value; the first 200,000 are looked at.
        value: its name.
    """
    sold = lines.filter((lines[c.QUANTITY] > 0) & (lines[value] > 0))
    head = sold.select(c.SOURCE_ROW, c.PRODUCT_ID, units=sold[c.QUANTITY], value=sold[value]).limit(_SAMPLE_LINES)
    fewest = head.mutate(fewest=head["units"].min().over(ibis.window(group_by=c.PRODUCT_ID)))
    few = fewest.filter(fewest["units"] == fewest["fewest"])
    usual = few.group_by(c.PRODUCT_ID).agg(usual=few["value"].median())
    more = fewest.filter(fewest["units"] > fewest["fewest"]).inner_join(usual, c.PRODUCT_ID)
    grown = more["value"] > more["usual"] * (more["units"] / more["fewest"]).sqrt()
    item = more.agg(n=more.count(), grown=grown.sum()).to_pyarrow().to_pylist()[0]
    return _Growth(item["n"], item["grown"] or 0, more.filter(grown))


def looks_like_totals(found: _Growth) -> bool:
    """Return whether values are totals of lines."""
    return found.n_lines >= _LEAST_LINES and found.n_grown >= _TOTALS * found.n_lines


def _refuse_totals(good: ibis.Table, source: TableSource, columns: Mapping[str, str]) -> None:
    for unit, line in ((c.UNIT_PRICE, c.LINE_TOTAL), (c.COST, c.LINE_COST)):
        if unit not in columns or unit not in good.columns:
            continue
        found = count_grown(good, unit)
        if looks_like_totals(found):
            rows = _places(source, found.grown)
            raise DataError(
                f"{source.location}: {columns[unit]} grows with the quantity in {found.n_grown:,} of {found.n_lines:,} "
                f"lines that have more units than others of their product ({rows}), {unit} must "
                f"be the value of one unit; map it as {line}={columns[unit]}"
            )
    if c.LINE_TOTAL in columns:
        totals = good.mutate(total=good[c.UNIT_PRICE] * good[c.QUANTITY])
        found = count_grown(totals, "total")
        if found.n_lines >= _LEAST_LINES and found.n_grown <= (1 - _TOTALS) * found.n_lines:
            theirs = columns[c.LINE_TOTAL]
            raise DataError(
                f"{source.location}: {theirs} does not grow with the quantity in {found.n_lines - found.n_grown:,} of "
                f"{found.n_lines:,} lines that have more units than others of their product, line_total must be the "
                f"value of the whole line; map it as unit_price={theirs}"
            )


class Repeats(NamedTuple):
    """Lines that stand there more than once.

    Attributes:
        rows: `source_row` and `drop_reason` of those of orders that were exported twice; None without any.
        warnings: a sentence about the others.
    """

    rows: ibis.Table | None
    warnings: tuple[str, ...]


def find_repeats(good: ibis.Table, source: TableSource, n_about: int) -> Repeats:
    """Return the lines of orders each of whose lines stands there again, and how many others do.

    Lines with a line id are told apart by it (`duplicate_lines`); others are the same where order, account, product,
    time, quantity and price are. An order of several different lines each of which comes again was
    exported twice. Where there are two such orders, and they hold a two-hundredth of the lines, orders of one line
    are judged alike; else a line that comes again is one that names its product twice. Of more than a million lines
    those of an eighth of the orders are looked at first; where no order was exported twice there the others are
    believed.

    Args:
        good: lines, which may have a line id.
        source: where they come from.
        n_about: how many they are, about.
    """
    if c.LINE_ID in good.columns:
        return Repeats(None, ())
    keyed = good.select(c.SOURCE_ROW, c.ORDER_ID, key=ibis.struct({name: good[name] for name in _SAME}).hash())
    if n_about > _MANY_LINES:
        backend = good.get_backend()
        part = backend.create_table("part", keyed.filter(keyed[c.ORDER_ID].hash() % _PROBE == 0), temp=True)
        found = _judge_repeats(part, source, " of an eighth of the orders")
        backend.drop_table("part")
        if found.rows is None:
            return found
    return _judge_repeats(keyed, source)


def _judge_repeats(keyed: ibis.Table, source: TableSource, which: str = "") -> Repeats:
    if not _has_repeats(keyed):
        return Repeats(None, ())
    n_lines = int(keyed.count().to_pyarrow().as_py())
    several = keyed.group_by("key").having(keyed.count() > 1).agg().select("key")
    touched = keyed.semi_join(keyed.semi_join(several, "key").select(c.ORDER_ID).distinct(), c.ORDER_ID)
    counted = touched.group_by([c.ORDER_ID, "key"]).agg(times=touched.count())
    orders = counted.group_by(c.ORDER_ID).agg(
        exports=counted["times"].min(), different=counted.count(), lines=counted["times"].sum()
    )
    whole = orders.filter(orders["exports"] > 1)
    sure = whole.filter(whole["different"] > 1)
    seen = sure.agg(orders=sure.count(), lines=sure["lines"].sum()).to_pyarrow().to_pylist()[0]
    enough = seen["orders"] >= _REPEATED_ORDERS and seen["lines"] >= _REPEATED_SHARE * n_lines
    exported_twice = seen["orders"] > 0 if which else enough
    line = [c.ORDER_ID, "key"]
    placed = touched.mutate(
        place=ibis.row_number().over(ibis.window(group_by=line, order_by=c.SOURCE_ROW)),
        times=touched.count().over(ibis.window(group_by=line)),
    )
    again = placed.filter(placed["place"] > 0)
    rows = None
    if exported_twice:
        joined = placed.inner_join(whole.select(c.ORDER_ID, "exports"), c.ORDER_ID)
        rows = joined.filter(joined["place"] * joined["exports"] >= joined["times"]).select(
            c.SOURCE_ROW, ibis.literal(REPEATED_ORDER.name).name(c.DROP_REASON)
        )
        again = again.anti_join(whole, c.ORDER_ID)
    n_repeated = int(again.count().to_pyarrow().as_py())
    if not n_repeated:
        return Repeats(rows, ())
    sentence = (
        f"{n_repeated:,} lines{which} repeat another of their order in product, quantity and price "
        f"({_places(source, again)}): they are kept, as an order may name a product twice; a line id tells them apart"
    )
    return Repeats(rows, (sentence,))


def _has_repeats(keyed: ibis.Table) -> bool:
    item = keyed.agg(n=keyed.count(), different=keyed["key"].nunique()).to_pyarrow().to_pylist()[0]
    return bool(item["n"] > item["different"])


def _places(source: TableSource, lines: ibis.Table) -> str:
    """Where the first of some rows stand, for a sentence."""
    first = lines.order_by(c.SOURCE_ROW).limit(_EXAMPLES)[c.SOURCE_ROW].to_pyarrow().to_pylist()
    places = [source.locate(number) for number in first]
    return ", ".join(f"row {row:,}" if file is None else f"{file} row {row:,}" for file, row in places)


def refuse_mixed_days(source: TableSource, column: str, time_format: str) -> None:
    """Refuse dates whose days stand first in some rows and second in others, where one reading was found out.

    What stands in fewer than a hundredth of the rows that can be read in one way only is a slip, and rejected.

    Args:
        source: the lines.
        column: of the times.
        time_format: that reads most of them.

    Raises:
        DataError: both orders stand there.
    """
    swapped = time_format.translate(str.maketrans("dm", "md"))
    if swapped == time_format or swapped not in FORMATS:
        return
    table = source.table
    ours, theirs = as_time(table[column], time_format), as_time(table[column], swapped)
    first, second = table.filter(ours.notnull() & theirs.isnull()), table.filter(ours.isnull() & theirs.notnull())
    n_first, n_second = (int(rows.count().to_pyarrow().as_py()) for rows in (first, second))
    if n_first and n_second and n_second >= _FEW * (n_first + n_second):
        raise DataError(
            f"{source.location}: {column} is written as {time_format} in {n_first:,} rows ({_places(source, first)}) "
            f"and as {swapped} in {n_second:,} ({_places(source, second)}), must be written in one way; export it "
            "again as 2011-06-01"
        )


def find_lost_zeros(source: TableSource, column: str, lines: ibis.Table, name: str, others: Sequence[str]) -> list[str]:
    """Return a sentence where two ids differ in leading zeros only, which spreadsheets take off.

    It goes through all ids: ask it only where one begins with a zero.

    Args:
        source: where the lines come from.
        column: of the source.
        lines: those that are kept.
        name: of the column in `lines`.
        others: ids of the table of products or accounts.
    """
    ids = {*lines.select(name).distinct().to_pyarrow()[name].to_pylist(), *others} - {None}
    pairs = sorted((value, value.lstrip("0")) for value in ids if value[0] == "0" and value.lstrip("0") in ids)
    if not pairs:
        return []
    either = [value for pair in pairs for value in pair]
    rows = source.table.filter(as_text(source.table[column]).strip().isin(either))
    sentence = (
        f"{len(pairs):,} ids of {column} differ from others in leading zeros only, as {pairs[0][0]} from {pairs[0][1]} "
        f"({_places(source, rows)}): they count as two; spreadsheets take zeros off, export ids as text"
    )
    return [sentence]
