"""A small arm beside a large one, few buyers, Pareto-distributed spending: which interval errs no more than it says.

Each side of an interval (a false SHIP, a false ROLL BACK) may err in 2.5 % of experiments without any effect.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.effects import EffectConfig, EffectEstimate, difference
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import Moments, moments_of_rows
from recsys.evaluation.statistics.randomisation import (
    error_of_a_side,
    judge_tails,
    randomisation_interval,
    randomised_limits,
)

BUYER_RATE = 0.05
REVENUE = Metric("revenue", Ratio("revenue"))
PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "unequal_shares.json"
SIZES = (
    (200, 99, 4_000),
    (200, 9, 2_000),
    (200, 1, 2_000),
    (1_000, 99, 1_000),
    (1_000, 9, 1_000),
    (10_000, 99, 200),
    (10_000, 9, 400),
    (10_000, 1, 1_000),
)
"""Units of the arm, how many times as many control has, simulations."""
NOW = datetime(2026, 6, 1, tzinfo=UTC)

Band = Callable[[float, int], tuple[float, float]]


def _revenue(rng: np.random.Generator, n: int, shape: float) -> np.ndarray:
    """Revenue of `n` accounts of whom some buy: Pareto, whose variance is infinite for shapes up to 2."""
    values = np.zeros(n)
    n_buyers = rng.binomial(n, BUYER_RATE)
    values[:n_buyers] = (1 - rng.random(n_buyers)) ** (-1 / shape)
    return values


def _moments_of(values: np.ndarray) -> Moments:
    return moments_of_rows(("revenue",), values[:, None])


@dataclass(frozen=True)
class Trial:
    """One experiment: Welch's interval and the one that decides, and whether Welch's was refused."""

    effect: float
    welch: tuple[float, float]
    decides: tuple[float, float]
    is_refused: bool


def _trial(arm: np.ndarray, control: np.ndarray) -> Trial:
    found = difference(_moments_of(control), _moments_of(arm), REVENUE)
    tails = judge_tails(
        np.concatenate([control, arm]),
        n_arm=len(arm),
        n_control=len(control),
        n_nonzero=int(np.count_nonzero(arm)),
        alpha=0.05,
        tolerance=0.1,
    )
    effect, welch = float(found.effect), (float(found.low), float(found.high))
    if tails.is_fit:
        return Trial(effect, welch, welch, is_refused=False)
    return Trial(effect, welch, randomisation_interval(effect, tails, float(control.mean()), welch), is_refused=True)


def _trials(n_arm: int, n_control: int, shape: float, n: int, *, lift: float = 1.0) -> Iterator[Trial]:
    rng = np.random.default_rng(17)
    for _ in range(n):
        yield _trial(_revenue(rng, n_arm, shape) * lift, _revenue(rng, n_control, shape))


def _errors(intervals: list[tuple[float, float]]) -> tuple[float, float]:
    """How often an interval of no effect says SHIP, and ROLL BACK."""
    return float(np.mean([low > 0 for low, _ in intervals])), float(np.mean([high < 0 for _, high in intervals]))


@pytest.mark.parametrize("shape", [1.5, 2.5])
def test_200_against_19_800_errs_no_more_than_it_says(shape: float, band: Band) -> None:
    trials = list(_trials(200, 19_800, shape, 300))
    upper = band(0.025, len(trials))[1]
    assert max(_errors([trial.decides for trial in trials])) <= upper
    assert _errors([trial.welch for trial in trials])[1] > upper  # the negative control
    assert all(trial.is_refused for trial in trials)


def test_equal_arms_keep_the_fixed_interval(band: Band) -> None:
    for shape in (1.5, 3.0):
        trials = list(_trials(10_000, 10_000, shape, 200))
        assert not any(trial.is_refused for trial in trials)
        assert max(_errors([trial.decides for trial in trials])) <= band(0.025, len(trials))[1]


def test_the_power_is_that_of_the_fixed_interval_or_more() -> None:
    trials = list(_trials(1_000, 9_000, 3.0, 150, lift=1.4))
    decides, welch = _errors([trial.decides for trial in trials])[0], _errors([trial.welch for trial in trials])[0]
    assert welch > 0.3
    assert decides >= 0.8 * welch


def test_arms_of_like_size_are_covered_away_from_zero_too(band: Band) -> None:
    """The randomisation interval alone, which takes all spread for the arm's, has its lower limit too high here."""
    trials = []
    for each in range(300):
        rng = np.random.default_rng(each)
        control, arm = (np.where(rng.random(n) < 0.3, rng.lognormal(3, 1, n), 0.0) for n in (600, 400))
        trials.append(_trial(arm * 0.7, control))
    truth = -0.3 * 0.3 * np.exp(3.5)
    lower, upper = (np.array([trial.decides[side] for trial in trials]) for side in (0, 1))
    assert any(trial.is_refused for trial in trials)
    assert float((lower > truth).mean()) <= band(0.025, len(trials))[1]
    assert float((upper < truth).mean()) <= band(0.025, len(trials))[1]


