"""Tables of products and accounts as the order lines tell them: last price, most frequent name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import ibis
import pandas as pd

from recsys.contracts import columns as c
from recsys.contracts.tables import CARRIED_ACCOUNT_COLUMNS, CARRIED_PRODUCT_COLUMNS


def derive_products(lines: ibis.Table) -> pd.DataFrame:
    """Return one row a product of the lines: `product_id price` and those of the carried columns that lines have.

    The price is that of the last line, the cost that of the last line which says one; of each text the most frequent
    spelling counts, of equally frequent ones the first in the alphabet.

    Args:
        lines: cleaned lines, stored in the order of time.
    """
    at = lines.rowid()
    values = {c.PRICE: lines[c.UNIT_PRICE].argmax(at)}
    if c.COST in lines.columns:
        values[c.COST] = lines[c.COST].argmax(at, where=lines[c.COST].notnull())
    last = lines.group_by(c.PRODUCT_ID).agg(**values)
    return _with_most_frequent(lines, last, c.PRODUCT_ID, [name for name in CARRIED_PRODUCT_COLUMNS if name != c.COST])


def derive_accounts(lines: ibis.Table) -> pd.DataFrame:
    """Return one row an account of the lines: `account_id created_at` (the first order) and carried columns."""
    known = lines.filter(lines[c.ACCOUNT_ID].notnull())
    first = known.group_by(c.ACCOUNT_ID).agg(**{c.CREATED_AT: known[c.ORDERED_AT].min()})
    return _with_most_frequent(known, first, c.ACCOUNT_ID, CARRIED_ACCOUNT_COLUMNS)


def _with_most_frequent(lines: ibis.Table, rows: ibis.Table, key: str, texts: Sequence[str]) -> pd.DataFrame:
    parts = [rows, *(_most_frequent(lines, key, name) for name in texts if name in lines.columns)]
    joined = reduce(lambda left, right: left.left_join(right, key).drop(f"{key}_right"), parts)
    frame: pd.DataFrame = joined.order_by(key).to_pandas()
    return frame


def _most_frequent(lines: ibis.Table, key: str, name: str) -> ibis.Table:
    said = lines.filter(lines[name].notnull())
    counted = said.group_by([key, name]).agg(n=said.count())
    best = ibis.row_number().over(ibis.window(group_by=key, order_by=[counted["n"].desc(), counted[name]]))
    ranked = counted.mutate(place=best)
    return ranked.filter(ranked["place"] == 0).select(key, name)
