"""Cutoffs, labels and snapshots: the past is replayed without a look ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History, novel_purchases
from recsys.models.snapshot import CutoffConfig, rolling_cutoffs, take_snapshot

START = datetime(2024, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


class TestCutoffs:
    def test_the_newest_window_ends_at_as_of_and_each_is_a_step_older(self, make_history):
        history = make_history([("a", "p", 0), ("a", "q", 100)])
        found = rolling_cutoffs(
            history, day(100), horizon_days=30, config=CutoffConfig(n_cutoffs=3, step_days=10, min_history_days=0)
        )
        assert found == (day(70), day(60), day(50))

    def test_a_cutoff_without_enough_history_behind_it_is_left_out(self, make_history):
        history = make_history([("a", "p", 0), ("a", "q", 100)])
        found = rolling_cutoffs(
            history, day(100), horizon_days=30, config=CutoffConfig(n_cutoffs=9, step_days=10, min_history_days=55)
        )
        assert found == (day(70), day(60))

    @pytest.mark.parametrize("as_of", [0.0, 20.0])
    def test_a_history_shorter_than_the_horizon_gives_none(self, make_history, as_of):
        history = make_history([("a", "p", 0), ("a", "q", 10)])
        assert rolling_cutoffs(history, day(as_of), horizon_days=30, config=CutoffConfig(min_history_days=0)) == ()

    def test_lines_at_or_after_as_of_move_no_cutoff(self, make_history):
        config = CutoffConfig(n_cutoffs=4, min_history_days=10)
        short = make_history([("a", "p", 40), ("a", "q", 99)])
        long = make_history([("a", "p", 40), ("a", "q", 99), ("a", "q", 100), ("a", "r", 300)])
        assert rolling_cutoffs(short, day(100), 30, config) == rolling_cutoffs(long, day(100), 30, config)


class TestLabels:
    def test_only_first_purchases_of_standing_accounts_within_the_horizon_count(self, make_history):
        history = make_history(
            [
                ("a", "old", 1),
                ("a", "old", 12),  # a repeat
                ("a", "new", 12),
                ("a", "late", 40),  # at the end of the horizon: outside
                ("b", "new", 11),  # b has no earlier order: not a cross-sell
                (None, "new", 15),
                ("c", "new", 9.99),  # before the cutoff
                ("c", "edge", 10),  # at the cutoff: inside
            ]
        )
        found = novel_purchases(history, day(10), 30)
        pairs = {(history.account_ids[a], history.product_ids[p]) for a, p in zip(*found.nonzero(), strict=True)}
        assert pairs == {("a", "new"), ("c", "edge")}


class TestSnapshot:
    def test_pairs_by_hand(self, make_history):
        history = make_history(
            [("a", "p", 0), ("a", "p", 6), ("a", "q", 6), ("b", "p", 2), (None, "q", 3), ("b", "q", 10)]
        )
        snapshot = take_snapshot(history, day(10), pd.DataFrame({"product_id": ["p", "q"], "name": ["pen", None]}))
        rows = list(zip(snapshot.pairs.account, snapshot.pairs.product, strict=True))
        assert rows == [(0, 0), (0, 1), (1, 0)]
        np.testing.assert_allclose(snapshot.pairs.first_age, [10, 4, 8])
        np.testing.assert_allclose(snapshot.pairs.last_age, [4, 4, 8])
        np.testing.assert_allclose(snapshot.pairs.n_lines, [2, 1, 1])
        assert snapshot.names.tolist() == ["pen", ""]
        assert len(snapshot.lines) == 5
        assert len(snapshot.known) == 4

    def test_decay_is_a_half_a_half_life(self, make_history):
        history = make_history([("a", "p", 0), ("a", "q", 5)])
        snapshot = take_snapshot(history, day(10), pd.DataFrame())
        np.testing.assert_allclose(snapshot.decayed(5.0).toarray(), [[2.0**-2, 2.0**-1]])
        np.testing.assert_allclose(snapshot.newly_bought(6.0, 5.0).toarray(), [[0.0, 2.0**-1]])
        np.testing.assert_allclose(snapshot.decayed(None).toarray(), [[1.0, 1.0]])

    def test_nothing_sold_inactive_or_vetoed_is_not_offerable(self, make_history):
        history = make_history([("a", "gone", 0), ("a", "good", 0), ("a", "veto", 0), ("a", "future", 50)])
        products = pd.DataFrame(
            {
                "product_id": ["gone", "good", "veto", "future"],
                "active": [False, True, None, True],
                "do_not_offer": [False, None, True, False],
            }
        )
        snapshot = take_snapshot(history, day(10), products)
        offerable = {p for p, yes in zip(history.product_ids, snapshot.offerable, strict=True) if yes}
        assert offerable == {"good"}

    def test_an_empty_past(self, make_history):
        history = make_history([("a", "p", 20)])
        snapshot = take_snapshot(history, day(10), pd.DataFrame())
        assert len(snapshot.pairs.account) == 0
        assert snapshot.span_days == 0.0
        assert not snapshot.offerable.any()
        assert isinstance(snapshot.lines, History)
