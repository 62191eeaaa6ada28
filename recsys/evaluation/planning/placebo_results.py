"""What a placebo found: how often a plan erred where nothing was tested, what it found, and whether it is fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from scipy import stats

from recsys.evaluation.planning.history import WhoEnters

LEAST_DRAWS: Final = 1_000
"""With fewer nothing is called fit: a side that errs in 5 % in place of 2.5 % leaves the band of 1,000 draws in five of
six cases."""
LEAST_POWER: Final = 0.8
"""Share of the draws in which the planned effect must ship, but for what chance explains over the draws."""
PlaceboOutcome = Literal["fit", "not fit", "too few draws", "no power"]
_BAND: Final = 0.999


def band_of(rate: float, n: int) -> tuple[float, float]:
    """Return the exact binomial band of a rate (99.9 %) over `n` draws."""
    low, high = (float(stats.binom.ppf(at, n, rate)) / n for at in ((1 - _BAND) / 2, (1 + _BAND) / 2))
    return low, high


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
        planned_effect: the one that the plan must find, as a share of the primary's mean.
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
    planned_effect: float
    left_out: tuple[str, ...]

    @property
    def n_judged(self) -> int:
        """Draws that a readout takes."""
        return self.n_draws - self.n_refused

    @property
    def planned_power(self) -> float:
        """Share of the draws in which the planned effect ships."""
        return next(one.ship for one in self.power if one.relative == self.planned_effect)

    @property
    def outcome(self) -> PlaceboOutcome:
        """What was found, the worst first.

        `not fit`: the plan errs more often than it states, by the fixed-horizon interval too. `too few draws`: no error
        was found, in fewer than `LEAST_DRAWS`. `no power`: it errs as stated, and the planned effect ships in fewer
        draws than `LEAST_POWER`, by more than its exact binomial band (99.9 %).
        """
        if self.errors.faults or self.fixed.faults:
            return "not fit"
        if self.n_judged < LEAST_DRAWS:
            return "too few draws"
        return "fit" if self.planned_power >= band_of(LEAST_POWER, self.n_judged)[0] else "no power"

    @property
    def is_fit(self) -> bool:
        """Whether the plan would have erred no more often than it states and found the planned effect."""
        return self.outcome == "fit"

    @property
    def sentence(self) -> str:
        """Whether the plan is fit, and why not."""
        outcome = self.outcome
        if outcome == "too few draws":
            return f"Too few draws to tell: {self.n_judged:,} were judged, at least {LEAST_DRAWS:,} must be."
        if outcome == "no power":
            return (
                f"No power: the plan errs as stated ({self._errs}), but {self._finds}, at least {LEAST_POWER:.0%} must "
                f"be. Remedy: {self._more_power}."
            )
        if outcome == "fit":
            return f"The plan is fit for this history: {self._errs}, as stated; {self._finds}."
        if not self.errors.faults:
            return (
                "The plan is NOT FIT for this history: by the fixed-horizon interval "
                f"{'; '.join(self.fixed.faults)}. The readout sees it and decides by the randomisation interval in "
                f"{self.randomised:.0%} of the draws: {self._errs}. Remedy: {_MORE_EQUAL}."
            )
        remedy = _WHOLE_GROUPS if self.n_clusters is not None else _MORE_EQUAL
        return f"The plan is NOT FIT for this history: {'; '.join(self.errors.faults)}. Remedy: {remedy}."

    @property
    def _finds(self) -> str:
        return f"a true {100 * self.planned_effect:+.3g} % ships in {self.planned_power:.1%} of the draws"

    @property
    def _more_power(self) -> str:
        if self.smallest_arm < self.planned_size:
            return (
                f"the past has {self.smallest_arm:,.0f} in the smallest arm, {self.planned_size:,} are planned: give a "
                "past of that size, or look whether so many ever enter"
            )
        return "plan more accounts (offers experiment power) or a larger effect"

    @property
    def _errs(self) -> str:
        named = self.errors.named if self.errors.guardrails.stated else dict(list(self.errors.named.items())[:2])
        covers = f"the interval holds the true effect in {self.errors.coverage.rate:.1%}"
        return ", ".join([*(f"{name} {rate.rate:.1%}" for name, rate in named.items()), covers])


_MORE_EQUAL = "give the arms more equal shares or more accounts, or state a cap (cap_percentile)"
_WHOLE_GROUPS = "judge by whole groups, as they are assigned (cluster in the plan), or assign by account"
