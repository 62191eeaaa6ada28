"""Guardrails of which nobody said which way is good."""

from __future__ import annotations

from recsys.evaluation.readout.design import Design
from recsys.evaluation.readout.health import HealthCheck


def guardrail_directions(design: Design) -> HealthCheck:
    """Return whether every guardrail's direction was stated or is known; only a plan that ran already may lack one."""
    name = "guardrail_directions"
    guardrails = [metric for metric in design.metrics if metric.role == "guardrail"]
    assumed = [metric.name for metric in guardrails if metric.direction_is_assumed]
    if assumed:
        return HealthCheck(
            name,
            "warning",
            f"the locked plan does not say which way is good for {', '.join(assumed)}; judged as it was locked, higher "
            "is better: where a rise is bad, harm has passed",
        )
    if not guardrails:
        return HealthCheck(name, "not_checked", "no guardrail was declared: harm elsewhere is not looked for")
    return HealthCheck(name, "passed", f"stated or known for {', '.join(metric.name for metric in guardrails)}")
