"""Every check for a fault of the data beyond those of health, in the order in which a reviewer reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recsys.evaluation.readout.arm_effects import Effect
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.faults.directions import guardrail_directions
from recsys.evaluation.readout.faults.logged_rows import acceptance_checks
from recsys.evaluation.readout.faults.lost_outcomes import lost_outcomes
from recsys.evaluation.readout.faults.rows import duplicate_rows, impossible_counts
from recsys.evaluation.readout.faults.values import (
    constant_in_an_arm,
    covariate_timing,
    one_row_dominates,
)
from recsys.evaluation.readout.faults.weeks import other_experiments, shares_over_time
from recsys.evaluation.readout.health import HealthCheck, LogFacts
from recsys.evaluation.readout.units import UnitTable
from recsys.evaluation.statistics.moments import Moments


def fault_checks(
    units: UnitTable,
    by_arm: Mapping[str, Moments],
    design: Design,
    config: ReadoutConfig,
    log: LogFacts,
    effects: Sequence[Effect],
) -> tuple[HealthCheck, ...]:
    """Return what is known before the verdict; the largest unit is looked at after it."""
    return (
        duplicate_rows(units),
        impossible_counts(units, design),
        constant_in_an_arm(units, design, config),
        one_row_dominates(units, design),
        covariate_timing(effects, design),
        lost_outcomes(by_arm, design, config),
        *acceptance_checks(units, config.warning_alpha),
        shares_over_time(log, design, config),
        other_experiments(log, config),
        guardrail_directions(design),
    )
