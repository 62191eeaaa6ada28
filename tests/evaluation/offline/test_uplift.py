"""Uplift measures against numbers by hand, and against scikit-uplift 0.5.1 on one drawn data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recsys.errors import DataError
from recsys.evaluation.offline.uplift import qini_area, qini_coefficient, qini_curve, uplift_at, uplift_by_bin


def _drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    treated = (rng.random(1_000) < 0.5).astype(int)
    score = rng.integers(0, 200, 1_000) / 200
    outcome = (rng.random(1_000) < 0.2 + 0.2 * treated * score).astype(int)
    return outcome, score, treated


def test_scikit_uplift_found_the_same() -> None:
    outcome, score, treated = _drawn()
    assert qini_coefficient(outcome, score, treated) == pytest.approx(0.0215324804516004, abs=1e-12)
    assert uplift_at(outcome, score, treated, 0.3) == pytest.approx(0.1008811364862435, abs=1e-12)


def test_the_curve_by_hand() -> None:
    curve = qini_curve([1, 1, 0, 0, 1, 0], [6, 5, 4, 3, 2, 1], [True, False, True, False, True, False])
    # treated buyers 1 1 1 1 2 2, control buyers 0 1 1 1 1 1, treated units 1 1 2 2 3 3, control units 0 1 1 2 2 3
    assert curve.gain.tolist() == [0, 1, 1 - 1, 1 - 2, 1 - 1, 2 - 1.5, 2 - 1]
    assert curve.n.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_equal_scores_are_one_point() -> None:
    curve = qini_curve([1, 0, 0, 1], [2, 2, 1, 1], [True, False, True, False])
    assert curve.n.tolist() == [0, 2, 4]


def test_a_perfect_order_is_1_and_its_reverse_is_below_0() -> None:
    outcome, _, treated = _drawn()
    perfect = 2.0 * (outcome == treated) + treated
    assert qini_coefficient(outcome, perfect, treated) == pytest.approx(1.0, abs=0.05)
    assert qini_area(outcome, -perfect, treated) < 0


def test_a_random_score_is_near_0_and_a_true_one_above() -> None:
    rng = np.random.default_rng(1)
    n = 50_000
    treated, need, noise = rng.random(n) < 0.5, rng.random(n), rng.random(n)
    outcome = (rng.random(n) < 0.1 + 0.3 * treated * need).astype(int)
    assert abs(qini_coefficient(outcome, noise, treated)) < 0.02
    assert qini_coefficient(outcome, need, treated) > 0.05


def test_uplift_by_decile_finds_the_planted_uplift() -> None:
    rng = np.random.default_rng(2)
    n = 100_000
    treated, need = rng.random(n) < 0.5, rng.random(n)
    outcome = rng.random(n) < 0.1 + 0.3 * treated * need
    found = uplift_by_bin(outcome, need, treated)
    assert [part.rank for part in found] == list(range(1, 11))
    for part in found:
        planted = 0.3 * (1 - (part.rank - 0.5) / 10)
        assert abs(part.uplift - planted) < 4 * part.standard_error
    assert sum(part.n_treated + part.n_control for part in found) == n


def test_a_slice_of_one_arm_has_no_uplift() -> None:
    found = uplift_by_bin([1, 0, 1, 0], [4, 3, 2, 1], [True, True, False, False], bins=2)
    assert found[0].n_control == 0
    assert np.isnan(found[0].uplift)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([1, 0], [1], [True, False]), "2 outcomes, 1 scores, 2 treatments"),
        (([1, 0], [1, 2], [True, True]), "units of one arm only"),
        (([1, np.nan], [1, 2], [True, False]), "NaN somewhere"),
    ],
)
def test_wrong_input_is_a_sentence(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        qini_curve(*arguments)


def test_wrong_options_are_sentences() -> None:
    data = ([1, 0, 0, 2], [4, 3, 2, 1], [True, False, True, False])
    with pytest.raises(DataError, match="share == 0, must be above 0"):
        uplift_at(*data, 0)
    with pytest.raises(DataError, match="the highest 25% hold units of one arm only"):
        uplift_at(*data, 0.25)
    with pytest.raises(DataError, match="bins == 9"):
        uplift_by_bin(*data, bins=9)
    with pytest.raises(DataError, match="other values than 0 and 1"):
        qini_coefficient(*data)
    with pytest.raises(DataError, match="must vary"):
        qini_coefficient([0, 0], [1, 2], [True, False])
