"""The registry of every KPI, in the order of reports: of orders and money, of offers in the log, of customers."""

from __future__ import annotations

from typing import Final

from recsys.evaluation.kpis.definition import (
    HISTORY,
    JUDGED,
    LOG,
    LOG_DIMENSIONS,
    ORDER_DIMENSIONS,
    PRODUCT_DIMENSIONS,
    Dimension,
    Kind,
    KpiDefinition,
)

_WINDOW: Final = "organic: none; attributed: the window after the exposure, the last exposure wins"
_BY: Final = (*PRODUCT_DIMENSIONS, *ORDER_DIMENSIONS)
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
        dimensions=_BY,
        window=_WINDOW,
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
        dimensions=(*_BY, *LOG_DIMENSIONS),
        window=_WINDOW,
        estimator="ratio of sums",
        moves_denominator="offers move revenue itself",
        tells=f"how much of the money comes from {sales}",
        ask="Did revenue grow with it, or was other revenue displaced? What does the experiment say was added?",
        misleads="attributed revenue counts purchases that would have come anyway, later or under another product",
    )


_ORDER_KPIS: Final = (
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
        dimensions=_BY,
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
        window=_WINDOW,
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
        dimensions=_BY,
        window="none",
        estimator="ratio of sums",
        moves_denominator="offers move revenue itself",
        tells="how much of the money is repeat business, which is neither upsell nor cross-sell",
        ask="Are accounts consolidating on what they know, or has the range on offer narrowed?",
        misleads="it rises by itself as the history grows longer and less is new",
    ),
)


_OFFERS_BY: Final[tuple[Dimension, ...]] = (
    *PRODUCT_DIMENSIONS,
    "channel",
    "segment",
    "region",
    "owner",
    *LOG_DIMENSIONS,
)
_PRESENTED: Final = "offers that were shown on a surface or pitched by a person; a holdout's are never presented"

_OFFER_KPIS: Final = (
    KpiDefinition(
        name="offer_conversion_rate",
        title="Offer conversion rate",
        formula="accepted offers / presented offers",
        numerator="presented offers that were reported accepted, or whose product the account bought, in the window",
        denominator=_PRESENTED,
        unit="share",
        direction="higher",
        kind=None,
        bases=LOG,
        dimensions=_OFFERS_BY,
        window="from the presentation on, for the window; a purchase counts for the last exposure before it",
        estimator="share of presented offers; clustered by account in any interval",
        moves_denominator="the policy decides how many offers are presented, and to whom",
        tells="how often a presented offer is taken",
        ask="Were more offers presented to the same people? Did rank, price or surface change? Are windows still open?",
        misleads=(
            "presenting less, or only to those who buy anyway, raises it; offers whose window is still open count as "
            "not accepted yet; acceptance reported for goods that came back later stays"
        ),
    ),
    KpiDefinition(
        name="offer_purchase_rate",
        title="Offer purchase rate",
        formula="presented offers bought within the window / presented offers",
        numerator="presented offers whose product the account bought in the window and kept",
        denominator=_PRESENTED,
        unit="share",
        direction="higher",
        kind=None,
        bases=LOG,
        dimensions=_OFFERS_BY,
        window="from the presentation on, for the window; a purchase counts for the last exposure before it",
        estimator="share of presented offers; clustered by account in any interval",
        moves_denominator="the policy decides how many offers are presented, and to whom",
        tells="how often an offer ends in a purchase, whatever people said",
        ask="Does it part from conversion: accepted and then not bought, or returned?",
        misleads="visitors without an account can't be followed to a purchase; orders dated by day miss the same day",
    ),
)


_EXISTING: Final = "existing customers that ordered (all of them, by product and category); beside it all customers"
_STANDS: Final = "accounts are fixed by assignment, but whether one orders in the period is an outcome of the offers"

