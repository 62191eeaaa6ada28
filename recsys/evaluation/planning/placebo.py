"""A plan tried on the firm's own past, where no offer was made: how often it would have decided, and wrongly."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recsys.arrays import BoolArray, FloatArray, IntArray
from recsys.errors import ReadoutError
from recsys.evaluation.planning.history import PastBehaviour, WhoEnters
from recsys.evaluation.statistics.effects import EffectConfig, EffectEstimate, difference
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments
from recsys.evaluation.statistics.significance_tests import score_statistic
from recsys.experiments.plan import ExperimentPlan

PLACEBO_DRAWS: Final = 2_000
_BAND: Final = 0.999
_CELLS: Final = 8_000_000
"""Units x draws that are held in memory at once."""


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
        roll_back: false ROLL BACK; likewise.
        coverage: how often the primary's interval holds zero, in every arm.
    """

    ship: DrawnRate
    roll_back: DrawnRate
    coverage: DrawnRate

    @property
    def faults(self) -> tuple[str, ...]:
        """What lies outside its band, in words; a rate of errors below its band is none."""
        found = [
            f"{name} in {rate.rate:.1%} of the draws, at most {rate.high:.1%} may be"
            for name, rate in (("false SHIP", self.ship), ("false ROLL BACK", self.roll_back))
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
    power: tuple[PlaceboPower, ...]
    left_out: tuple[str, ...]

    @property
    def is_fit(self) -> bool:
        """Whether the plan would have erred no more often than it states."""
        return not self.errors.faults

    @property
    def sentence(self) -> str:
        """Whether the plan is fit, and why not."""
        if self.is_fit:
            covers = f"{self.errors.coverage.rate:.1%}"
            errs = f"false SHIP {self.errors.ship.rate:.1%}, false ROLL BACK {self.errors.roll_back.rate:.1%}"
            return f"The plan is fit for this history: {errs}, as stated; its interval covers in {covers}."
        remedy = (
            "judge by whole groups, as they are assigned (cluster in the plan), or assign by account"
            if self.n_clusters is not None
            else "give the arms more equal shares, more accounts, or state a cap (cap_percentile)"
        )
        return f"The plan is NOT FIT for this history: {'; '.join(self.errors.faults)}. Remedy: {remedy}."


class _Judged(NamedTuple):
    """What each draw led to, shape `(n_draws,)`."""

    ship: BoolArray
    roll_back: BoolArray
    covers: BoolArray


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
        clusters: group of each account of `history.units`; accounts of one group get the same arm.

    Raises:
        ReadoutError: past orders do not hold the primary, or every draw leaves an arm without two units.
    """
    primary = next((metric for metric in history.metrics if metric.role == "primary"), None)
    if primary is None:
        raise ReadoutError(
            f"primary {plan.primary!r} does not vary in past orders, must do so to be tried; give a longer history"
        )
    judged = (primary, *(metric for metric in history.metrics if metric.role == "guardrail"))
    groups = None if clusters is None else np.unique(clusters.astype(str), return_inverse=True)[1]
    arms = _drawn(_values(history, judged, plan), plan, draws, groups)
    usable = np.all([arm.n >= 2 for arm in arms], axis=0)
    if not usable.any():
        raise ReadoutError(f"an arm has fewer than 2 of {history.n_accounts:,} accounts in every draw; give more")
    arms = [arm[np.flatnonzero(usable).tolist()] for arm in arms]
    yes_or_no = history.yes_or_no
    nothing = _judged(arms, judged, plan, yes_or_no, 0.0)
    return Placebo(
        plan=plan.id,
        n_draws=draws,
        n_refused=int(draws - usable.sum()),
        n_accounts=history.n_accounts,
        n_buyers=history.n_buyers,
        entry=history.entry,
        smallest_arm=float(min(arm.n.mean() for arm in arms)),
        planned_size=plan.planned_size,
        n_clusters=None if groups is None else int(groups.max()) + 1,
        errors=_errors(nothing, plan),
        power=tuple(
            PlaceboPower(effect, float(_judged(arms, judged, plan, yes_or_no, effect).ship.mean()))
            for effect in effects
        ),
        left_out=history.left_out,
    )


def _errors(judged: _Judged, plan: ExperimentPlan) -> PlaceboErrors:
    n = len(judged.ship)
    return PlaceboErrors(
        _rate(judged.ship, plan.alpha / 2, n),
        _rate(judged.roll_back, plan.alpha / 2, n),
        _rate(judged.covers, 1 - plan.alpha, n),
    )


def _rate(happened: BoolArray, stated: float, n: int) -> DrawnRate:
    low, high = (float(stats.binom.ppf(at, n, stated)) / n for at in ((1 - _BAND) / 2, (1 + _BAND) / 2))
    return DrawnRate(float(happened.mean()), stated, low, high)


def _values(history: PastBehaviour, metrics: Sequence[Metric], plan: ExperimentPlan) -> Mapping[str, FloatArray]:
    """The columns that decide, the primary's capped where the plan says so."""
    values = {name: history.values[name] for metric in metrics for name in metric.columns}
    column = metrics[0].value.numerator
    if plan.cap_percentile is not None and column not in history.yes_or_no:
        cap = float(np.quantile(values[column][values[column] > 0], plan.cap_percentile))
        values[column] = np.minimum(values[column], cap)
    return values


def _drawn(
    values: Mapping[str, FloatArray], plan: ExperimentPlan, draws: int, groups: IntArray | None
) -> list[Moments]:
    """Return the moments of each arm, control first, with the draws as leading axis."""
    columns = tuple(values)
    rows = np.column_stack([values[name] for name in columns])
    centre = rows.mean(axis=0)
    rows = rows - centre
    low = np.tril_indices(len(columns))
    products = np.column_stack([np.ones(len(rows)), rows, rows[:, low[0]] * rows[:, low[1]]])
    n_arms = len(plan.arms)
    sums = np.concatenate(
        [
            np.stack([(arm == at).astype(np.float64) @ products for at in range(n_arms)], axis=1)
            for arm in _assignments(plan, draws, len(rows), groups)
        ]
    )
    return [_of_sums(columns, centre, sums[:, at]) for at in range(n_arms)]


def _assignments(plan: ExperimentPlan, draws: int, n_units: int, groups: IntArray | None) -> Iterator[IntArray]:
    """Yield the arm of every unit, control 0, for some draws at a time: shape `(n_some, n_units)`."""
    rng = np.random.default_rng(list(hashlib.blake2b(plan.salt.encode(), digest_size=16).digest()))
    edges = np.cumsum(plan.shares_from_control)[:-1]
    n_drawn = n_units if groups is None else int(groups.max()) + 1
    some = max(1, _CELLS // n_units)
    for start in range(0, draws, some):
        arms = np.searchsorted(edges, rng.random((min(some, draws - start), n_drawn)), side="right")
        yield arms if groups is None else arms[:, groups]


def _of_sums(columns: tuple[str, ...], centre: FloatArray, sums: FloatArray) -> Moments:
    """Moments from the number of units, the sums and the sums of products of centred values."""
    k = len(columns)
    n = sums[:, 0]
    low = np.tril_indices(k)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums[:, 1 : k + 1] / n[:, None]
        cov = np.empty((len(n), k, k))
        cov[:, low[0], low[1]] = cov[:, low[1], low[0]] = sums[:, k + 1 :]
        cov = (cov - n[:, None, None] * mean[:, :, None] * mean[:, None, :]) / (n - 1)[:, None, None]
    return Moments(columns, n, mean + centre, cov)


def _judged(
    arms: Sequence[Moments], metrics: Sequence[Metric], plan: ExperimentPlan, yes_or_no: frozenset[str], planted: float
) -> _Judged:
    """Judge every draw by the rules of the verdict, ROLL BACK before SHIP."""
    primary, *guardrails = metrics
    control, *treated = arms
    nothing = np.zeros(len(control.n), dtype=bool)
    ship, roll_back, covers = nothing, nothing, ~nothing
    for arm in treated:
        with_effect = _planted(arm, primary, planted, yes_or_no)
        found = _difference(control, with_effect, primary, plan, len(treated))
        better, harmed = (found.low > 0, found.high < 0) if primary.sign > 0 else (found.high < 0, found.low > 0)
        for guardrail in guardrails:
            kept, broken = _guarded(control, with_effect, guardrail, plan, yes_or_no)
            better, harmed = better & kept, harmed | broken
        ship, roll_back = ship | (better & ~harmed), roll_back | harmed
        covers = covers & (found.low <= 0) & (found.high >= 0)
    return _Judged(ship, roll_back, covers)


def _difference(control: Moments, arm: Moments, metric: Metric, plan: ExperimentPlan, n_arms: int) -> EffectEstimate:
    """The effect with the interval that decides at the planned end; its error is shared by the arms."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return difference(control, arm, metric, EffectConfig(alpha=plan.alpha / n_arms, tuned_at=2 * plan.planned_size))


def _guarded(
    control: Moments, arm: Moments, metric: Metric, plan: ExperimentPlan, yes_or_no: frozenset[str]
) -> tuple[BoolArray, BoolArray]:
    """Whether each draw shows a guardrail kept, and whether it shows it broken."""
    found = _difference(control, arm, metric, plan, 1)
    margin = (metric.margin or 0.0) * (np.abs(found.control_mean) if metric.margin_is_relative else 1.0)
    if metric.before is None and metric.value.denominator is None and metric.value.numerator in yes_or_no:
        return _scored(found, metric, np.broadcast_to(margin, found.effect.shape), plan.alpha)
    if metric.sign > 0:
        return found.low > -margin, found.high < -margin
    return found.high < margin, found.low > margin


def _scored(found: EffectEstimate, metric: Metric, margin: FloatArray, alpha: float) -> tuple[BoolArray, BoolArray]:
    """The score interval excludes the margin exactly where the test at the margin rejects."""
    z = float(stats.norm.ppf(1 - alpha / 2))
    events = (np.rint(found.arm_mean * found.n_arm), np.rint(found.control_mean * found.n_control))
    rows = zip(events[0], found.n_arm, events[1], found.n_control, -metric.sign * margin, strict=True)
    at_margin = np.array([score_statistic(int(a), int(m), int(b), int(n), gap) for a, m, b, n, gap in rows])
    return metric.sign * at_margin > z, metric.sign * at_margin < -z


def _planted(arm: Moments, metric: Metric, relative: float, yes_or_no: frozenset[str]) -> Moments:
    """Every unit's value times `1 + relative`; of yes and no the rate, with its own variance."""
    at = arm.at(metric.value.numerator)
    factor = 1 + relative
    scale = np.ones(len(arm.columns))
    scale[at] = factor
    mean, cov = arm.mean * scale, arm.cov * np.outer(scale, scale)
    if metric.value.numerator in yes_or_no:
        rate = np.minimum(mean[:, at], 1.0)
        cov[:, at, at] = rate * (1 - rate) * arm.n / (arm.n - 1)
    return replace(arm, mean=mean, cov=cov)


def run_days_of(plan: ExperimentPlan) -> int:
    """Return for how many days units enter."""
    return math.ceil((plan.planned_end - plan.planned_start).total_seconds() / 86_400)
