"""What a field must satisfy to be read and a row to be an order line, and which rows stand for the same line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import ibis
import ibis.expr.datatypes as dt

from recsys.contracts import columns as c
from recsys.contracts.tables import (
    ACCOUNTS,
    CANCELLED,
    CARRIED_ACCOUNT_COLUMNS,
    CARRIED_PRODUCT_COLUMNS,
    COMPLETED,
    ORDERS,
    PRODUCTS,
    RETURNED,
    Column,
)
from recsys.data.mapping import ACCOUNT_AND_DAY, ACCOUNT_AND_TIME, INSTEAD
from recsys.data.numbers import DecimalMark, as_number, as_text, detect_decimals
from recsys.data.presets import Preset
from recsys.data.report import DropReason
from recsys.data.sources import TableSource
from recsys.data.suspicions import refuse_mixed_days
from recsys.data.times import ISO, as_time, detect_time_format

_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")
BOOLEAN_WORDS = (*_TRUE, *_FALSE)


class Field(NamedTuple):
    """A column read as its type.

    Attributes:
        value: the typed value, null where it is missing or can't be read.
        missing: the source has nothing there.
        unreadable: the source has something there that is not of the type.
    """

    value: ibis.Value
    missing: ibis.ir.BooleanValue
    unreadable: ibis.ir.BooleanValue


def read_field(raw: ibis.Value, column: Column, time_format: str = ISO, decimal: DecimalMark | None = None) -> Field:
    """Return a source's column read as the type of `column`; times in `time_format`, numbers by `as_number`."""
    if isinstance(raw.type(), dt.String):
        raw = raw.strip().nullif("")
    value = as_number(raw, decimal) if column.dtype == "float64" else _typed(raw, column.dtype, time_format)
    return Field(value.name(column.name), raw.isnull(), raw.notnull() & value.isnull())


def _typed(raw: ibis.Value, dtype: str, time_format: str) -> ibis.Value:
    if dtype == "timestamp":
        return as_time(raw, time_format)
    if dtype == "boolean":
        return _as_boolean(raw)
    return as_text(raw)


def _as_boolean(raw: ibis.Value) -> ibis.Value:
    if isinstance(raw.type(), dt.Boolean):
        return raw
    text = as_text(raw).lower()
    return ibis.cases((text.isin(_TRUE), True), (text.isin(_FALSE), False), else_=ibis.null("boolean"))


_PRICE = (c.UNIT_PRICE, c.LINE_TOTAL)
NO_ORDER = DropReason("no_order_id", "rejected", "the order id is empty", (c.ORDER_ID,))
_NO_PRODUCT = DropReason("no_product_id", "rejected", "the product id is empty", (c.PRODUCT_ID,))
NO_TIME = DropReason("no_time", "rejected", "the time is empty", (c.ORDERED_AT,))
BAD_TIME = DropReason(
    "unreadable_time", "rejected", "the time can't be read; write 2011-06-01 13:45:00", (c.ORDERED_AT,)
)
NO_QUANTITY = DropReason("no_quantity", "rejected", "the quantity is empty", (c.QUANTITY,))
BAD_QUANTITY = DropReason("quantity_not_a_number", "rejected", "the quantity is not a finite number", (c.QUANTITY,))
ZERO_QUANTITY = DropReason(
    "zero_quantity", "rejected", "the quantity is 0: nothing was sold or taken back", (c.QUANTITY,)
)
NO_PRICE = DropReason("no_price", "rejected", "the unit price is empty", _PRICE)
BAD_PRICE = DropReason("price_not_a_number", "rejected", "the unit price is not a finite number", _PRICE)
NEGATIVE_PRICE = DropReason("negative_price", "rejected", "the unit price is below 0", _PRICE)
BAD_DISCOUNT = DropReason("bad_discount", "rejected", "the discount is not a number from 0 on", (c.DISCOUNT,))
BAD_STATUS = DropReason(
    "unknown_status", "rejected", f"the status is none of {COMPLETED}, {CANCELLED}, {RETURNED}", (c.STATUS,)
)
WITHDRAWN = DropReason("not_completed", "left_out", "the line itself was cancelled or returned", (c.STATUS, c.QUANTITY))

