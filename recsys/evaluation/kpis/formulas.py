"""The sums of one segment and period, a cell, and the registry's formulas as arithmetic on one cell.

So all figures of a report come from the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from recsys.evaluation.kpis.definition import Basis, Kind
from recsys.evaluation.kpis.values import Figure, SecondaryFigure

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


SumOf = Callable[[KpiSums, KpiSums, Additional], float]
"""A sum of a formula: from a cell, the cell of all segments in the same period, and the additional sales that the KPI
counts. By product and category customers are those of all segments: who bought a product anyway is no denominator for
who took it up. Fields that are columns of a table instead of numbers make a column: the sums of each account."""

Beside = Callable[[KpiSums, KpiSums, Additional], SecondaryFigure]
Source = Literal["orders", "attrition", "held", "offers"]
"""The rows that the sums of a formula are counted from."""

Formula = Callable[[KpiSums, KpiSums, Additional], Figure]


class RatioParts(NamedTuple):
    """What is above and below a line."""

    numerator: SumOf
    denominator: SumOf


@dataclass(frozen=True)
class RatioFormula:
    """A ratio of two sums, or the difference of two such ratios, with further readings.

    Attributes:
        ratio: the sums.
        minus: a second ratio that is taken away; the two ratios then stand for numerator and denominator.
        beside: further readings.
        source: the rows that the sums are counted from.
    """

    ratio: RatioParts
    minus: RatioParts | None = None
    beside: tuple[Beside, ...] = ()
    source: Source = "orders"

    def __call__(self, cell: KpiSums, everybody: KpiSums, extra: Additional) -> Figure:
        """Return the figure of one cell."""
        numerator, denominator = (part(cell, everybody, extra) for part in self.ratio)
        value = numerator / denominator if denominator else None
        if self.minus is None:
            return Figure(numerator, denominator, value, tuple(more(cell, everybody, extra) for more in self.beside))
        taken, below = (part(cell, everybody, extra) for part in self.minus)
        if value is None or not below:
            return Figure(0.0, 0.0, None, ())
        return Figure(value, taken / below, value - taken / below, ())


def _beside(label: str, numerator: SumOf, denominator: SumOf) -> Beside:
    def worked(cell: KpiSums, everybody: KpiSums, extra: Additional) -> SecondaryFigure:
        above, below = numerator(cell, everybody, extra), denominator(cell, everybody, extra)
        return SecondaryFigure(label, above, below, above / below if below else None)

    return worked


_RATE: Final = RatioFormula(
    RatioParts(lambda _cell, _all, extra: extra.orders, lambda cell, _all, _extra: cell.orders),
    beside=(
        _beside(
            "of the orders after an account's first",
            lambda _cell, _all, extra: extra.orders,
            lambda cell, _all, _extra: cell.orders_existing,
        ),
    ),
)
_AOV_INCREASE: Final = RatioFormula(
    RatioParts(lambda _cell, _all, extra: extra.order_revenue, lambda _cell, _all, extra: extra.orders),
    minus=RatioParts(
        lambda cell, _all, extra: cell.revenue - extra.order_revenue,
        lambda cell, _all, extra: cell.orders - extra.orders,
    ),
)
_CONTRIBUTION: Final = RatioFormula(
    RatioParts(lambda _cell, _all, extra: extra.revenue, lambda cell, _all, _extra: cell.revenue)
)
_CUSTOMER_SHARE: Final = RatioFormula(
    RatioParts(lambda _cell, _all, extra: extra.customers, lambda _cell, everybody, _extra: everybody.existing),
    beside=(
        _beside(
            "of all customers",
            lambda _cell, _all, extra: extra.all_customers,
            lambda _cell, everybody, _extra: everybody.customers,
        ),
    ),
)
_KEY_ACCOUNTS: Final = RatioFormula(
    RatioParts(lambda _cell, _all, extra: extra.key_sales, lambda cell, _all, _extra: cell.key_sales),
    beside=(
        _beside(
            "of all sales to everybody",
            lambda _cell, _all, extra: extra.key_sales,
            lambda cell, _all, _extra: cell.sales,
        ),
    ),
)
_CONVERSION: Final = RatioFormula(
    RatioParts(lambda cell, _all, _extra: cell.accepted, lambda cell, _all, _extra: cell.presented),
    beside=(
        _beside(
            "of them with a window that is still open",
            lambda cell, _all, _extra: cell.still_open,
            lambda cell, _all, _extra: cell.presented,
        ),
    ),
    source="offers",
)


def _named(name: str) -> SumOf:
    def part(cell: KpiSums, _all: KpiSums, _extra: Additional) -> float:
        value: float | None = getattr(cell, name)
        return 0.0 if value is None else value

    return part


def _plain(numerator: str, denominator: str, source: Source = "orders") -> RatioFormula:
    """A ratio of two sums of the cell, by their names."""
    return RatioFormula(RatioParts(_named(numerator), _named(denominator)), source=source)


FORMULAS: Final[dict[str, Formula]] = {
    "upsell_cross_sell_rate": _RATE,
    "upsell_rate": _RATE,
    "cross_sell_rate": _RATE,
    "aov": _plain("revenue", "orders"),
    "aov_increase": _AOV_INCREASE,
    "revenue_contribution": _CONTRIBUTION,
    "upsell_revenue_contribution": _CONTRIBUTION,
    "cross_sell_revenue_contribution": _CONTRIBUTION,
    "volume_share": _plain("volume_revenue", "revenue"),
    "offer_conversion_rate": _CONVERSION,
    "offer_purchase_rate": _plain("bought", "presented", "offers"),
    "upsell_ratio": _CUSTOMER_SHARE,
    "customer_cross_sell_rate": _CUSTOMER_SHARE,
    "key_account_ratio": _KEY_ACCOUNTS,
    "revenue_per_customer": _plain("known_revenue", "customers"),
    "units_per_customer": _plain("known_units", "customers"),
    "sales_breadth": _plain("pairs", "customers"),
    "aggregate_cross_selling_ratio": RatioFormula(
        RatioParts(lambda cell, _all, _extra: cell.held, lambda _cell, everybody, _extra: everybody.holders),
        source="held",
    ),
    "attrition": _plain("lost", "active_last", "attrition"),
}
