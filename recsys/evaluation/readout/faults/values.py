"""Values that can not be what they are said to be: constant in one arm, known too early, or one row of all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from recsys.evaluation.readout.arm_effects import Effect
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.health import CheckStatus, HealthCheck
from recsys.evaluation.readout.units import ARM, UnitTable
from recsys.evaluation.statistics.metric import Metric

SUSPECT_VARIANCE_RATIO: Final = 0.1
"""A covariate that takes away nine tenths of the variance knows the outcome: it is rarely from before the start."""
SAME_VALUE_RATIO: Final = 0.001
"""Below, the covariate is the outcome itself."""
_MOST = 0.5
_FEWEST = 20


def constant_in_an_arm(units: UnitTable, design: Design, config: ReadoutConfig) -> HealthCheck:
    """Return whether a metric has one value only in an arm where it varies in the others.

    By chance that happens with probability `(1 - p)^n`, `p` the share of other values in the other arms; it is a fault
    where that is below the error of the health checks.
    """
    name = "constant_in_an_arm"
    told: list[str] = []
    status: CheckStatus = "passed"
    for metric, arm, value, n_units, chance in _constants(units, design):
        if chance >= config.health_alpha:
            continue
        told.append(
            f"{metric.name} is {value:g} for all {n_units:,} units of {arm}, and varies elsewhere: was it measured?"
        )
        decides = metric.role in {"primary", "guardrail"}
        status = "failed" if decides or status == "failed" else "warning"
    return HealthCheck(name, status, "; ".join(told) or "every metric varies in every arm, or may not by chance")


def _constants(units: UnitTable, design: Design) -> Iterator[tuple[Metric, str, float, int, float]]:
    """Metric, arm, the only value, units of the arm, and how likely that is by chance."""
    metrics = _by_column(design)
    table = units.table
    asked: dict[str, Any] = {"n": table.count()}
    for i, metric in enumerate(metrics):
        asked |= {f"low{i}": table[metric.value.numerator].min(), f"high{i}": table[metric.value.numerator].max()}
    rows = table.group_by(ARM).agg(**asked).order_by(ARM).to_pyarrow().to_pylist()
    for i, metric in enumerate(metrics):
        for row in rows:
            if row[f"low{i}"] != row[f"high{i}"]:
                continue
            elsewhere = table.filter(table[ARM] != row[ARM])[metric.value.numerator]
            other = float((elsewhere != row[f"low{i}"]).mean().to_pyarrow().as_py())
            chance = math.exp(row["n"] * math.log1p(-other)) if other < 1 else 0.0
            yield metric, row[ARM], row[f"low{i}"], row["n"], chance


def _by_column(design: Design) -> list[Metric]:
    """One metric for each column above a fraction, the one that decides first; denominators may be constant."""
    ordered = sorted(design.metrics, key=lambda metric: metric.role not in {"primary", "guardrail"})
    found: dict[str, Metric] = {}
    for metric in ordered:
        if metric.role != "diagnostic":
            found.setdefault(metric.value.numerator, metric)
    return list(found.values())


class _Largest(NamedTuple):
    share: float
    metric: str
    arm: str
    value: float


def one_row_dominates(units: UnitTable, design: Design) -> HealthCheck:
    """Return whether one unit has more than half of what an arm has of a metric."""
    name = "one_row_dominates"
    table = units.table
    columns = {
        metric.value.numerator: metric.name
        for metric in _by_column(design)
        if not units.facts[metric.value.numerator].is_binary
    }
    if not columns:
        return HealthCheck(name, "passed", "no metric but yes and no: no unit can weigh more than another")
    asked: dict[str, Any] = {"n": table.count()}
    for i, column in enumerate(columns):
        asked |= {f"most{i}": table[column].abs().max(), f"sum{i}": table[column].abs().sum()}
    rows = table.group_by(ARM).agg(**asked).order_by(ARM).to_pyarrow().to_pylist()
    found = [
        _Largest(row[f"most{i}"] / row[f"sum{i}"], metric, row[ARM], row[f"most{i}"])
        for row in rows
        for i, metric in enumerate(columns.values())
        if row["n"] >= _FEWEST and row[f"sum{i}"] > 0
    ]
    if not found:
        return HealthCheck(name, "not_checked", f"needs {_FEWEST} units an arm")
    largest = max(found)
    words = f"one unit of {largest.arm} has {largest.value:,.6g} of {largest.metric}, {largest.share:.0%} of the arm"
    if largest.share <= _MOST:
        return HealthCheck(name, "passed", f"{words}: no unit is most of a metric")
    return HealthCheck(name, "warning", f"{words}: is it real? no interval can be trusted that hangs on one row")


def covariate_timing(effects: Sequence[Effect], design: Design) -> HealthCheck:
    """Return whether a covariate foretells its metric so well that it can hardly be from before the start."""
    name = "covariate_timing"
    adjusted = {metric.name for metric in design.metrics if metric.before is not None}
    known = [(_ratio_left(effect), effect.metric) for effect in effects if effect.metric in adjusted]
    if not known:
        return HealthCheck(name, "not_checked", "no covariate is used")
    left, metric = min(known)
    told = f"the covariate of {metric} leaves {left:.2%} of the variance"
    if left >= SUSPECT_VARIANCE_RATIO:
        return HealthCheck(name, "passed", f"{told}, a value from before the start rarely leaves under a tenth")
    if left >= SAME_VALUE_RATIO:
        why = "was it measured after the start? then it takes the effect away with the noise"
        return HealthCheck(name, "warning", f"{told}: {why}")
    return HealthCheck(name, "failed", f"{told}: it is the outcome itself and takes the effect away")


def _ratio_left(effect: Effect) -> float:
    """Nothing is left where the adjusted effect has no error at all, though the metric varies."""
    return effect.variance_ratio if effect.standard_error > 0 else 0.0
