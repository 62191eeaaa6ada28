"""What to do about each arm: the first rule that fits, named, with the figures it was made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from recsys.evaluation.readout.arm_effects import Effect
from recsys.evaluation.readout.design import Design, ReadoutConfig, Stage
from recsys.evaluation.readout.health import HealthCheck
from recsys.evaluation.readout.wording.sentences import difference_words, guardrail_sentence, sentence

RULES: dict[VerdictName, str] = {
    "INVALID": "a health check failed",
    "ROLL BACK": "the primary or a guardrail is harmed",
    "SHIP": "the primary is better and every guardrail is non-inferior",
    "FLAT": "the interval of the primary lies inside the practical margin",
    "KEEP RUNNING": "not decided and the run is not over",
    "DISCUSS": "no other rule fits",
}

# With several arms, what the experiment as a whole calls for: a winner first, open questions next.
_PRECEDENCE: tuple[VerdictName, ...] = ("INVALID", "SHIP", "KEEP RUNNING", "DISCUSS", "FLAT", "ROLL BACK")

_POWER = 0.8


VerdictName = Literal["INVALID", "ROLL BACK", "SHIP", "FLAT", "KEEP RUNNING", "DISCUSS"]


@dataclass(frozen=True, slots=True)
class ArmVerdict:
    """What to do with one arm.

    Attributes:
        arm: its name.
        verdict: the first rule that fitted.
        rule: that rule in words.
        reason: with the figures.
        next_step: what is waited for, or why the rules are at an end; empty where the verdict says it all.
    """

    arm: str
    verdict: VerdictName
    rule: str
    reason: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class VerdictOverride:
    """A decision against the rules.

    Attributes:
        verdict: what was decided.
        reason: why, in writing.
        arm: that it is about; None: the only one that is compared with control.
    """

    verdict: VerdictName
    reason: str
    arm: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with the experiment.

    Attributes:
        verdict: of the arm that `arm` names, or INVALID for all.
        rule: in words.
        reason: with the figures.
        arm: the arm that decides; None where data are invalid.
        arms: a verdict each.
        override: a person's decision against the rules, with its reason.
    """

    verdict: VerdictName
    rule: str
    reason: str
    arm: str | None
    arms: tuple[ArmVerdict, ...]
    override: VerdictOverride | None = None


@dataclass(frozen=True)
class ArmEvidence:
    """What one arm's verdict is made of.

    Attributes:
        arm: its name.
        primary: its effect on the decision metric; None where every metric is a ratio.
        guardrails: its effects on the guardrails.
        practical_margin: in the metric's unit; 0 switches FLAT off.
        alpha: two-sided error of the arm's interval: the primary's, shared by the arms that are compared with control.
    """

    arm: str
    primary: Effect | None
    guardrails: tuple[Effect, ...]
    practical_margin: float
    alpha: float = 0.05


def decide_verdict(
    arms: Sequence[ArmEvidence], health: Sequence[HealthCheck], stage: Stage, override: VerdictOverride | None = None
) -> Verdict:
    """Return the verdict of every arm and of the experiment."""
    failed = [check for check in health if check.status == "failed"]
    verdicts = tuple(arm_verdict(evidence, failed, stage) for evidence in arms)
    chosen = min(verdicts, key=lambda verdict: (_PRECEDENCE.index(verdict.verdict), -_gain(arms, verdict.arm)))
    arm = None if chosen.verdict == "INVALID" else chosen.arm
    return Verdict(chosen.verdict, chosen.rule, chosen.reason, arm, verdicts, override)


def arm_verdict(evidence: ArmEvidence, failed: Sequence[HealthCheck], stage: Stage) -> ArmVerdict:
    """Return the first verdict whose rule fits one arm."""
    reasons: tuple[tuple[VerdictName, str | None], ...] = (
        ("INVALID", _invalid(failed)),
        ("ROLL BACK", _roll_back(evidence)),
        ("SHIP", _ship(evidence, stage)),
        ("FLAT", _flat(evidence, stage)),
        ("KEEP RUNNING", _keep_running(evidence, stage)),
    )
    for name, reason in reasons:
        if reason is not None:
            then = _until(evidence, stage) if name == "KEEP RUNNING" else ""
            return ArmVerdict(evidence.arm, name, _rule(name, evidence), reason, then)
    return ArmVerdict(evidence.arm, "DISCUSS", RULES["DISCUSS"], _discuss(evidence, stage), _open(evidence, stage))


def _rule(name: VerdictName, evidence: ArmEvidence) -> str:
    """The rule that fitted, without what was not declared or not harmed."""
    if name == "ROLL BACK":
        return " and ".join(
            [
                *(["the primary is harmed"] if evidence.primary and evidence.primary.is_harmed else []),
                *(["a guardrail is harmed"] if any(effect.is_harmed for effect in evidence.guardrails) else []),
            ]
        )
    if name == "SHIP" and not evidence.guardrails:
        return "the primary is better; no guardrail was declared"
    return RULES[name]


def _invalid(failed: Sequence[HealthCheck]) -> str | None:
    if not failed:
        return None
    return "; ".join(f"{check.name}: {check.detail}" for check in failed)


def _roll_back(evidence: ArmEvidence) -> str | None:
    everything = (*([evidence.primary] if evidence.primary else []), *evidence.guardrails)
    harmed = [effect for effect in everything if effect.is_harmed]
    return "; ".join(_told(effect) for effect in harmed) if harmed else None


def _ship(evidence: ArmEvidence, stage: Stage) -> str | None:
    primary = evidence.primary
    if primary is None or not _is_better(primary) or not _may_conclude(stage):
        return None
    if any(effect.is_non_inferior is False for effect in evidence.guardrails):
        return None
    return "; ".join(_told(effect) for effect in (primary, *evidence.guardrails)) + _assumption(stage)


