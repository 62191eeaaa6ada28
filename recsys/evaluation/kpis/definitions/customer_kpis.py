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
        formula="customers who bought a higher-value version / customers",
        numerator="existing customers with at least one upsell",
        denominator=_EXISTING,
        unit="share",
        direction="higher",
        kind="upsell",
        bases=JUDGED,
        dimensions=ALL_SEGMENTS,
        window=ATTRIBUTION_WINDOW,
        estimator="share of accounts",
        moves_denominator=CUSTOMERS_VARY,
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
        dimensions=ALL_SEGMENTS,
        window=ATTRIBUTION_WINDOW,
        estimator="share of accounts; 250 of 1,000 is 25 %",
        moves_denominator=CUSTOMERS_VARY,
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
        window=ATTRIBUTION_WINDOW,
        estimator="ratio of sums",
        moves_denominator="offers change what key accounts buy in all",
        tells="whether the accounts that matter most still widen what they buy",
        ask="Which key accounts stopped widening? Who owns them, and when were they last pitched?",
        misleads="a few accounts decide it; under a revenue rule the set of key accounts changes every quarter",
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
        dimensions=ALL_SEGMENTS,
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
