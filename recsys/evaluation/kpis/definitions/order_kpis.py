"""KPIs of orders and of money: rates of transactions, order value, revenue contribution, repeat business."""

from __future__ import annotations

from typing import Final

from recsys.evaluation.kpis.definition import (
    ALL_SEGMENTS,
    ATTRIBUTION_WINDOW,
    HISTORY,
    JUDGED,
    LOG_DIMENSIONS,
    Kind,
    KpiDefinition,
)

_WORDS: Final[dict[Kind, str]] = {
    "any": "an upsell or cross-sell",
    "upsell": "an upsell",
    "cross_sell": "a cross-sell",
}
_SALES: Final[dict[Kind, str]] = {"any": "upsell and cross-sell", "upsell": "upsell", "cross_sell": "cross-sell"}
_TITLES: Final[dict[Kind, str]] = {"any": "Upsell / cross-sell", "upsell": "Upsell", "cross_sell": "Cross-sell"}


def _rate(name: str, kind: Kind) -> KpiDefinition:
    words = _WORDS[kind]
    return KpiDefinition(
        name=name,
        title=f"{_TITLES[kind]} rate",
        formula=f"transactions with {words} / transactions",
        numerator=f"orders that hold {words}",
        denominator="all orders; beside it the orders after an account's first",
        unit="share",
        direction="higher",
        kind=kind,
        bases=JUDGED,
        dimensions=ALL_SEGMENTS,
        window=ATTRIBUTION_WINDOW,
        estimator="share of orders; in an experiment a ratio over accounts by the delta method",
        moves_denominator="offers that add or merge orders change how many transactions there are",
        tells=f"how often an order carries {words}",
        ask="Did the number of orders move too? Which categories and channels moved it? Did the offers change?",
        misleads=(
            "many small orders push it down while revenue rises; the first months of a history overstate the organic "
            "form, because earlier purchases are not known"
        ),
    )


def _contribution(name: str, kind: Kind) -> KpiDefinition:
    sales = _SALES[kind]
    return KpiDefinition(
        name=name,
        title=f"{_TITLES[kind]} revenue contribution",
        formula=f"revenue from {sales} / revenue",
        numerator=f"money of the {sales} sales themselves, not of their whole orders",
        denominator="revenue of all orders, net of discounts and returns",
        unit="share",
        direction="higher",
        kind=kind,
        bases=JUDGED,
        dimensions=(*ALL_SEGMENTS, *LOG_DIMENSIONS),
        window=ATTRIBUTION_WINDOW,
        estimator="ratio of sums",
        moves_denominator="offers move revenue itself",
        tells=f"how much of the money comes from {sales}",
        ask="Did revenue grow with it, or was other revenue displaced? What does the experiment say was added?",
        misleads="attributed revenue counts purchases that would have come anyway, later or under another product",
    )


ORDER_KPIS: Final = (
    _rate("upsell_cross_sell_rate", "any"),
    _rate("upsell_rate", "upsell"),
    _rate("cross_sell_rate", "cross_sell"),
    KpiDefinition(
        name="aov",
        title="Average order value",
        formula="revenue / transactions",
        numerator="revenue, net of discounts and returns",
        denominator="all orders",
        unit="money",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=ALL_SEGMENTS,
        window="none",
        estimator="ratio of sums; in an experiment a ratio over accounts by the delta method",
        moves_denominator="offers that add small orders lower it while revenue rises",
        tells="what an order is worth",
        ask="Did orders per customer move the other way? Did the mix of channels or segments change?",
        misleads="it falls when customers order more often and less at a time, which may be good business",
    ),
    KpiDefinition(
        name="aov_increase",
        title="AOV increase",
        formula="AOV of transactions with an upsell or cross-sell - AOV of those without",
        numerator="revenue / orders, over orders with an upsell or cross-sell",
        denominator="revenue / orders, over the other orders (subtracted, not divided)",
        unit="money",
        direction="neither",
        kind="any",
        bases=JUDGED,
        dimensions=("channel", "segment", "region", "owner", "key_account"),
        window=ATTRIBUTION_WINDOW,
        estimator="difference of two means, descriptive; the effect on AOV comes from an experiment's readout",
        moves_denominator="which orders fall on either side is itself an outcome of the offers",
        tells="how orders with additional sales differ from the others; it describes and proves nothing",
        ask="What does the randomised effect on AOV say?",
        misleads=(
            "bigger baskets hold and accept more, so it is large even where offers do nothing; never read it as an "
            "effect"
        ),
        chart="bar",
    ),
    _contribution("revenue_contribution", "any"),
    _contribution("upsell_revenue_contribution", "upsell"),
    _contribution("cross_sell_revenue_contribution", "cross_sell"),
    KpiDefinition(
        name="volume_share",
        title="More of the same",
        formula="revenue from products that the account bought before / revenue",
        numerator="money of sales of a product that the account bought in an earlier order",
        denominator="revenue of all orders, net of discounts and returns",
        unit="share",
        direction="neither",
        kind=None,
        bases=HISTORY,
        dimensions=ALL_SEGMENTS,
        window="none",
        estimator="ratio of sums",
        moves_denominator="offers move revenue itself",
        tells="how much of the money is repeat business, which is neither upsell nor cross-sell",
        ask="Are accounts consolidating on what they know, or has the range on offer narrowed?",
        misleads="it rises by itself as the history grows longer and less is new",
    ),
)
