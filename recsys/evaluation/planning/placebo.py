"""A plan tried on the firm's own past, where no offer was made: how often it would have decided, and wrongly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recsys.arrays import BoolArray, FloatArray
from recsys.errors import ReadoutError
from recsys.evaluation.planning.history import PastBehaviour, WhoEnters
from recsys.evaluation.planning.redrawing import redrawn, with_planted
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.statistics.effects import EffectConfig, EffectEstimate, contributions, difference
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments, moments_of_rows
from recsys.evaluation.statistics.randomisation import judge_tails, randomisation_interval
from recsys.evaluation.statistics.significance_tests import score_statistic
from recsys.experiments.plan import ExperimentPlan

PLACEBO_DRAWS: Final = 2_000
_BAND: Final = 0.999


@dataclass(frozen=True, slots=True)
class DrawnRate:
    """How often something happened over the draws, and how often it may have.

    Attributes:
        rate: share of the draws.
        stated: what the plan's alpha states.
        low: exact binomial band (99.9 %) of the stated rate for that many draws.
        high: its upper limit.
    """

    rate: float
    stated: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PlaceboErrors:
    """How one way of deciding errs where nothing happened.

    Attributes:
        ship: false SHIP; at most half of alpha is stated.
        roll_back: false ROLL BACK because of the primary; likewise.
        guardrails: false ROLL BACK because of a guardrail; at most half of alpha for each is stated.
        coverage: how often the primary's interval holds zero, in every arm.
    """

    ship: DrawnRate
    roll_back: DrawnRate
    guardrails: DrawnRate
    coverage: DrawnRate

    @property
    def named(self) -> dict[str, DrawnRate]:
        """The wrong decisions, by what a report calls them."""
        return {
            "false SHIP": self.ship,
            "false ROLL BACK by the primary": self.roll_back,
            "false ROLL BACK by a guardrail": self.guardrails,
        }

    @property
    def faults(self) -> tuple[str, ...]:
        """What lies outside its band, in words; a rate of errors below its band is none."""
        found = [
            f"{name} in {rate.rate:.1%} of the draws, at most {rate.high:.1%} may be"
            for name, rate in self.named.items()
            if rate.rate > rate.high
        ]
        if self.coverage.rate < self.coverage.low:
            low = self.coverage.low
            found.append(f"the interval holds the true effect in {self.coverage.rate:.1%}, at least {low:.1%} must be")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class PlaceboPower:
    """How often a planted effect is shipped.

    Attributes:
        relative: planted in every arm but control, as a share of the primary's mean.
        ship: share of the draws.
    """

    relative: float
    ship: float


@dataclass(frozen=True, slots=True)
class Placebo:
    """A plan on the firm's own past.

    Attributes:
        plan: id of the plan.
        n_draws: assignments drawn.
        n_refused: of them, those that no readout takes, as an arm has fewer than two units.
        n_accounts: accounts of the past run.
        n_buyers: of them, those that bought within their window.
        entry: who entered.
        smallest_arm: units in the smallest arm, on average.
        planned_size: what the plan asks for.
        n_clusters: groups that were drawn as a whole; None where accounts were.
        errors: of the readout, as it would decide at the planned end.
        fixed: the same if the fixed-horizon interval decided in every draw.
        randomised: share of the draws in which the randomisation interval decides on the primary instead.
        power: one a planted effect.
        left_out: guardrails and secondary metrics of the plan that past orders do not hold.
    """

    plan: str
    n_draws: int
    n_refused: int
    n_accounts: int
    n_buyers: int
    entry: WhoEnters
    smallest_arm: float
    planned_size: int
    n_clusters: int | None
    errors: PlaceboErrors
    fixed: PlaceboErrors
    randomised: float
    power: tuple[PlaceboPower, ...]
    left_out: tuple[str, ...]

    @property
    def is_fit(self) -> bool:
        """Whether the plan would have erred no more often than it states, by the fixed-horizon interval too."""
        return not self.errors.faults and not self.fixed.faults

    @property
    def sentence(self) -> str:
        """Whether the plan is fit, and why not."""
        if self.is_fit:
            return f"The plan is fit for this history: {self._errs}, as stated."
        if not self.errors.faults:
            return (
                "The plan is NOT FIT for this history: by the fixed-horizon interval "
                f"{'; '.join(self.fixed.faults)}. The readout sees it and decides by the randomisation interval in "
                f"{self.randomised:.0%} of the draws: {self._errs}. Remedy: {_MORE_EQUAL}."
            )
        remedy = _WHOLE_GROUPS if self.n_clusters is not None else _MORE_EQUAL
        return f"The plan is NOT FIT for this history: {'; '.join(self.errors.faults)}. Remedy: {remedy}."

    @property
    def _errs(self) -> str:
        named = self.errors.named if self.errors.guardrails.stated else dict(list(self.errors.named.items())[:2])
        covers = f"the interval holds the true effect in {self.errors.coverage.rate:.1%}"
        return ", ".join([*(f"{name} {rate.rate:.1%}" for name, rate in named.items()), covers])


_MORE_EQUAL = "give the arms more equal shares or more accounts, or state a cap (cap_percentile)"
_WHOLE_GROUPS = "judge by whole groups, as they are assigned (cluster in the plan), or assign by account"


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
    effects: Sequence[float] = (),
    draws: int = PLACEBO_DRAWS,
    clusters: NDArray[np.object_] | None = None,
) -> Placebo:
    """Return how a plan would have decided over a past run in which nothing was tested.

    Accounts are assigned anew in every draw, with the plan's shares, and judged by the code that judges a real
    experiment at its planned end. The generator's seed is the plan's salt: the same plan and past, the same result.

    Args:
        history: accounts of a run as long as the plan's, with the plan's roles.
        plan: what will decide.
        effects: relative effects of the primary that are planted to see how often they ship.
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
        power=tuple(PlaceboPower(effect, float(_judged(past, arms, planted=effect).ship.mean())) for effect in effects),
        left_out=history.left_out,
    )


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
    low, high = (float(stats.binom.ppf(at, n, stated)) / n for at in ((1 - _BAND) / 2, (1 + _BAND) / 2))
    return DrawnRate(float(happened.mean()), stated, low, high)


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
