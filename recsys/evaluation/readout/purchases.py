"""Assigned units and their orders as arrays: values within each unit's window, by day, and to date."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.data.cleaning import figure_currency
from recsys.data.history import seconds_of_times

DAY = 86_400

REVENUE = "revenue"
ORDER_COUNT = "orders"
BUYERS = "buyers"
REVENUE_BEFORE = "revenue_before"
ORDERS_BEFORE = "orders_before"
BUYERS_BEFORE = "buyers_before"
LAPSED = "lapsed"

UNIT_ID = "unit_id"
PRESENTED_AT = "presented_at"


@dataclass(frozen=True)
class Assigned:
    """The units of an experiment, as parallel arrays of shape `(n_units,)`.

    Attributes:
        units: ids.
        arms: the arm of each.
        seconds: when each was assigned, seconds since 1970-01-01 UTC.
        segments: columns by which effects are split, by name.
        clusters: the cluster of each, by which arms were assigned; None where each unit was by itself.
    """

    units: NDArray[np.object_]
    arms: NDArray[np.object_]
    seconds: IntArray
    segments: Mapping[str, NDArray[np.object_]]
    clusters: NDArray[np.object_] | None = None

    def only(self, there: NDArray[np.bool_]) -> Assigned:
        """Return those of the units."""
        segments = {name: values[there] for name, values in self.segments.items()}
        clusters = None if self.clusters is None else self.clusters[there]
        return Assigned(self.units[there], self.arms[there], self.seconds[there], segments, clusters)

    def whole_clusters(self) -> Assigned:
        """Return the clusters, each since its first unit, in place of their units; without clusters the units."""
        if self.clusters is None:
            return self
        order = np.argsort(self.seconds, kind="stable")
        names, first = np.unique(self.clusters[order].astype(str), return_index=True)
        return Assigned(names.astype(object), self.arms[order][first], self.seconds[order][first], {})


@dataclass(frozen=True)
class UnitPurchases:
    """Orders of the units, and returns that have a number of their own, as parallel arrays of shape `(n_orders,)`.

    Attributes:
        unit: row of the unit.
        seconds: when it was placed.
        revenue: money; a return is negative: it takes revenue back and is no order.
    """

    unit: IntArray
    seconds: IntArray
    revenue: FloatArray


def window_values(assigned: Assigned, purchases: UnitPurchases, window_days: int, now: int) -> dict[str, FloatArray]:
    """Return revenue, orders and buyers of each unit within its window and in as long a time before, and who lapsed.

    Formula: an order counts where `0 <= ordered - assigned < window` and it lies before `now`; the pre-period is
    `-window <= ordered - assigned < 0`, which the treatment can't have touched.
    """
    window = window_days * DAY
    offset = purchases.seconds - assigned.seconds[purchases.unit]
    inside = (offset >= 0) & (offset < window) & (purchases.seconds < now)
    earlier = (offset < 0) & (offset >= -window)
    n = len(assigned.units)
    values: dict[str, FloatArray] = {}
    for chosen, names in (
        (inside, (REVENUE, ORDER_COUNT, BUYERS)),
        (earlier, (REVENUE_BEFORE, ORDERS_BEFORE, BUYERS_BEFORE)),
    ):
        unit = purchases.unit[chosen]
        orders = np.bincount(unit, (purchases.revenue[chosen] > 0).astype(np.float64), n).astype(np.float64)
        revenue = np.bincount(unit, purchases.revenue[chosen], n).astype(np.float64)
        values |= {names[0]: revenue, names[1]: orders, names[2]: (orders > 0).astype(np.float64)}
    return values | {LAPSED: values[BUYERS_BEFORE] * (1 - values[BUYERS])}


def daily_revenue(assigned: Assigned, purchases: UnitPurchases, window_days: int) -> FloatArray:
    """Return revenue by unit and day since its assignment, shape `(n_units, window_days)`."""
    day = (purchases.seconds - assigned.seconds[purchases.unit]) // DAY
    inside = (day >= 0) & (day < window_days)
    cell = purchases.unit[inside] * window_days + day[inside]
    flat = np.bincount(cell, purchases.revenue[inside], len(assigned.units) * window_days).astype(np.float64)
    return flat.reshape(len(assigned.units), window_days)


def is_mature(assigned: Assigned, window_days: int, now: int) -> NDArray[np.bool_]:
    """Return which units have a complete window."""
    return assigned.seconds + window_days * DAY <= now


def cumulative_counts(assigned: Assigned, arms: tuple[str, ...]) -> IntArray:
    """Return assigned units by the end of each day and arm, shape `(n_days, n_arms)`."""
    first = assigned.seconds.min() // DAY
    day = assigned.seconds // DAY - first
    code = np.searchsorted(np.array(arms, dtype=object), assigned.arms)
    counts = np.bincount(day * len(arms) + code, minlength=(int(day.max()) + 1) * len(arms))
    return np.cumsum(counts.reshape(-1, len(arms)), axis=0)


def gather_purchases(lines: pd.DataFrame, assigned: Assigned) -> tuple[UnitPurchases, int]:
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
    return UnitPurchases(
        joined["row"].to_numpy(np.int64), seconds_of_times(joined[c.ORDERED_AT]), joined[REVENUE].to_numpy(np.float64)
    ), strangers


def by_unit(found: pd.Series, units: pd.Series) -> FloatArray:
    """Return the value of each unit, 0 where it has none; `found` is indexed by unit."""
    return found.reindex(units, fill_value=0).to_numpy(dtype=np.float64)


class PricedLines(NamedTuple):
    """Order lines of an event store, with what they are worth.

    Attributes:
        lines: `order_id account_id product_id ordered_at revenue` of those in the currency.
        facts: `account_id ordered_at has_amount is_late` of all of them.
        currency: of the revenue; None where no line says one.
        left_out: a sentence about lines in other currencies; None where there are none.
    """

    lines: pd.DataFrame
    facts: pd.DataFrame
    currency: str | None
    left_out: str | None


def priced_lines(lines: pd.DataFrame, who: str, chosen: str | None) -> PricedLines:
    """Return the order lines in one currency with their revenue, and what is missing of all.

    A cancelled line earns nothing, a line that came back takes back what it cost: its price less its discount.

    Args:
        lines: as the event store has them.
        who: the column of the unit.
        chosen: the currency to keep; None: the only one there is.

    Raises:
        CurrencyError: the lines are in several currencies and none was chosen, or none is in the one chosen.
    """
    said = lines[c.CURRENCY].astype(object).where(lines[c.CURRENCY].notna(), None)
    currency, left_out = figure_currency(Counter(said), chosen, "order lines")
    is_kept = pd.Series(left_out is None, index=lines.index) | (said == currency)
    ordered_at = lines[c.ORDERED_AT].astype("datetime64[us, UTC]")
    price = lines[c.UNIT_PRICE].fillna(0.0)
    discount = np.sign(lines[c.QUANTITY]) * lines[c.DISCOUNT]
    revenue = (lines[c.QUANTITY] * price - discount).where(lines[c.STATUS] != "cancelled", 0.0)
    sign = (lines[c.STATUS] == "returned") & (lines[c.QUANTITY] > 0)
    found = pd.DataFrame(
        {
            c.ORDER_ID: lines[c.ORDER_ID],
            c.ACCOUNT_ID: lines[who],
            c.PRODUCT_ID: lines[c.PRODUCT_ID],
            c.ORDERED_AT: ordered_at,
            REVENUE: revenue.where(~sign, 0.0),
        }
    )
    facts = pd.DataFrame(
        {
            c.ACCOUNT_ID: lines[who],
            c.ORDERED_AT: ordered_at,
            "has_amount": is_kept & lines[c.UNIT_PRICE].notna(),
            "is_late": lines["recorded_at"] - ordered_at > pd.Timedelta(seconds=DAY),
        }
    )
    return PricedLines(found[is_kept].reset_index(drop=True), facts, currency, left_out)


def revenue_lines(orders: ibis.Table) -> pd.DataFrame:
    """Return `order_id account_id ordered_at revenue` of cleaned order lines."""
    revenue = orders[c.UNIT_PRICE] * orders[c.QUANTITY] - orders[c.DISCOUNT].fill_null(0)
    picked = orders.select(c.ORDER_ID, c.ACCOUNT_ID, c.ORDERED_AT, revenue=revenue)
    frame: pd.DataFrame = picked.to_pandas()
    return frame


def attributed_lines(lines: pd.DataFrame, presented: pd.DataFrame, window_days: int) -> pd.DataFrame:
    """Return the order lines of a product that was presented to the unit within the window before; each counts once.

    The last presentation wins, so that only the gap to it must lie within the window. Returned lines stand in `lines`
    with negative revenue and are credited like their sale.
    """
    left = lines.dropna(subset=[c.ACCOUNT_ID]).sort_values(c.ORDERED_AT, kind="stable")
    right = presented.rename(columns={UNIT_ID: c.ACCOUNT_ID}).sort_values(PRESENTED_AT, kind="stable")
    joined = pd.merge_asof(
        left,
        right[[c.ACCOUNT_ID, c.PRODUCT_ID, PRESENTED_AT]],
        left_on=c.ORDERED_AT,
        right_on=PRESENTED_AT,
        by=[c.ACCOUNT_ID, c.PRODUCT_ID],
        tolerance=pd.Timedelta(seconds=window_days * DAY),
    )
    return joined[joined[PRESENTED_AT].notna()].reset_index(drop=True)
