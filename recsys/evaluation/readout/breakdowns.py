"""What stands beside the effects of a readout: sensitivity grid, segments, distribution of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import ibis
import numpy as np

from recsys.evaluation.readout.arm_effects import Effect, effects_of
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.health import HealthCheck
from recsys.evaluation.readout.tails import tails_of
from recsys.evaluation.readout.units import ARM, UnitTable
from recsys.evaluation.readout.verdict import (
    Verdict,
    VerdictName,
    arm_verdict,
    evidence_of,
)
from recsys.evaluation.statistics.effects import EffectConfig, difference
from recsys.evaluation.statistics.moments import Moments, Sums
from recsys.evaluation.statistics.significance_tests import adjusted_p_values, cochran_q


@dataclass(frozen=True, slots=True)
class SegmentEffect:
    """The primary effect in one level of a pre-declared segment; p-values are one family over all levels and arms."""

    segment: str
    level: str
    arm: str
    n_control: int
    n_arm: int
    effect: float
    effect_low: float
    effect_high: float
    relative: float | None
    p_value: float
    p_adjusted: float
    standard_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """Whether the primary effect differs between the levels of a segment: one test for all of them.

    Attributes:
        segment: the column.
        arm: the arm.
        n_levels: with enough units in both arms.
        q: Cochran's Q.
        p_value: of equal effects.
        p_adjusted: over segments and arms.
    """

    segment: str
    arm: str
    n_levels: int
    q: float
    p_value: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class Variant:
    """One cell of the sensitivity grid.

    Attributes:
        arm: the arm.
        cuped: with pre-period values.
        cap: percentile of the cap; None without.
        window: which attribution window.
        triggered: exposed units only.
        effect: on the primary metric.
        low: the interval that decides.
        high: its upper limit.
        verdict: that this cell alone would give.
        flips: whether it differs from the arm's verdict.
    """

    arm: str
    cuped: bool
    cap: float | None
    window: str
    triggered: bool
    effect: float
    low: float
    high: float
    verdict: VerdictName
    flips: bool


@dataclass(frozen=True, slots=True)
class Histogram:
    """How one column is distributed over the units of each arm.

    Attributes:
        column: its name.
        edges: of the bins above zero.
        shares: by arm, share of its units in each bin.
        zero_share: by arm, share of units at zero or below.
        cap: where the cap lies; None without.
    """

    column: str
    edges: tuple[float, ...]
    shares: Mapping[str, tuple[float, ...]]
    zero_share: Mapping[str, float]
    cap: float | None


def sensitivity_grid(
    units: UnitTable,
    design: Design,
    config: ReadoutConfig,
    verdict: Verdict,
    health: Sequence[HealthCheck],
    windows: Mapping[str, UnitTable],
    window: str,
) -> tuple[Variant, ...]:
    """Return every cell that the data allow; primary and guardrails are both computed on the cell's own units."""
    if design.primary is None:
        return ()
    failed = [check for check in health if check.status == "failed"]
    given = {found.arm: found.verdict for found in verdict.arms}
    cells = []
    for name, table, triggered in _tables(units, windows, window):
        for cap in _caps(design, config, units):
            for cuped, effects in _estimated(table, design, config, cap):
                for evidence in evidence_of(effects, design, config):
                    primary = evidence.primary
                    assert primary is not None
                    found = arm_verdict(evidence, failed, design.stage).verdict
                    cells.append(
                        Variant(
                            arm=evidence.arm,
                            cuped=cuped,
                            cap=cap,
                            window=name,
                            triggered=triggered,
                            effect=primary.effect,
                            low=primary.decision_low,
                            high=primary.decision_high,
                            verdict=found,
                            flips=found != given[evidence.arm],
                        )
                    )
    return tuple(cells)


def _tables(units: UnitTable, windows: Mapping[str, UnitTable], window: str) -> Iterator[tuple[str, UnitTable, bool]]:
    for name, table in {window: units, **windows}.items():
        yield name, table, False
        if table.has_exposed and all(count > 1 for count in table.exposed_counts().values()):
            yield name, table.exposed_only(), True


def _caps(design: Design, config: ReadoutConfig, units: UnitTable) -> tuple[float | None, ...]:
    """No cap, and a cap where the primary's column is more than a yes or no."""
    assert design.primary is not None
    column = design.primary.value.numerator
    return (None,) if units.facts[column].is_binary else (None, design.capped.get(column, config.grid_percentile))


