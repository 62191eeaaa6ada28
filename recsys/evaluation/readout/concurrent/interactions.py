"""Whether the effects of experiments that had the same units at the same time depend on each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from recsys.evaluation.readout.purchases import Assigned
from recsys.evaluation.readout.wording.p_values import p_words
from recsys.evaluation.statistics.interaction import interaction_of
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments, moments_of_rows
from recsys.evaluation.statistics.significance_tests import adjusted_p_values

LEAST_UNITS = 20
"""Units in each of the four cells below which nothing is said."""


@dataclass(frozen=True)
class ConcurrentExperiment:
    """Another experiment that assigned the same kind of units at the same time.

    Attributes:
        name: its id and version.
        control: its control.
        arms: unit -> its arm.
    """

    name: str
    control: str
    arms: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Interaction:
    """The effect of one arm on the primary, beside each of two arms of another experiment.

    Attributes:
        other: the other experiment, id and version.
        arm: of this experiment, against its control.
        other_arm: of the other, against its control.
        metric: the primary.
        n_units: in one of the four cells.
        effect_beside_control: among units of the other's control.
        effect_beside_arm: among units of the other's arm.
        difference: the second less the first.
        low: its fixed-horizon interval.
        high: its upper limit.
        p_value: of no difference.
        p_adjusted: over all other experiments and arms, by Holm.
        independence_p: of the two assignments being independent, by chi-square over the four cells.
    """

    other: str
    arm: str
    other_arm: str
    metric: str
    n_units: int
    effect_beside_control: float
    effect_beside_arm: float
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float
    independence_p: float

    def sentence(self, alpha: float) -> str:
        """What it means for the reader."""
        found = f"{self.difference:+.4g} ({self.low:+.4g} to {self.high:+.4g}), adjusted {p_words(self.p_adjusted)}"
        said = (
            f"{self.other} ran at the same time, {self.n_units:,} units are in both: the effect of {self.arm} on "
            f"{self.metric} is {self.effect_beside_arm:+.4g} beside its {self.other_arm} and "
            f"{self.effect_beside_control:+.4g} beside its control, a difference of {found}"
        )
        means = "" if self.p_adjusted >= alpha else "; the effects depend on each other: judge what will be shipped"
        return said + means


def interactions_of(
    assigned: Assigned,
    values: Mapping[str, NDArray[np.float64]],
    metric: Metric,
    control: str,
    others: Sequence[ConcurrentExperiment],
    alpha: float,
) -> tuple[Interaction, ...]:
    """Return how the effect on a metric differs between the arms of each other experiment.

    Args:
        assigned: units of this experiment; one that stands in several arms is left out.
        values: columns of the metric, one value a unit.
        metric: the primary.
        control: of this experiment.
        others: that ran at the same time.
        alpha: error of the intervals.
    """
    rows = np.column_stack([values[name] for name in metric.columns])
    single = ~pd.Series(assigned.units).duplicated(keep=False).to_numpy()
    found = [
        interaction
        for other in others
        for interaction in _with_other(
            assigned.arms, _arms_there(assigned, other, single), rows, metric, control, other, alpha
        )
    ]
    adjusted = adjusted_p_values([one.p_value for one in found], "holm")
    return tuple(replace(one, p_adjusted=p_value) for one, p_value in zip(found, adjusted, strict=True))


def _arms_there(assigned: Assigned, other: ConcurrentExperiment, single: NDArray[np.bool_]) -> NDArray[np.object_]:
    """The other experiment's arm of each unit; blank where it is not in it."""
    there = [other.arms.get(unit, "") if once else "" for unit, once in zip(assigned.units, single, strict=True)]
    return np.array(there, dtype=object)


def _with_other(
    here: NDArray[np.object_],
    there: NDArray[np.object_],
    rows: NDArray[np.float64],
    metric: Metric,
    control: str,
    other: ConcurrentExperiment,
    alpha: float,
) -> Iterator[Interaction]:
    for arm in sorted(set(here) - {control}):
        for other_arm in sorted(set(there) - {other.control, ""}):
            cells = [[(here == a) & (there == b) for a in (control, arm)] for b in (other.control, other_arm)]
            counts = np.array([[int(cell.sum()) for cell in pair] for pair in cells])
            if counts.min() < LEAST_UNITS:
                continue
            beside = [tuple(_moments(metric, rows[cell]) for cell in pair) for pair in cells]
            estimate = interaction_of((beside[0][0], beside[0][1]), (beside[1][0], beside[1][1]), metric, alpha)
            yield Interaction(
                other=other.name,
                arm=arm,
                other_arm=other_arm,
                metric=metric.name,
                n_units=int(counts.sum()),
                **{name: float(value) for name, value in estimate._asdict().items()},
                p_adjusted=float(estimate.p_value),
                independence_p=float(chi2_contingency(counts, correction=False).pvalue),
            )


def _moments(metric: Metric, rows: NDArray[np.float64]) -> Moments:
    return moments_of_rows(metric.columns, rows)
