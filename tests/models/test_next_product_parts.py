"""The learned parts: grid, ranker, activity, calibration."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier

from recsys.data.history import History
from recsys.models.binning import QuantileBins, weighted_edges
from recsys.models.next_product.calibration import Calibrator, CalibratorConfig, HeldOut, season_ahead, season_of
from recsys.models.next_product.examples import balanced_sample
from recsys.models.next_product.ranker import IncidenceModel, Ranker, RankerConfig
from recsys.models.propensity.encoding import MISSING, EncodedTable
from recsys.models.propensity.learners import BoostingLearner, BoostingSetting

START = datetime(2024, 1, 1, tzinfo=UTC)
SMALL = {"n_trees": 30, "learning_rate": 0.2, "max_leaf_nodes": 8, "min_leaf": 20}


def held_out(inputs, bought, weight=None, season=None, views=None) -> HeldOut:
    n = len(inputs)
    weight, season = np.ones(n) if weight is None else weight, np.zeros(n) if season is None else season
    return HeldOut(inputs, bought, weight, season, np.stack(views or [inputs], axis=1))


def drawn_candidates(seed: int = 0, n: int = 6_000):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4)).astype(np.float32)
    values[rng.random(n) < 0.2, 1] = np.nan
    values[:, 3] = 1.0  # says nothing
    odds = 2 * values[:, 0] - 2 + np.where(np.isnan(values[:, 1]), 1.0, 0.0)
    return values, rng.random(n) < expit(odds), odds


class TestGrid:
    def test_steps_keep_the_order_and_missing_stays_missing(self):
        values = np.array([[3.0], [1.0], [np.nan], [2.0], [1.0]], dtype=np.float32)
        found = QuantileBins().fit(values).transform(values)[:, 0]
        assert found[1] == found[4] < found[3] < found[0]
        assert np.isnan(found[2])

    def test_there_are_fewer_steps_than_scikit_learn_has_bins(self):
        values = np.random.default_rng(0).normal(size=(5_000, 1)).astype(np.float32)
        assert len(np.unique(QuantileBins().fit(values).transform(values))) == 200


class TestRanker:
    @pytest.mark.parametrize("kind", ["boosting", "logistic", "blend"])
    def test_it_finds_the_order(self, kind):
        values, bought, _ = drawn_candidates()
        ranker = Ranker(RankerConfig(kind=kind, **SMALL), 0).fit(values, bought, np.ones(len(bought), np.float32))
        fresh, _, odds = drawn_candidates(seed=1)
        assert np.corrcoef(ranker.decision_function(fresh), odds)[0, 1] > 0.9

    def test_the_blend_is_the_mean_of_both(self):
        values, bought, _ = drawn_candidates()
        ones = np.ones(len(bought), np.float32)
        scores = {
            kind: Ranker(RankerConfig(kind=kind, **SMALL), 0).fit(values, bought, ones).decision_function(values)
            for kind in ("boosting", "logistic", "blend")
        }
        np.testing.assert_allclose(scores["blend"], (scores["boosting"] + scores["logistic"]) / 2, atol=1e-5)

    def test_weights_undo_the_sampling_of_negatives(self):
        values, bought, odds = drawn_candidates(n=40_000)
        keep = bought | (np.random.default_rng(5).random(len(bought)) < 0.2)
        weight = np.where(bought, 1.0, 5.0).astype(np.float32)
        ranker = Ranker(RankerConfig(kind="logistic"), 0).fit(values[keep], bought[keep], weight[keep])
        assert expit(ranker.decision_function(values)).mean() == pytest.approx(expit(odds).mean(), rel=0.05)

    def test_the_trees_answer_for_values_as_they_learned_from_steps(self):
        values, bought, _ = drawn_candidates()
        fresh, _, _ = drawn_candidates(seed=1)
        fresh[:3, 0] = np.nan, 50.0, -50.0  # never missing before, and beyond every step
        ranker = Ranker(RankerConfig(**SMALL), 3).fit(values, bought, np.ones(len(bought), np.float32))
        grid = QuantileBins().fit(values[:, ranker.used_])
        steps = HistGradientBoostingClassifier(
            max_iter=SMALL["n_trees"],
            learning_rate=SMALL["learning_rate"],
            max_leaf_nodes=SMALL["max_leaf_nodes"],
            min_samples_leaf=SMALL["min_leaf"],
            l2_regularization=RankerConfig().l2,
            max_features=RankerConfig().max_features,
            early_stopping=False,
            random_state=3,
        ).fit(grid.transform(values[:, ranker.used_]), bought, sample_weight=np.ones(len(bought)))
        wanted = steps.decision_function(grid.transform(fresh[:, ranker.used_]))
        np.testing.assert_array_equal(ranker.decision_function(fresh), wanted.astype(np.float32))
        np.testing.assert_array_equal(ranker.decision_function(fresh[:5]), ranker.decision_function(fresh)[:5])
        assert len(ranker.decision_function(fresh[:0])) == 0

    def test_the_same_seed_gives_the_same_scores(self):
        values, bought, _ = drawn_candidates()
        ones = np.ones(len(bought), np.float32)
        config = RankerConfig(max_features=0.5, **SMALL)
        once, twice = (Ranker(config, 7).fit(values, bought, ones).decision_function(values) for _ in range(2))
        np.testing.assert_array_equal(once, twice)


class TestActivity:
    def test_it_learns_who_buys(self):
        values, active, odds = drawn_candidates()
        model = IncidenceModel(random_state=0).fit(values, active)
        assert np.corrcoef(model.log_odds(values), odds)[0, 1] > 0.9

    @pytest.mark.parametrize("active", [np.zeros(10, bool), np.ones(10, bool), np.zeros(0, bool)])
    def test_without_two_outcomes_it_says_the_rate(self, active):
        model = IncidenceModel(random_state=0).fit(np.ones((len(active), 2), np.float32), active)
        rate = (active.sum() + 1) / (len(active) + 2)
        np.testing.assert_allclose(expit(model.log_odds(np.ones((3, 2), np.float32))), rate, rtol=1e-5)


def ratios(probability, bought, n_bins=5):
    """Return observed over expected of bins with equally many purchases, lowest probabilities first."""
    order = np.argsort(probability)
    bin_of = np.minimum(np.cumsum(bought[order]) * n_bins // bought.sum(), n_bins - 1)
    return np.bincount(bin_of, bought[order]) / np.bincount(bin_of, probability[order])


class TestCalibrator:
    def test_a_distorted_score_becomes_a_probability_in_every_bin(self):
        rng = np.random.default_rng(0)
        inputs = rng.normal(size=(200_000, 2)).astype(np.float32)
        true = expit(-4 + 1.5 * inputs[:, 0] + inputs[:, 1])
        bought = rng.random(len(true)) < true
        inputs[:, 0] = np.where(inputs[:, 0] > 1, 1 + 2 * (inputs[:, 0] - 1), inputs[:, 0])  # the top is overstated
        half = len(true) // 2
        calibrator = Calibrator(CalibratorConfig()).fit(held_out(inputs[:half], bought[:half]))
        found = calibrator.probability([inputs[half:]])
        edges = np.quantile(found, np.linspace(0, 1, 11))
        for low, high in itertools.pairwise(edges):
            inside = (found >= low) & (found < high)
            if bought[half:][inside].sum() >= 100:
                assert 0.85 < bought[half:][inside].sum() / found[inside].sum() < 1.15

    def test_the_mean_of_three_classifiers_is_not_too_cautious(self):
        """Each errs by itself: the mean of their calibrated probabilities has the level, not the spread."""
        rng = np.random.default_rng(5)
        config, alike, n = CalibratorConfig(), 0.7, 300_000
        spread = 1.2  # of the log-odds of those that did not buy; a purchase has the same, moved by its square
        bought = rng.random(n) < 0.02
        scores = spread**2 * bought + spread * (
            np.sqrt(alike) * rng.normal(size=n) + np.sqrt(1 - alike) * rng.normal(size=(3, n))
        )
        views = [np.column_stack([score, np.zeros(n)]).astype(np.float32) for score in scores]
        past, ahead = slice(None, n // 2), slice(n // 2, None)
        seen = held_out(views[0][past], bought[past], views=[view[past] for view in views])
        calibrator = Calibrator(config).fit(seen)
        assert calibrator.slope_ == pytest.approx(3 / (1 + 2 * alike), rel=0.02)
        alone = [
            Calibrator(config).fit(held_out(view[past], bought[past])).probability([view[ahead]]) for view in views
        ]
        together = calibrator.probability([view[ahead] for view in views])
        np.testing.assert_allclose(ratios(together, bought[ahead]), 1, atol=0.15)
        assert bought[ahead].sum() / together.sum() == pytest.approx(1, abs=0.05)
        low, *_, high = ratios(np.mean(alone, axis=0), bought[ahead])
        assert low < 0.85
        assert high > 1.3

    def test_scores_that_hardly_differ_get_their_rate(self):
        """Bins of one mean, but for rounding, had no probability: a small market could not be kept."""
        rng = np.random.default_rng(7)
        for n in (200, 371, 1_003):
            inputs = np.column_stack([np.full(n, -1.2578137), np.full(n, 0.3)]).astype(np.float32)
            inputs[: n // 3, 0] = -1.25
            bought = rng.random(n) < 0.2
            weight = rng.uniform(0.5, 3.0, size=n)
            found = Calibrator(CalibratorConfig()).fit(held_out(inputs, bought, weight)).probability([inputs])
            assert np.average(found, weights=weight) == pytest.approx(np.average(bought, weights=weight), abs=0.02)

    def test_classifiers_that_say_the_same_are_one(self):
        rng = np.random.default_rng(6)
        inputs = rng.normal(size=(20_000, 2)).astype(np.float32)
        bought = rng.random(len(inputs)) < expit(-3 + inputs[:, 0])
        one = Calibrator(CalibratorConfig()).fit(held_out(inputs, bought))
        three = Calibrator(CalibratorConfig()).fit(held_out(inputs, bought, views=[inputs] * 3))
        assert three.slope_ == pytest.approx(1)
        np.testing.assert_allclose(three.probability([inputs] * 3), one.probability([inputs]), rtol=1e-5)

    def test_it_never_falls_as_the_score_rises(self):
        rng = np.random.default_rng(1)
        inputs = rng.normal(size=(20_000, 2)).astype(np.float32)
        bought = rng.random(len(inputs)) < expit(-3 + inputs[:, 0])
        calibrator = Calibrator(CalibratorConfig()).fit(held_out(inputs, bought))
        line = np.column_stack([np.linspace(-4, 4, 200), np.zeros(200)]).astype(np.float32)
        assert (np.diff(calibrator.probability([line])) >= -1e-9).all()

    def test_too_few_purchases_give_the_weighted_rate(self):
        inputs = np.zeros((10, 2), np.float32)
        bought = np.arange(10) < 2
        weight = np.where(bought, 1.0, 4.0).astype(np.float32)
        calibrator = Calibrator(CalibratorConfig(min_positives=3)).fit(held_out(inputs, bought, weight))
        np.testing.assert_allclose(calibrator.probability([inputs]), 2 / 34, rtol=1e-6)

    def test_windows_of_two_levels_meet_at_the_season_that_is_asked_for(self):
        rng = np.random.default_rng(2)
        inputs = rng.normal(size=(200_000, 2)).astype(np.float32)
        season = np.repeat([0.0, 0.6], 100_000)  # the second window has e^0.6 times the orders
        bought = rng.random(len(season)) < expit(-4 + inputs[:, 0] + season)
        calibrator = Calibrator(CalibratorConfig()).fit(held_out(inputs, bought, season=season))
        assert calibrator.season_ == pytest.approx(0.3)
        for asked in (0.0, 0.6):
            of_window = season == asked
            expected = calibrator.probability([inputs[of_window]], asked).sum()
            assert bought[of_window].sum() / expected == pytest.approx(1, abs=0.05)
        middle = calibrator.probability([inputs[:5]])
        np.testing.assert_allclose(calibrator.probability([inputs[:5]], 0.3), middle, rtol=1e-5)

    def test_a_window_of_its_own_level_bends_no_curve(self):
        """One window has three times the other's odds, which no season tells: the shape stays, the level is between."""
        rng = np.random.default_rng(3)
        inputs = rng.normal(size=(200_000, 2)).astype(np.float32)
        inputs[100_000:, 0] += 1.0  # and its candidates score higher, so that a curve through both would be too flat
        odds = -4 + inputs[:, 0] - np.repeat([0.0, np.log(3.0)], 100_000)
        bought = rng.random(len(odds)) < expit(odds)
        found = Calibrator(CalibratorConfig()).fit(held_out(inputs, bought, season=np.repeat([0.0, 1e-9], 100_000)))
        line = np.column_stack([[-1.0, 0.0, 1.0], np.zeros(3)]).astype(np.float32)
        between = expit(-4 + line[:, 0] - np.log(3.0) / 2)
        np.testing.assert_allclose(found.probability([line]), between, rtol=0.1)

    def test_a_rate_alone_moves_with_the_season_too(self):
        inputs, bought = np.zeros((10, 2), np.float32), np.arange(10) < 2
        calibrator = Calibrator(CalibratorConfig()).fit(held_out(inputs, bought, season=np.full(10, 5.0)))
        doubled = calibrator.probability([inputs[:1]], 5.0 + np.log(2.0))
        assert doubled[0] == pytest.approx(0.5 / 1.5)  # odds of 2 to 8, doubled

    def test_nothing_at_all(self):
        calibrator = Calibrator(CalibratorConfig()).fit(HeldOut.nothing())
        assert calibrator.probability([np.zeros((3, 2), np.float32)]).tolist() == [0, 0, 0]