_CUSTOMER_KPIS: Final = (
    KpiDefinition(
        name="upsell_ratio",
        title="Upsell ratio",
        formula="customers who bought a higher-value version / customers",
        numerator="existing customers with at least one upsell",
        denominator=_EXISTING,
        unit="share",
        direction="higher",
        kind="upsell",
        bases=JUDGED,
        dimensions=_BY,
        window=_WINDOW,
        estimator="share of accounts",
        moves_denominator=_STANDS,
        tells="how many customers step up; a rule of thumb asks for more than 20 %",
        ask="Which rungs do they climb, and from where? Are the next rungs in stock and on offer?",
        misleads="longer periods give higher ratios; a ladder with few edges keeps it low whatever customers do",
    ),
    KpiDefinition(
        name="customer_cross_sell_rate",
        title="Customer cross-sell rate",
        formula="customers with a cross-sell purchase / customers",
        numerator="existing customers with at least one cross-sell",
        denominator=_EXISTING,
        unit="share",
        direction="higher",
        kind="cross_sell",
        bases=JUDGED,
        dimensions=_BY,
        window=_WINDOW,
        estimator="share of accounts; 250 of 1,000 is 25 %",
        moves_denominator=_STANDS,
        tells="how many customers take something from a family that is new to them",
        ask="Which families opened, in which channel and segment? Is it a season or the offers?",
        misleads="longer periods give higher rates; young accounts have everything still to discover",
    ),
    KpiDefinition(
        name="key_account_ratio",
        title="Key-account upsell / cross-sell ratio",
        formula="additional products sold to key accounts / products sold to them",
        numerator="upsell and cross-sell sales to key accounts; one sale is one product in one order",
        denominator="all sales to key accounts; beside it all sales to everybody",
        unit="share",
        direction="higher",
        kind="any",
        bases=JUDGED,
        dimensions=("product", "category", "channel", "segment", "region", "owner"),
        window=_WINDOW,
        estimator="ratio of sums",
        moves_denominator="offers change what key accounts buy in all",
        tells="whether the accounts that matter most still widen what they buy",
        ask="Which key accounts stopped widening? Who owns them, and when were they last pitched?",
        misleads="a few accounts decide it; under a revenue rule the set of key accounts changes every quarter",
    ),
    KpiDefinition(
        name="revenue_per_customer",
        title="Revenue per customer",
        formula="revenue / customers",
        numerator="revenue of orders with an account, net of discounts and returns",
        denominator="accounts that ordered in the period",
        unit="money",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=_BY,
        window="none",
        estimator="ratio of sums; the decision metric of an experiment divides by assigned accounts instead",
        moves_denominator=_STANDS,
        tells="what a customer is worth in a period",
        ask="More orders, or bigger ones? More customers of which kind?",
        misleads="it rises when small customers leave; read it with attrition",
    ),
    KpiDefinition(
        name="units_per_customer",
        title="Units per customer",
        formula="units / customers",
        numerator="units of orders with an account, net of returns",
        denominator="accounts that ordered in the period",
        unit="units",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=_BY,
        window="none",
        estimator="ratio of sums",
        moves_denominator=_STANDS,
        tells="the volume a customer takes in a period",
        ask="Did the price level or the mix of pack sizes change?",
        misleads="a unit of one product is not a unit of another",
    ),
    KpiDefinition(
        name="sales_breadth",
        title="Sales breadth",
        formula="distinct products per customer",
        numerator="distinct pairs of account and product that were bought in the period",
        denominator="accounts that ordered in the period",
        unit="products",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=_BY,
        window="none",
        estimator="ratio of counts",
        moves_denominator=_STANDS,
        tells="how wide a customer buys",
        ask="Did the range change, or how much of it customers take?",
        misleads="longer periods are broader by themselves",
    ),
    KpiDefinition(
        name="aggregate_cross_selling_ratio",
        title="Aggregate cross-selling ratio",
        formula="products held / customers",
        numerator="distinct pairs of account and product ever bought, up to the end of the period",
        denominator="accounts that ever ordered, up to the end of the period",
        unit="products",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=("product", "category", "segment", "region", "owner"),
        window="none",
        estimator="ratio of counts over the whole history",
        moves_denominator="only through accounts that would never have ordered",
        tells="how many products the customer base holds in all",
        ask="Do new customers dilute it, or do old ones stop widening?",
        misleads="it only ever counts up for an account, also for one that left long ago",
    ),
    KpiDefinition(
        name="attrition",
        title="Attrition",
        formula="customers active in the last period and not in this / customers active in the last period",
        numerator="accounts that ordered in the last period and not in this one",
        denominator="accounts that ordered in the last period",
        unit="share",
        direction="lower",
        kind=None,
        bases=HISTORY,
        dimensions=_BY,
        window="none",
        estimator="share of accounts; overall: pooled over complete periods",
        moves_denominator="in the first period no; later the last period's customers are an outcome too",
        tells="how many customers fall silent from one period to the next",
        ask="Which segment and owner lost them, and what did they buy last?",
        misleads=(
            "short periods call a customer lost who orders seldom; after a season everybody seems to leave; a period "
            "that is not over overstates it"
        ),
        chart="bar",
    ),
)


REGISTRY: Final[dict[str, KpiDefinition]] = {item.name: item for item in (*_ORDER_KPIS, *_OFFER_KPIS, *_CUSTOMER_KPIS)}
