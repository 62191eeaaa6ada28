"""From moments to effects: every arm and metric, corrected, with the interval that decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.results import Effect
from recsys.evaluation.readout.units import ColumnFacts
from recsys.evaluation.statistics.effects import EffectConfig, EffectEstimate, difference
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments
from recsys.evaluation.statistics.significance_tests import adjusted_p_values, score_interval


def effects_of(
    by_arm: Mapping[str, Moments],
    design: Design,
    config: ReadoutConfig,
    facts: Mapping[str, ColumnFacts],
    *,
    use_cuped: bool = True,
) -> tuple[Effect, ...]:
    """Return one effect an arm and metric, p-values adjusted over their families."""
    found = [
        _effect(by_arm, arm, metric, design, config, facts, use_cuped=use_cuped)
        for metric in design.metrics
        for arm in design.treatments
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
    *,
    use_cuped: bool,
) -> Effect:
    options = EffectConfig(alpha=config.alpha, tuned_at=config.planned_units, use_cuped=use_cuped)
    control, treated = by_arm[design.control], by_arm[arm]
    shown = difference(control, treated, metric, options)
    n_arms = len(design.treatments) if metric.role == "primary" else 1
    decided = difference(control, treated, metric, options.model_copy(update={"alpha": config.alpha / n_arms}))
    low, high = _deciding(decided, metric, design, config, facts)
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
        decided_by="fixed" if design.stage.is_final else "anytime",
        margin=margin,
        is_non_inferior=_non_inferior(metric, low, high, margin),
        is_harmed=_harmed(metric, low, high, margin),
        denominator_metric=metric.denominator_metric,
    )


def _deciding(
    decided: EffectEstimate, metric: Metric, design: Design, config: ReadoutConfig, facts: Mapping[str, ColumnFacts]
) -> tuple[float, float]:
    """Fixed at the planned end, anytime-valid before; a guardrail that is a proportion by its score interval."""
    if not design.stage.is_final:
        return float(decided.anytime_low), float(decided.anytime_high)
    column = facts.get(metric.value.numerator)
    is_proportion = metric.value.denominator is None and metric.before is None and column and column.is_binary
    if metric.role == "guardrail" and is_proportion:
        n_arm, n_control = int(decided.n_arm), int(decided.n_control)
        events = (round(float(decided.arm_mean) * n_arm), round(float(decided.control_mean) * n_control))
        return score_interval(events[0], n_arm, events[1], n_control, config.alpha)
    return float(decided.low), float(decided.high)


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
    name = "difference of means" if metric.value.denominator is None else "difference of ratios, delta method"
    adjusted = ", CUPED" if metric.before is not None and use_cuped else ""
    capped = ", capped" if metric.value.numerator in design.capped else ""
    return f"{name}, Welch{adjusted}{capped}"


def _known(value: object) -> float | None:
    number = float(value)  # type: ignore[arg-type]
    return number if number == number else None
