"""False positives, coverage and power of every reported metric on heavy-tailed accounts, 10,000 an arm."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from recsys.evaluation.planning.sizes import detectable_effect
from recsys.evaluation.statistics.decomposition import decompose
from recsys.evaluation.statistics.effects import EffectConfig, EffectEstimate, difference
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import Moments

N_UNITS = 10_000
N_SIMULATIONS = 2_000
PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "experiment_error_rates.json"

Band = Callable[[float, int], tuple[float, float]]


@dataclass(frozen=True)
class Trials:
    """Two independent samples of the same population, `n` times."""

    n: int
    control: Moments
    arm: Moments

    def difference(self, metric: Metric) -> EffectEstimate:
        return difference(self.control, self.arm, metric, EffectConfig())


def _trials(population: Any, n: int, seed: int) -> Trials:
    rng = np.random.default_rng(seed)
    return Trials(n, population.moments(rng, n, N_UNITS), population.moments(rng, n, N_UNITS))


@pytest.fixture(scope="module")
def trials(population: Any) -> Trials:
    return _trials(population, N_SIMULATIONS, seed=7)


def test_the_bands_are_those_of_the_exact_binomial(band: Band) -> None:
    assert band(0.05, 2_000) == pytest.approx((0.0345, 0.0665), abs=5e-4)
    assert band(0.95, 10_000) == pytest.approx((0.9427, 0.9570), abs=5e-4)


def test_the_population_is_heavy_tailed(population: Any) -> None:
    revenue = population.rows[:, 0]
    assert revenue.std() / revenue.mean() > 2.5
    assert stats.kurtosis(revenue) > 50


def test_false_positives_lie_in_the_band(trials: Trials, metrics: tuple[Metric, ...], band: Band) -> None:
    low, high = band(0.05, trials.n)
    rates = {metric.name: float((trials.difference(metric).p_value < 0.05).mean()) for metric in metrics}
    assert {name: rate for name, rate in rates.items() if not low <= rate <= high} == {}


def test_coverage_lies_in_the_band_with_a_planted_effect(
    trials: Trials, population: Any, metrics: tuple[Metric, ...], band: Band
) -> None:
    """The arm's accounts are another tenth richer: every column of the arm times its own factor."""
    factors = np.linspace(1.02, 1.2, len(trials.arm.columns))
    arm = Moments(
        trials.arm.columns, trials.arm.n, trials.arm.mean * factors, trials.arm.cov * np.outer(factors, factors)
    )
    treated = type(population)(population.rows * factors)
    low, high = band(0.95, trials.n)
    for metric in metrics:
        if metric.before is not None:
            continue  # the past can't be treated
        found = difference(trials.control, arm, metric)
        truth = treated.mean(metric) - population.mean(metric)
        assert truth != 0
        covered = float(((found.low <= truth) & (truth <= found.high)).mean())
        assert low <= covered <= high, metric.name
        relative = truth / population.mean(metric)
        covered = float(((found.relative_low <= relative) & (relative <= found.relative_high)).mean())
        assert low <= covered <= high, f"{metric.name}, relative"


def test_coverage_of_the_decomposition_lies_in_the_band(trials: Trials, band: Band) -> None:
    chain, labels = ("buyer", "orders", "revenue"), ("buyer rate", "orders per buyer", "AOV")
    found = [decompose(trials.control[i], trials.arm[i], "a", chain, labels, 0.05) for i in range(trials.n)]
    low, high = band(0.95, trials.n)
    for at, label in enumerate(labels):
        covered = np.mean([each.factors[at].log_low <= 0 <= each.factors[at].log_high for each in found])
        assert low <= covered <= high, label
    assert low <= np.mean([each.total.log_low <= 0 <= each.total.log_high for each in found]) <= high


@pytest.mark.parametrize("use_cuped", [True, False])
def test_power_at_the_planned_size_is_that_planned(population: Any, trials: Trials, use_cuped: bool) -> None:
    history = population.moments(np.random.default_rng(3), 1, 100_000)[0]
    metric = Metric("revenue per account", Ratio("revenue"), Ratio("revenue_before"))
    planned = detectable_effect(history, metric, N_UNITS, use_cuped=use_cuped)
    found = difference(trials.control, _shifted(trials.arm, planned.effect), metric, EffectConfig(use_cuped=use_cuped))
    assert float((found.p_value < 0.05).mean()) == pytest.approx(0.8, abs=0.03)
    if use_cuped:
        assert planned.effect < detectable_effect(history, metric, N_UNITS, use_cuped=False).effect


def _shifted(arm: Moments, effect: float) -> Moments:
    mean = arm.mean.copy()
    mean[..., arm.at("revenue")] += effect
    return Moments(arm.columns, arm.n, mean, arm.cov)


def test_an_order_level_test_of_aov_errs_far_too_often(trials: Trials, band: Band) -> None:
    """The negative control: orders of one account are alike, so that orders are no units."""

    def order_level(sample: Moments) -> tuple[np.ndarray, np.ndarray]:
        orders = sample.mean[:, sample.at("orders")]
        mean = sample.mean[:, sample.at("revenue")] / orders
        variance = sample.mean[:, sample.at("squares")] / orders - mean**2
        return mean, variance / (orders * sample.n)

    (mean_c, var_c), (mean_a, var_a) = order_level(trials.control), order_level(trials.arm)
    p_value = 2 * stats.norm.sf(np.abs(mean_a - mean_c) / np.sqrt(var_a + var_c))
    rate = float((p_value < 0.05).mean())
    assert rate > 2 * band(0.05, trials.n)[1]


@pytest.mark.proof
def test_ten_thousand_simulations(population: Any, metrics: tuple[Metric, ...], band: Band) -> None:
    trials = _trials(population, 10_000, seed=11)
    (low, high), (cover_low, cover_high) = band(0.05, trials.n), band(0.95, trials.n)
    rates, coverage = {}, {}
    for metric in metrics:
        found = trials.difference(metric)
        rates[metric.name] = float((found.p_value < 0.05).mean())
        coverage[metric.name] = float(((found.low <= 0) & (found.high >= 0)).mean())
    PROOF.write_text(
        json.dumps(
            {
                "machine": f"{platform.machine()}, Python {platform.python_version()}",
                "date": f"{datetime.now(UTC):%Y-%m-%d}",
                "simulations": trials.n,
                "units_an_arm": N_UNITS,
                "false_positive_band": [low, high],
                "false_positives": rates,
                "coverage_band": [cover_low, cover_high],
                "coverage": coverage,
            },
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )
    assert all(low <= rate <= high for rate in rates.values())
    assert all(cover_low <= rate <= cover_high for rate in coverage.values())
