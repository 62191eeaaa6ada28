"""The registry of every KPI in the order of reports; those with customers as denominator are defined here."""

from __future__ import annotations

import difflib
from typing import Final

from recsys.errors import ConfigError
from recsys.evaluation.kpis.definition import HISTORY, JUDGED, ORDER_DIMENSIONS, PRODUCT_DIMENSIONS, KpiDefinition
from recsys.evaluation.kpis.order_kpis import OFFER_KPIS, ORDER_KPIS, WINDOW

_BY: Final = (*PRODUCT_DIMENSIONS, *ORDER_DIMENSIONS)
_EXISTING: Final = "existing customers that ordered (all of them, by product and category); beside it all customers"
_STANDS: Final = "accounts are fixed by assignment, but whether one orders in the period is an outcome of the offers"

CUSTOMER_KPIS: Final = (
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
        window=WINDOW,
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
        window=WINDOW,
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
        window=WINDOW,
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


REGISTRY: Final[dict[str, KpiDefinition]] = {item.name: item for item in (*ORDER_KPIS, *OFFER_KPIS, *CUSTOMER_KPIS)}


def find_kpi(name: str) -> KpiDefinition:
    """Return the definition of a KPI.

    Raises:
        ConfigError: there is none of that name.

    Example:
        >>> find_kpi("attrition").direction
        'lower'
    """
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name, REGISTRY, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"KPI {name!r} is not known; {hint}the names are {', '.join(REGISTRY)}")