class TestEdges:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_trees_on_them_answer_as_trees_on_scikit_learns_own(self, weighted):
        rng = np.random.default_rng(4)
        numbers = rng.normal(size=(2_000, 4))
        numbers[:, 1] = np.round(numbers[:, 1], 1)  # too few values for edges
        numbers[rng.random(2_000) < 0.1, 2] = np.nan
        numbers[:, 3] = np.exp(3 * numbers[:, 3])
        levels = rng.integers(MISSING, 6, size=(2_000, 2)).astype(np.int32)
        y = (rng.random(2_000) < expit(numbers[:, 0] + np.nan_to_num(numbers[:, 2]) + 0.3 * levels[:, 0])).astype(int)
        weight = np.where(y == 1, 1.0, 7.25) if weighted else np.ones(2_000)
        table, setting = EncodedTable(numbers, levels), BoostingSetting(0.1, 40, 8, 20, 5.0, codes=False)
        learner = BoostingLearner(np.zeros(4, bool), np.zeros(2, bool), setting).fit(table, y, weight)
        plain = HistGradientBoostingClassifier(
            learning_rate=0.1,
            max_iter=40,
            max_leaf_nodes=8,
            min_samples_leaf=20,
            l2_regularization=5.0,
            categorical_features=[4, 5],
            early_stopping=False,
            random_state=0,
        )
        design = np.hstack([numbers, np.where(levels == MISSING, np.nan, levels)])
        wanted = plain.fit(design, y, sample_weight=weight).decision_function(design)
        np.testing.assert_allclose(learner.log_odds(table), wanted, atol=1e-9)

    def test_a_feature_of_few_values_has_none(self):
        assert weighted_edges(np.arange(255.0), np.ones(255)) is None
        assert weighted_edges(np.array([np.nan]), np.ones(1)) is None
        assert weighted_edges(np.arange(300.0), np.where(np.arange(300) < 250, 1.0, 0.0)) is None


