"""The sums of one segment and period, a cell, and the registry's formulas as arithmetic on one cell.

So all figures of a report come from the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from recsys.evaluation.kpis.definition import Basis, Kind
from recsys.evaluation.kpis.results import Figure, SecondaryFigure

SALE_KINDS: Final[tuple[Kind, ...]] = ("upsell", "cross_sell", "any")


@dataclass(frozen=True, slots=True)
class Additional:
    """Upsells, cross-sells, or both, of one basis within a cell.

    Attributes:
        orders: orders that hold one.
        sales: how many sales are one.
        revenue: money of these sales.
        order_revenue: money of the whole orders that hold one.
        key_sales: those of them that went to key accounts.
        customers: existing customers with one, after their first order.
        all_customers: customers with one.
    """

    orders: float = 0.0
    sales: float = 0.0
    revenue: float = 0.0
    order_revenue: float = 0.0
    key_sales: float = 0.0
    customers: float = 0.0
    all_customers: float = 0.0


@dataclass(frozen=True)
class KpiSums:
    """The sums of one segment (or of all) in one period (or in the whole range).

    Attributes:
        orders: how many.
        orders_existing: after an account's first.
        revenue: money of all orders.
        known_revenue: money of orders with an account.
        known_units: units of orders with an account.
        volume_revenue: money of products that the account bought before.
        sales: one is one product in one order.
        key_sales: sales to key accounts.
        customers: accounts that ordered.
        existing: customers that had ordered before.
        pairs: distinct pairs of account and product.
        held: distinct pairs of account and product, from the beginning of the history to the end of the period.
        holders: accounts that ordered, from the beginning of the history to the end of the period.
        active_last: customers of the period before; None in the first period.
        lost: those of them that did not order in this one.
        presented: offers.
        accepted: presented offers that were accepted.
        bought: presented offers that were bought.
        still_open: presented offers whose window is not over.
        additional: by basis and kind; a pair that is absent can't be judged.
    """

    orders: float = 0.0
    orders_existing: float = 0.0
    revenue: float = 0.0
    known_revenue: float = 0.0
    known_units: float = 0.0
    volume_revenue: float = 0.0
    sales: float = 0.0
    key_sales: float = 0.0
    customers: float = 0.0
    existing: float = 0.0
    pairs: float = 0.0
    held: float = 0.0
    holders: float = 0.0
    active_last: float | None = None
    lost: float = 0.0
    presented: float = 0.0
    accepted: float = 0.0
    bought: float = 0.0
    still_open: float = 0.0
    additional: Mapping[tuple[Basis, Kind], Additional] = field(default_factory=dict)


Formula = Callable[[KpiSums, KpiSums, Additional], Figure]
"""From a cell, the cell of all segments in the same period, and the additional sales that the KPI counts. By product
and category customers are those of all segments: who bought a product anyway is no denominator for who took it up."""


def _ratio(numerator: float, denominator: float, *beside: SecondaryFigure) -> Figure:
    return Figure(numerator, denominator, numerator / denominator if denominator else None, beside)


def _beside(label: str, numerator: float, denominator: float) -> SecondaryFigure:
    return SecondaryFigure(label, numerator, denominator, numerator / denominator if denominator else None)


def _rate(cell: KpiSums, _all: KpiSums, extra: Additional) -> Figure:
    later = _beside("of the orders after an account's first", extra.orders, cell.orders_existing)
    return _ratio(extra.orders, cell.orders, later)


def _aov_increase(cell: KpiSums, _all: KpiSums, extra: Additional) -> Figure:
    """The two means stand in the places of numerator and denominator."""
    n_without = cell.orders - extra.orders
    if not extra.orders or not n_without:
        return Figure(0.0, 0.0, None, ())
    with_one, without = extra.order_revenue / extra.orders, (cell.revenue - extra.order_revenue) / n_without
    return Figure(with_one, without, with_one - without, ())


def _contribution(cell: KpiSums, _all: KpiSums, extra: Additional) -> Figure:
    return _ratio(extra.revenue, cell.revenue)


def _customer_share(_cell: KpiSums, everybody: KpiSums, extra: Additional) -> Figure:
    beside = _beside("of all customers", extra.all_customers, everybody.customers)
    return _ratio(extra.customers, everybody.existing, beside)


def _key_accounts(cell: KpiSums, _all: KpiSums, extra: Additional) -> Figure:
    return _ratio(extra.key_sales, cell.key_sales, _beside("of all sales to everybody", extra.key_sales, cell.sales))


def _conversion(cell: KpiSums, _all: KpiSums, _extra: Additional) -> Figure:
    still_open = _beside("of them with a window that is still open", cell.still_open, cell.presented)
    return _ratio(cell.accepted, cell.presented, still_open)


FORMULAS: Final[dict[str, Formula]] = {
    "upsell_cross_sell_rate": _rate,
    "upsell_rate": _rate,
    "cross_sell_rate": _rate,
    "aov": lambda cell, _all, _extra: _ratio(cell.revenue, cell.orders),
    "aov_increase": _aov_increase,
    "revenue_contribution": _contribution,
    "upsell_revenue_contribution": _contribution,
    "cross_sell_revenue_contribution": _contribution,
    "volume_share": lambda cell, _all, _extra: _ratio(cell.volume_revenue, cell.revenue),
    "offer_conversion_rate": _conversion,
    "offer_purchase_rate": lambda cell, _all, _extra: _ratio(cell.bought, cell.presented),
    "upsell_ratio": _customer_share,
    "customer_cross_sell_rate": _customer_share,
    "key_account_ratio": _key_accounts,
    "revenue_per_customer": lambda cell, _all, _extra: _ratio(cell.known_revenue, cell.customers),
    "units_per_customer": lambda cell, _all, _extra: _ratio(cell.known_units, cell.customers),
    "sales_breadth": lambda cell, _all, _extra: _ratio(cell.pairs, cell.customers),
    "aggregate_cross_selling_ratio": lambda cell, everybody, _extra: _ratio(cell.held, everybody.holders),
    "attrition": lambda cell, _all, _extra: _ratio(cell.lost, cell.active_last or 0.0),
}
