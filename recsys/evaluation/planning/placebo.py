"""A plan tried on the firm's own past, where no offer was made: how often it would have decided, and wrongly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recsys.arrays import BoolArray, FloatArray
from recsys.errors import ReadoutError
from recsys.evaluation.planning.history import PastBehaviour
from recsys.evaluation.planning.placebo_results import DrawnRate, Placebo, PlaceboErrors, PlaceboPower, band_of
from recsys.evaluation.planning.redrawing import redrawn, with_planted
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.statistics.effects import EffectConfig, EffectEstimate, contributions, difference
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments, moments_of_rows
from recsys.evaluation.statistics.randomisation import judge_tails, randomisation_interval
from recsys.evaluation.statistics.significance_tests import score_statistic
from recsys.experiments.plan import ExperimentPlan

PLACEBO_DRAWS: Final = 2_000
DEFAULT_EFFECT: Final = 0.1
"""Planted where neither the plan nor anybody else names one."""


class _Judged(NamedTuple):
    """What each draw led to, shape `(n_draws,)`."""

    ship: BoolArray
    harmed: BoolArray
    broken: BoolArray
    covers: BoolArray
    randomised: BoolArray


class _Past(NamedTuple):
    """What every draw is made of: the accounts' values, their moments, the plan, the metrics that decide."""

    values: Mapping[str, FloatArray]
    everybody: Moments
    yes_or_no: frozenset[str]
    plan: ExperimentPlan
    primary: Metric
    guardrails: tuple[Metric, ...]


class _Interval(NamedTuple):
    """The interval that decides, one a draw."""

    low: FloatArray
    high: FloatArray
    found: EffectEstimate
    randomised: BoolArray


def placebo_of(
    history: PastBehaviour,
    plan: ExperimentPlan,
    *,
    effects: Sequence[float] | None = None,
    draws: int = PLACEBO_DRAWS,
    clusters: NDArray[np.object_] | None = None,
) -> Placebo:
    """Return how a plan would have decided over a past run in which nothing was tested.

    Accounts are assigned anew in every draw, with the plan's shares, and judged by the code that judges a real
    experiment at its planned end. The generator's seed is the plan's salt: the same plan and past, the same result.

    Args:
        history: accounts of a run as long as the plan's, with the plan's roles.
        plan: what will decide.
        effects: relative effects of the primary that are planted to see how often they ship; the plan must find the
            largest of them. None: the plan's practical margin, and 0.1 where it has none.
        draws: assignments.
        clusters: group of each account of `history.units`; accounts of one group get the same arm. They are judged by
            account, as the readout does, unless the plan names a cluster.

    Raises:
        ReadoutError: past orders do not hold the primary, or every draw leaves an arm without two units.
    """
    primary = next((metric for metric in history.metrics if metric.role == "primary"), None)
    if primary is None:
        raise ReadoutError(
            f"primary {plan.primary!r} does not vary in past orders, must do so to be tried; give a longer history"
        )
    planted = _planted(plan, effects)
    judged, groups = _capped(history, primary, plan), None
    if clusters is not None and plan.cluster is not None:
        judged = judged.by_cluster(clusters)
    elif clusters is not None:
        groups = np.unique(clusters.astype(str), return_inverse=True)[1]
    past = _past(judged, plan)
    drawn = redrawn(past.values, plan, draws, groups)
    usable = np.all([arm.n >= 2 for arm in drawn], axis=0)
    if not usable.any():
        raise ReadoutError(f"an arm has fewer than 2 of {history.n_accounts:,} accounts in every draw; give more")
    arms = [arm[np.flatnonzero(usable).tolist()] for arm in drawn]
    decided = _judged(past, arms)
    return Placebo(
        plan=plan.id,
        n_draws=draws,
        n_refused=int(draws - usable.sum()),
        n_accounts=history.n_accounts,
        n_buyers=history.n_buyers,
        entry=history.entry,
        smallest_arm=float(min(arm.n.mean() for arm in arms)),
        planned_size=plan.planned_size,
        n_clusters=None if clusters is None else len(set(clusters.astype(str))),
        errors=_errors(decided, past),
        fixed=_errors(_judged(past, arms, always_fixed=True), past),
        randomised=float(decided.randomised.mean()),
        power=tuple(PlaceboPower(effect, float(_judged(past, arms, planted=effect).ship.mean())) for effect in planted),
        planned_effect=max(planted, key=lambda effect: primary.sign * effect),
        left_out=history.left_out,
    )


def _planted(plan: ExperimentPlan, effects: Sequence[float] | None) -> tuple[float, ...]:
    """The effects that are planted; what the plan itself looks for is an improvement."""
    if effects is None:
        sign = 1 if plan.primary_direction == "higher_is_better" else -1
        return (sign * (plan.practical_margin or DEFAULT_EFFECT),)
    if not effects or not all(math.isfinite(effect) and effect for effect in effects):
        raise ReadoutError(f"effects == {list(effects)}, must be one or more shares other than 0, as 0.05")
    return tuple(effects)


def _errors(judged: _Judged, past: _Past) -> PlaceboErrors:
    a_side = past.plan.alpha / 2
    return PlaceboErrors(
        _rate(judged.ship, a_side),
        _rate(judged.harmed, a_side),
        _rate(judged.broken, min(1.0, a_side * len(past.guardrails))),
        _rate(judged.covers, 1 - past.plan.alpha),
    )


def _rate(happened: BoolArray, stated: float) -> DrawnRate:
    n = len(happened)
    return DrawnRate(float(happened.mean()), stated, *band_of(stated, n))