class TestBothSides:
    def test_half_are_active_and_weights_undo_it(self):
        rows, active = np.arange(1_000, dtype=np.int32), np.arange(1_000) % 10 == 0
        drawn, weight = balanced_sample(rows, active, 80, np.random.default_rng(0))
        assert active[drawn].sum() == 40
        assert (np.diff(drawn) > 0).all()
        # 100 active accounts stand beside 900: a drawn one of the others weighs nine times as much
        assert sorted(set(weight.tolist())) == [1.0, pytest.approx(9.0)]
        assert np.average(active[drawn], weights=weight) == pytest.approx(0.1)

    def test_a_short_side_leaves_its_places_to_the_other(self):
        rows, active = np.arange(100, dtype=np.int32), np.arange(100) < 10
        drawn, _ = balanced_sample(rows, active, 60, np.random.default_rng(0))
        assert (active[drawn].sum(), len(drawn)) == (10, 60)
        drawn, _ = balanced_sample(rows, ~active, 60, np.random.default_rng(0))
        assert (active[drawn].sum(), len(drawn)) == (10, 60)

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_all_fit_and_weigh_one(self, share):
        rows = np.arange(50, dtype=np.int32)
        drawn, weight = balanced_sample(rows, rows < 50 * share, 50, np.random.default_rng(0))
        np.testing.assert_array_equal(drawn, rows)
        np.testing.assert_array_equal(weight, 1.0)