def _estimated(
    table: UnitTable, design: Design, config: ReadoutConfig, cap: float | None
) -> Iterator[tuple[bool, tuple[Effect, ...]]]:
    """The effects on the primary and the guardrails, with and without CUPED."""
    primary = design.primary
    assert primary is not None
    metrics = tuple(metric for metric in design.metrics if metric.role in {"primary", "guardrail"})
    narrowed = replace(design, metrics=metrics, chain=(), attributed=None)
    column = primary.value.numerator
    others = {name: quantile for name, quantile in design.capped.items() if name != column}
    capped = table.capped({**others, column: cap} if cap else others)[0]
    moments = capped.moments(narrowed.columns)
    by_arm = {arm: moments[table.arms.index(arm)] for arm in design.shares}
    for cuped in (True, False) if primary.before else (False,):
        tails = tails_of(capped, by_arm, narrowed, config, use_cuped=cuped)
        yield cuped, effects_of(by_arm, narrowed, config, table.facts, tails, use_cuped=cuped)


_MIN_UNITS = 2


def segment_effects(
    levels: Mapping[str, Mapping[str, Moments]], arms: tuple[str, ...], design: Design, config: ReadoutConfig
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
    for segment, by_level in levels.items():
        for level, moments in by_level.items():
            sums.append(Sums(f"{segment}={level}", arms, moments))
            control = moments[arms.index(design.control)]
            for arm in design.treatments:
                treated = moments[arms.index(arm)]
                if min(control.n, treated.n) < _MIN_UNITS:
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
                        standard_error=float(effect.se),
                    )
                )
    adjusted = adjusted_p_values([effect.p_value for effect in found], config.correction)
    return tuple(replace(effect, p_adjusted=p) for effect, p in zip(found, adjusted, strict=True)), tuple(sums)


def heterogeneity_of(segments: Sequence[SegmentEffect], config: ReadoutConfig) -> tuple[Heterogeneity, ...]:
    """Return one test a segment and arm of whether the effect is the same in all its levels.

    That one level's p-value is below alpha and another's is not says nothing of a difference between them.
    """
    found: list[Heterogeneity] = []
    for segment, arm in dict.fromkeys((effect.segment, effect.arm) for effect in segments):
        own = [effect for effect in segments if (effect.segment, effect.arm) == (segment, arm)]
        own = [effect for effect in own if effect.standard_error > 0]
        if len(own) < 2:
            continue
        effects, errors = (np.array([getattr(effect, name) for effect in own]) for name in ("effect", "standard_error"))
        q, p_value = (float(value) for value in cochran_q(effects, errors))
        found.append(Heterogeneity(segment, arm, len(own), q, p_value, p_value))
    adjusted = adjusted_p_values([test.p_value for test in found], config.correction)
    return tuple(replace(test, p_adjusted=p) for test, p in zip(found, adjusted, strict=True))


_N_BINS = 24


def histogram_of(units: UnitTable, column: str, caps: Mapping[str, float]) -> Histogram | None:
    """Return shares of units by bin (equal widths in logs above zero), or None for a yes or no."""
    facts = units.facts[column]
    if facts.is_binary or facts.high <= 0:
        return None
    edges = _edges(units, column, facts.high)
    value = units.table[column]
    at = ((value.log() - float(np.log(edges[0]))) / float(np.log(edges[1] / edges[0]))).floor().cast("int64")
    bin_ = ibis.cases((value <= 0, -1), else_=ibis.least(ibis.greatest(at, 0), _N_BINS - 1))
    rows = units.table.select(ARM, bin=bin_).group_by([ARM, "bin"]).agg(n=ibis._.count()).to_pyarrow().to_pylist()
    counts = {arm: np.zeros(_N_BINS + 1) for arm in units.arms}
    for row in rows:
        counts[row[ARM]][row["bin"]] += row["n"]  # bin -1, the zeros, is the last cell
    shares = {arm: found / found.sum() for arm, found in counts.items()}
    return Histogram(
        column=column,
        edges=tuple(float(edge) for edge in edges),
        shares={arm: tuple(float(share) for share in found[:-1]) for arm, found in shares.items()},
        zero_share={arm: float(found[-1]) for arm, found in shares.items()},
        cap=caps.get(column),
    )


def _edges(units: UnitTable, column: str, high: float) -> np.ndarray:
    value = units.table[column]
    low = float(value.min(where=value > 0).to_pyarrow().as_py())
    return np.geomspace(low, high, _N_BINS + 1) if high > low else np.geomspace(low / 2, low * 2, _N_BINS + 1)
