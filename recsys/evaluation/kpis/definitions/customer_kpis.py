"""KPIs of customers: who steps up, who takes something new, who falls silent."""

from __future__ import annotations

from typing import Final

from recsys.evaluation.kpis.definition import (
    ALL_SEGMENTS,
    ATTRIBUTION_WINDOW,
    CUSTOMERS_VARY,
    HISTORY,
    JUDGED,
    KpiDefinition,
)

_EXISTING: Final = "existing customers that ordered (all of them, by product and category); beside it all customers"

CUSTOMER_KPIS: Final = (
    KpiDefinition(
        name="upsell_ratio",
        title="Upsell ratio",
        definition="The share of existing customers that took a higher rung of a ladder on which they stood.",
        formula="customers who bought a higher-value version / customers",
        numerator="existing customers with at least one upsell",
        denominator=_EXISTING,
        unit="share",
        direction="higher",
        kind="upsell",
        bases=JUDGED,
        dimensions=ALL_SEGMENTS,
        window=ATTRIBUTION_WINDOW,
        approach="share of accounts",
        moves_denominator=CUSTOMERS_VARY,
        insight="how many customers step up; a rule of thumb asks for more than 20 %",
        diagnostics="Which rungs do they climb, and from where? Are the next rungs in stock and on offer?",
        risks="longer periods give higher ratios; a ladder with few edges keeps it low whatever customers do",
        trend=(
            "Cumulates with the length of the period: compare quarters with quarters only. A fall after a rise is "
            "natural where the top rung has been reached."
        ),
        tips=(
            "Offer the next rung, not the top one; look at which rungs nobody climbs and price the step (GET "
            "/v1/products/{id}/upgrades). Edit the ladder where edges are missing: `offers ladder` writes it."
        ),
        tools=(
            "`offers ladder` and `offers train --ladder FILE`; `offers kpis --by category,owner`; `offers "
            "recommend` for the lists of those who can still step up."
        ),
        integration_points=(
            "upgrades `from_product_id to_product_id`, else products.tier; order lines; accounts.owner to hand the "
            "list to a salesperson in the CRM."
        ),
        change_impact=(
            "Lifts AOV and revenue per customer by the price step times the quantity; may lower units per customer "
            "(fewer, better) and opens no family, so customer cross-sell stays."
        ),
    ),
    KpiDefinition(
        name="customer_cross_sell_rate",
        title="Customer cross-sell rate",
        definition="The share of existing customers that bought from a family that was new to them.",
        formula="customers with a cross-sell purchase / customers",
        numerator="existing customers with at least one cross-sell",
        denominator=_EXISTING,
        unit="share",
        direction="higher",
        kind="cross_sell",
        bases=JUDGED,
        dimensions=ALL_SEGMENTS,
        window=ATTRIBUTION_WINDOW,
        approach="share of accounts; 250 of 1,000 is 25 %",
        moves_denominator=CUSTOMERS_VARY,
        insight="how many customers take something from a family that is new to them",
        diagnostics="Which families opened, in which channel and segment? Is it a season or the offers?",
        risks="longer periods give higher rates; young accounts have everything still to discover",
        trend=(
            "Highest in the first year of an account, then falling: compare accounts of the same age by segment "
            "before calling a trend. Seasons open families (Christmas goods)."
        ),
        tips=(
            "Ask which family each account lacks and others like it have (GET /v1/accounts/{id}/whitespace); begin "
            "with the families that open most often after the ones it has."
        ),
        tools=(
            "`offers kpis --by category,segment,owner`; `offers recommend` and GET /v1/products/{id}/accounts for "
            "call lists."
        ),
        integration_points=(
            "products.family (or category, by `families_by`); order lines with `account_id`; accounts.segment and "
            "owner from the CRM."
        ),
        change_impact=(
            "Lifts sales breadth and the aggregate ratio by one product at least for each customer that it counts; "
            "attrition tends to fall later, as broad customers leave less (an association, not an effect)."
        ),
    ),
    KpiDefinition(
        name="key_account_ratio",
        title="Key-account upsell / cross-sell ratio",
        definition="Of the products sold to key accounts, the share that was an upsell or a cross-sell.",
        formula="additional products sold to key accounts / products sold to them",
        numerator="upsell and cross-sell sales to key accounts; one sale is one product in one order",
        denominator="all sales to key accounts; beside it all sales to everybody",
        unit="share",
        direction="higher",
        kind="any",
        bases=JUDGED,
        dimensions=("product", "category", "channel", "segment", "region", "owner"),
        window=ATTRIBUTION_WINDOW,
        approach="ratio of sums",
        moves_denominator="offers change what key accounts buy in all",
        insight="whether the accounts that matter most still widen what they buy",
        diagnostics="Which key accounts stopped widening? Who owns them, and when were they last pitched?",
        risks="a few accounts decide it; under a revenue rule the set of key accounts changes every quarter",
        trend="Few accounts, so its interval is wide: read it by quarter, and by owner only over a year.",
        tips=(
            "Bring the whitespace of a key account to its yearly review (GET /v1/accounts/{id}/whitespace). Name "
            "key accounts yourself instead of by revenue, so that the set stays."
        ),
        tools="`offers kpis --by owner --key-accounts top:5%`; `offers recommend` with the accounts' owner.",
        integration_points=(
            "accounts.is_key_account and accounts.owner (the CRM's account tier and account manager); order lines."
        ),
        change_impact=(
            "A small part of the customers and a large one of the money: it moves the revenue contributions more "
            "than the customer rates."
        ),
    ),
    KpiDefinition(
        name="attrition",
        title="Attrition",
        definition="The share of the last period's customers that did not order in this one.",
        formula="customers active in the last period and not in this / customers active in the last period",
        numerator="accounts that ordered in the last period and not in this one",
        denominator="accounts that ordered in the last period",
        unit="share",
        direction="lower",
        kind=None,
        bases=HISTORY,
        dimensions=ALL_SEGMENTS,
        window="none",
        approach="share of accounts; overall: pooled over complete periods",
        moves_denominator="in the first period no; later the last period's customers are an outcome too",
        insight="how many customers fall silent from one period to the next",
        diagnostics="Which segment and owner lost them, and what did they buy last?",
        risks=(
            "short periods call a customer lost who orders seldom; after a season everybody seems to leave; a period "
            "that is not over overstates it"
        ),
        trend=(
            "Needs periods longer than the usual gap between two orders (a quarter for monthly buyers). Compare "
            "with the same quarter a year before."
        ),
        tips=(
            "List who fell silent by owner and call the largest first; an account that is late by its own rhythm is"
            " worth more attention than one late by the calendar."
        ),
        tools=(
            "`offers kpis --by segment,owner --period quarter`; as a guardrail of an experiment: a plan's metric "
            "with `lower` as its better direction, read by `offers experiment readout`."
        ),
        integration_points=(
            "Order lines `account_id ordered_at`; accounts.owner and segment. A closed account of the CRM still "
            "counts as lost."
        ),
        change_impact=(
            "Up: customers and revenue fall next, while revenue per customer and breadth may rise, because small "
            "and narrow accounts leave first."
        ),
        chart="bar",
    ),
)