def _capped(history: PastBehaviour, primary: Metric, plan: ExperimentPlan) -> PastBehaviour:
    """The past with the primary's values capped where the plan says so."""
    column = primary.value.numerator
    if plan.cap_percentile is None or column in history.yes_or_no:
        return history
    value = history.values[column]
    cap = float(np.quantile(value[value > 0], plan.cap_percentile))
    return replace(history, values={**history.values, column: np.minimum(value, cap)})


def _past(history: PastBehaviour, plan: ExperimentPlan) -> _Past:
    primary = next(metric for metric in history.metrics if metric.role == "primary")
    guardrails = tuple(metric for metric in history.metrics if metric.role == "guardrail")
    columns = dict.fromkeys(column for metric in (primary, *guardrails) for column in metric.columns)
    values = {name: history.values[name] for name in columns}
    everybody = moments_of_rows(tuple(values), np.column_stack(list(values.values())))
    return _Past(values, everybody, history.yes_or_no, plan, primary, guardrails)


def _judged(past: _Past, arms: Sequence[Moments], *, planted: float = 0.0, always_fixed: bool = False) -> _Judged:
    """Judge every draw by the rules of the verdict, ROLL BACK before SHIP."""
    control, *treated = arms
    nothing = np.zeros(len(control.n), dtype=bool)
    found = _Judged(nothing, nothing, nothing, ~nothing, nothing)
    sign = past.primary.sign
    for arm in (with_planted(arm, past.primary, planted, past.yes_or_no) for arm in treated):
        effect = _interval(past, control, arm, past.primary, past.plan.alpha / len(treated), always_fixed)
        above, below = effect.low > 0, effect.high < 0
        better, harmed = (above, below) if sign > 0 else (below, above)
        broken = nothing
        for guardrail in past.guardrails:
            kept, gone = _guarded(past, control, arm, guardrail, always_fixed)
            better, broken = better & kept, broken | gone
        found = _Judged(
            found.ship | (better & ~harmed & ~broken),
            found.harmed | harmed,
            found.broken | broken,
            found.covers & ~above & ~below,
            found.randomised | effect.randomised,
        )
    return found


def _interval(
    past: _Past, control: Moments, arm: Moments, metric: Metric, alpha: float, always_fixed: bool
) -> _Interval:
    """The interval that decides at the planned end: fixed-horizon, or randomisation where that would err.

    Which one, and its quantiles, come from the values of everybody: in two arms these are the units of every draw. A
    planted effect leaves them as they are.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = difference(control, arm, metric, EffectConfig(alpha=alpha, tuned_at=2 * past.plan.planned_size))
    low, high, randomised = found.low.copy(), found.high.copy(), np.zeros(len(found.low), dtype=bool)
    if always_fixed:
        return _Interval(low, high, found, randomised)
    parts = contributions(past.everybody, past.everybody, metric, past.values)
    judge = cache(
        lambda n_arm, n_control: judge_tails(
            parts,
            n_arm=n_arm,
            n_control=n_control,
            n_nonzero=0,
            alpha=alpha,
            tolerance=ReadoutConfig().tail_tolerance,
        )
    )
    may_scale = past.values[metric.value.numerator].min() >= 0
    for at, (n_arm, n_control) in enumerate(zip(arm.n.astype(int), control.n.astype(int), strict=True)):
        tails = judge(int(n_arm), int(n_control))
        if not tails.is_fit:
            mean = float(found.control_mean[at])
            scale = mean if may_scale and n_arm < n_control and mean > 0 else None
            welch = (float(low[at]), float(high[at]))
            low[at], high[at] = randomisation_interval(float(found.effect[at]), tails, scale, welch)
            randomised[at] = True
    return _Interval(low, high, found, randomised)


def _guarded(
    past: _Past, control: Moments, arm: Moments, metric: Metric, always_fixed: bool
) -> tuple[BoolArray, BoolArray]:
    """Whether each draw shows a guardrail kept, and whether it shows it broken."""
    is_yes_or_no = metric.value.numerator in past.yes_or_no
    is_scored = metric.before is None and metric.value.denominator is None and is_yes_or_no
    low, high, found, _ = _interval(past, control, arm, metric, past.plan.alpha, always_fixed or is_scored)
    scale = np.abs(found.control_mean) if metric.margin_is_relative else np.ones(len(low))
    margin = (metric.margin or 0.0) * scale
    if is_scored:
        return _scored(found, metric, margin, past.plan.alpha)
    return (low > -margin, high < -margin) if metric.sign > 0 else (high < margin, low > margin)


def _scored(found: EffectEstimate, metric: Metric, margin: FloatArray, alpha: float) -> tuple[BoolArray, BoolArray]:
    """The score interval excludes the margin exactly where the test at the margin rejects."""
    z = float(stats.norm.ppf(1 - alpha / 2))
    events = (np.rint(found.arm_mean * found.n_arm), np.rint(found.control_mean * found.n_control))
    rows = zip(events[0], found.n_arm, events[1], found.n_control, -metric.sign * margin, strict=True)
    at_margin = np.array([score_statistic(int(a), int(m), int(b), int(n), gap) for a, m, b, n, gap in rows])
    return metric.sign * at_margin > z, metric.sign * at_margin < -z


def run_days_of(plan: ExperimentPlan) -> int:
    """Return for how many days units enter."""
    return math.ceil((plan.planned_end - plan.planned_start).total_seconds() / 86_400)
