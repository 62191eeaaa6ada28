"""A classifier is calibrated on what it was kept from: a window of the past, or half of the accounts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from recsys.fitting.pipeline import FitConfig
from recsys.models.next_product.examples import IncidenceExamples, LabelledCandidates
from recsys.models.next_product.folds import (
    ReplayedPast,
    calibrating_windows,
    in_learned_half,
    learned_pasts,
)

NEWEST = datetime(2025, 6, 1, tzinfo=UTC)


def replay(value: int) -> ReplayedPast:
    account = np.arange(6, dtype=np.int32)
    values = np.full((6, 1), value, dtype=np.float32)
    bought = account > 3
    return ReplayedPast(
        LabelledCandidates(account, values, bought, np.ones(6, dtype=np.float32)),
        IncidenceExamples(account, values, bought),
        ("value",),
    )


def pasts(step_days: float, n_cutoffs: int = 4, n_classifiers: int = 2) -> list[list[tuple[float, list[int]]]]:
    """What each classifier learns from: the value and the accounts of each replay."""
    cutoffs = [NEWEST - timedelta(days=step_days * i) for i in range(n_cutoffs)]
    windows = calibrating_windows(cutoffs, 30.0, n_classifiers)
    found = learned_pasts(windows, cutoffs, [replay(i) for i in range(n_cutoffs)], n_classifiers, 30.0)
    return [[(float(each.candidates.values[0, 0]), each.candidates.account.tolist()) for each in one] for one in found]


def test_windows_that_do_not_touch_are_held_out() -> None:
    everybody = [0, 1, 2, 3, 4, 5]
    assert pasts(15.0) == [[(2, everybody), (3, everybody)], [(0, everybody)]]


def test_of_the_defaults_one_classifier_learns_from_every_past_and_the_others_from_most() -> None:
    config = FitConfig().next_product
    learned = pasts(config.cutoffs.step_days, config.cutoffs.n_cutoffs, config.n_classifiers)
    numbers = [[number for number, _ in one] for one in learned]
    assert numbers == [[2, 3, 4, 5], [0, 4, 5], [0, 1, 2, 3, 4, 5]]


def test_a_short_history_holds_out_half_of_the_accounts() -> None:
    half, everybody = [0, 2, 4], [0, 1, 2, 3, 4, 5]
    assert pasts(5.0) == [[(i, half) for i in range(4)], [(i, everybody) for i in range(4)]]
    assert pasts(5.0, n_cutoffs=1) == [[(0, half)], [(0, everybody)]]


def test_without_a_past_nobody_learns() -> None:
    assert learned_pasts([], [], [], 2, 30.0) == [[], []]


def test_both_examples_are_of_the_same_half() -> None:
    whole = replay(1)
    [first, _] = learned_pasts([NEWEST], [NEWEST], [whole], 2, 30.0)
    [kept] = first
    assert in_learned_half(kept.accounts.account).all()
    assert kept.accounts.active.tolist() == [False, False, True]
    assert kept.candidates.bought.tolist() == [False, False, True]
