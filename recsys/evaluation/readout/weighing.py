"""What each arm's verdict is made of."""

from __future__ import annotations

from collections.abc import Sequence

from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.results import Effect
from recsys.evaluation.readout.verdict import ArmEvidence


def evidence_of(effects: Sequence[Effect], design: Design, config: ReadoutConfig) -> tuple[ArmEvidence, ...]:
    """Return, for each arm, its primary effect, its guardrails and the practical margin in the primary's unit."""
    found = []
    for arm in design.treatments:
        own = [effect for effect in effects if effect.arm == arm]
        primary = next((effect for effect in own if effect.role == "primary"), None)
        margin = config.practical_margin * abs(primary.control_mean) if primary else 0.0
        guardrails = tuple(effect for effect in own if effect.role == "guardrail")
        found.append(ArmEvidence(arm, primary, guardrails, margin))
    return tuple(found)
