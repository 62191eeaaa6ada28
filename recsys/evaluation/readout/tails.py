"""Whether the fixed-horizon interval errs as stated on this experiment's units."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.units import UnitTable
from recsys.evaluation.statistics.effects import contributions
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments
from recsys.evaluation.statistics.randomisation import Tails, judge_tails


def tails_of(
    units: UnitTable, by_arm: Mapping[str, Moments], design: Design, config: ReadoutConfig, *, use_cuped: bool = True
) -> dict[tuple[str, str], Tails]:
    """Return, for each arm and metric that decides, whether the fixed-horizon interval errs as stated there."""
    return {
        (metric.name, arm): _tails(units, by_arm, arm, metric, design, config, use_cuped=use_cuped)
        for metric in design.metrics
        if metric.role in {"primary", "guardrail"}
        for arm in design.treatments
    }


def _tails(
    units: UnitTable,
    by_arm: Mapping[str, Moments],
    arm: str,
    metric: Metric,
    design: Design,
    config: ReadoutConfig,
    *,
    use_cuped: bool,
) -> Tails:
    control, treated = by_arm[design.control], by_arm[arm]
    rows = {name: units.rows(name, metric.columns) for name in (design.control, arm)}
    smaller = arm if treated.n < control.n else design.control
    together = {name: np.concatenate([rows[side][name] for side in rows]) for name in metric.columns}
    return judge_tails(
        contributions(control, treated, metric, together, use_cuped=use_cuped),
        n_arm=int(treated.n),
        n_control=int(control.n),
        n_nonzero=int(np.count_nonzero(rows[smaller][metric.value.numerator])),
        alpha=decision_alpha(metric, design, config),
        tolerance=config.tail_tolerance,
    )


def decision_alpha(metric: Metric, design: Design, config: ReadoutConfig) -> float:
    """Return the error of the interval that decides on one arm and metric: the primary's is shared by the arms."""
    return config.alpha / (len(design.treatments) if metric.role == "primary" else 1)
