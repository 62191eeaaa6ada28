"""The next-new-product model on small histories: what it offers, what it may not see, and what happens with little."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.data.history import History
from recsys.models.candidates import NO_PRODUCT, Candidates
from recsys.models.next_product.examples import SamplingConfig
from recsys.models.next_product.folds import excluding_window, non_overlapping
from recsys.models.next_product.model import CONSENSUS, NextProductConfig, NextProductModel
from recsys.models.next_product.ranker import RankerConfig
from recsys.models.snapshot import CutoffConfig

START = datetime(2024, 1, 1, tzinfo=UTC)
SMALL = NextProductConfig(
    n_offers=15,
    cutoffs=CutoffConfig(n_cutoffs=6, step_days=15.0),
    ranker=RankerConfig(n_trees=20, learning_rate=0.2, max_leaf_nodes=6, min_leaf=20),
    sampling=SamplingConfig(negative_share=0.5, block_accounts=16),
)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def fit(history, products, accounts, as_of, config=SMALL, seed=0) -> NextProductModel:
    return NextProductModel(config).fit(history, products, accounts, as_of, np.random.default_rng(seed))


def equal(one: Candidates, other: Candidates) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


@pytest.fixture(scope="module")
def model(drawn, drawn_products, drawn_accounts) -> NextProductModel:
    return fit(drawn, drawn_products, drawn_accounts, day(170))


@pytest.fixture(scope="module")
def candidates(model, drawn) -> Candidates:
    return model.score(drawn, day(170))


class TestCandidates:
    def test_they_are_sorted_by_account_then_score(self, candidates, drawn):
        assert len(candidates) > 0
        order = np.lexsort((-candidates.score, candidates.account))
        np.testing.assert_array_equal(order, np.arange(len(candidates)))
        offsets = candidates.offsets(drawn.n_accounts)
        assert np.diff(offsets).max() <= SMALL.n_offers

    def test_of_many_accounts_the_latest_are_scored_and_fewer_offers_kept(self, drawn, drawn_products):
        latest = pd.Series(drawn.before(day(170)).known().seconds).groupby(drawn.before(day(170)).known().account).max()
        few = SMALL.model_copy(update={"most_accounts": 12, "most_candidates": 1, "n_offers": 30})
        found = fit(drawn, drawn_products, pd.DataFrame(), day(170), few).score(drawn, day(170))
        assert len(np.unique(found.account)) <= 12
        assert latest[np.unique(found.account)].min() >= latest.sort_values().iloc[-12]
        assert 0 < np.diff(found.offsets(drawn.n_accounts)).max() <= 20  # a slate each, however few may be kept

    def test_nothing_owned_is_offered(self, candidates, drawn):
        owned = drawn.before(day(170)).owned()
        assert not np.asarray(owned[candidates.account, candidates.product]).any()

    def test_values_are_what_they_say(self, candidates):
        assert ((candidates.probability >= 0) & (candidates.probability <= 1)).all()
        assert (candidates.expected_quantity > 0).all()
        assert (candidates.from_product == NO_PRODUCT).all()
        assert {column.dtype.name for column in vars(candidates).values()} == {"int32", "float32"}

    def test_each_pair_stands_once(self, candidates, drawn):
        key = candidates.account.astype(np.int64) * drawn.n_products + candidates.product
        assert len(np.unique(key)) == len(key)

    def test_it_learns_the_taste_of_the_two_groups(self, candidates, drawn):
        top = np.concatenate([[True], candidates.account[1:] != candidates.account[:-1]])
        group_of_account = np.array([int(name[1:]) % 2 for name in drawn.account_ids])
        group_of_product = np.array([int(name[1:]) % 2 for name in drawn.product_ids])
        hits = group_of_account[candidates.account[top]] == group_of_product[candidates.product[top]]
        assert hits.mean() > 0.8  # 0.5 by chance


class TestPointInTime:
    def test_lines_at_or_after_as_of_change_nothing(self, candidates, drawn, drawn_products, drawn_accounts):
        past = drawn.before(day(170))
        again = fit(past, drawn_products, drawn_accounts, day(170))
        assert equal(candidates, again.score(past, day(170)))
        assert equal(candidates, again.score(drawn, day(170)))

    def test_calibrating_windows_do_not_touch_and_their_classifiers_never_saw_them(self):
        cutoffs = [day(number) for number in (140, 125, 110, 95, 80)]
        assert non_overlapping(cutoffs, 30) == [day(140), day(110), day(80)]
        assert excluding_window(day(140), 30, cutoffs, "abcde") == ["c", "d", "e"]
        assert excluding_window(day(110), 30, cutoffs, "abcde") == ["a", "e"]
        assert excluding_window(day(110), 90, cutoffs, "abcde") == []

    def test_each_classifier_learns_from_a_past_of_its_own(self, model, drawn):
        values = model.builder(drawn, day(170)).block(np.arange(5, dtype=np.int32)).values
        scores = [each.ranker.decision_function(values) for each in model.ensemble_]
        assert len(scores) == SMALL.n_classifiers == 3
        assert not np.array_equal(scores[0], scores[1])
        assert not np.array_equal(scores[1], scores[2])


class TestShortHistory:
    """One window of the past can't tell what holds later: the order leans on the channels that look at all of it."""

    def test_several_windows_trust_what_is_learned(self, model):
        assert [each.consensus for each in model.ensemble_] == [0.0] * 3

    def test_one_window_leans_on_the_whole_past(self, drawn, drawn_products, drawn_accounts):
        close = SMALL.model_copy(update={"cutoffs": CutoffConfig(n_cutoffs=3, step_days=5.0)})
        model = fit(drawn, drawn_products, drawn_accounts, day(170), close)
        assert [each.consensus for each in model.ensemble_] == [CONSENSUS] * 3
        builder = model.builder(drawn, day(170))
        found = builder.block(np.arange(drawn.n_accounts, dtype=np.int32))
        [first, *_] = model.ensemble_
        learned = first._replace(consensus=0.0).inputs(builder, found.account, found.values)
        leaning = first.inputs(builder, found.account, found.values)
        by_consensus = CONSENSUS * builder.consensus(found.values)
        np.testing.assert_allclose(leaning[:, 0] - learned[:, 0], by_consensus, atol=1e-5)
        assert np.ptp(by_consensus) > 1
        np.testing.assert_array_equal(leaning[:, 1], learned[:, 1])


