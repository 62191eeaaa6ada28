"""What is known of the metrics that every experiment has: which way is good, and the unit of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from recsys.experiments.plan import ExperimentPlan, MetricDirection

MetricUnit = Literal["money", "share", "number"]
"""A share is read in percent and differs by points; only money is worth money."""


class KnownMetric(NamedTuple):
    """One metric that has its meaning by its name."""

    direction: MetricDirection
    """Which way is good."""
    unit: MetricUnit
    """Of its values."""


KNOWN_METRICS: Final[Mapping[str, KnownMetric]] = {
    "revenue_per_account": KnownMetric("higher_is_better", "money"),
    "orders_per_account": KnownMetric("higher_is_better", "number"),
    "buyer_rate": KnownMetric("higher_is_better", "share"),
    "aov": KnownMetric("higher_is_better", "money"),
    "orders_per_buyer": KnownMetric("higher_is_better", "number"),
    "offer_conversion": KnownMetric("higher_is_better", "share"),
    "attrition": KnownMetric("lower_is_better", "share"),
    "return_rate": KnownMetric("lower_is_better", "share"),
}


def guardrails_without_direction(plan: ExperimentPlan) -> tuple[str, ...]:
    """Return the guardrails of which neither the plan nor their name says which way is good."""
    return tuple(
        guardrail.metric
        for guardrail in plan.guardrails
        if guardrail.direction is None and guardrail.metric not in KNOWN_METRICS
    )
