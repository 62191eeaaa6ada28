"""From moments to effects: every arm and metric, corrected, with the interval that decides; the primary as money."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.tails import decision_alpha
from recsys.evaluation.statistics.column_facts import ColumnFacts
from recsys.evaluation.statistics.effects import EffectConfig, EffectEstimate, difference
from recsys.evaluation.statistics.metric import UNITS, Metric, Role
from recsys.evaluation.statistics.moments import Moments
from recsys.evaluation.statistics.quantiles import NO_QUANTILES, QuantileDifference, Quantiles
from recsys.evaluation.statistics.randomisation import Tails, randomisation_interval
from recsys.evaluation.statistics.significance_tests import adjusted_p_values, score_interval
from recsys.experiments.known_metrics import MetricUnit
from recsys.experiments.plan import MetricDirection


@dataclass(frozen=True, slots=True)
class MonetaryImpact:
    """The primary effect over the arm's units.

    Attributes:
        arm: the arm.
        metric: the primary metric.
        total: effect x units of the arm.
        low: of the interval that decides.
        high: its upper limit.
        n_units: units of the arm.
        coverage: of the interval.
        share_of_units: units of the arm among all assigned.
        currency: of the money; None where it is not known.
        decided_by: which kind of interval that is.
    """

    arm: str
    metric: str
    total: float
    low: float
    high: float
    n_units: int
    coverage: float
    share_of_units: float
    currency: str | None = None
    decided_by: Decider = "fixed"


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


Decider = Literal["fixed", "anytime", "randomisation", "pooled"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One arm against control on one metric.

    Attributes:
        metric: its name.
        arm: the arm.
        role: what the metric is for.
        direction: which way is good.
        estimator: in words, with the cap where there is one.
        control_mean: as it happened, without CUPED (capped where the estimator says so); the quantile of a quantile.
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
        anytime_low: interval at `1 - alpha` that holds at every look; NaN of a quantile, for which none is known.
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
        unit: of the metric's values.
        currency: of money; None where it is not known.
        tails: how far the fixed-horizon interval can be trusted; None for metrics that decide nothing.
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
    unit: MetricUnit = "number"
    currency: str | None = None
    tails: Tails | None = None

    @property
    def is_worse(self) -> bool:
        """Whether the estimate lies on the bad side of zero, by however little."""
        return self.effect < 0 if self.direction == "higher_is_better" else self.effect > 0


def effects_of(
    by_arm: Mapping[str, Moments],
    design: Design,
    config: ReadoutConfig,
    facts: Mapping[str, ColumnFacts],
    tails: Mapping[tuple[str, str], Tails],
    *,
    use_cuped: bool = True,
    quantiles: Quantiles = NO_QUANTILES,
) -> tuple[Effect, ...]:
    """Return one effect an arm and metric, p-values adjusted over their families; of quantiles those that are given."""
    found = [
        _effect(by_arm, arm, metric, design, config, facts, tails.get((metric.name, arm)), use_cuped=use_cuped)
        if metric.value.quantile is None
        else _quantile_effect(quantiles[metric.name, arm], arm, metric, is_final=design.stage.is_final)
        for metric in design.metrics
        for arm in design.treatments
        if metric.value.quantile is None or (metric.name, arm) in quantiles
    ]
    families = (
        [i for i, effect in enumerate(found) if effect.role == "primary"],
        [i for i, effect in enumerate(found) if effect.role in {"secondary", "diagnostic"}],
    )
    # The primary over the arms by Holm: a false claim there ships something. Guardrails must all pass: no correction.
    for family, correction in zip(families, ("holm", config.correction), strict=True):
        adjusted = adjusted_p_values([found[i].p_value for i in family], "bh" if correction == "bh" else "holm")
        for i, p_value in zip(family, adjusted, strict=True):
            found[i] = replace(found[i], p_adjusted=p_value)
    return tuple(found)


def _effect(
    by_arm: Mapping[str, Moments],
    arm: str,
    metric: Metric,
    design: Design,
    config: ReadoutConfig,
    facts: Mapping[str, ColumnFacts],
    tails: Tails | None,
    *,
    use_cuped: bool,
) -> Effect:
    options = EffectConfig(alpha=config.alpha, tuned_at=config.planned_units, use_cuped=use_cuped)
    control, treated = by_arm[design.control], by_arm[arm]
    shown = difference(control, treated, metric, options)
    decided = difference(
        control, treated, metric, options.model_copy(update={"alpha": decision_alpha(metric, design, config)})
    )
    low, high, decided_by = _deciding(decided, metric, design, config, facts, tails)
    margin = _margin(metric, shown)
    return Effect(
        metric=metric.name,
        arm=arm,
        role=metric.role,
        direction=metric.direction,
        estimator=_estimator(metric, design, use_cuped=use_cuped),
        control_mean=float(shown.control_mean),
        arm_mean=float(shown.arm_mean),
        n_control=int(shown.n_control),
        n_arm=int(shown.n_arm),
        effect=float(shown.effect),
        effect_low=float(shown.low),
        effect_high=float(shown.high),
        relative=_known(shown.relative),
        relative_low=_known(shown.relative_low),
        relative_high=_known(shown.relative_high),
        p_value=float(shown.p_value),
        p_adjusted=float(shown.p_value),
        anytime_low=float(shown.anytime_low),
        anytime_high=float(shown.anytime_high),
        standard_error=float(shown.se),
        degrees_of_freedom=float(shown.df),
        variance_ratio=float(shown.variance_ratio),
        decision_low=low,
        decision_high=high,
        decided_by=decided_by,
        margin=margin,
        is_non_inferior=_non_inferior(metric, low, high, margin),
        is_harmed=_harmed(metric, low, high, margin),
        denominator_metric=metric.denominator_metric,
        unit=_unit(metric, facts),
        currency=metric.currency,
        tails=tails,
    )


def _quantile_effect(found: QuantileDifference, arm: str, metric: Metric, *, is_final: bool) -> Effect:
    """No anytime-valid interval is known for a quantile: before the end nothing may be read off it."""
    low, high = float(found.low), float(found.high)
    return Effect(
        metric=metric.name,
        arm=arm,
        role=metric.role,
        direction=metric.direction,
        estimator=f"difference of {metric.value.quantile:g} quantiles of units, order statistics",
        control_mean=float(found.control),
        arm_mean=float(found.arm),
        n_control=found.n_control,
        n_arm=found.n_arm,
        effect=float(found.arm - found.control),
        effect_low=low,
        effect_high=high,
        relative=None,
        relative_low=None,
        relative_high=None,
        p_value=float(found.p_value),
        p_adjusted=float(found.p_value),
        anytime_low=math.nan,
        anytime_high=math.nan,
        standard_error=float(found.se),
        degrees_of_freedom=math.nan,
        variance_ratio=1.0,
        decision_low=low if is_final else math.nan,
        decision_high=high if is_final else math.nan,
        decided_by="fixed" if is_final else "anytime",
        margin=None,
        is_non_inferior=None,
        is_harmed=False,
        denominator_metric=None,
        unit=metric.unit,
        currency=metric.currency,
    )


def _deciding(
    decided: EffectEstimate,
    metric: Metric,
    design: Design,
    config: ReadoutConfig,
    facts: Mapping[str, ColumnFacts],
    tails: Tails | None,
) -> tuple[float, float, Decider]:
    """Fixed at the planned end, anytime-valid before; a guardrail that is a proportion by its score interval.

    Where the fixed interval would err more often than stated, the randomisation interval takes its place; where only
    sums are known, the wider of Welch's and the pooled interval, which errs no more on either side but finds less.
    """
    if not design.stage.is_final:
        return float(decided.anytime_low), float(decided.anytime_high), "anytime"
    column = facts.get(metric.value.numerator)
    is_proportion = metric.value.denominator is None and metric.before is None and column and column.is_binary
    if metric.role == "guardrail" and is_proportion:
        n_arm, n_control = int(decided.n_arm), int(decided.n_control)
        events = (round(float(decided.arm_mean) * n_arm), round(float(decided.control_mean) * n_control))
        return *score_interval(events[0], n_arm, events[1], n_control, config.alpha), "fixed"
    if tails is not None and not tails.is_fit and tails.skewness is None:
        reach = float(decided.effect - decided.low)
        pooled = float(stats.t.ppf(1 - tails.stated_error, decided.n_arm + decided.n_control - 2) * decided.pooled_se)
        half = max(reach, pooled)
        return float(decided.effect) - half, float(decided.effect) + half, "pooled"
    if tails is not None and not tails.is_fit:
        scales = column is not None and column.low >= 0 and decided.n_arm < decided.n_control
        mean, welch = float(decided.control_mean), (float(decided.low), float(decided.high))
        interval = randomisation_interval(float(decided.effect), tails, mean if scales and mean > 0 else None, welch)
        return *interval, "randomisation"
    return float(decided.low), float(decided.high), "fixed"


def _unit(metric: Metric, facts: Mapping[str, ColumnFacts]) -> MetricUnit:
    """A mean of yes and no is a share, whatever it is called."""
    column = facts.get(metric.value.numerator)
    is_yes_or_no = metric.value.is_mean and column is not None and column.is_binary
    return "share" if is_yes_or_no else metric.unit


def _margin(metric: Metric, shown: EffectEstimate) -> float | None:
    if metric.margin is None or not metric.margin_is_relative:
        return metric.margin
    return metric.margin * abs(float(shown.control_mean))


def _non_inferior(metric: Metric, low: float, high: float, margin: float | None) -> bool | None:
    if margin is None:
        return None
    return low > -margin if metric.sign > 0 else high < margin


def _harmed(metric: Metric, low: float, high: float, margin: float | None) -> bool:
    if metric.role not in {"primary", "guardrail"}:
        return False
    border = margin or 0.0
    return high < -border if metric.sign > 0 else low > border


def _estimator(metric: Metric, design: Design, *, use_cuped: bool) -> str:
    name = "difference of means" if metric.value.is_mean else "difference of ratios, delta method"
    clustered = ", errors by cluster" if metric.value.denominator == UNITS else ""
    adjusted = ", CUPED" if metric.before is not None and use_cuped else ""
    capped = ", capped" if metric.value.numerator in design.capped else ""
    return f"{name}, Welch{adjusted}{capped}{clustered}"


def _known(value: object) -> float | None:
    number = float(value)  # type: ignore[arg-type]
    return number if number == number else None


def money_of(effects: Sequence[Effect], counts: Mapping[str, int], config: ReadoutConfig) -> tuple[MonetaryImpact, ...]:
    """Return the primary effect times the units of each arm, where it is money, with the interval that decides."""
    everybody, n_arms = sum(counts.values()), len(counts) - 1
    return tuple(
        MonetaryImpact(
            arm=effect.arm,
            metric=effect.metric,
            total=effect.effect * counts[effect.arm],
            low=effect.decision_low * counts[effect.arm],
            high=effect.decision_high * counts[effect.arm],
            n_units=counts[effect.arm],
            coverage=1 - config.alpha / n_arms,
            share_of_units=counts[effect.arm] / everybody,
            currency=effect.currency,
            decided_by=effect.decided_by,
        )
        for effect in effects
        if effect.role == "primary" and effect.unit == "money"
    )


def incremental_shares(
    by_arm: Mapping[str, Moments], design: Design, config: ReadoutConfig
) -> tuple[IncrementalShare, ...]:
    """Return, for each arm, the effect on the primary over the revenue credited to its offers.

    Formula: `s = (y_arm - y_control) / a_arm`, with variance `(var_arm(y - s a) / n_arm + var_control(y) / n_control) /
    a_arm^2` (delta method). Near 1 the credited purchases were added; near 0 they were only moved.
    """
    primary, credited = design.primary, design.attributed
    if primary is None or credited is None or primary.value.denominator is not None:
        return ()
    z = float(stats.norm.ppf(1 - config.alpha / 2))
    control = by_arm[design.control]
    return tuple(_share(control, by_arm[arm], arm, primary.value.numerator, credited, z) for arm in design.treatments)


def _share(control: Moments, arm: Moments, name: str, value: str, credited: str, z: float) -> IncrementalShare:
    y, a = arm.at(value), arm.at(credited)
    effect, attributed = float(arm.mean[y] - control.mean[y]), float(arm.mean[a])
    attributed_variance = float(arm.cov[a, a] / arm.n)
    if attributed <= 0 or z**2 * attributed_variance >= attributed**2:
        return IncrementalShare(name, effect, attributed, None, None, None)
    share = effect / attributed
    own = arm.cov[y, y] - 2 * share * arm.cov[y, a] + share**2 * arm.cov[a, a]
    reach = z * float(np.sqrt(max(own, 0.0) / arm.n + control.cov[y, y] / control.n)) / attributed
    return IncrementalShare(name, effect, attributed, share, share - reach, share + reach)
