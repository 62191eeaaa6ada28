"""The sums behind the figures, one cell a segment and period.

Every formula of the registry is arithmetic on one cell, so that all figures of a report come from the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from recsys.evaluation.kpis.definition import Basis, Kind

KINDS: Final[tuple[Kind, ...]] = ("upsell", "cross_sell", "any")


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
class Cell:
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