def _flat(evidence: ArmEvidence, stage: Stage) -> str | None:
    primary, margin = evidence.primary, evidence.practical_margin
    if primary is None or margin <= 0 or not _may_conclude(stage):
        return None
    if primary.decision_low <= -margin or primary.decision_high >= margin:
        return None
    inside = f"inside the practical margin of {difference_words(margin, primary)} either way"
    return f"{sentence(primary)}, {inside}{_worse_guardrails(evidence)}{_assumption(stage)}"


def _keep_running(evidence: ArmEvidence, stage: Stage) -> str | None:
    if stage.is_over or (stage.is_final and _may_conclude(stage)):
        return None
    shown = sentence(evidence.primary) if evidence.primary else "no decision metric"
    return f"{shown}{_worse_guardrails(evidence)}; {_until(evidence, stage)}"


def _until(evidence: ArmEvidence, stage: Stage) -> str:
    """What a run that goes on waits for."""
    waits = [*([] if stage.is_final else [_end(stage)]), *_lacking(stage)]
    needed = _units_needed(evidence)
    return f"wait for {', '.join(waits)}{'; ' + needed if needed else ''}"


def _open(evidence: ArmEvidence, stage: Stage) -> str:
    """Why the rules are at an end, beside the figures."""
    if stage.is_decided:
        return "it was decided already, and a later look does not change that"
    if not _may_conclude(stage):
        return f"the run ended without {' and '.join(_lacking(stage))}"
    if evidence.primary is not None and _is_better(evidence.primary):
        return "weigh what the primary gained against the guardrails that are not shown to be within their margins"
    return _units_needed(evidence)


def _end(stage: Stage) -> str:
    if stage.days_left is None:
        return "the planned end"
    if stage.days_left > 0:
        return f"the planned end in {stage.days_left:.0f} days"
    return "the last windows and late rows after the planned end"


def _lacking(stage: Stage) -> list[str]:
    """What SHIP and FLAT need and the run has not."""
    needs = (
        (stage.has_min_run, "the minimum run"),
        (stage.has_planned_size, "the planned size"),
        (stage.is_mature, "complete windows"),
    )
    return [what for is_there, what in needs if not is_there]


def _discuss(evidence: ArmEvidence, stage: Stage) -> str:
    primary = evidence.primary
    if primary is not None and stage.is_decided:
        return f"it was decided already, and a later look does not change that: {sentence(primary)}"
    if primary is not None and not _may_conclude(stage):
        lacking = " and ".join(_lacking(stage))
        return f"{sentence(primary)}, but the run ended without {lacking}{_worse_guardrails(evidence)}"
    if primary is None:
        return "every metric is a ratio whose denominator the treatment may move; name a mean per unit as primary"
    if _is_better(primary):
        still_open = [effect for effect in evidence.guardrails if effect.is_non_inferior is False or effect.is_worse]
        shown = "; ".join(guardrail_sentence(effect) for effect in still_open)
        return f"{sentence(primary)}, but a guardrail is not shown to be non-inferior: {shown}"
    needed = _units_needed(evidence)
    shown = f"the run is over and {sentence(primary)}, which holds zero"
    return f"{shown}{_worse_guardrails(evidence)}{'; ' + needed if needed else ''}"


def _worse_guardrails(evidence: ArmEvidence) -> str:
    worse = [guardrail_sentence(effect) for effect in evidence.guardrails if effect.is_worse]
    return f"; worse guardrails: {'; '.join(worse)}" if worse else ""


def _told(effect: Effect) -> str:
    return guardrail_sentence(effect) if effect.role == "guardrail" else sentence(effect)


def _units_needed(evidence: ArmEvidence) -> str:
    """Units of the arm until an effect as large as the practical margin is found with 80 % power.

    Formula: `n (z_{1 - alpha/2} + z_power)^2 se^2 / margin^2`, at the shares that the arms have.
    """
    primary, margin = evidence.primary, evidence.practical_margin
    if primary is None or margin <= 0 or primary.standard_error <= 0:
        return ""
    z = float(stats.norm.ppf(1 - evidence.alpha / 2) + stats.norm.ppf(_POWER))
    needed = math.ceil(primary.n_arm * (z * primary.standard_error / margin) ** 2)
    if needed <= primary.n_arm:
        return ""
    return (
        f"about {needed:,} units in {evidence.arm} show the practical margin with 80 % power, {primary.n_arm:,} are in"
    )


def _is_better(effect: Effect) -> bool:
    return effect.decision_low > 0 if effect.direction == "higher_is_better" else effect.decision_high < 0


def _may_conclude(stage: Stage) -> bool:
    return not _lacking(stage)


def _assumption(stage: Stage) -> str:
    return " (taken as a finished run: minimum run and maturity are not checked)" if stage.is_stated else ""


def _gain(arms: Sequence[ArmEvidence], name: str) -> float:
    primary = next(evidence.primary for evidence in arms if evidence.arm == name)
    if primary is None:
        return 0.0
    return primary.effect if primary.direction == "higher_is_better" else -primary.effect


def evidence_of(effects: Sequence[Effect], design: Design, config: ReadoutConfig) -> tuple[ArmEvidence, ...]:
    """Return, for each arm, its primary effect, its guardrails and the practical margin in the primary's unit."""
    found = []
    for arm in design.treatments:
        own = [effect for effect in effects if effect.arm == arm]
        primary = next((effect for effect in own if effect.role == "primary"), None)
        margin = config.practical_margin * abs(primary.control_mean) if primary else 0.0
        guardrails = tuple(effect for effect in own if effect.role == "guardrail")
        found.append(ArmEvidence(arm, primary, guardrails, margin, config.alpha / len(design.treatments)))
    return tuple(found)