class TestDeterminism:
    def test_the_same_seed_gives_the_same_candidates(self, candidates, drawn, drawn_products, drawn_accounts):
        assert equal(candidates, fit(drawn, drawn_products, drawn_accounts, day(170)).score(drawn, day(170)))

    def test_in_blocks_or_in_one_the_candidates_are_the_same(self, candidates, drawn, drawn_products, drawn_accounts):
        whole = SMALL.model_copy(update={"sampling": SMALL.sampling.model_copy(update={"block_accounts": 10_000})})
        model = fit(drawn, drawn_products, drawn_accounts, day(170))
        model.config = whole
        assert equal(candidates, model.score(drawn, day(170)))

    def test_some_accounts_score_as_among_all(self, model, candidates, drawn):
        some = model.score(drawn, day(170), np.array([5, 2, 40], dtype=np.int32))
        mine = np.isin(candidates.account, [2, 5, 40])
        np.testing.assert_array_equal(some.product, candidates.product[mine])
        np.testing.assert_allclose(some.probability, candidates.probability[mine], rtol=1e-3)


@pytest.mark.parametrize("kind", ["logistic", "blend"])
def test_the_plain_logistic_stands_beside(kind, drawn, drawn_products, drawn_accounts):
    config = SMALL.model_copy(update={"ranker": SMALL.ranker.model_copy(update={"kind": kind})})
    found = fit(drawn, drawn_products, drawn_accounts, day(170), config).score(drawn, day(170))
    assert len(found) > 0


def test_a_model_scores_accounts_that_came_after_it_was_trained(drawn, drawn_products, drawn_accounts):
    early = drawn.before(day(120))
    seen = np.unique(early.known().account)[:-5]
    known = early.select(np.isin(early.account, seen))
    shrunk = History.from_frame(
        pd.DataFrame(
            {
                "order_id": known.order,
                "account_id": known.account_ids[known.account],
                "product_id": known.product_ids[known.product],
                "ordered_at": pd.to_datetime(known.seconds, unit="s", utc=True),
                "quantity": known.quantity,
                "unit_price": known.unit_price,
            }
        )
    )
    model = fit(shrunk, drawn_products, drawn_accounts, day(120))
    assert np.unique(model.score(drawn, day(170)).account).size > seen.size


class TestLittleData:
    def check(self, history, as_of, caplog, sentence=None):
        products = pd.DataFrame({"product_id": history.product_ids})
        accounts = pd.DataFrame({"account_id": history.account_ids})
        with caplog.at_level(logging.WARNING):
            found = fit(history, products, accounts, as_of).score(history, as_of)
        if sentence:
            assert sentence in caplog.text
        return found

    def test_one_account_one_product(self, make_history, caplog):
        assert len(self.check(make_history([("a", "p", 0)]), day(10), caplog)) == 0

    def test_a_history_shorter_than_the_horizon_falls_back_to_popularity(self, make_history, caplog):
        lines = [("a", "p", 0), ("b", "q", 1), ("c", "q", 1), ("d", "r", 1)]
        found = self.check(make_history(lines), day(10), caplog, "ranked by recent popularity")
        mine = found.product[found.account == 0]
        assert mine[0] == 1  # q has two new owners, r one
        assert set(mine) == {1, 2}
        assert (found.probability == 0).all()  # nothing has been seen to come true

    def test_nobody_buys_anything_new(self, make_history, caplog):
        lines = [
            (name, product, float(when)) for name, product in (("a", "p"), ("b", "q")) for when in range(0, 200, 9)
        ]
        found = self.check(make_history(lines), day(200), caplog, "ranked by recent popularity")
        assert set(zip(found.account, found.product, strict=True)) == {(0, 1), (1, 0)}

    def test_nothing_before_as_of(self, make_history, caplog):
        assert len(self.check(make_history([("a", "p", 50)]), day(10), caplog)) == 0

    def test_only_lines_without_an_account(self, make_history, caplog):
        history = make_history([(None, "p", float(when)) for when in range(100)])
        assert len(self.check(history, day(100), caplog)) == 0