class TestSeason:
    def history(self, orders_a_month: list[int]) -> History:
        """Orders of one line each, evenly over months of thirty days."""
        days = [30 * month + 30 * place / n for month, n in enumerate(orders_a_month) for place in range(n)]
        return History.from_frame(
            pd.DataFrame(
                {
                    "order_id": [f"o{place:05d}" for place in range(len(days))],
                    "account_id": "a",
                    "product_id": "p",
                    "ordered_at": [START + timedelta(days=one) for one in days],
                    "quantity": 1.0,
                    "unit_price": 1.0,
                }
            )
        )

    def test_it_is_the_log_of_the_orders_less_half_of_those_before(self):
        history = self.history([300, 700])
        found = season_of(history, START + timedelta(days=30), 30)
        assert found == pytest.approx(np.log(800) - np.log(400) / 2)  # a hundred added: a small market's are chance
        assert season_of(history, START, 30) == pytest.approx(np.log(400) / 2)  # nothing is known of the days before

    def test_of_less_than_a_year_the_days_before_are_expected_again(self):
        history = self.history([300, 700])
        assert season_ahead(history, START + timedelta(days=60), 30) == pytest.approx(np.log(800) / 2)
        early = START + timedelta(days=30)
        assert season_ahead(history.before(early), early, 30) == pytest.approx(np.log(400) / 2)

    def test_of_more_the_same_days_a_year_ago_are(self):
        history = self.history([300, 300, 900, *[300] * 11])  # 420 days
        as_of = START + timedelta(days=365 + 60)
        assert season_ahead(history, as_of, 30) > np.log(900) - np.log(400) / 2
