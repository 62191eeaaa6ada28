"""What a programme of experiments has earned: effects shrunk by what all experiments found, beside the naive sum.

An experiment is shipped where its estimate came out high, so that estimates of shipped ones are too high on average: at
17 % power they average +5.0 % for a true +2 %. What all decided experiments found, shipped or not, tells how large true
effects are; each estimate moves towards their mean, the more the noisier it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr

from recsys.arrays import BoolArray, FloatArray
from recsys.errors import ReadoutError
from recsys.evaluation.readout.verdict import VerdictName

LEAST_EXPERIMENTS: Final = 5
"""Below, the spread of true effects is not known: nothing is shrunk."""
_GRID: Final = 400


@dataclass(frozen=True, slots=True)
class DecidedExperiment:
    """One experiment as it was decided.

    Attributes:
        experiment_id: its plan's id.
        verdict: what was decided: the override where there is one.
        effect: of the decided arm on the primary, in its unit.
        standard_error: of the effect.
        control_mean: of the primary.
        higher_is_better: whether a rise is good.
        measures_programme: whether control sees no offers: the effect is that of all that was shipped.
        metric: the primary; only effects on one metric are added up.
    """

    experiment_id: str
    verdict: VerdictName
    effect: float
    standard_error: float
    control_mean: float
    higher_is_better: bool = True
    measures_programme: bool = False
    metric: str = ""

    @property
    def relative(self) -> float:
        """Effect as a share of control's mean, above zero where it is good."""
        return (1 if self.higher_is_better else -1) * self.effect / abs(self.control_mean)

    @property
    def relative_error(self) -> float:
        """Standard error of `relative`."""
        return self.standard_error / abs(self.control_mean)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; relative effects are shares of control's mean.

    Attributes:
        value: the estimate.
        low: lower limit.
        high: upper limit.
    """

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The estimate and its interval in percent."""
        return f"{100 * self.value:+.1f} % ({100 * self.low:+.1f} % to {100 * self.high:+.1f} %)"


@dataclass(frozen=True, slots=True)
class ShrunkenEffect:
    """One shipped experiment.

    Attributes:
        experiment_id: its plan's id.
        naive: as it was measured.
        shrunken: after what all experiments found; None with too few of them.
    """

    experiment_id: str
    naive: Estimate
    shrunken: Estimate | None


@dataclass(frozen=True, slots=True)
class HoldoutEffect:
    """What accounts with offers bought more than those that saw none: all that was shipped, cumulated.

    Attributes:
        experiment_id: the experiment whose control sees no offers.
        cumulated: its relative effect.
    """

    experiment_id: str
    cumulated: Estimate


@dataclass(frozen=True, slots=True)
class Programme:
    """All decided experiments together.

    Attributes:
        verdicts: how many experiments by what was decided.
        n_decided: experiments with valid data that tested one change; the others are in `verdicts` only.
        win_rate: shipped over decided, with Wilson's interval; None with none.
        metric: that most of them had as primary; effects on it alone are shrunk and added up. None with none.
        n_other_metrics: decided experiments that had another.
        effects_mean: mean of the true relative effects, as estimated; None with too few experiments.
        effects_spread: their standard deviation, by restricted maximum likelihood.
        shipped: each shipped experiment with that primary.
        naive_total: relative effects of the shipped, added up as measured: too high.
        shrunken_total: the same shrunk; None with too few experiments.
        holdouts: what the experiments with a control without offers found.
    """

    verdicts: Mapping[VerdictName, int]
    n_decided: int
    win_rate: Estimate | None
    metric: str | None
    n_other_metrics: int
    effects_mean: float | None
    effects_spread: float | None
    shipped: tuple[ShrunkenEffect, ...]
    naive_total: Estimate
    shrunken_total: Estimate | None
    holdouts: tuple[HoldoutEffect, ...]

    @property
    def sentence(self) -> str:
        """What was shipped and what it brought."""
        if self.win_rate is None:
            return "No experiment with valid data is decided yet."
        rate = f"{self.win_rate.value:.0%}, {self.win_rate.low:.0%} to {self.win_rate.high:.0%}"
        n_shipped = round(self.win_rate.value * self.n_decided)
        parts = [f"{n_shipped} of {self.n_decided} decided experiments were shipped ({rate})"]
        if self.n_other_metrics:
            parts.append(f"with another primary than {self.metric}, not added up: {self.n_other_metrics}")
        if self.shipped:
            parts.append(f"as measured they add up to {100 * self.naive_total.value:+.1f} %, which is too high")
        if self.shipped and self.shrunken_total is not None:
            parts.append(f"shrunk by what all found {self.shrunken_total.text}")
        elif self.shipped:
            parts.append(f"below {LEAST_EXPERIMENTS} experiments nothing can be shrunk")
        parts += [
            f"accounts with offers against those without ({held.experiment_id}): {held.cumulated.text}"
            for held in self.holdouts
        ]
        return "; ".join(parts) + "."


