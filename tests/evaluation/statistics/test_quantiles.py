"""Quantiles of units: the interval covers as stated, with heavy tails, ties and unequal arms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recsys.arrays import FloatArray
from recsys.errors import ReadoutError
from recsys.evaluation.statistics.quantiles import quantile_difference

SIMULATIONS = 1_000
LOW, HIGH = (float(limit) / SIMULATIONS for limit in stats.binom.interval(0.999, SIMULATIONS, 0.95))
"""Exact binomial band (99.9 %) of the coverage of a 95 % interval."""


def _pareto(rng: np.random.Generator, n: int) -> FloatArray:
    """Shape 1.5: no variance; four in five units spend nothing."""
    spent = rng.random((SIMULATIONS, n)) < 0.2
    return np.where(spent, (1 - rng.random((SIMULATIONS, n))) ** (-1 / 1.5), 0.0)


def _coverage(control: FloatArray, arm: FloatArray, quantile: float, truth: float) -> float:
    found = quantile_difference(control, arm, quantile, 0.05)
    return float(((found.low <= truth) & (truth <= found.high)).mean())


@pytest.mark.parametrize(("n_control", "n_arm", "quantile"), [(1_000, 1_000, 0.9), (3_000, 300, 0.95)])
def test_an_interval_covers_with_heavy_tails_and_a_planted_difference(
    n_control: int, n_arm: int, quantile: float
) -> None:
    rng = np.random.default_rng(15)
    truth = 0.3 * (0.2 / (1 - quantile)) ** (1 / 1.5)
    coverage = _coverage(_pareto(rng, n_control), 1.3 * _pareto(rng, n_arm), quantile, truth)
    assert LOW <= coverage <= HIGH


def test_an_interval_covers_at_least_as_stated_with_ties() -> None:
    rng = np.random.default_rng(16)
    control, arm = (rng.geometric(0.2, (SIMULATIONS, 800)).astype(np.float64) for _ in range(2))
    assert _coverage(control, arm, 0.9, 0.0) >= LOW


def test_a_welch_interval_of_the_mean_does_not_tell_a_quantile() -> None:
    """Negative control: the band is narrow enough to refuse another figure's interval."""
    rng = np.random.default_rng(17)
    control, arm = _pareto(rng, 500), 1.3 * _pareto(rng, 500)
    reach = 1.96 * np.sqrt(control.var(axis=-1) / 500 + arm.var(axis=-1) / 500)
    effect = arm.mean(axis=-1) - control.mean(axis=-1)
    truth = 0.3 * 2 ** (1 / 1.5)
    assert not LOW <= float(((effect - reach <= truth) & (truth <= effect + reach)).mean()) <= HIGH


def test_p_falls_below_alpha_where_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(18)
    found = quantile_difference(_pareto(rng, 400), 1.4 * _pareto(rng, 400), 0.9, 0.05)
    excludes = (found.low > 0) | (found.high < 0)
    assert 0 < excludes.mean() < 1
    np.testing.assert_array_equal(found.p_value < 0.05, excludes)


def test_limits_are_order_statistics_of_binomial_ranks() -> None:
    """With an arm that does not vary the limits are those of the other: ranks 40 and 61 of 100 at the median."""
    found = quantile_difference(np.zeros(100), np.arange(1.0, 101.0), 0.5, 0.05)
    assert (float(found.arm), float(found.low), float(found.high)) == (50, 40, 61)


def test_too_few_units_for_a_quantile_are_refused() -> None:
    with pytest.raises(ReadoutError, match=r"quantile 0.99 of 200 units in an arm, must have more on both sides"):
        quantile_difference(np.arange(200.0), np.arange(200.0), 0.99, 0.05)
