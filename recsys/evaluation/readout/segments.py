"""The primary effect in pre-declared segments, corrected as one family."""

from __future__ import annotations

from dataclasses import replace

from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.results import Sums
from recsys.evaluation.readout.units import UnitTable
from recsys.evaluation.readout.views import SegmentEffect
from recsys.evaluation.statistics.effects import EffectConfig, difference
from recsys.evaluation.statistics.significance_tests import adjusted_p_values

MIN_UNITS = 2


def segment_effects(
    units: UnitTable, design: Design, config: ReadoutConfig
) -> tuple[tuple[SegmentEffect, ...], tuple[Sums, ...]]:
    """Return the effects by segment, level and arm, and the moments they come from.

    Levels with fewer than two units in an arm are left out: nothing can be said of them.
    """
    primary = design.primary
    if primary is None:
        return (), ()
    options = EffectConfig(alpha=config.alpha, tuned_at=config.planned_units)
    found: list[SegmentEffect] = []
    sums: list[Sums] = []
    for segment in design.segments:
        for level, moments in units.moments_by(segment, primary.columns).items():
            sums.append(Sums(f"{segment}={level}", units.arms, moments))
            control = moments[units.arms.index(design.control)]
            for arm in design.treatments:
                treated = moments[units.arms.index(arm)]
                if min(control.n, treated.n) < MIN_UNITS:
                    continue
                effect = difference(control, treated, primary, options)
                relative = float(effect.relative)
                found.append(
                    SegmentEffect(
                        segment=segment,
                        level=level,
                        arm=arm,
                        n_control=int(effect.n_control),
                        n_arm=int(effect.n_arm),
                        effect=float(effect.effect),
                        effect_low=float(effect.low),
                        effect_high=float(effect.high),
                        relative=relative if relative == relative else None,
                        p_value=float(effect.p_value),
                        p_adjusted=float(effect.p_value),
                    )
                )
    adjusted = adjusted_p_values([effect.p_value for effect in found], config.correction)
    return tuple(replace(effect, p_adjusted=p) for effect, p in zip(found, adjusted, strict=True)), tuple(sums)
