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
_TABLES: Final[dict[Kind, str]] = {
    "any": "products.family for cross-sell, upgrades or products.tier for upsell",
    "upsell": "upgrades `from_product_id to_product_id`, else products.tier",
    "cross_sell": "products.family (or category, by `families_by`)",
}
_TIPS: Final[dict[Kind, str]] = {
    "any": (
        "Attributed low while offers convert: too few orders meet one; ask for offers with the cart (POST /v1/offers) "
        "and before each call. Offers don't convert either: change what is offered, by business rules."
    ),
    "upsell": (
        "Look whether the ladder has the step at all: `offers ladder` writes it, a person edits it, and "
        "`offers train --ladder FILE` reads it back. Show the upgrade beside the product, before it is in the cart."
    ),
    "cross_sell": (
        "Offer complements with the cart and families that the account lacks on the call "
        "(GET /v1/accounts/{id}/whitespace); leave out families with long intervals between purchases."
    ),
}
_TITLES: Final[dict[Kind, str]] = {"any": "Upsell / cross-sell", "upsell": "Upsell", "cross_sell": "Cross-sell"}


def _rate(name: str, kind: Kind) -> KpiDefinition:
    words = _WORDS[kind]
    return KpiDefinition(
        name=name,
        title=f"{_TITLES[kind]} rate",
        definition=f"Of all orders, the share that hold {words}.",
        formula=f"transactions with {words} / transactions",
        numerator=f"orders that hold {words}",
        denominator="all orders; beside it the orders after an account's first",
        unit="share",
        direction="higher",
        kind=kind,
        bases=JUDGED,
        dimensions=ALL_SEGMENTS,
        window=ATTRIBUTION_WINDOW,
        approach="share of orders; in an experiment a ratio over accounts by the delta method",
        moves_denominator="offers that add or merge orders change how many transactions there are",
        insight=f"how often an order carries {words}",
        diagnostics="Did the number of orders move too? Which categories and channels moved it? Did the offers change?",
        risks=(
            "many small orders push it down while revenue rises; the first months of a history overstate the organic "
            "form, because earlier purchases are not known"
        ),
        trend=(
            "Organic: read by quarter, from a start (`since`) a year into the history; before that too much looks "
            "new. Attributed: begins with the first presented offers and settles after one attribution window."
        ),
        tips=_TIPS[kind],
        tools="`offers kpis --by category,channel`; what offers added: `offers experiment readout`.",
        integration_points=(
            f"Order lines `order_id account_id product_id ordered_at`; {_TABLES[kind]}; exposures from the event "
            "store (`decision_offers.presented_at`, set by outcomes shown and pitched)."
        ),
        change_impact=(
            "Up: the revenue contribution and the customer rates follow; AOV rises only where the product comes on "
            "top of the basket. Down with more orders: nothing was lost."
        ),
    )


def _contribution(name: str, kind: Kind) -> KpiDefinition:
    sales = _SALES[kind]
    return KpiDefinition(
        name=name,
        title=f"{_TITLES[kind]} revenue contribution",
        definition=f"Of all money, the share that {sales} sales brought in themselves.",
        formula=f"revenue from {sales} / revenue",
        numerator=f"money of the {sales} sales themselves, not of their whole orders",
        denominator="revenue of all orders, net of discounts and returns",
        unit="share",
        direction="higher",
        kind=kind,
        bases=JUDGED,
        dimensions=(*ALL_SEGMENTS, *LOG_DIMENSIONS),
        window=ATTRIBUTION_WINDOW,
        approach="ratio of sums",
        moves_denominator="offers move revenue itself",
        insight=f"how much of the money comes from {sales}",
        diagnostics="Did revenue grow with it, or was other revenue displaced? What does the experiment say was added?",
        risks="attributed revenue counts purchases that would have come anyway, later or under another product",
        trend=(
            "Organic: the first year of a history overstates it. Attributed: compare periods with about as many "
            "presented offers (the conversion rate's denominator)."
        ),
        tips=(
            "Hold it against the effect that an experiment measured: where the attributed share is far above that, "
            "offers take what would have come anyway; then offer what accounts don't buy by themselves."
        ),
        tools=(
            "`offers kpis --by surface,category`; incremental against attributed revenue in `offers experiment "
            "readout`."
        ),
        integration_points=(
            f"Order lines `quantity unit_price discount`; {_TABLES[kind]}; the event store's decisions (surface, "
            "channel) and outcomes (`actor_id` of who pitched)."
        ),
        change_impact=(
            "With revenue fixed, what it gains other sales lose (volume first); with revenue rising, revenue per "
            "customer and AOV rise too."
        ),
    )


