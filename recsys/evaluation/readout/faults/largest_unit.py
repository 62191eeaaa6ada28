"""The unit with the largest value, taken away: an effect that goes with it is no effect of the treatment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from recsys.evaluation.readout.arm_effects import Effect, effects_of
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.health import HealthCheck
from recsys.evaluation.readout.tails import tails_of
from recsys.evaluation.readout.units import ARM, UNIT, UnitTable
from recsys.evaluation.readout.verdict import ArmVerdict, arm_verdict, evidence_of
from recsys.evaluation.readout.wording.sentences import amount, difference_words
from recsys.evaluation.statistics.moments import Moments

_NAME: Final = "largest_unit"
_MOVES: Final = 0.25
"""Standard errors that a unit must move the effect by: below, any other unit could have changed the verdict too."""


def largest_unit(
    units: UnitTable,
    by_arm: Mapping[str, Moments],
    design: Design,
    config: ReadoutConfig,
    effects: Sequence[Effect],
    verdicts: Sequence[ArmVerdict],
) -> HealthCheck:
    """Return whether the verdict of an arm, or the sign of its effect, changes without the largest unit."""
    primary = design.primary
    if primary is None or units.facts[primary.value.numerator].is_binary:
        return HealthCheck(_NAME, "passed", "no unit of the primary can weigh more than another")
    column = primary.value.numerator
    top = units.table.order_by(units.table[column].abs().desc(), units.table[UNIT]).limit(1)
    row = top.select(UNIT, ARM, value=column).to_pyarrow().to_pylist()[0]
    sample = by_arm[row[ARM]]
    moved = abs(row["value"] - float(sample.mean[sample.at(column)])) / max(float(sample.n) - 1, 1.0)
    affected = [
        effect
        for effect in effects
        if effect.role == "primary"
        and row[ARM] in {effect.arm, design.control}
        and moved > _MOVES * effect.standard_error
    ]
    if not affected or sample.n < 3:
        return HealthCheck(_NAME, "passed", f"the largest value, {row['value']:,.6g} in {row[ARM]}, moves no effect")
    rest = _effects_without(units, row[UNIT], design, config)
    told = [
        words for effect in affected if (words := _changed(effect, _given(verdicts, effect.arm), rest, design, config))
    ]
    unit = f"unit {row[UNIT]} of {row[ARM]}" if units.has_ids else f"row {row[UNIT]} of {row[ARM]}"
    name = f"{unit} with {amount(row['value'], affected[0])} of {primary.name}"
    if told:
        return HealthCheck(_NAME, "warning", f"{name} makes the result: without it {'; '.join(told)}")
    return HealthCheck(_NAME, "passed", f"without {name} every verdict and sign stays")


def _effects_without(units: UnitTable, unit: str, design: Design, config: ReadoutConfig) -> tuple[Effect, ...]:
    metrics = tuple(metric for metric in design.metrics if metric.role in {"primary", "guardrail"})
    narrowed = replace(design, metrics=metrics, chain=(), attributed=None, quality={})
    kept = replace(units, table=units.table.filter(units.table[UNIT] != unit))
    moments = kept.moments(narrowed.columns)
    by_arm = {arm: moments[units.arms.index(arm)] for arm in design.shares}
    return effects_of(by_arm, narrowed, config, units.facts, tails_of(kept, by_arm, narrowed, config))


def _given(verdicts: Sequence[ArmVerdict], arm: str) -> ArmVerdict:
    return next(verdict for verdict in verdicts if verdict.arm == arm)


def _changed(
    effect: Effect, given: ArmVerdict, rest: Sequence[Effect], design: Design, config: ReadoutConfig
) -> str | None:
    after = next(found for found in rest if (found.role, found.arm) == ("primary", effect.arm))
    evidence = next(found for found in evidence_of(rest, design, config) if found.arm == effect.arm)
    verdict = given.verdict if given.verdict == "INVALID" else arm_verdict(evidence, (), design.stage).verdict
    if verdict == given.verdict and after.effect * effect.effect > 0:
        return None
    before = difference_words(effect.effect, effect, signed=True)
    then = difference_words(after.effect, after, signed=True)
    of_arm = f"the effect of {effect.arm} is {then} instead of {before}"
    return of_arm if verdict == given.verdict else f"{of_arm}, and the verdict {verdict} instead of {given.verdict}"
