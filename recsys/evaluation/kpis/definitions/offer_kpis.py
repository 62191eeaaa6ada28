"""KPIs of offers in the log: how often they are accepted and bought."""

from __future__ import annotations

from typing import Final

from recsys.evaluation.kpis.definition import (
    LOG,
    LOG_DIMENSIONS,
    PRODUCT_DIMENSIONS,
    Dimension,
    KpiDefinition,
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

OFFER_KPIS: Final = (
    KpiDefinition(
        name="offer_conversion_rate",
        title="Offer conversion rate",
        definition="Of the offers that somebody saw or was told of, the share that was taken.",
        formula="accepted offers / presented offers",
        numerator="presented offers that were reported accepted, or whose product the account bought, in the window",
        denominator=_PRESENTED,
        unit="share",
        direction="higher",
        kind=None,
        bases=LOG,
        dimensions=_OFFERS_BY,
        window="from the presentation on, for the window; a purchase counts for the last exposure before it",
        approach="share of presented offers; clustered by account in any interval",
        moves_denominator="the policy decides how many offers are presented, and to whom",
        insight="how often a presented offer is taken",
        diagnostics=(
            "Were more offers presented to the same people? Did rank, price or surface change? Are windows still open?"
        ),
        risks=(
            "presenting less, or only to those who buy anyway, raises it; offers whose window is still open count as "
            "not accepted yet; acceptance reported for goods that came back later stays"
        ),
        trend=(
            "The last window (30 days unless configured) is always too low, because offers can still be accepted: "
            "judge the period before it. A slow fall with a constant model is fatigue or a stale model."
        ),
        tips=(
            "Present fewer and better: cap how often an account sees the same offer in the business rules (`offers "
            "rules check FILE` tells what is in force). Compare surfaces before the model: the same offer converts "
            "otherwise in a cart than in a newsletter."
        ),
        tools=(
            "`offers kpis --by surface,actor,category`; `offers compare` for two models on the same past; GET "
            "/v1/decisions/{id}/why-not for a product that was not offered."
        ),
        integration_points=(
            "Event store: `decision_offers.presented_at` (outcomes shown and pitched) and outcomes accepted (POST "
            "/v1/outcomes, from the shop or the CRM's call result); orders with the same `account_id` (POST "
            "/v1/orders)."
        ),
        change_impact=(
            "Up by presenting less: attributed rates, contribution and revenue per customer fall although it rises."
            " Up at the same volume: attributed contribution follows within a window."
        ),
    ),
    KpiDefinition(
        name="offer_purchase_rate",
        title="Offer purchase rate",
        definition="Of the offers that somebody saw or was told of, the share whose product was bought and kept.",
        formula="presented offers bought within the window / presented offers",
        numerator="presented offers whose product the account bought in the window and kept",
        denominator=_PRESENTED,
        unit="share",
        direction="higher",
        kind=None,
        bases=LOG,
        dimensions=_OFFERS_BY,
        window="from the presentation on, for the window; a purchase counts for the last exposure before it",
        approach="share of presented offers; clustered by account in any interval",
        moves_denominator="the policy decides how many offers are presented, and to whom",
        insight="how often an offer ends in a purchase, whatever people said",
        diagnostics="Does it part from conversion: accepted and then not bought, or returned?",
        risks="visitors without an account can't be followed to a purchase; orders dated by day miss the same day",
        trend=(
            "As conversion: the last attribution window is too low. It falls for past periods too when goods come back."
        ),
        tips=(
            "Far below conversion: acceptances don't become orders; look for stock (`in_stock` of the products) and"
            " for whether the order carries the offered `product_id`."
        ),
        tools=(
            "`offers kpis --by surface,category` beside the conversion rate; `offers export` writes the log by day "
            "for a closer look."
        ),
        integration_points=(
            "Event store: `decision_offers`; order lines with the same `account_id` and `product_id`, ordered at a "
            "time of day later than `presented_at`."
        ),
        change_impact=(
            "Drives attributed revenue contribution, upsell ratio and customer cross-sell rate; conversion can rise"
            " without it, by what people say."
        ),
    ),
)
