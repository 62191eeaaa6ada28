"""Order lines as frames, and the orders of an experiment's units as arrays."""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd

from recsys.arrays import IntArray
from recsys.contracts import columns as c
from recsys.evaluation.readout.purchases import REVENUE, Assigned, Purchases


def gather_purchases(lines: pd.DataFrame, assigned: Assigned) -> tuple[Purchases, int]:
    """Return the units' orders, and how many other accounts have orders.

    Args:
        lines: columns `order_id account_id ordered_at` (UTC) and `revenue`, one row an order line.
        assigned: the units; a unit that stands in two arms gets its orders twice.
    """
    known = lines.dropna(subset=[c.ACCOUNT_ID])
    orders = known.groupby([c.ACCOUNT_ID, c.ORDER_ID], as_index=False, sort=True).agg(
        {c.ORDERED_AT: "min", REVENUE: "sum"}
    )
    orders = orders[orders[REVENUE] != 0]
    units = pd.DataFrame({c.ACCOUNT_ID: assigned.units, "row": np.arange(len(assigned.units))})
    joined = orders.merge(units, on=c.ACCOUNT_ID, how="left", validate="many_to_many")
    strangers = int(joined.loc[joined["row"].isna(), c.ACCOUNT_ID].nunique())
    joined = joined.dropna(subset=["row"])
    return Purchases(
        joined["row"].to_numpy(np.int64), epoch_seconds(joined[c.ORDERED_AT]), joined[REVENUE].to_numpy(np.float64)
    ), strangers


def epoch_seconds(times: pd.Series) -> IntArray:
    """Return seconds since 1970-01-01 UTC; times without a zone are UTC."""
    naive = times if times.dt.tz is None else times.dt.tz_convert("UTC").dt.tz_localize(None)
    return naive.to_numpy().astype("datetime64[s]").astype(np.int64)


def revenue_lines(orders: ibis.Table) -> pd.DataFrame:
    """Return `order_id account_id ordered_at revenue` of cleaned order lines."""
    revenue = orders[c.UNIT_PRICE] * orders[c.QUANTITY] - orders[c.DISCOUNT].fill_null(0)
    picked = orders.select(c.ORDER_ID, c.ACCOUNT_ID, c.ORDERED_AT, revenue=revenue)
    frame: pd.DataFrame = picked.to_pandas()
    return frame