CHECK_REASONS = (
    NO_ORDER, _NO_PRODUCT, NO_TIME, BAD_TIME, NO_QUANTITY, BAD_QUANTITY, ZERO_QUANTITY, NO_PRICE, BAD_PRICE,
    NEGATIVE_PRICE, BAD_DISCOUNT, BAD_STATUS, WITHDRAWN,
)  # fmt: skip

LINE_COLUMNS: tuple[Column, ...] = (
    *ORDERS.columns,
    *(PRODUCTS[name] for name in CARRIED_PRODUCT_COLUMNS),
    *(ACCOUNTS[name] for name in CARRIED_ACCOUNT_COLUMNS),
)
_TYPES: Mapping[str, Column] = {column.name: column for column in LINE_COLUMNS} | {
    line: replace({c.UNIT_PRICE: ORDERS, c.COST: PRODUCTS}[unit][unit], name=line) for unit, line in INSTEAD.items()
}
_MONEY_DIGITS = 6  # of a price that is worked out, so that equal ones are equal

_STATUS_WORDS = {
    COMPLETED: ("completed", "complete", "closed", "delivered", "fulfilled", "invoiced", "paid", "shipped", "sold"),
    CANCELLED: ("cancelled", "canceled", "void", "voided"),
    RETURNED: ("returned", "return", "refunded", "refund"),
}
STATUS_WORDS = tuple(word for words in _STATUS_WORDS.values() for word in words)


def check_lines(
    source: TableSource,
    mapping: Mapping[str, str],
    *,
    preset: Preset | None = None,
    time_format: str | None = None,
    decimal: DecimalMark | None = None,
) -> ibis.Table:
    """Return every row of a source with the types of the contract.

    Args:
        source: the order lines as they were found.
        mapping: contract name -> column of the source; the required ones are in it.
        preset: what else is known about the layout.
        time_format: how times are written; default: found out.
        decimal: what stands before the decimals; default: found out.

    Returns:
        `source_row`, those columns of the contract and of the carried ones that the source has, and `drop_reason`,
        null where the row can be a line. `account_id` stays null where the account is not known; `quantity` is below
        zero for a reversal.
    """
    times = time_format or detect_time_format(source.table, mapping[c.ORDERED_AT])
    if time_format is None:
        refuse_mixed_days(source, mapping[c.ORDERED_AT], times)
    numbers = [mapping[name] for name, column in _TYPES.items() if column.dtype == "float64" and name in mapping]
    decimals = detect_decimals(source.table, numbers, source.location, chosen=decimal)
    read = {
        name: read_field(source.table[mapping[name]], column, times, decimals.get(mapping[name]))
        for name, column in _TYPES.items()
        if name in mapping
    }
    fields = _by_unit(read)
    lines = source.table.select(
        source.table[c.SOURCE_ROW],
        **{name: field.value for name, field in fields.items()},
        **{name: source.table[name] for name in (preset.kept_columns if preset else ())},
        **{c.DROP_REASON: _unreadable(fields, is_made=mapping[c.ORDER_ID] in (ACCOUNT_AND_DAY, ACCOUNT_AND_TIME))},
    )
    judged = _judged(preset.refine(lines) if preset else lines)
    return judged.drop(c.STATUS) if c.STATUS in judged.columns else judged


def _by_unit(read: Mapping[str, Field]) -> dict[str, Field]:
    """The fields, where what a source says of a whole line is divided among its units; money taken back has no sign."""
    quantity = read[c.QUANTITY].value
    fields = dict(read)
    for unit, line in INSTEAD.items():
        if line in fields:
            given = fields.pop(line)
            signed = ibis.ifelse(quantity < 0, given.value.abs(), given.value)
            each = (signed / quantity.abs().nullif(0)).round(_MONEY_DIGITS)
            fields[unit] = Field(each.name(unit), given.missing, given.unreadable)
    return fields


