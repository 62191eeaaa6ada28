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
