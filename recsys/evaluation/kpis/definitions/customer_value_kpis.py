"""KPIs of what a customer is worth and how wide it buys."""

from __future__ import annotations

from typing import Final

from recsys.evaluation.kpis.definition import (
    ACCOUNT_DIMENSIONS,
    ALL_SEGMENTS,
    CUSTOMERS_VARY,
    FORECAST,
    HISTORY,
    KpiDefinition,
)

CUSTOMER_VALUE_KPIS: Final = (
    KpiDefinition(
        name="revenue_per_customer",
        title="Revenue per customer",
        definition="What a customer that ordered in the period spent in it.",
        formula="revenue / customers",
        numerator="revenue of orders with an account, net of discounts and returns",
        denominator="accounts that ordered in the period",
        unit="money",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=ALL_SEGMENTS,
        window="none",
        approach="ratio of sums; the decision metric of an experiment divides by assigned accounts instead",
        moves_denominator=CUSTOMERS_VARY,
        insight="what a customer is worth in a period",
        diagnostics="More orders, or bigger ones? More customers of which kind?",
        risks="it rises when small customers leave; read it with attrition",
        trend="By quarter against the same quarter a year before; a longer period is higher by itself.",
        tips=(
            "Split it before acting: orders per customer times AOV. Falling orders ask for reminders and calls, a "
            "falling AOV for offers in the cart."
        ),
        tools=(
            "`offers kpis --by segment,region`; revenue per assigned account in `offers experiment readout` decides"
            " whether offers earn."
        ),
        integration_points=(
            "Order lines `account_id quantity unit_price discount currency`; orders without an account (counter "
            "sales) are left out."
        ),
        change_impact=(
            "Is orders per customer times AOV: moves with both. Rises by itself when attrition takes small customers."
        ),
    ),
    KpiDefinition(
        name="customer_lifetime_value",
        title="Customer lifetime value",
        definition="What a customer is expected to spend in the twelve months after the model's moment.",
        formula="revenue expected in the next twelve months / customers",
        numerator="the model's expected revenue, summed over customers",
        denominator="accounts that had ordered when the model was trained and stand in these orders",
        unit="money",
        direction="higher",
        kind=None,
        bases=FORECAST,
        dimensions=ACCOUNT_DIMENSIONS,
        window="none",
        approach=(
            "expected orders by the order process (MBG/NBD) times what an order of the account is worth, shrunk to "
            "like accounts; not discounted, revenue and not margin"
        ),
        moves_denominator=CUSTOMERS_VARY,
        insight="what the customer base is worth if nothing changes, and which accounts hold it",
        diagnostics="Do customers lapse, order less often, or for less? Which segment or owner holds the value?",
        risks=(
            "a season or a decline that the history never saw is not in it; single accounts vary widely: read their "
            "limits; it says what is expected, not what offers would add"
        ),
        trend="Compare models of successive months, each trained on the history until then; it has no periods itself.",
        tips=(
            "Rank accounts by it for care and call lists; an account of high value whose orders stop is called first. "
            "Spend on an account no more than a part of it."
        ),
        tools="`offers kpis --model BUNDLE --by segment,owner`; columns `lifetime_value*` of the bundle's accounts.",
        integration_points=(
            "A trained bundle; `account_id` as in the orders. Write the bundle's column to the CRM's account field."
        ),
        change_impact=(
            "Is expected orders times AOV: falls with attrition, rises with AOV and revenue per customer, a year ahead."
        ),
        chart="bar",
    ),
    KpiDefinition(
        name="units_per_customer",
        title="Units per customer",
        definition="How many units a customer that ordered in the period took in it.",
        formula="units / customers",
        numerator="units of orders with an account, net of returns",
        denominator="accounts that ordered in the period",
        unit="units",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=ALL_SEGMENTS,
        window="none",
        approach="ratio of sums",
        moves_denominator=CUSTOMERS_VARY,
        insight="the volume a customer takes in a period",
        diagnostics="Did the price level or the mix of pack sizes change?",
        risks="a unit of one product is not a unit of another",
        trend="Compare within one category; the mix of pack sizes drifts over years.",
        tips=(
            "Units up and revenue not: larger packs or discounts. For more of the same product use the quantity "
            "that an offer proposes, not another product."
        ),
        tools="`offers kpis --by category,product`.",
        integration_points=(
            "Order lines `quantity`, in one unit of measure a product (pieces, not cartons in some lines and pieces"
            " in others)."
        ),
        change_impact=(
            "With prices fixed revenue per customer moves in proportion; an upsell that replaces several cheap "
            "units by one lowers it and lifts revenue."
        ),
    ),
    KpiDefinition(
        name="sales_breadth",
        title="Sales breadth",
        definition="How many different products a customer that ordered in the period bought in it.",
        formula="distinct products per customer",
        numerator="distinct pairs of account and product that were bought in the period",
        denominator="accounts that ordered in the period",
        unit="products",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=ALL_SEGMENTS,
        window="none",
        approach="ratio of counts",
        moves_denominator=CUSTOMERS_VARY,
        insight="how wide a customer buys",
        diagnostics="Did the range change, or how much of it customers take?",
        risks="longer periods are broader by themselves",
        trend="Longer periods are broader; a new range lifts it for everybody for a season.",
        tips=(
            "Complements with the cart widen at once, new families widen for good: see whether the customer "
            "cross-sell rate rose with it."
        ),
        tools="`offers kpis --by segment,category`; GET /v1/products/{id}/complements for what goes with a product.",
        integration_points=(
            "Order lines `account_id product_id`; variants under ids of their own inflate it (map them to one "
            "article first)."
        ),
        change_impact=(
            "Rises with organic cross-sell; lifts AOV where it adds lines, and the aggregate ratio only by products"
            " that are new to the account."
        ),
    ),
    KpiDefinition(
        name="aggregate_cross_selling_ratio",
        title="Aggregate cross-selling ratio",
        definition="How many different products the customer base has ever bought, a customer.",
        formula="products held / customers",
        numerator="distinct pairs of account and product ever bought, up to the end of the period",
        denominator="accounts that ever ordered, up to the end of the period",
        unit="products",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=("product", "category", "segment", "region", "owner"),
        window="none",
        approach="ratio of counts over the whole history",
        moves_denominator="only through accounts that would never have ordered",
        insight="how many products the customer base holds in all",
        diagnostics="Do new customers dilute it, or do old ones stop widening?",
        risks="it only ever counts up for an account, also for one that left long ago",
        trend=(
            "Rises for ever and flattens; a fall means many new customers, not lost breadth. Read its slope, by "
            "segment."
        ),
        tips=(
            "Where old accounts stand still, work the whitespace (GET /v1/accounts/{id}/whitespace); where new ones"
            " dilute it, sell the second product soon after the first order."
        ),
        tools="`offers kpis --by segment,category`; `offers recommend` for the next product of every account.",
        integration_points=(
            "The whole history of order lines, not an extract of the last year; accounts merged in the CRM must "
            "have one `account_id`."
        ),
        change_impact=(
            "Follows breadth and the customer cross-sell rate with a delay; new customers lower it while they lift "
            "revenue."
        ),
    ),
)