class TestRandomisedLimits:
    @pytest.mark.parametrize(("n_arm", "n_control"), [(100, 900), (400, 600), (900, 100)])
    def test_they_are_those_of_drawn_assignments(self, n_arm: int, n_control: int) -> None:
        rng = np.random.default_rng(3)
        values = _revenue(rng, n_arm + n_control, 2.5)
        low, high = randomised_limits(values, n_arm, n_control, 0.05)
        sums = np.array([rng.permutation(values)[:n_arm].sum() for _ in range(4_000)])
        drawn = sums / n_arm - (values.sum() - sums) / n_control
        assert 0.018 < float((drawn < low).mean()) < 0.032
        assert 0.018 < float((drawn > high).mean()) < 0.032

    def test_normal_values_give_the_normal_interval(self) -> None:
        values = np.random.default_rng(0).standard_normal(40_000)
        low, high = randomised_limits(values, 10_000, 30_000, 0.05)
        reach = 1.96 * values.std() * np.sqrt(1 / 10_000 + 1 / 30_000)
        assert (-low, high) == pytest.approx((reach, reach), rel=0.01)

    def test_equal_values_have_no_spread(self) -> None:
        assert randomised_limits(np.ones(100), 10, 90, 0.05) == (0.0, 0.0)


def test_equal_arms_err_as_stated_whatever_the_skewness() -> None:
    assert error_of_a_side(300.0, 5_000, 5_000, 0.05) == pytest.approx(0.025)
    assert error_of_a_side(20.0, 500, 500_000, 0.05) > 0.05


def _looks(rng: np.random.Generator, a_day: int, days: int, shape: float, n: int) -> Moments:
    """Moments to date of `a_day` new accounts on each day, leading axes `(n, days)`."""
    buyers = rng.binomial(a_day, BUYER_RATE, (n, days))
    spent = (1 - rng.random(buyers.sum())) ** (-1 / shape)
    owner = np.repeat(np.arange(buyers.size), buyers.ravel())
    sums, squares = (
        np.cumsum(np.bincount(owner, values, buyers.size).reshape(n, days), axis=1) for values in (spent, spent**2)
    )
    count = np.broadcast_to(a_day * np.arange(1.0, days + 1), (n, days))
    mean = sums / count
    variance = np.maximum(squares - count * mean**2, 0.0) / (count - 1)
    return Moments(("revenue",), count, mean[..., None], variance[..., None, None])


def _ever(found: EffectEstimate) -> tuple[float, float]:
    return (
        float((found.anytime_low > 0).any(axis=-1).mean()),
        float((found.anytime_high < 0).any(axis=-1).mean()),
    )


