"""What the effect is worth, and how much of the attributed revenue it explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.results import Effect
from recsys.evaluation.readout.views import IncrementalShare, Money
from recsys.evaluation.statistics.moments import Moments


def money_of(effects: Sequence[Effect], counts: Mapping[str, int], config: ReadoutConfig) -> tuple[Money, ...]:
    """Return the primary effect times the units of each arm, with its fixed-horizon interval."""
    everybody = sum(counts.values())
    return tuple(
        Money(
            arm=effect.arm,
            metric=effect.metric,
            total=effect.effect * effect.n_arm,
            low=effect.effect_low * effect.n_arm,
            high=effect.effect_high * effect.n_arm,
            n_units=effect.n_arm,
            coverage=1 - config.alpha,
            share_of_units=effect.n_arm / everybody,
        )
        for effect in effects
        if effect.role == "primary"
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
