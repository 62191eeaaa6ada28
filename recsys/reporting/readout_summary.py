"""The first screen of a readout: what was decided, why, how sure that is, what it is worth, what was not checked."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from recsys.evaluation.readout.arm_effects import Effect
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.verdict import ArmVerdict
from recsys.evaluation.readout.wording.sentences import (
    INTERVAL_WORDS,
    difference_words,
    guardrail_words,
    limits_words,
    metric_words,
    movement,
)

_POWER = 0.8


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """What a manager reads of one arm; each is a sentence.

    Attributes:
        arm: its name.
        verdict: what to do.
        rule: the rule that gave it.
        why: what the primary did in its unit, and every guardrail that is worse.
        sure: the interval that decides, in words.
        worth: money over the units of the arm, or that the metric is none.
        then: what is waited for; empty where the verdict says it all.
    """

    arm: str
    verdict: str
    rule: str
    why: str
    sure: str
    worth: str
    then: str = ""


@dataclass(frozen=True, slots=True)
class ReadoutSummary:
    """The first screen.

    Attributes:
        stage: whether this is an early look or the end.
        arms: one each.
        doubts: failed checks and warnings, a sentence each.
        not_checked: names of the checks that the data can't answer.
        power: what the present size finds.
    """

    stage: str
    arms: tuple[ArmSummary, ...]
    doubts: tuple[str, ...]
    not_checked: tuple[str, ...]
    power: tuple[str, ...]


def is_interim(readout: Readout) -> bool:
    """Return whether only anytime-valid intervals may decide."""
    return any(effect.decided_by == "anytime" for effect in readout.effects)


def intervals_in_order(effect: Effect, readout: Readout) -> tuple[str, str]:
    """Return both intervals with their unit, the one first that may decide at this stage."""
    fixed = limits_words(effect.effect_low, effect.effect_high, effect)
    anytime = limits_words(effect.anytime_low, effect.anytime_high, effect)
    return (anytime, fixed) if is_interim(readout) else (fixed, anytime)


def summary_of(readout: Readout) -> ReadoutSummary:
    """Return what the first screen says."""
    return ReadoutSummary(
        stage=_stage(readout),
        arms=tuple(_arm(readout, verdict) for verdict in readout.verdict.arms),
        doubts=tuple(
            f"{check.name.replace('_', ' ')}: {check.detail}"
            for status in ("failed", "warning")
            for check in readout.health
            if check.status == status
        ),
        not_checked=tuple(check.name.replace("_", " ") for check in readout.health if check.status == "not_checked"),
        power=tuple(_power(readout, effect) for effect in readout.effects if effect.role == "primary"),
    )


def _stage(readout: Readout) -> str:
    decision, as_of = readout.decision, readout.timing.as_of
    if decision is not None and as_of is not None and as_of < decision.as_of:
        return (
            f"a look as of {as_of:%Y-%m-%d %H:%M} UTC, before the decision, which it does not change: only what holds "
            "at every look counts"
        )
    if decision is not None:
        return "a look after the decision, which it does not change"
    if is_interim(readout):
        return "an early look: only what holds at every look may decide"
    return "a finished run: the fixed-horizon interval decides, once"


def _arm(readout: Readout, verdict: ArmVerdict) -> ArmSummary:
    own = [effect for effect in readout.effects if effect.arm == verdict.arm]
    primary = next((effect for effect in own if effect.role == "primary"), None)
    if verdict.verdict == "INVALID":
        why = "The data are not fit to be read: nothing is decided before that is mended."
        unread = "not to be told: the figures below may be wrong."
        return ArmSummary(verdict.arm, verdict.verdict, verdict.rule, why, unread, unread)
    if primary is None:
        why = f"{_sentence(verdict.reason)}"
        return ArmSummary(verdict.arm, verdict.verdict, verdict.rule, why, "no metric decides.", "no metric decides.")
    worse = [f"{movement(effect)}: {guardrail_words(effect)}" for effect in own if _matters(effect)]
    none = [] if any(effect.role == "guardrail" for effect in own) else ["no guardrail was declared"]
    why = _sentence("; ".join([movement(primary), *worse, *none]))
    return ArmSummary(
        arm=verdict.arm,
        verdict=verdict.verdict,
        rule=verdict.rule,
        why=why,
        sure=_sure(readout, primary),
        worth=_worth(readout, primary),
        then=_sentence(verdict.next_step) if verdict.next_step else "",
    )


def _matters(effect: Effect) -> bool:
    return effect.role == "guardrail" and (effect.is_worse or not effect.is_non_inferior)


def _sure(readout: Readout, primary: Effect) -> str:
    level = (
        f"{100 * (1 - readout.alpha / len(readout.verdict.arms)):.3g} % {INTERVAL_WORDS[primary.decided_by]} interval"
    )
    limits = limits_words(primary.decision_low, primary.decision_high, primary)
    holds_zero = primary.decision_low <= 0 <= primary.decision_high
    told = "zero lies inside, so that there may be no change" if holds_zero else "zero lies outside"
    return f"the change lies between {limits.replace(' to ', ' and ')} ({level}); {told}."


def _worth(readout: Readout, primary: Effect) -> str:
    impact = next((money for money in readout.money if money.arm == primary.arm), None)
    if impact is None:
        return f"not in money: {metric_words(primary.metric)} is no amount of money."
    low, high = (_money(limit, impact.currency) for limit in (impact.low, impact.high))
    total = _money(impact.total, impact.currency)
    return f"{total} over the {impact.n_units:,} units of the arm so far, between {low} and {high}."


def _money(value: float, currency: str | None) -> str:
    places = 2 if abs(value) < 100 else 0
    text = f"{value:+,.{places}f}"
    return f"{currency} {text}" if currency else text


def _power(readout: Readout, effect: Effect) -> str:
    """What an experiment of this size finds: figures of the size, not of the result."""
    arms = len(readout.verdict.arms)
    z = float(stats.norm.ppf(1 - readout.alpha / arms / 2))
    found = (z + float(stats.norm.ppf(_POWER))) * effect.standard_error
    share = f" ({100 * found / abs(effect.control_mean):.1f} % of the control)" if effect.control_mean else ""
    size = f"a change of {difference_words(found, effect)}{share}"
    words = f"{effect.arm}: at the present size {size} is found with 80 % power"
    margin = readout.practical_margin * abs(effect.control_mean)
    if margin <= 0 or effect.standard_error <= 0:
        return words
    power = float(stats.norm.cdf(margin / effect.standard_error - z))
    return f"{words}, the practical margin of {difference_words(margin, effect)} with {100 * power:.0f} %"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}" + ("" if words.endswith(".") else ".")