ORDER_KPIS: Final = (
    _rate("upsell_cross_sell_rate", "any"),
    _rate("upsell_rate", "upsell"),
    _rate("cross_sell_rate", "cross_sell"),
    KpiDefinition(
        name="aov",
        title="Average order value",
        definition="What the average order brings in, after discounts and returns.",
        formula="revenue / transactions",
        numerator="revenue, net of discounts and returns",
        denominator="all orders",
        unit="money",
        direction="higher",
        kind=None,
        bases=HISTORY,
        dimensions=ALL_SEGMENTS,
        window="none",
        approach="ratio of sums; in an experiment a ratio over accounts by the delta method",
        moves_denominator="offers that add small orders lower it while revenue rises",
        insight="what an order is worth",
        diagnostics="Did orders per customer move the other way? Did the mix of channels or segments change?",
        risks="it falls when customers order more often and less at a time, which may be good business",
        trend=(
            "Compare a quarter with the same quarter a year before: wholesale orders are larger before a season. "
            "The last periods fall later, when their goods come back."
        ),
        tips=(
            "Add one line to the order instead of replacing one: ask for offers with the cart (POST /v1/offers with"
            " `cart`), and put complements on the product page (GET /v1/products/{id}/complements)."
        ),
        tools=(
            "`offers kpis --by channel,segment`; for what offers did to it, the randomised effect printed below the"
            " AOV increase and `offers experiment readout`."
        ),
        integration_points=(
            "Order lines: `quantity`, `unit_price`, `discount`, `currency` and `status` (a return is a line with a "
            "negative quantity); one invoice of the ERP is one `order_id`."
        ),
        change_impact=(
            "With orders per customer unchanged, revenue per customer moves in proportion. A rise by merged orders "
            "lowers the number of orders and so lifts every rate of transactions."
        ),
    ),
    KpiDefinition(
        name="aov_increase",
        title="AOV increase",
        definition="How much more an order with an upsell or cross-sell is worth than an order without.",
        formula="AOV of transactions with an upsell or cross-sell - AOV of those without",
        numerator="revenue / orders, over orders with an upsell or cross-sell",
        denominator="revenue / orders, over the other orders (subtracted, not divided)",
        unit="money",
        direction="neither",
        kind="any",
        bases=JUDGED,
        dimensions=("channel", "segment", "region", "owner", "key_account"),
        window=ATTRIBUTION_WINDOW,
        approach="difference of two means, descriptive; the effect on AOV comes from an experiment's readout",
        moves_denominator="which orders fall on either side is itself an outcome of the offers",
        insight="how orders with additional sales differ from the others; it describes and proves nothing",
        diagnostics="What does the randomised effect on AOV say?",
        risks=(
            "bigger baskets hold and accept more, so it is large even where offers do nothing; never read it as an "
            "effect"
        ),
        trend=(
            "A course says little: it follows the mix of big and small buyers on either side. Look whether its sign"
            " holds over four quarters."
        ),
        tips=(
            "Don't set it as a goal. If it is negative, additional products are bought in small orders of their "
            "own: offer them with the cart, before the order is placed."
        ),
        tools=(
            "The lines `Randomised effect on AOV` of `offers kpis` with an event store; `offers experiment readout`"
            " for its interval and decision."
        ),
        integration_points=(
            "As AOV; the randomised effect needs `experiment_id`, `arm` and `shown` of the event store's decisions,"
            " which serving writes itself."
        ),
        change_impact=(
            "None by itself: revenue, AOV and contribution can all stay as they are while orders move from one side"
            " to the other."
        ),
        chart="bar",
    ),
    _contribution("revenue_contribution", "any"),
    _contribution("upsell_revenue_contribution", "upsell"),
    _contribution("cross_sell_revenue_contribution", "cross_sell"),
    KpiDefinition(
        name="volume_share",
        title="More of the same",
        definition="The share of the money that repeats what an account bought before.",
        formula="revenue from products that the account bought before / revenue",
        numerator="money of sales of a product that the account bought in an earlier order",
        denominator="revenue of all orders, net of discounts and returns",
        unit="share",
        direction="neither",
        kind=None,
        bases=HISTORY,
        dimensions=ALL_SEGMENTS,
        window="none",
        approach="ratio of sums",
        moves_denominator="offers move revenue itself",
        insight="how much of the money is repeat business, which is neither upsell nor cross-sell",
        diagnostics="Are accounts consolidating on what they know, or has the range on offer narrowed?",
        risks="it rises by itself as the history grows longer and less is new",
        trend=(
            "Rises with the length of the history; compare periods that have the same history before them, by a "
            "later start (`since`)."
        ),
        tips=(
            "High with low breadth: accounts reorder and nothing else; call them with cross-sell lists (GET "
            "/v1/products/{id}/accounts). Low: check whether `product_id` changes with every pack or season."
        ),
        tools="`offers kpis --by segment,category`; `offers check` shows whether product ids are stable.",
        integration_points=(
            "Order lines with `account_id` and a `product_id` that stays the same for the same article (the ERP's "
            "article number, not the variant's barcode)."
        ),
        change_impact=(
            "With revenue fixed, what it gains the organic contributions of upsell and cross-sell lose, together "
            "with purchases new to an account that are neither."
        ),
    ),
)
