"""What a programme of experiments has earned: shipped estimates are too high, shrunken ones are not."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from recsys.errors import ReadoutError
from recsys.evaluation.journal.programme import DecidedExperiment, Programme, programme_of

Z = float(stats.norm.ppf(0.975))
N_EXPERIMENTS = 50
MEAN, SPREAD = 0.005, 0.015
PROOF = Path(__file__).resolve().parents[3] / "docs" / "proof" / "programme.json"

Band = Callable[[float, int], tuple[float, float]]


@pytest.fixture
def band() -> Band:
    """The exact binomial band (99.9 %) of a rate."""

    def limits(rate: float, n: int) -> tuple[float, float]:
        return float(stats.binom.ppf(0.0005, n, rate)) / n, float(stats.binom.ppf(0.9995, n, rate)) / n

    return limits


def _decided(found: Iterable[float], errors: Iterable[float], control_mean: float = 40.0) -> list[DecidedExperiment]:
    """Shipped where the fixed-horizon interval lies above zero."""
    return [
        DecidedExperiment(
            experiment_id=f"e{i}",
            verdict="SHIP" if d > Z * s else "ROLL BACK" if d < -Z * s else "DISCUSS",
            effect=control_mean * d,
            standard_error=control_mean * s,
            control_mean=control_mean,
            metric="revenue",
        )
        for i, (d, s) in enumerate(zip(found, errors, strict=True))
    ]


def test_at_17_percent_power_shipped_estimates_average_5_percent_for_a_true_2() -> None:
    true = 0.02
    error = true / (Z + float(stats.norm.ppf(0.17)))
    found = np.random.default_rng(1).normal(true, error, 2_000)
    programme = programme_of(_decided(found, np.full(2_000, error)))
    assert programme.win_rate is not None
    assert programme.win_rate.value == pytest.approx(0.17, abs=0.028)  # 99.9 % of 2,000 draws
    naive = np.mean([effect.naive.value for effect in programme.shipped])
    assert naive == pytest.approx(0.050, abs=0.002)
    shrunken = np.mean([effect.shrunken.value for effect in programme.shipped if effect.shrunken])
    assert shrunken == pytest.approx(true, abs=0.003)


def _programmes(n: int, seed: int) -> list[tuple[Programme, float, float]]:
    """Programmes of fifty experiments, the true total of what each shipped, and what its naive sum overstates by."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        true = rng.normal(MEAN, SPREAD, N_EXPERIMENTS)
        errors = rng.uniform(0.008, 0.03, N_EXPERIMENTS)
        measured = rng.normal(true, errors)
        # of one experiment E[(d - true) 1(shipped)] = error phi(z - true / error)
        excess = float((errors * stats.norm.pdf(Z - true / errors)).sum())
        found.append((programme_of(_decided(measured, errors)), float(true[measured > Z * errors].sum()), excess))
    return found


def test_twenty_programmes_of_fifty() -> None:
    """At most four of twenty may miss by chance (exact binomial, 99.9 %); the naive sums miss half of the time."""
    found = _programmes(20, seed=2)
    totals = [(programme.shrunken_total, programme.naive_total, true) for programme, true, _ in found]
    shrunken = [total.low <= true <= total.high for total, _, true in totals if total is not None]
    assert len(shrunken) == 20
    assert sum(shrunken) >= stats.binom.ppf(0.0005, 20, 0.95)
    assert sum(naive.low <= true <= naive.high for _, naive, true in totals) < 14


def _coverage_and_excess(n: int, seed: int) -> dict[str, float]:
    found = _programmes(n, seed)
    covered = [p.shrunken_total.low <= true <= p.shrunken_total.high for p, true, _ in found if p.shrunken_total]
    naive = np.array([programme.naive_total.value - true for programme, true, _ in found])
    shrunken = np.array([p.shrunken_total.value - true for p, true, _ in found if p.shrunken_total])
    return {
        "programmes": n,
        "experiments_each": N_EXPERIMENTS,
        "shrunken_total_covered": float(np.mean(covered)),
        "naive_total_covered": float(np.mean([p.naive_total.low <= t <= p.naive_total.high for p, t, _ in found])),
        "true_total": float(np.mean([true for _, true, _ in found])),
        "shrunken_total_too_high_by": float(shrunken.mean()),
        "naive_total_too_high_by": float(naive.mean()),
        "standard_error_of_that": float(naive.std() / np.sqrt(n)),
        "too_high_by_the_formula": float(np.mean([excess for _, _, excess in found])),
    }