def programme_of(decided: Sequence[DecidedExperiment]) -> Programme:
    """Return the figures of a programme.

    Formula: true relative effects are normal with mean `m` and spread `t`; estimates `d_i` add errors `s_i`. Given `t`,
    `m` is normal with mean `sum(d_i / v_i) / sum(1 / v_i)`, `v_i = s_i^2 + t^2`, and a shipped sum has the mean
    `sum(w_i d_i + (1 - w_i) m)`, `w_i = t^2 / v_i`, and the variance `sum(w_i s_i^2) + sum(1 - w_i)^2 var(m)`.
    Intervals are over all `t`, weighted by their restricted likelihood and Jeffreys' prior, so that they hold the
    uncertainty of both (Gelman et al., Bayesian Data Analysis, section 5.4; at the likeliest `t` alone they would cover
    86 %). That an experiment was shipped for its estimate needs no correction beyond this: the estimate is given.

    Raises:
        ReadoutError: a control's mean is zero or a standard error is not above zero.
    """
    for one in decided:
        if one.verdict != "INVALID" and not (one.control_mean and one.standard_error > 0):
            raise ReadoutError(
                f"{one.experiment_id} has the control mean {one.control_mean:g} and the standard error "
                f"{one.standard_error:g}, the mean must not be 0 and the error above 0; leave it out"
            )
    valid = [one for one in decided if one.verdict != "INVALID"]
    decided_on = [one for one in valid if not one.measures_programme]
    counts = Counter(one.metric for one in decided_on)
    metric = min(counts, key=lambda name: (-counts[name], name)) if counts else None
    tested = [one for one in decided_on if one.metric == metric]
    n_shipped = sum(one.verdict == "SHIP" for one in decided_on)
    found, error = np.array([one.relative for one in tested]), np.array([one.relative_error for one in tested])
    is_shipped = np.array([one.verdict == "SHIP" for one in tested], dtype=bool)
    shrink = _Shrinkage.of(found, error) if len(tested) >= LEAST_EXPERIMENTS else None
    return Programme(
        verdicts=dict(Counter(one.verdict for one in decided)),
        n_decided=len(decided_on),
        win_rate=_wilson(n_shipped, len(decided_on)) if decided_on else None,
        metric=metric,
        n_other_metrics=len(decided_on) - len(tested),
        effects_mean=shrink.mean if shrink else None,
        effects_spread=shrink.spread if shrink else None,
        shipped=tuple(
            ShrunkenEffect(
                tested[i].experiment_id,
                _normal(float(found[i]), float(error[i])),
                shrink.total(np.arange(len(tested)) == i) if shrink else None,
            )
            for i in np.flatnonzero(is_shipped)
        ),
        naive_total=_normal(float(found[is_shipped].sum()), float(np.sqrt((error[is_shipped] ** 2).sum()))),
        shrunken_total=shrink.total(is_shipped) if shrink else None,
        holdouts=tuple(
            HoldoutEffect(one.experiment_id, _normal(one.relative, one.relative_error))
            for one in valid
            if one.measures_programme
        ),
    )


@dataclass(frozen=True)
class _Shrinkage:
    """The normal model of true effects over a grid of their spread, shape `(n_grid,)` or `(n_grid, n_experiments)`."""

    found: FloatArray
    error: FloatArray
    spreads: FloatArray
    weights: FloatArray
    centres: FloatArray
    centre_variances: FloatArray
    spread: float
    """The likeliest standard deviation of the true effects."""

    @classmethod
    def of(cls, found: FloatArray, error: FloatArray) -> _Shrinkage:
        """Weigh every spread by its restricted likelihood and Jeffreys' prior, `t sqrt(sum(1 / v_i^2))`."""
        spreads = np.linspace(0.0, 4 * max(float(found.std(ddof=1)), float(error.min())), _GRID)
        variance = error**2 + spreads[:, None] ** 2
        centre_variances = 1 / (1 / variance).sum(axis=1)
        centres = (found / variance).sum(axis=1) * centre_variances
        misfit = ((found - centres[:, None]) ** 2 / variance).sum(axis=1)
        log_likelihood = 0.5 * (np.log(centre_variances) - np.log(variance).sum(axis=1) - misfit)
        prior = spreads * np.sqrt((1 / variance**2).sum(axis=1))
        weights = np.exp(log_likelihood - log_likelihood.max()) * prior
        likeliest = float(spreads[log_likelihood.argmax()])
        return cls(found, error, spreads, weights / weights.sum(), centres, centre_variances, likeliest)

    @property
    def mean(self) -> float:
        """Mean of the true effects."""
        return float(self.weights @ self.centres)

    def total(self, chosen: BoolArray) -> Estimate:
        """Return the sum of the true effects of some experiments."""
        if not chosen.any():
            return Estimate(0.0, 0.0, 0.0)
        own = self.error[chosen] ** 2
        keep = self.spreads[:, None] ** 2 / (own + self.spreads[:, None] ** 2)
        given_up = (1 - keep).sum(axis=1)
        means = keep @ self.found[chosen] + given_up * self.centres
        errors = np.sqrt(keep @ own + given_up**2 * self.centre_variances)
        value = float(self.weights @ means)
        reach = 10 * float(errors.max() + np.abs(means - value).max())
        low, high = (
            float(brentq(lambda x, at=at: self.weights @ ndtr((x - means) / errors) - at, value - reach, value + reach))
            for at in (0.025, 0.975)
        )
        return Estimate(value, low, high)


def _normal(value: float, error: float) -> Estimate:
    reach = float(stats.norm.ppf(0.975)) * error
    return Estimate(value, value - reach, value + reach)


def _wilson(n_shipped: int, n: int) -> Estimate:
    found = stats.binomtest(n_shipped, n).proportion_ci(method="wilson")
    return Estimate(n_shipped / n, float(found.low), float(found.high))
