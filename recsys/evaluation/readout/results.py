"""What a readout found, all of it, and how it reads as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import datetime
from typing import Final

import pandas as pd

from recsys.contracts.events import ExperimentDecision
from recsys.evaluation.readout.arm_effects import Effect, IncrementalShare, MonetaryImpact
from recsys.evaluation.readout.breakdowns import Heterogeneity, Histogram, SegmentEffect, Variant
from recsys.evaluation.readout.concurrent.interactions import Interaction
from recsys.evaluation.readout.design import Timing
from recsys.evaluation.readout.health import HealthCheck
from recsys.evaluation.readout.over_time import Look, Novelty
from recsys.evaluation.readout.verdict import Verdict
from recsys.evaluation.statistics.decomposition import Decomposition
from recsys.evaluation.statistics.moments import Sums

_SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """The plan that a readout judged by."""

    id: str
    version: int
    plan_hash: str
    started_at: datetime
    planned_end: datetime


@dataclass(frozen=True)
class Readout:
    """Everything that a reviewer needs.

    Attributes:
        experiment: its name.
        control: the arm that others are compared with.
        unit: what was assigned.
        alpha: two-sided error of the primary.
        correction: of the secondary family.
        practical_margin: share of the control's mean.
        plan: None for a table from elsewhere.
        shares: planned, by arm.
        counts: units by arm.
        health: checks in order.
        verdict: what to do.
        effects: one an arm and metric.
        decompositions: one an arm.
        money: one an arm.
        incremental: one an arm, where attributed revenue is known.
        segments: pre-declared.
        sensitivity: the grid.
        looks: by day and arm, where days are known.
        novelty: one an arm, where days are known.
        histogram: of the primary's column.
        notes: what a reader must know about the data.
        metric_columns: formula of each metric, as `revenue / orders`.
        covariates: formula of each covariate.
        caps: value of each cap by column.
        sums: from which every number can be recomputed.
        timing: as of when it judges, and how much of the plan is there.
        interactions: with other experiments on the same units at the same time.
        heterogeneity: one test a segment and arm of whether the effect differs between its levels.
        decision: that is stored already; what was looked at later does not change it.
    """

    experiment: str
    control: str
    unit: str
    alpha: float
    correction: str
    practical_margin: float
    plan: PlanFacts | None
    shares: Mapping[str, float]
    counts: Mapping[str, int]
    health: tuple[HealthCheck, ...]
    verdict: Verdict
    effects: tuple[Effect, ...]
    decompositions: tuple[Decomposition, ...]
    money: tuple[MonetaryImpact, ...]
    incremental: tuple[IncrementalShare, ...]
    segments: tuple[SegmentEffect, ...]
    sensitivity: tuple[Variant, ...]
    looks: tuple[Look, ...]
    novelty: tuple[Novelty, ...]
    histogram: Histogram | None
    notes: tuple[str, ...]
    metric_columns: Mapping[str, str]
    covariates: Mapping[str, str]
    caps: Mapping[str, float]
    planned_units: float
    sums: tuple[Sums, ...]
    timing: Timing
    interactions: tuple[Interaction, ...] = ()
    heterogeneity: tuple[Heterogeneity, ...] = ()
    decision: ExperimentDecision | None = None

    def to_dict(self) -> dict[str, object]:
        """Return JSON values, with the version of their layout; NaN and infinities become null."""
        return {"schema_version": _SCHEMA_VERSION} | {
            field.name: json_value(getattr(self, field.name)) for field in fields(self)
        }

    def to_json(self) -> str:
        """Return the text of `readout.json`."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def to_frame(self) -> pd.DataFrame:
        """Return one row an effect, of one arm on one metric, with the fields of `Effect` as columns."""
        return pd.DataFrame([asdict(found) for found in self.effects], columns=[field.name for field in fields(Effect)])

    def effect(self, metric: str, arm: str) -> Effect:
        """Return one effect.

        Raises:
            KeyError: no such metric or arm.
        """
        for found in self.effects:
            if (found.metric, found.arm) == (metric, arm):
                return found
        raise KeyError(f"no effect of {arm!r} on {metric!r}")


def json_value(value: object) -> object:
    """Return a typed value as JSON knows it."""
    if isinstance(value, Sums):
        by_arm = {arm: value.moments[at].to_dict() for at, arm in enumerate(value.arms)}
        return {"slice": value.slice, "arms": by_arm}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [json_value(item) for item in value]
    return value