def _check(found: dict[str, float], band: Band) -> None:
    low, high = band(0.95, int(found["programmes"]))
    assert low <= found["shrunken_total_covered"] <= high
    gap = found["naive_total_too_high_by"] - found["too_high_by_the_formula"]
    assert abs(gap) < 4 * found["standard_error_of_that"]
    assert abs(found["shrunken_total_too_high_by"]) < 0.1 * found["naive_total_too_high_by"]


def test_shrunken_totals_are_covered_as_stated_and_naive_ones_overstate_by_the_known_excess(band: Band) -> None:
    _check(_coverage_and_excess(300, seed=3), band)


@pytest.mark.proof
def test_two_thousand_programmes(band: Band) -> None:
    found = _coverage_and_excess(2_000, seed=4)
    machine = {"machine": f"{platform.machine()}, Python {platform.python_version()}"}
    PROOF.write_text(json.dumps({**machine, "date": f"{datetime.now(UTC):%Y-%m-%d}", **found}, indent=1) + "\n")
    _check(found, band)


def test_few_experiments_are_not_shrunk_and_say_so() -> None:
    programme = programme_of(_decided([0.1, -0.1, 0.0], [0.02, 0.02, 0.02]))
    assert (programme.shrunken_total, programme.effects_mean, programme.n_decided) == (None, None, 3)
    assert programme.verdicts == {"SHIP": 1, "ROLL BACK": 1, "DISCUSS": 1}
    assert programme.naive_total.value == pytest.approx(0.1)
    assert "below 5 experiments nothing can be shrunk" in programme.sentence
    assert programme_of([]).sentence == "No experiment with valid data is decided yet."


def test_invalid_data_count_in_nothing_and_a_holdout_stands_beside() -> None:
    clean = _decided([0.06, 0.01, -0.01, 0.02, 0.05, 0.0], [0.02] * 6)
    invalid = replace(clean[0], experiment_id="broken", verdict="INVALID", effect=400.0)
    holdout = replace(clean[0], experiment_id="no-offers", measures_programme=True, effect=2.0, standard_error=0.4)
    programme = programme_of([*clean, invalid, holdout])
    assert programme.n_decided == 6
    assert programme.shrunken_total == programme_of(clean).shrunken_total
    assert [effect.experiment_id for effect in programme.shipped] == ["e0", "e4"]
    (held,) = programme.holdouts
    assert (held.cumulated.value, held.cumulated.low) == pytest.approx((2 / 40, (2 - Z * 0.4) / 40))
    assert "accounts with offers against those without (no-offers): +5.0 % (+3.0 % to +7.0 %)." in programme.sentence


def test_a_fall_that_is_good_counts_as_a_gain() -> None:
    (one,) = _decided([-0.1], [0.02])
    assert replace(one, higher_is_better=False).relative == pytest.approx(0.1)
    with pytest.raises(ReadoutError, match=r"e0 has the control mean 0 and the standard error 0.8"):
        programme_of([replace(one, control_mean=0.0)])


def test_effects_on_another_primary_are_not_added_up() -> None:
    """A rise of the buyer rate is no rise of revenue: it counts as shipped and stands in no sum."""
    clean = _decided([0.06, 0.01, -0.01, 0.02, 0.05, 0.0], [0.02] * 6)
    rate = replace(clean[0], experiment_id="rate", metric="buyer_rate")
    programme = programme_of([*clean, rate])
    assert (programme.metric, programme.n_decided, programme.n_other_metrics) == ("revenue", 7, 1)
    assert programme.naive_total == programme_of(clean).naive_total
    assert programme.win_rate is not None
    assert programme.win_rate.value == pytest.approx(3 / 7)
    assert "3 of 7 decided experiments were shipped" in programme.sentence
    assert "with another primary than revenue, not added up: 1" in programme.sentence
