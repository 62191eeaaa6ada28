"""The formulas against libraries that were written by others, and against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import tea_tasting as tt
from numpy.typing import NDArray
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from recsys.evaluation.readout.health import balance_p_value
from recsys.evaluation.statistics.effects import EffectConfig, anytime_multiplier, difference, tuned_rho_squared
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import moments_of_rows
from recsys.evaluation.statistics.significance_tests import (
    Correction,
    adjusted_p_values,
    restricted_rates,
    sample_ratio_p_value,
    score_interval,
    score_statistic,
    sequential_sample_ratio_p_value,
)

COLUMNS = ("visit", "conversion", "spend", "history")
CONTROL = "No E-Mail"
METRICS = (
    (Metric("visit", Ratio("visit")), tt.Mean("visit")),
    (Metric("conversion", Ratio("conversion")), tt.Mean("conversion")),
    (Metric("spend per customer", Ratio("spend")), tt.Mean("spend")),
    (Metric("spend per customer, CUPED", Ratio("spend"), Ratio("history")), tt.Mean("spend", "history")),
    (Metric("spend per buyer", Ratio("spend", "conversion")), tt.RatioOfMeans("spend", "conversion")),
    (Metric("conversion per visit", Ratio("conversion", "visit")), tt.RatioOfMeans("conversion", "visit")),
)


@pytest.fixture(scope="module")
def hillstrom(hillstrom_path: Path) -> pd.DataFrame:
    return pd.read_parquet(hillstrom_path)


def _moments(frame: pd.DataFrame, arm: str):
    return moments_of_rows(COLUMNS, frame.loc[frame["segment"] == arm, list(COLUMNS)].to_numpy(np.float64))


@pytest.mark.parametrize("arm", ["Mens E-Mail", "Womens E-Mail"])
def test_hillstrom_equals_tea_tasting(hillstrom: pd.DataFrame, arm: str) -> None:
    both = hillstrom[hillstrom["segment"].isin([CONTROL, arm])]
    theirs = tt.Experiment({metric.name: other for metric, other in METRICS}, "segment").analyze(both, CONTROL)
    for metric, _ in METRICS:
        ours, expected = difference(_moments(hillstrom, CONTROL), _moments(hillstrom, arm), metric), theirs[metric.name]
        for mine, other in (
            (ours.effect, expected.effect_size),
            (ours.low, expected.effect_size_ci_lower),
            (ours.high, expected.effect_size_ci_upper),
            (ours.relative, expected.rel_effect_size),
            (ours.relative_low, expected.rel_effect_size_ci_lower),
            (ours.relative_high, expected.rel_effect_size_ci_upper),
            (ours.p_value, expected.pvalue),
        ):
            assert float(mine) == pytest.approx(other, rel=1e-10, abs=1e-10), metric.name


@pytest.mark.parametrize("arm", ["Mens E-Mail", "Womens E-Mail"])
@pytest.mark.parametrize("column", ["visit", "conversion", "spend"])
def test_hillstrom_equals_scipy_and_statsmodels(hillstrom: pd.DataFrame, arm: str, column: str) -> None:
    ours = difference(_moments(hillstrom, CONTROL), _moments(hillstrom, arm), Metric(column, Ratio(column)))
    a, c = (hillstrom.loc[hillstrom["segment"] == name, column].to_numpy(float) for name in (arm, CONTROL))
    welch = stats.ttest_ind(a, c, equal_var=False)
    limits = welch.confidence_interval(0.95)
    assert float(ours.p_value) == pytest.approx(welch.pvalue, rel=1e-9, abs=1e-10)
    assert (float(ours.low), float(ours.high)) == pytest.approx((limits.low, limits.high), abs=1e-10)
    assert float(ours.df) == pytest.approx(welch.df, rel=1e-10)
    theirs = sm.stats.CompareMeans(sm.stats.DescrStatsW(a), sm.stats.DescrStatsW(c))
    assert (float(ours.low), float(ours.high)) == pytest.approx(theirs.tconfint_diff(usevar="unequal"), abs=1e-10)


def test_hillstrom_cuped_equals_a_regression_on_the_centred_past(hillstrom: pd.DataFrame) -> None:
    """The same estimate as an ordinary regression on arm and past, but for how theta is pooled."""
    arm = "Mens E-Mail"
    metric = Metric("spend", Ratio("spend"), Ratio("history"))
    ours = difference(_moments(hillstrom, CONTROL), _moments(hillstrom, arm), metric)
    both = hillstrom[hillstrom["segment"].isin([CONTROL, arm])]
    design = sm.add_constant(np.column_stack([both["segment"] == arm, both["history"]]).astype(float))
    fit = sm.OLS(both["spend"].to_numpy(), design).fit(cov_type="HC2")
    assert float(ours.effect) == pytest.approx(fit.params[1], rel=1e-4)
    assert float(ours.se) == pytest.approx(fit.bse[1], rel=1e-3)


class TestFarringtonManning:
    @pytest.mark.parametrize(("a", "c", "gap"), [(30, 20, 0.05), (3, 9, -0.02), (50, 50, 0.0), (1, 0, 0.01)])
    def test_restricted_rates_are_the_most_likely(self, a: int, c: int, gap: float) -> None:
        n, m = 200, 150

        def loss(p: float) -> float:
            q = p - gap
            return -(a * np.log(p) + (n - a) * np.log1p(-p) + c * np.log(q) * (c > 0) + (m - c) * np.log1p(-q))

        low, high = max(gap, 0.0) + 1e-9, min(1.0, 1.0 + gap) - 1e-9
        best = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12})
        assert restricted_rates(a / n, c / m, n, m, gap)[0] == pytest.approx(best.x, abs=1e-5)

    def test_without_a_margin_it_is_the_pooled_z_test(self) -> None:
        p = 50 / 350
        z = (30 / 200 - 20 / 150) / np.sqrt(p * (1 - p) * (1 / 200 + 1 / 150))
        assert score_statistic(30, 200, 20, 150, 0.0) == pytest.approx(z)

    def test_the_interval_holds_what_the_test_does_not_reject(self) -> None:
        low, high = score_interval(30, 200, 20, 150, 0.05)
        assert score_statistic(30, 200, 20, 150, low) == pytest.approx(stats.norm.ppf(0.975))
        assert score_statistic(30, 200, 20, 150, high) == pytest.approx(stats.norm.ppf(0.025))

    def test_it_lies_near_newcombe_and_agresti_caffo(self) -> None:
        ours = score_interval(300, 2_000, 220, 1_500, 0.05)
        for method in ("newcomb", "agresti-caffo"):
            theirs = confint_proportions_2indep(300, 2_000, 220, 1_500, method=method, compare="diff", alpha=0.05)
            assert ours == pytest.approx(theirs, abs=5e-4)

    @pytest.mark.parametrize(("a", "c"), [(0, 0), (0, 10), (10, 0), (100, 100)])
    def test_extreme_counts_have_limits(self, a: int, c: int) -> None:
        low, high = score_interval(a, 100, c, 100, 0.05)
        assert -1 <= low <= (a - c) / 100 <= high <= 1
        assert low < high

    def test_error_rate_at_the_margin(self) -> None:
        rng = np.random.default_rng(0)
        arms, controls = rng.binomial(1_000, 0.13, 2_000), rng.binomial(1_000, 0.10, 2_000)
        z = np.array([score_statistic(int(a), 1_000, int(c), 1_000, 0.03) for a, c in zip(arms, controls, strict=True)])
        low, high = stats.binom.interval(0.999, 2_000, 0.025)
        assert low <= (z < stats.norm.ppf(0.025)).sum() <= high


class TestAnytime:
    def test_it_is_tightest_where_it_was_tuned(self) -> None:
        n = np.array([2_000.0, 20_000.0, 200_000.0])
        here = anytime_multiplier(n, 20_000, 0.05)
        for elsewhere in (5_000, 10_000, 40_000):
            assert here[1] < anytime_multiplier(n[1], elsewhere, 0.05)
        assert (here > stats.norm.ppf(0.975)).all()

    def test_rho_minimises_the_width(self) -> None:
        def width(rho_squared: float) -> float:
            t = 1_000 * rho_squared
            return 2 * (t + 1) / t * np.log(np.sqrt(t + 1) / 0.05)

        best = optimize.minimize_scalar(width, bounds=(1e-5, 1.0), method="bounded", options={"xatol": 1e-10}).x
        assert tuned_rho_squared(1_000, 0.05) == pytest.approx(best, rel=1e-3)


def test_sample_ratio_equals_scipy_for_three_arms() -> None:
    counts, shares = np.array([330, 300, 370]), np.array([1, 1, 1]) / 3
    assert float(sample_ratio_p_value(counts, shares)) == pytest.approx(stats.chisquare(counts).pvalue, abs=1e-12)


def test_the_sequential_factor_equals_its_product_over_single_units() -> None:
    """Unit by unit: posterior predictive of the arm over its planned share."""
    shares, arms = np.array([0.6, 0.4]), [0, 1, 1, 1, 0, 1]
    prior, factor, best = 1_000 * shares, 1.0, 1.0
    counts = np.zeros((len(arms), 2))
    for i, arm in enumerate(arms):
        factor *= prior[arm] / prior.sum() / shares[arm]
        prior[arm] += 1
        best = max(best, factor)
        counts[i:, arm] += 1
    assert sequential_sample_ratio_p_value(counts, shares)[-1] == pytest.approx(1 / best)


def test_adjustments_equal_statsmodels_and_leave_out_what_is_not_testable() -> None:
    rng = np.random.default_rng(2)
    for size in (0, 1, 2, 9, 40):
        p_values = np.round(rng.random(size) ** 3, 2)  # rounded, so that some are equal
        p_values[3:5] = np.nan
        testable = ~np.isnan(p_values)
        pairs: tuple[tuple[Correction, str], ...] = (("holm", "holm"), ("bh", "fdr_bh"))
        for name, method in pairs:
            found: NDArray[np.float64] = np.array(adjusted_p_values(p_values.tolist(), name))
            assert found[testable] == pytest.approx(multipletests(p_values[testable], method=method)[1], abs=1e-12)
            assert np.isnan(found[~testable]).all()


def test_balance_of_two_arms_is_a_z_test() -> None:
    rng = np.random.default_rng(0)
    rows = rng.gamma(1, 2, (2, 500, 1))
    moments = moments_of_rows(("x",), rows)
    z = (rows[0].mean() - rows[1].mean()) / np.sqrt(rows[0].var(ddof=1) / 500 + rows[1].var(ddof=1) / 500)
    assert balance_p_value(moments, Ratio("x")) == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_moments_add_up_to_those_of_all_rows() -> None:
    rows = np.random.default_rng(0).normal(1e6, 1.0, (1_000, 3))
    parts = moments_of_rows("xyz", rows[:300]) + moments_of_rows("xyz", rows[300:])
    assert parts.mean == pytest.approx(rows.mean(axis=0))
    assert parts.cov == pytest.approx(np.cov(rows.T), rel=1e-9)


def test_no_relative_effect_where_a_mean_may_be_zero() -> None:
    control, arm = (moments_of_rows(("x",), np.array(rows)[:, None]) for rows in ([-9.0, 2, 8, 1], [3.0, 4, 5, 6]))
    found = difference(control, arm, Metric("x", Ratio("x")), EffectConfig())
    assert np.isnan(found.relative)
    assert np.isnan(found.relative_low)
    assert found.low < found.effect < found.high
