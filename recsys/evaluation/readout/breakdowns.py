"""Does the verdict depend on a choice? CUPED x cap x window x triggered, each cell judged by the same rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from recsys.evaluation.readout.arm_effects import effects_of
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.results import Effect, HealthCheck, Verdict
from recsys.evaluation.readout.units import UnitTable
from recsys.evaluation.readout.verdict import arm_verdict
from recsys.evaluation.readout.views import Variant
from recsys.evaluation.readout.weighing import evidence_of


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
    return (None,) if units.facts[column].is_binary else (None, config.cap_percentile or config.grid_percentile)


def _estimated(
    table: UnitTable, design: Design, config: ReadoutConfig, cap: float | None
) -> Iterator[tuple[bool, tuple[Effect, ...]]]:
    """The effects on the primary and the guardrails, with and without CUPED."""
    primary = design.primary
    assert primary is not None
    metrics = tuple(metric for metric in design.metrics if metric.role in {"primary", "guardrail"})
    narrowed = replace(design, metrics=metrics, chain=(), attributed=None)
    capped = table.capped((primary.value.numerator,), cap)[0] if cap else table
    moments = capped.moments(narrowed.columns)
    by_arm = {arm: moments[table.arms.index(arm)] for arm in design.shares}
    for cuped in (True, False) if primary.before else (False,):
        yield cuped, effects_of(by_arm, narrowed, config, table.facts, use_cuped=cuped)
