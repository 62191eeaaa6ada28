"""Reversals matched against the sales they reverse, as window functions: no loop over rows.

A reversal is a line with a quantity below zero. Its units are taken off the sales of the same account and product that
are not later than it, the latest first; what finds no sale stays unmatched.

Within one account and product, let lines be in order of time and S_t the running sum of their quantities. Reversals
that find nothing to take are the reflection of S at zero: ``short_t = max(0, -min_{s<=t} S_s)`` units have gone
unmatched up to t, and ``level_t = S_t + short_t`` units are held. Taking the latest sale first makes the held units a
stack, in which a sale of q units lies between ``level_t - q`` and ``level_t``. Of these remains what the level never
falls below again: ``clip(min_{s>=t} level_s - (level_t - q), 0, q)``.
"""

from __future__ import annotations

import ibis

from recsys.contracts import columns as c

REMAINING = "remaining"
UNMATCHED = "unmatched"
_DIGITS = 6  # units are compared to a millionth, so that 0.1 + 0.2 - 0.3 leaves nothing


def is_reversal(lines: ibis.Table) -> ibis.ir.BooleanValue:
    """Return which lines take units back."""
    return lines[c.QUANTITY] < 0


def net_reversals(lines: ibis.Table) -> ibis.Table:
    """Return what remains of each line whose account and product have a reversal.

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
