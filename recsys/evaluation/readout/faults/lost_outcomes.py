"""Rows that were lost or doubled in one arm, by what no treatment can move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import numpy as np
from scipy import stats

from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.health import CheckStatus, HealthCheck
from recsys.evaluation.readout.wording.p_values import p_words
from recsys.evaluation.statistics.effects import quadratic, ratio_and_gradient
from recsys.evaluation.statistics.metric import Ratio
from recsys.evaluation.statistics.moments import Moments
from recsys.evaluation.statistics.significance_tests import adjusted_p_values


def lost_outcomes(by_arm: Mapping[str, Moments], design: Design, config: ReadoutConfig) -> HealthCheck:
    """Return whether what the treatment can't move is equal in all arms: else rows of one arm were lost or doubled."""
    name = "lost_outcomes"
    if not design.quality:
        why = (
            "no data-quality metric was given; a loss in one arm looks like an effect: give what no treatment can move"
        )
        return HealthCheck(name, "not_checked", why)
    arms = list(by_arm)
    both = _stacked([by_arm[arm] for arm in arms])
    names = list(design.quality)
    adjusted = adjusted_p_values([equal_arms_p_value(both, design.quality[one]) for one in names], "holm")
    worst = min(range(len(names)), key=lambda at: adjusted[at])
    means = ratio_and_gradient(both, design.quality[names[worst]])[0]
    shown = ", ".join(f"{arm} {mean:.4g}" for arm, mean in zip(arms, means, strict=True))
    told = f"{names[worst]}, which no treatment can move: {shown}; Holm-adjusted {p_words(adjusted[worst])}"
    if adjusted[worst] < config.health_alpha:
        return HealthCheck(name, "failed", f"{told}: rows of one arm are lost or doubled", adjusted[worst])
    status: CheckStatus = "warning" if adjusted[worst] < config.warning_alpha else "passed"
    return HealthCheck(name, status, told, adjusted[worst])


def equal_arms_p_value(moments: Moments, ratio: Ratio) -> float:
    """Return the p-value of one ratio in all arms, where chance alone assigned the units.

    Formula: `sum_a n_a d_a^2 / var`, chi-square with one degree of freedom less than arms; `d_a` is the arm's mean of
    `numerator - r denominator` with `r` the ratio of all units, and `var` its variance over all of them (score test).
    A share that is 1 in an arm has no variance of its own there: a test by each arm's would call one row a fault.

    Args:
        moments: by arm, leading axis `(n_arms,)`.
        ratio: of their columns.
    """
    arms = [moments[at] for at in range(len(moments.n))]
    whole = reduce(add, arms)
    _, gradient = ratio_and_gradient(whole, ratio)
    variance = float(quadratic(gradient, whole.cov, gradient))
    if variance <= 0:
        return 1.0
    apart = moments.mean @ gradient - whole.mean @ gradient
    return float(stats.chi2.sf((moments.n * apart**2).sum() / variance, len(arms) - 1))


def _stacked(parts: Sequence[Moments]) -> Moments:
    return Moments(
        parts[0].columns,
        np.stack([part.n for part in parts]),
        np.stack([part.mean for part in parts]),
        np.stack([part.cov for part in parts]),
    )