@pytest.mark.parametrize("shape", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("times", [99, 9])
def test_daily_reading_for_three_times_the_planned_time(shape: float, times: int, band: Band) -> None:
    """84 looks of an experiment planned for 28 days."""
    n, a_day, days = 500, 7, 84
    rng = np.random.default_rng(23)
    arm, control = _looks(rng, a_day, days, shape, n), _looks(rng, a_day * times, days, shape, n)
    found = difference(control, arm, REVENUE, EffectConfig(tuned_at=28 * a_day * (times + 1)))
    better, worse = _ever(found)
    assert better + worse <= band(0.05, n)[1]
    assert max(better, worse) <= band(0.025, n)[1]


def test_the_arms_own_variance_alone_would_err_at_early_looks(band: Band) -> None:
    """The negative control of the anytime-valid interval: its reach over Welch's standard error."""
    rng = np.random.default_rng(23)
    arm, control = _looks(rng, 7, 28, 2.0, 500), _looks(rng, 693, 28, 2.0, 500)
    found = difference(control, arm, REVENUE)
    reach = (found.anytime_high - found.effect) / np.maximum(found.se, found.pooled_se) * found.se
    assert float((found.effect + reach < 0).any(axis=-1).mean()) > band(0.05, 500)[1]


def _readout(folder: Path, n_arm: int, n_control: int, lift: float) -> Readout:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "arm": ["a"] * n_arm + ["c"] * n_control,
            "revenue": np.concatenate([_revenue(rng, n_arm, 2.0) * lift, _revenue(rng, n_control, 2.0)]),
        }
    )
    path = folder / "units.parquet"
    frame.to_parquet(path)
    shares = {"a": n_arm / len(frame), "c": n_control / len(frame)}
    form = TableSpec(None, "arm", "c", {"revenue": Ratio("revenue")}, shares=shares)
    return table_readout(str(path), form, ReadoutConfig(), now=NOW)


def test_a_readout_says_which_interval_decides_and_why(tmp_path: Path) -> None:
    found = _readout(tmp_path, 500, 49_500, 0.0001)
    (effect,) = found.effects
    assert effect.decided_by == "randomisation"
    assert found.verdict.verdict == "ROLL BACK"
    assert "randomisation interval" in found.verdict.reason
    (check,) = [check for check in found.health if check.name == "enough_units"]
    assert check.status == "warning"
    assert "has 500 units, 25 of them not zero, the other 99 times as many; skewness" in check.detail
    assert "instead of 2.5%, so that the randomisation interval decides in its place" in check.detail


def test_equal_arms_say_that_the_fixed_interval_errs_as_stated(tmp_path: Path) -> None:
    found = _readout(tmp_path, 2_000, 2_000, 1.0)
    assert found.effects[0].decided_by == "fixed"
    (check,) = [check for check in found.health if check.name == "enough_units"]
    assert (check.status, check.detail[-29:]) == ("passed", "interval errs as stated, 2.5%")


@pytest.mark.proof
@pytest.mark.timeout(2_400)
def test_every_shape_and_share(band: Band) -> None:
    """Written for every shape and share; the largest sizes with fewer simulations, each with its own band."""
    cells = [_cell(n_arm, times, shape, n, band) for n_arm, times, n in SIZES for shape in (1.5, 2.0, 2.5, 3.0)]
    written = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "buyer_rate": BUYER_RATE,
        "cells": [asdict(cell) for cell in cells],
    }
    PROOF.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    for cell in cells:
        assert max(cell.ship, cell.roll_back) <= cell.most_allowed, cell
        assert cell.power >= 0.8 * cell.fixed_power, cell


@dataclass(frozen=True)
class Cell:
    """What one shape and share gave, without an effect and with values that the arm makes a tenth larger."""

    shape: float
    units: tuple[int, int]
    simulations: int
    most_allowed: float
    refused: float
    ship: float
    roll_back: float
    fixed_ship: float
    fixed_roll_back: float
    power: float
    fixed_power: float
    coverage: float
    fixed_coverage: float


def _cell(n_arm: int, times: int, shape: float, n: int, band: Band) -> Cell:
    idle = list(_trials(n_arm, n_arm * times, shape, n))
    better = list(_trials(n_arm, n_arm * times, shape, min(n, 1_000), lift=1.1))
    truth = 0.1 * BUYER_RATE * shape / (shape - 1)
    ship, roll_back = _errors([trial.decides for trial in idle])
    fixed_ship, fixed_roll_back = _errors([trial.welch for trial in idle])
    return Cell(
        shape=shape,
        units=(n_arm, n_arm * times),
        simulations=n,
        most_allowed=band(0.025, n)[1],
        refused=float(np.mean([trial.is_refused for trial in idle])),
        ship=ship,
        roll_back=roll_back,
        fixed_ship=fixed_ship,
        fixed_roll_back=fixed_roll_back,
        power=_errors([trial.decides for trial in better])[0],
        fixed_power=_errors([trial.welch for trial in better])[0],
        coverage=float(np.mean([trial.decides[0] <= truth <= trial.decides[1] for trial in better])),
        fixed_coverage=float(np.mean([trial.welch[0] <= truth <= trial.welch[1] for trial in better])),
    )
