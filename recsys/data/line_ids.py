"""Lines that say who they are: the same order and line stand for one line, whatever the number of rows."""

from __future__ import annotations

import ibis

from recsys.contracts import columns as c
from recsys.data.checks import WITHDRAWN
from recsys.data.report import Reason
from recsys.data.reversals import is_reversal

DUPLICATE = Reason("duplicate_line", "rejected", "an earlier row has its order and line id", (c.ORDER_ID, c.LINE_ID))
TAKEN_BACK = Reason(
    "line_withdrawn",
    "left_out",
    "another row says that this very line was cancelled or returned",
    (c.ORDER_ID, c.LINE_ID),
)
LINE_REASONS = (DUPLICATE, TAKEN_BACK)

_LINE = [c.ORDER_ID, c.LINE_ID]


def said_again(judged: ibis.Table) -> ibis.Table:
    """Return `source_row` and `drop_reason` of the good rows that another row of the same line overrules.

    Of several rows with one order and line the first stays; none does where a row says that the line was cancelled
    or returned. A sale and its reversal may share both ids. Rows without a line id are never the same line.

    Args:
        judged: `source_row order_id line_id quantity drop_reason`, where a null reason marks the good rows;
            `line_id` may be missing.
    """
    if c.LINE_ID not in judged.columns:
        nothing = judged.filter(ibis.literal(False))
        return nothing.select(c.SOURCE_ROW, c.DROP_REASON)
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


def _because(rows: ibis.Table, reason: Reason) -> ibis.Table:
    return rows.select(c.SOURCE_ROW, ibis.literal(reason.name).name(c.DROP_REASON))
