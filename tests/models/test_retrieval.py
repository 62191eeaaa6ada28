"""Candidate sources against arithmetic by hand; what each promises stands in `tests/conformance`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.models.retrieval.associations import AssociationRetriever, AssociationsConfig, normalised_pairs
from recsys.models.retrieval.baskets import BasketRetriever, BasketsConfig
from recsys.models.retrieval.content import ContentConfig, ContentRetriever
from recsys.models.retrieval.ease import EaseConfig, EaseRetriever
from recsys.models.retrieval.neighbours import NeighbourRetriever, NeighboursConfig
from recsys.models.retrieval.popularity import PopularityConfig, PopularityRetriever, SeasonConfig, SeasonRetriever
from recsys.models.retrieval.retriever import take_head, top_k_rows
from recsys.models.retrieval.retrievers import RetrieversConfig, default_retrievers
from recsys.models.retrieval.ridge import RidgeConfig, RidgeRetriever
from recsys.models.snapshot import take_snapshot

START = datetime(2024, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def test_channels_of_the_default_sources_are_unique():
    names = [name for source in default_retrievers() for name in source.channels]
    assert len(set(names)) == len(names)


def test_sources_can_be_left_out():
    config = RetrieversConfig(
        neighbours=(), ridge=(), ease=None, associations=None, baskets=None, content=None, popularity=None, season=None
    )
    assert default_retrievers(config) == ()


class TestTopK:
    def test_zeros_never_count(self):
        scores = np.array([[0.0, 2.0, 1.0, 0.0], [4.0, 3.0, 2.0, 1.0]], dtype=np.float32)
        assert top_k_rows(scores, 3).tolist() == [[False, True, True, False], [True, True, True, False]]

    def test_ties_at_the_edge_are_left_out_together(self):
        scores = np.array([[3.0, 1.0, 1.0, 1.0]], dtype=np.float32)
        assert top_k_rows(scores, 2).tolist() == [[True, False, False, False]]

    def test_more_than_there_are(self):
        scores = np.array([[3.0, -1.0]], dtype=np.float32)
        assert top_k_rows(scores, 5).tolist() == [[True, False]]


def fitted(source, history, as_of, products=None):
    return source.fit(take_snapshot(history, as_of, pd.DataFrame() if products is None else products))


def score_of(source, history, account, product, channel=0):
    row = int(np.flatnonzero(history.account_ids == account)[0])
    column = int(np.flatnonzero(history.product_ids == product)[0])
    return float(source.score(np.array([row], dtype=np.int32))[channel, 0, column])


class TestByHand:
    def test_neighbours(self, make_history):
        history = make_history([("a", "p", 0), ("a", "q", 0), ("b", "p", 0), ("b", "r", 10), ("c", "s", 0)])
        config = NeighboursConfig(
            n_neighbours=1, half_life_days=None, fresh_half_life_days=10, recent_half_life_days=5,
            votes=("fresh", "recent", "ever"),
        )  # fmt: skip
        source = fitted(NeighbourRetriever(config), history, day(20))
        likeness = 1 / (np.sqrt(2) * np.sqrt(2))  # a and b share p out of two products each
        assert score_of(source, history, "a", "r", 0) == pytest.approx(likeness * 2 ** (-10 / 10))
        assert score_of(source, history, "a", "r", 1) == pytest.approx(likeness * 2 ** (-10 / 5))
        assert score_of(source, history, "a", "r", 2) == pytest.approx(likeness)
        assert score_of(source, history, "a", "s", 2) == 0.0

    def test_idf_makes_the_rare_product_weigh_more(self, make_history):
        lines = [("a", "common", 0), ("a", "rare", 0), ("b", "common", 0), ("c", "rare", 0), ("c", "common", 0)]
        history = make_history([*lines, ("b", "x", 0), ("c", "y", 0), ("d", "common", 0), ("d", "z", 0)])
        config = NeighboursConfig(n_neighbours=None, half_life_days=None, idf_power=1.0, votes=("ever",))
        source = fitted(NeighbourRetriever(config), history, day(1))
        common, rare, only = np.log(4 / 4), np.log(4 / 2), np.log(4 / 1)
        length_a = np.hypot(common, rare)
        length_c = np.sqrt(common**2 + rare**2 + only**2)
        assert score_of(source, history, "a", "y") == pytest.approx(rare**2 / (length_a * length_c))
        assert score_of(source, history, "a", "x") == 0.0

    def test_account_cosine_and_follow_on(self, make_history):
        history = make_history([("a", "p", 0), ("b", "p", 0), ("b", "q", 80), ("c", "q", 80), ("c", "p", 80)])
        config = AssociationsConfig(half_life_days=1e9, alpha=0.7, follow_window_days=30, follow_alpha=0.6, damping=2)
        source = fitted(AssociationRetriever(config), history, day(100))
        assert score_of(source, history, "a", "q", 0) == pytest.approx(2 / (3**0.7 * 2**0.3), rel=1e-5)
        # q came after p for b alone; c bought both in the window and owns p all the same
        assert score_of(source, history, "a", "q", 1) == pytest.approx(2 / ((3 + 2) ** 0.6 * (2 + 2) ** 0.4), rel=1e-5)

    def test_normalised_pairs_have_no_diagonal(self, make_history):
        history = make_history([("a", "p", 0), ("a", "q", 0)])
        owned = take_snapshot(history, day(1), pd.DataFrame()).matrix()
        np.testing.assert_allclose(normalised_pairs(owned, owned, 0.5, 0.0), [[0, 1], [1, 0]])

    def test_baskets(self, make_history):
        history = make_history([("a", "p", 0), ("b", "p", 5), ("b", "q", 5), (None, "p", 6), (None, "q", 6)])
        source = fitted(BasketRetriever(BasketsConfig(damping=1.0, half_life_days=10.0)), history, day(10))
        pair = 2 / np.log(2 + 2)  # two orders of two products each
        assert score_of(source, history, "a", "q") == pytest.approx(2 ** (-10 / 10) * pair / (3 + 1), rel=1e-5)

    def test_ease_equals_its_closed_form(self, make_history):
        history = make_history([("a", "p", 0), ("b", "p", 0), ("b", "q", 0), ("c", "q", 0), ("c", "r", 0)])
        source = fitted(EaseRetriever(EaseConfig(targets=("owned",), penalty=2.0, half_life_days=1e9)), history, day(1))
        owned = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=float)
        penalty = 2.0 * (2 + 2 + 1) / 3
        inverse = np.linalg.inv(owned.T @ owned + penalty * np.eye(3))
        weights = np.eye(3) - inverse / np.diag(inverse)
        np.testing.assert_allclose(source.score(np.arange(3, dtype=np.int32))[0], owned @ weights, atol=1e-5)

    def test_ease_turned_forward_is_the_best_with_a_zero_diagonal(self, drawn):
        config = EaseConfig(targets=("fresh",), penalty=0.5, half_life_days=60.0, fresh_half_life_days=20.0)
        source = fitted(EaseRetriever(config), drawn, day(200))
        snapshot = take_snapshot(drawn, day(200), pd.DataFrame())
        owned, fresh = snapshot.decayed(60.0).toarray(), snapshot.newly_bought(100.0, 20.0).toarray()
        penalty = 0.5 * np.diag(owned.T @ owned).mean()
        for column in range(0, drawn.n_products, 7):  # each column is a ridge regression on all the others
            others = np.delete(owned, column, axis=1)
            gram = others.T @ others + penalty * np.eye(others.shape[1])
            expected = others @ np.linalg.solve(gram, others.T @ fresh[:, column])
            found = source.score(np.arange(drawn.n_accounts, dtype=np.int32))[0, :, column]
            np.testing.assert_allclose(found, expected, atol=2e-4)

    def test_ridge_equals_the_primal_solution(self, drawn):
        config = RidgeConfig(window_days=60.0, penalty=1.5, half_life_days=1e9, idf_power=0.0)
        source = fitted(RidgeRetriever(config), drawn, day(200))
        pairs = take_snapshot(drawn, day(200), pd.DataFrame()).pairs
        before, added, now = (np.zeros((drawn.n_accounts, drawn.n_products)) for _ in range(3))
        late = pairs.first_age <= 60
        before[pairs.account[~late], pairs.product[~late]] = 1
        added[pairs.account[late], pairs.product[late]] = np.exp2(-pairs.first_age[late] / 60)
        now[pairs.account, pairs.product] = 1
        rows = (before.sum(1) > 0) & (added.sum(1) > 0)
        x, y = (m[rows] / np.linalg.norm(m[rows], axis=1, keepdims=True) for m in (before, added))
        weights = np.linalg.solve(x.T @ x + 1.5 * np.eye(drawn.n_products), x.T @ y)
        expected = now / np.linalg.norm(now, axis=1, keepdims=True) @ weights
        np.testing.assert_allclose(source.score(np.arange(drawn.n_accounts, dtype=np.int32))[0], expected, atol=1e-4)

    def test_content_tells_the_nearest_name_from_the_taste(self, make_history):
        history = make_history([("a", "p1", 0), ("a", "p2", 0), ("b", "p3", 0), ("b", "p4", 0)])
        products = pd.DataFrame(
            {"product_id": ["p1", "p2", "p3", "p4"], "name": ["red cup", "oak table", "red cups", "garden hose"]}
        )
        source = fitted(ContentRetriever(ContentConfig()), history, day(1), products)
        assert score_of(source, history, "a", "p3", 1) > 0.5 > score_of(source, history, "a", "p4", 1)
        assert score_of(source, history, "a", "p3", 0) > score_of(source, history, "a", "p4", 0)

    def test_popularity_counts_first_purchases_of_each_window(self, make_history):
        history = make_history([("a", "p", 0), ("a", "p", 95), ("b", "p", 95), ("c", "p", 80), ("c", "q", 95)])
        source = fitted(PopularityRetriever(PopularityConfig(windows_days=(7, 30))), history, day(100))
        assert [score_of(source, history, "a", "p", channel) for channel in (0, 1)] == [1.0, 2.0]
        decayed = 2 * 2 ** (-5 / 90) + 2 ** (-20 / 90)
        assert score_of(source, history, "a", "p", 2) == pytest.approx(decayed, rel=1e-5)

    def test_season_counts_what_sold_a_year_ago_in_the_days_to_come(self, make_history):
        lines = [("a", "p", 34), ("b", "p", 36), ("c", "p", 64), ("d", "p", 66), ("d", "q", 399)]
        source = fitted(SeasonRetriever(SeasonConfig(ahead_days=30)), make_history(lines), day(400))
        assert score_of(source, make_history(lines), "a", "p") == 2.0  # days 35 to 65

    def test_the_head_holds_what_sells_now(self, make_history):
        history = make_history([("a", "old", 0), ("b", "old", 0), ("a", "new", 299), ("b", "mid", 200)])
        head = take_head(take_snapshot(history, day(300), pd.DataFrame()), 2)
        assert [history.product_ids[row] for row in head.products] == ["mid", "new"]