def _unreadable(fields: Mapping[str, Field], *, is_made: bool) -> ibis.ir.StringValue:
    """The first thing that can't be read in a row; an order id that is made lacks what the time lacks."""
    order, product, time = fields[c.ORDER_ID], fields[c.PRODUCT_ID], fields[c.ORDERED_AT]
    quantity, price = fields[c.QUANTITY], fields[c.UNIT_PRICE]
    times = [(time.missing, NO_TIME), (time.unreadable, BAD_TIME)]
    branches = [
        *(times if is_made else ()),
        (order.missing, NO_ORDER),
        (product.missing, _NO_PRODUCT),
        *times,
        (quantity.missing, NO_QUANTITY),
        (quantity.unreadable, BAD_QUANTITY),
        (price.missing, NO_PRICE),
        (price.unreadable, BAD_PRICE),
    ]
    if c.DISCOUNT in fields:
        branches.append((fields[c.DISCOUNT].unreadable, BAD_DISCOUNT))
    return _first(branches)


def _judged(lines: ibis.Table) -> ibis.Table:
    """Readable rows that still can't be a line."""
    branches = [(lines[c.QUANTITY] == 0, ZERO_QUANTITY), (lines[c.UNIT_PRICE] < 0, NEGATIVE_PRICE)]
    put_right = {}
    if c.DISCOUNT in lines.columns:
        put_right[c.DISCOUNT] = lines[c.DISCOUNT].fill_null(0.0)
        branches.append((lines[c.DISCOUNT] < 0, BAD_DISCOUNT))
    if c.STATUS in lines.columns:
        words = lines[c.STATUS].lower()
        completed = words.isnull() | words.isin(_STATUS_WORDS[COMPLETED])
        withdrawn = words.isin((*_STATUS_WORDS[CANCELLED], *_STATUS_WORDS[RETURNED]))
        branches.append((~completed & ~withdrawn, BAD_STATUS))
        branches.append((withdrawn & (lines[c.QUANTITY] > 0), WITHDRAWN))
    if c.CURRENCY in lines.columns:
        put_right[c.CURRENCY] = lines[c.CURRENCY].upper()
    return lines.mutate(**put_right, **{c.DROP_REASON: lines[c.DROP_REASON].fill_null(_first(branches))})


def _first(branches: Sequence[tuple[ibis.ir.BooleanValue, DropReason]]) -> ibis.ir.StringValue:
    """The name of the first reason whose condition holds, null where none does."""
    return ibis.cases(*((condition, reason.name) for condition, reason in branches), else_=ibis.null("string"))


DUPLICATE = DropReason(
    "duplicate_line", "rejected", "an earlier row has its order and line id", (c.ORDER_ID, c.LINE_ID)
)
TAKEN_BACK = DropReason(
    "line_withdrawn",
    "left_out",
    "another row says that this very line was cancelled or returned",
    (c.ORDER_ID, c.LINE_ID),
)
LINE_REASONS = (DUPLICATE, TAKEN_BACK)

_LINE = [c.ORDER_ID, c.LINE_ID]


def duplicate_lines(judged: ibis.Table) -> ibis.Table | None:
    """Return `source_row` and `drop_reason` of the good rows that another row of the same line overrules.

    Of several rows with one order and line the first stays; none does where a row says that the line was cancelled
    or returned. A sale and its reversal may share both ids. Rows without a line id are never the same line.

    Args:
        judged: `source_row order_id line_id quantity drop_reason`, where a null reason marks the good rows;
            without `line_id` no row can be another's, and None is returned.
    """
    if c.LINE_ID not in judged.columns:
        return None
    named = judged.filter(judged[c.LINE_ID].notnull())
    good = named.filter(named[c.DROP_REASON].isnull()).mutate(takes_back=is_reversal(named))
    withdrawn = named.filter(named[c.DROP_REASON] == WITHDRAWN.name).select(*_LINE).distinct()
    taken_back = good.filter(~good["takes_back"]).semi_join(withdrawn, _LINE)

    key = [*_LINE, "takes_back"]
    standing = good.anti_join(taken_back, c.SOURCE_ROW)
    repeated = standing.group_by(key).having(standing.count() > 1).agg().select(key)
    position = ibis.row_number().over(ibis.window(group_by=key, order_by=c.SOURCE_ROW))
    numbered = standing.semi_join(repeated, key).mutate(position=position)
    later = numbered.filter(numbered["position"] > 0)
    return ibis.union(_because(taken_back, TAKEN_BACK), _because(later, DUPLICATE))


