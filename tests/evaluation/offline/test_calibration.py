"""Calibration over all pairs against arithmetic written out by hand, with controls that must fail."""

from typing import Any

import numpy as np
import pytest

from recsys.errors import DataError, EmptyDataError
from recsys.evaluation.offline.calibration import (
    CalibrationCheckConfig,
    ScoredPairs,
    judge_calibration,
    tail_probability,
)

TWO_BINS = CalibrationCheckConfig(n_bins=2, min_positives=1)


def pairs_of(probability: list[float], positive: list[int], **unlisted: float) -> ScoredPairs:
    given: dict[str, Any] = {"n_unlisted": 0, "n_unlisted_positive": 0, "tail_probability": 0.0, **unlisted}
    return ScoredPairs(np.array(probability), np.array(positive, dtype=bool), **given)


def test_bins_hold_equal_expected_positives() -> None:
    found = judge_calibration(pairs_of([0.5, 0.1, 0.1, 0.1, 0.2], [1, 0, 1, 0, 0]), TWO_BINS)
    first, second = found.bins
    assert (first.n, first.expected, first.observed) == (4, pytest.approx(0.5), 1)
    assert (second.n, second.expected, second.observed) == (1, 0.5, 1)
    assert (first.low, first.high) == (0.1, 0.2)
    assert second.ratio == pytest.approx(1 / 0.5)


def test_equal_probabilities_stay_in_one_bin() -> None:
    found = judge_calibration(pairs_of([0.3] * 10, [1] * 3 + [0] * 7), TWO_BINS)
    assert [(one.n, one.observed) for one in found.bins] == [(10, 3)]


def test_a_sample_is_weighted_back() -> None:
    """Four pairs, the last two of which stand for three each, are judged as the eight that they stand for."""
    sampled = ScoredPairs(
        np.array([0.5, 0.1, 0.1, 0.2]), np.array([1, 0, 0, 0], bool), 0, 0, 0.0, np.array([1, 1, 3, 3])
    )
    whole = pairs_of([0.5, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2], [1, 0, 0, 0, 0, 0, 0, 0])
    one, other = judge_calibration(sampled, TWO_BINS), judge_calibration(whole, TWO_BINS)
    assert [(each.n, each.expected, each.observed) for each in one.bins] == [
        (each.n, pytest.approx(each.expected), each.observed) for each in other.bins
    ]
    assert one.log_loss == pytest.approx(other.log_loss)
    assert one.base_log_loss == pytest.approx(other.base_log_loss)


def test_the_error_of_a_ratio_counts_accounts_and_not_purchases() -> None:
    one_bin = CalibrationCheckConfig(n_bins=1, min_positives=1)
    probability, positive = np.full(8, 0.5), np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    [apart] = judge_calibration(ScoredPairs(probability, positive, 0, 0, 0.0), one_bin).bins
    account = np.repeat([0, 1], 4)
    [clustered] = judge_calibration(ScoredPairs(probability, positive, 0, 0, 0.0, None, account), one_bin).bins
    assert apart.ratio == clustered.ratio == 1
    assert apart.error == pytest.approx(np.sqrt(8 * 0.5**2) / 4)  # each pair is off by a half
    assert clustered.error == pytest.approx(np.sqrt(2 * 2.0**2) / 4)  # each account by two


def test_log_loss_is_over_listed_and_unlisted_pairs() -> None:
    found = judge_calibration(
        pairs_of([0.8, 0.4], [1, 0], n_unlisted=8, n_unlisted_positive=1, tail_probability=0.1), TWO_BINS
    )
    by_hand = -(np.log(0.8) + np.log(0.6) + 1 * np.log(0.1) + 7 * np.log(0.9)) / 10
    base = -(2 * np.log(0.2) + 8 * np.log(0.8)) / 10
    assert found.log_loss == pytest.approx(by_hand)
    assert found.base_log_loss == pytest.approx(base)
    assert found.base_rate == pytest.approx(2 / 10)
    assert found.listed_log_loss == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert found.listed_base_log_loss == pytest.approx(-np.log(0.5))
    assert found.unlisted_share == pytest.approx(1 / 2)
    tail = found.bins[-1]
    assert (tail.listed, tail.n, tail.expected, tail.observed) == (False, 8, pytest.approx(0.8), 1)


def test_true_probabilities_hold() -> None:
    rng = np.random.default_rng(1)
    probability = rng.beta(1, 20, 60_000)
    positive = rng.random(60_000) < probability
    found = judge_calibration(ScoredPairs(probability, positive, 0, 0, 0.0))
    assert found.holds
    assert sum(one.judged for one in found.bins) == 10


def test_probabilities_a_third_too_high_do_not_hold() -> None:
    rng = np.random.default_rng(1)
    probability = rng.beta(1, 20, 60_000)
    positive = rng.random(60_000) < probability
    found = judge_calibration(ScoredPairs(np.minimum(probability * 1.33, 1), positive, 0, 0, 0.0))
    assert found.log_loss < found.base_log_loss  # it still ranks: the bins have to find it
    assert not found.holds
    wide = CalibrationCheckConfig(lowest_ratio=0.6, highest_ratio=1.6)
    assert judge_calibration(ScoredPairs(np.minimum(probability * 1.33, 1), positive, 0, 0, 0.0), wide).holds
    low = CalibrationCheckConfig(lowest_ratio=0.6, highest_ratio=0.7)
    assert not judge_calibration(ScoredPairs(np.minimum(probability * 1.33, 1), positive, 0, 0, 0.0), low).holds


def test_a_constant_model_does_not_hold_though_its_one_bin_is_right() -> None:
    rng = np.random.default_rng(2)
    positive = rng.random(50_000) < 0.04
    found = judge_calibration(ScoredPairs(np.full(50_000, positive.mean()), positive, 0, 0, 0.0))
    assert found.bins[0].ratio == pytest.approx(1)
    assert not found.holds


def test_bins_with_few_positives_are_shown_and_not_judged() -> None:
    found = judge_calibration(pairs_of([0.01] * 99 + [0.9], [1] * 50 + [0] * 50))
    assert not any(one.judged for one in found.bins)
    assert not found.holds  # what could not be judged has not passed


def test_the_tail_gets_what_the_lists_do_not_expect() -> None:
    assert tail_probability(120.0, 100.0, 1_000) == pytest.approx(20 / 1_000)
    assert tail_probability(90.0, 100.0, 1_000) == pytest.approx(0.5 / 1_000)
    assert tail_probability(90.0, 10.0, 0) == 0.0
    assert tail_probability(90.0, 10.0, 40) == 1.0


def test_wrong_probabilities_are_refused() -> None:
    with pytest.raises(DataError, match="must be in \\[0, 1\\]"):
        judge_calibration(pairs_of([1.2], [1]))
    with pytest.raises(DataError, match="must be in \\[0, 1\\]"):
        judge_calibration(pairs_of([float("nan")], [1]))
    with pytest.raises(EmptyDataError, match="0 pairs"):
        judge_calibration(pairs_of([], []))
