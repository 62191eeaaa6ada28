"""Looking every day: the anytime-valid interval survives it, the fixed one does not; nor does a plain SRM test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from recsys.evaluation.statistics.effects import EffectConfig, EffectEstimate, difference
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import Moments
from recsys.evaluation.statistics.significance_tests import sample_ratio_p_value, sequential_sample_ratio_p_value

N_LOOKS = 28
UNITS_A_DAY = 357  # 28 days make 9,996 an arm
N_SIMULATIONS = 2_000
CONFIG = EffectConfig(tuned_at=20_000)
REVENUE = Metric("revenue per account", Ratio("revenue"))
AOV = Metric("AOV", Ratio("revenue", "orders"))

Band = Callable[[float, int], tuple[float, float]]


def _arriving(population: Any, seed: int) -> Moments:
    """Moments to date when new accounts come every day: leading axes `(n_simulations, n_looks)`."""
    rng = np.random.default_rng(seed)
    parts = []
    for rows in population.blocks(rng, N_SIMULATIONS, N_LOOKS * UNITS_A_DAY):
        days = rows[..., :2].reshape(len(rows), N_LOOKS, UNITS_A_DAY, 2)
        sums = np.cumsum(days.sum(axis=2), axis=1)
        squares = np.cumsum(np.matmul(days.swapaxes(-1, -2), days), axis=1)
        parts.append((sums, squares))
    sums, squares = (np.concatenate(part) for part in zip(*parts, strict=True))
    n = np.broadcast_to(UNITS_A_DAY * np.arange(1.0, N_LOOKS + 1), sums.shape[:2])
    mean = sums / n[..., None]
    cov = (squares - n[..., None, None] * mean[..., :, None] * mean[..., None, :]) / (n - 1)[..., None, None]
    return Moments(("revenue", "orders"), n, mean, cov)


@pytest.fixture(scope="module")
def looks(population: Any) -> tuple[Moments, Moments]:
    return _arriving(population, seed=1), _arriving(population, seed=2)


def _ever_wrong(found: EffectEstimate, *, anytime: bool) -> float:
    low, high = (found.anytime_low, found.anytime_high) if anytime else (found.low, found.high)
    return float(((low > 0) | (high < 0)).any(axis=-1).mean())


@pytest.mark.parametrize("metric", [REVENUE, AOV], ids=lambda metric: metric.name)
def test_no_look_of_28_errs_more_than_5_percent(looks: tuple[Moments, Moments], metric: Metric, band: Band) -> None:
    found = difference(*looks, metric, CONFIG)
    assert found.effect.shape == (N_SIMULATIONS, N_LOOKS)
    assert _ever_wrong(found, anytime=True) <= band(0.05, N_SIMULATIONS)[1]


def test_peeking_with_fixed_intervals_errs_far_more(looks: tuple[Moments, Moments], band: Band) -> None:
    """The negative control: at a fixed 5 % a day, about a quarter of all idle experiments look like a find."""
    assert _ever_wrong(difference(*looks, REVENUE, CONFIG), anytime=False) > 3 * band(0.05, N_SIMULATIONS)[1]


def test_accounts_that_all_start_on_the_first_day_and_spend_over_28(population: Any, band: Band) -> None:
    """The same accounts at every look, whose revenue adds up: a look differs from the last by outcomes, not units."""
    rng = np.random.default_rng(5)
    n = 2_000
    sides = []
    for _ in range(2):
        means, variances = [], []
        for rows in population.blocks(rng, N_SIMULATIONS, n):
            day = rng.integers(0, N_LOOKS, rows.shape[:2])
            to_date = np.stack([np.where(day <= look, rows[..., 0], 0.0) for look in range(N_LOOKS)], axis=1)
            means.append(to_date.mean(axis=-1))
            variances.append(to_date.var(axis=-1, ddof=1))
        mean, variance = np.concatenate(means), np.concatenate(variances)
        sides.append(Moments(("revenue",), np.full(mean.shape, float(n)), mean[..., None], variance[..., None, None]))
    control, arm = sides
    found = difference(control, arm, REVENUE, EffectConfig(tuned_at=2 * n))
    assert _ever_wrong(found, anytime=True) <= band(0.05, N_SIMULATIONS)[1]
    assert _ever_wrong(found, anytime=False) > band(0.05, N_SIMULATIONS)[1]


def test_the_anytime_interval_still_finds_a_true_effect(looks: tuple[Moments, Moments]) -> None:
    control, arm = looks
    better = Moments(arm.columns, arm.n, arm.mean * [1.2, 1.0], arm.cov * np.outer([1.2, 1.0], [1.2, 1.0]))
    found = difference(control, better, REVENUE, CONFIG)
    assert float((found.anytime_low > 0).any(axis=-1).mean()) > 0.6


class TestSampleRatio:
    def test_false_alarms(self, band: Band) -> None:
        counts = np.random.default_rng(0).multinomial(20_000, [0.5, 0.3, 0.2], 50_000)
        rate = float((sample_ratio_p_value(counts, [0.5, 0.3, 0.2]) < 0.001).mean())
        low, high = band(0.001, 50_000)
        assert low <= rate <= high

    def test_51_to_49_is_found_with_80_000_units(self) -> None:
        counts = np.random.default_rng(1).multinomial(80_000, [0.51, 0.49], 2_000)
        assert float((sample_ratio_p_value(counts, [0.5, 0.5]) < 0.001).mean()) > 0.98

    def test_the_sequential_test_survives_28_looks_and_the_plain_one_does_not(self, band: Band) -> None:
        counts = np.cumsum(np.random.default_rng(2).multinomial(714, [0.5, 0.5], (2_000, N_LOOKS)), axis=1)
        upper = band(0.05, 2_000)[1]
        assert float((sequential_sample_ratio_p_value(counts, [0.5, 0.5])[:, -1] < 0.05).mean()) <= upper
        assert float((sample_ratio_p_value(counts, [0.5, 0.5]) < 0.05).any(axis=-1).mean()) > 2 * upper

    def test_the_sequential_test_finds_51_to_49_with_80_000_units(self) -> None:
        counts = np.cumsum(np.random.default_rng(3).multinomial(2_857, [0.51, 0.49], (500, N_LOOKS)), axis=1)
        assert float((sequential_sample_ratio_p_value(counts, [0.5, 0.5])[:, -1] < 0.001).mean()) > 0.9
