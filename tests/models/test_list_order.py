"""Whole lists beside single candidates: what is learned from them, when they are taken, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.data.history import novel_purchases, stands_in
from recsys.evaluation.offline.ranking_metrics import score_ranking
from recsys.fitting.scoring_models import dump_learned, load_learned
from recsys.models.next_product.list_order import (
    ListTrees,
    asked_order,
    better_order,
    list_lengths,
    ndcg_of_lists,
)
from recsys.models.next_product.model import NextProductConfig, NextProductModel
from recsys.models.next_product.ranker import Ranker, RankerConfig
from tests.models.conftest import account_frame, draw_history, product_frame
from tests.models.test_next_product import SMALL, day, equal, fit

pytestmark = pytest.mark.slow

AS_OF = day(150)


def config(objective: str) -> NextProductConfig:
    ranker = SMALL.ranker.model_copy(update={"objective": objective})
    return SMALL.model_copy(update={"ranker": ranker})


def trained(history, objective, seed=0) -> NextProductModel:
    return fit(history, product_frame(history), account_frame(history), AS_OF, config(objective), seed)


class TestNdcgOfLists:
    def test_it_is_that_of_the_backtest(self):
        rng = np.random.default_rng(0)
        lists = rng.integers(1, 30, size=50)
        row = np.repeat(np.arange(50), lists)
        product = np.concatenate([np.arange(n) for n in lists])
        bought, score = rng.random(len(row)) < 0.2, rng.normal(size=len(row))
        table = np.zeros((50, 40), dtype=bool)
        table[row[bought], product[bought]] = True
        table[:, 35] = True  # bought, and among no candidates
        relevant = sp.csr_array(table)
        recommended = np.full((50, 10), -1)
        for account in range(50):
            best = product[row == account][np.argsort(-score[row == account])][:10]
            recommended[account, : len(best)] = best
        expected = score_ranking(recommended, relevant, 10).ndcg
        found = ndcg_of_lists(lists, bought, np.diff(relevant.indptr), score)
        np.testing.assert_allclose(found, expected)

    def test_accounts_that_follow_themselves_in_another_past_are_another_list(self):
        pasts = np.array([1, 1, 5]), np.array([5, 5])
        assert np.concatenate([list_lengths(past) for past in pasts]).tolist() == [2, 1, 2]


class TestChoice:
    def test_lists_are_taken_where_they_gain_more_than_chance(self):
        before = np.random.default_rng(0).random(400)
        gain = np.tile([0.05, -0.03], 200)  # mean .01, standard error .04 / 20 = .002
        choice = better_order(
            [np.column_stack([before, before + gain])[:200], np.column_stack([before, before + gain])[200:]]
        )
        assert choice.taken == "listwise"
        assert choice.sentence == (
            "Order of offers: learned from single candidates and whole lists together, because whole lists gain "
            f"more than chance in 2 held-out windows with 400 buyers (NDCG@10 {before.mean():.4f} without, "
            f"{before.mean() + 0.01:.4f} with them, standard error 0.0020)."
        )

    @pytest.mark.parametrize("gain", [0.003, 0.0, -0.05])
    def test_what_chance_may_give_is_no_gain(self, gain):
        noise = np.tile([0.04, -0.04], 200)
        choice = better_order([np.column_stack([np.full(400, 0.3), 0.3 + gain + noise])])
        assert choice.taken == "pointwise"
        assert "whole lists do not gain more than chance in 1 held-out window " in choice.reason

    def test_few_buyers_decide_nothing(self):
        choice = better_order([np.column_stack([np.zeros(29), np.ones(29)])])
        assert choice == ("pointwise", "29 buyers in the held-out windows are too few to compare by")
        assert better_order([]).taken == "pointwise"

    def test_a_ranker_of_others_learns_in_its_own_way(self):
        assert asked_order("listwise", engines_own=False) == ("pointwise", "the ranker is not the engine's own")


class TestListTrees:
    @pytest.fixture(autouse=True)
    def _lightgbm(self):
        pytest.importorskip("lightgbm", reason='lightgbm is not installed: pip install "offer-engine[lightgbm]"')

    def test_they_learn_an_order_within_lists_that_no_single_candidate_shows(self):
        """Whoever buys takes the highest value of his own list; how high that is differs between lists."""
        rng = np.random.default_rng(0)
        lists = np.full(600, 10)
        level, inside = np.repeat(rng.normal(0, 20, 600), 10), rng.normal(size=6000)
        bought = np.zeros(6000, dtype=bool)
        bought[np.arange(600) * 10 + inside.reshape(600, 10).argmax(axis=1)] = True
        values = np.column_stack([level, inside]).astype(np.float32)
        trees = ListTrees(min_leaf=20, max_features=1.0).fit(values[:3000], bought[:3000], lists[:300])
        found = ndcg_of_lists(lists[300:], bought[3000:], np.ones(300, int), trees.decision_function(values[3000:]))
        assert found.mean() > 0.95

    def test_forced_they_change_the_order_and_the_same_data_give_the_same_one(self, tmp_path):
        history = draw_history(3)
        listwise, again, pointwise = (trained(history, each) for each in ("listwise", "listwise", "pointwise"))
        found = listwise.score(history, AS_OF)
        assert equal(found, again.score(history, AS_OF))
        assert not equal(found, pointwise.score(history, AS_OF))
        trees = [each.ranker.lists_ for each in listwise.ensemble_ if isinstance(each.ranker, Ranker)]
        assert len({each.text_ for each in trees if each is not None}) == 3
        assert listwise.order_choice_.reason == "next_product.ranker.objective is listwise"
        (tmp_path / "kept.skops").write_bytes(dump_learned("next_product", listwise))
        kept = load_learned(tmp_path / "kept.skops")
        kept.products_, kept.accounts_ = listwise.products_, listwise.accounts_
        assert equal(found, kept.score(history, AS_OF))

    def test_without_a_gain_all_stays_as_it_was(self):
        """Sixty accounts with two tastes can't tell a gain from chance."""
        history = draw_history(3)
        auto, pointwise = trained(history, "auto"), trained(history, "pointwise")
        assert auto.order_choice_.taken == "pointwise"
        assert equal(auto.score(history, AS_OF), pointwise.score(history, AS_OF))

    @pytest.mark.proof
    @pytest.mark.parametrize("objective", ["pointwise", "listwise"])
    def test_probabilities_are_calibrated_in_either_order(self, objective):
        history = draw_history(5, n_accounts=400)
        found = trained(history, objective).score(history, AS_OF)
        bought = stands_in(novel_purchases(history, AS_OF, 30), found.account, found.product)
        likely = found.probability >= np.median(found.probability)
        for part in (likely, ~likely):
            assert 0.75 < found.probability[part].sum() / bought[part].sum() < 1.33
        assert bought[likely].mean() > bought[~likely].mean()

    def test_a_candidate_s_score_does_not_depend_on_those_beside_it(self):
        rng = np.random.default_rng(1)
        values, bought = rng.normal(size=(400, 3)).astype(np.float32), rng.random(400) < 0.3
        ranker = Ranker(RankerConfig(min_leaf=10, n_trees=5), random_state=0).fit(values, bought)
        listed = ranker.with_lists(values, bought, np.full(40, 10))
        assert ranker.lists_ is None
        np.testing.assert_array_equal(listed.decision_function(values)[7:9], listed.decision_function(values[7:9]))