def with_line_ids(good: ibis.Table) -> ibis.Table:
    """Return the lines with a `line_id` each: their own, or the position in the order (1 is the first).

    Where only some lines of the source say theirs, a position is written `@2`, so that it can't be taken for one.
    """
    position = ibis.row_number().over(ibis.window(group_by=c.ORDER_ID, order_by=c.SOURCE_ROW)) + 1
    numbered = good.mutate(position=position.cast("string"))
    if c.LINE_ID not in good.columns:
        return numbered.rename({c.LINE_ID: "position"})
    own = numbered[c.LINE_ID].fill_null(ibis.literal("@") + numbered["position"])
    return numbered.mutate(**{c.LINE_ID: own}).drop("position")


def _because(rows: ibis.Table, reason: DropReason) -> ibis.Table:
    return rows.select(c.SOURCE_ROW, ibis.literal(reason.name).name(c.DROP_REASON))


REMAINING = "remaining"
UNMATCHED = "unmatched"
_DIGITS = 6  # units are compared to a millionth, so that 0.1 + 0.2 - 0.3 leaves nothing


def is_reversal(lines: ibis.Table) -> ibis.ir.BooleanValue:
    """Return which lines take units back."""
    return lines[c.QUANTITY] < 0


def net_reversals(lines: ibis.Table) -> ibis.Table:
    """Return what remains of each line whose account and product have a reversal, as window functions.

    A reversal is a line with a quantity below zero. Its units are taken off the sales of the same account and
    product that are not later than it, the latest first; what finds no sale stays unmatched.

    Within one account and product, let lines be in order of time and S_t the running sum of their quantities.
    Reversals that find nothing to take are the reflection of S at zero: ``short_t = max(0, -min_{s<=t} S_s)`` units
    have gone unmatched up to t, and ``level_t = S_t + short_t`` units are held. Taking the latest sale first makes
    the held units a stack, in which a sale of q units lies between ``level_t - q`` and ``level_t``. Of these
    remains what the level never falls below again: ``clip(min_{s>=t} level_s - (level_t - q), 0, q)``.

    Args:
        lines: `source_row order_id account_id product_id ordered_at quantity unit_price`, sales and reversals.

    Returns:
        `source_row`, the line's signed `quantity`, `remaining` units of a sale (0 for a reversal) and the
        `unmatched` units of a reversal (0 for a sale); lines of untouched accounts and products are not in it, nor
        are lines without an account.
    """
    pair = [c.ACCOUNT_ID, c.PRODUCT_ID]
    known = lines.filter(lines[c.ACCOUNT_ID].notnull())
    pairs = known.filter(is_reversal(known)).select(*pair).distinct()
    touched = known.semi_join(pairs, pair)
    # Sales first within one moment: dates without a clock put a sale and its return at the same time. The rest of the
    # order makes ties depend on what lines say before it depends on where they stand in the file.
    order = [c.ORDERED_AT, is_reversal(touched), c.ORDER_ID, c.UNIT_PRICE, c.QUANTITY, c.SOURCE_ROW]
    so_far = ibis.window(group_by=pair, order_by=order, preceding=None, following=0)
    from_now = ibis.window(group_by=pair, order_by=order, preceding=0, following=None)

    summed = touched.mutate(running=touched[c.QUANTITY].sum().over(so_far).round(_DIGITS))
    short = summed.mutate(short=ibis.greatest(0.0, -summed["running"].min().over(so_far)))
    held = short.mutate(
        level=(short["running"] + short["short"]).round(_DIGITS),
        short_before=short["short"].lag(1).over(ibis.window(group_by=pair, order_by=order)).fill_null(0.0),
    )
    lowest = held.mutate(lowest=held["level"].min().over(from_now))
    quantity = lowest[c.QUANTITY]
    stays = (lowest["lowest"] - (lowest["level"] - quantity)).round(_DIGITS)
    remaining = ibis.cases(
        (quantity < 0, 0.0),
        (stays >= quantity.round(_DIGITS), quantity),
        else_=ibis.greatest(stays, 0.0),
    )
    unmatched = ibis.ifelse(quantity < 0, (lowest["short"] - lowest["short_before"]).round(_DIGITS), 0.0)
    return lowest.select(c.SOURCE_ROW, c.QUANTITY, remaining.name(REMAINING), unmatched.name(UNMATCHED))
