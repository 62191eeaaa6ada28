"""The typed values of a readout: effects, verdict, the views beside them, and all of it as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Final, Literal

from recsys.evaluation.statistics.decomposition import Decomposition
from recsys.evaluation.statistics.metric import Role
from recsys.evaluation.statistics.moments import Moments
from recsys.experiments.plan import MetricDirection

VerdictName = Literal["INVALID", "ROLL BACK", "SHIP", "FLAT", "KEEP RUNNING", "DISCUSS"]


@dataclass(frozen=True, slots=True)
class MonetaryImpact:
    """The primary effect over the arm's units.

    Attributes:
        arm: the arm.
        metric: the primary metric.
        total: effect x units of the arm.
        low: fixed-horizon interval.
        high: its upper limit.
        n_units: units of the arm.
        coverage: of the interval.
        share_of_units: units of the arm among all assigned.
    """

    arm: str
    metric: str
    total: float
    low: float
    high: float
    n_units: int
    coverage: float
    share_of_units: float


@dataclass(frozen=True, slots=True)
class IncrementalShare:
    """How much of the attributed revenue was added rather than moved.

    Attributes:
        arm: the arm.
        incremental: effect on the primary per unit.
        attributed: revenue credited to offers per treated unit.
        share: incremental over attributed; None where nothing clear is attributed.
        low: delta-method interval.
        high: its upper limit.
    """

    arm: str
    incremental: float
    attributed: float
    share: float | None
    low: float | None
    high: float | None


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
class Look:
    """The primary effect as it stood at the end of one day."""

    day: str
    arm: str
    n_control: int
    n_arm: int
    effect: float
    effect_low: float
    effect_high: float
    anytime_low: float
    anytime_high: float


@dataclass(frozen=True, slots=True)
class DayEffect:
    """The effect on the primary on one day since the start of a unit's window."""

    arm: str
    day: int
    effect: float
    effect_low: float
    effect_high: float


@dataclass(frozen=True, slots=True)
class Novelty:
    """Whether the effect fades: slope of the daily effect over the days since exposure, clustered by unit."""

    arm: str
    slope: float
    low: float
    high: float
    p_value: float
    days: tuple[DayEffect, ...]


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


_SCHEMA_VERSION: Final = 1

CheckStatus = Literal["passed", "failed", "warning", "not_checked"]
Decider = Literal["fixed", "anytime"]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One check of the data.

    Attributes:
        name: stands in JSON and in the report.
        status: `failed` makes the verdict INVALID; `not_checked` is not passed.
        detail: one sentence with the figures.
        p_value: of a test; None where the check is exact.
    """

    name: str
    status: CheckStatus
    detail: str
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """One arm against control on one metric.

    Attributes:
        metric: its name.
        arm: the arm.
        role: what the metric is for.
        direction: which way is good.
        estimator: in words, with the cap where there is one.
        control_mean: as it happened, without CUPED (capped where the estimator says so).
        arm_mean: likewise.
        n_control: units.
        n_arm: units.
        effect: absolute, adjusted by CUPED where the metric has a covariate.
        effect_low: fixed-horizon interval at `1 - alpha`.
        effect_high: its upper limit.
        relative: share of the control's mean; None where the interval would not make sense.
        relative_low: its interval.
        relative_high: its upper limit.
        p_value: two-sided.
        p_adjusted: over the arms for the primary, over the family for secondary metrics and diagnostics.
        anytime_low: interval at `1 - alpha` that holds at every look.
        anytime_high: its upper limit.
        standard_error: of the effect.
        degrees_of_freedom: Welch-Satterthwaite.
        variance_ratio: variance with CUPED over without.
        decision_low: the interval that decides, corrected over arms for the primary.
        decision_high: its upper limit.
        decided_by: which kind of interval that is.
        margin: of a guardrail, in the metric's unit.
        is_non_inferior: whether the deciding interval excludes the margin; None for other roles.
        is_harmed: whether it lies wholly on the bad side (of zero, or of a guardrail's margin).
        denominator_metric: where to see whether this ratio's denominator moved.
    """

    metric: str
    arm: str
    role: Role
    direction: MetricDirection
    estimator: str
    control_mean: float
    arm_mean: float
    n_control: int
    n_arm: int
    effect: float
    effect_low: float
    effect_high: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    p_value: float
    p_adjusted: float
    anytime_low: float
    anytime_high: float
    standard_error: float
    degrees_of_freedom: float
    variance_ratio: float
    decision_low: float
    decision_high: float
    decided_by: Decider
    margin: float | None
    is_non_inferior: bool | None
    is_harmed: bool
    denominator_metric: str | None


@dataclass(frozen=True, slots=True)
class ArmVerdict:
    """What to do with one arm.

    Attributes:
        arm: its name.
        verdict: the first rule that fitted.
        rule: that rule in words.
        reason: with the figures.
    """

    arm: str
    verdict: VerdictName
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class VerdictOverride:
    """A decision against the rules.

    Attributes:
        verdict: what was decided.
        reason: why, in writing.
    """

    verdict: VerdictName
    reason: str


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
class Sums:
    """Sufficient statistics of one slice of the data.

    Attributes:
        slice: `all`, `day=...` or `segment=level`.
        arms: in the order of the moments' leading axis.
        moments: counts, means, covariances by arm.
    """

    slice: str
    arms: tuple[str, ...]
    moments: Moments


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

    def to_dict(self) -> dict[str, object]:
        """Return JSON values, with the version of their layout; NaN and infinities become null."""
        return {"schema_version": _SCHEMA_VERSION} | {
            field.name: json_value(getattr(self, field.name)) for field in fields(self)
        }

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
