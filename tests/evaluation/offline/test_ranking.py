"""Ranking metrics against arithmetic written out by hand."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import DataError
from recsys.evaluation.offline.ranking_metrics import hits_at, revenue_captured, score_ranking

# Two accounts, six products. Account 0 was right to be offered 1, 3, 4; account 1 only 5.
RELEVANT = sp.csr_array(np.array([[0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]))
LISTS = np.array([[1, 0, 3], [0, 5, -1]], dtype=np.int32)


def test_hits_are_found_at_their_places() -> None:
    assert hits_at(LISTS, RELEVANT, 3).tolist() == [[True, False, True], [False, True, False]]


def test_ndcg_at_three_has_an_ideal_of_at_most_three_places() -> None:
    ndcg = score_ranking(LISTS, RELEVANT, 3).ndcg
    gain_0 = 1 / np.log2(2) + 1 / np.log2(4)
    ideal_0 = 1 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    gain_1, ideal_1 = 1 / np.log2(3), 1 / np.log2(2)
    assert ndcg == pytest.approx([gain_0 / ideal_0, gain_1 / ideal_1])


def test_ndcg_of_a_full_list_of_hits_is_one_where_more_is_relevant_than_fits() -> None:
    lists = np.array([[4, 1], [5, 0]], dtype=np.int32)
    assert score_ranking(lists, RELEVANT, 2).ndcg == pytest.approx([1.0, 1.0])


def test_recall_precision_and_hit_rate_at_three() -> None:
    scores = score_ranking(LISTS, RELEVANT, 3)
    assert scores.recall == pytest.approx([2 / 3, 1 / 1])
    assert scores.precision == pytest.approx([2 / 3, 1 / 3])  # the empty place is a miss
    assert scores.hit_rate == pytest.approx([1, 1])


def test_average_precision_is_over_what_could_have_hit() -> None:
    scores = score_ranking(LISTS, RELEVANT, 3)
    assert scores.average_precision == pytest.approx([(1 / 1 + 2 / 3) / min(3, 3), (1 / 2) / min(3, 1)])
    at_two = score_ranking(LISTS, RELEVANT, 2).average_precision
    assert at_two == pytest.approx([(1 / 1) / min(2, 3), (1 / 2) / min(2, 1)])


def test_means_leave_out_accounts_without_anything_relevant() -> None:
    relevant = sp.csr_array(np.vstack([RELEVANT.toarray(), np.zeros((1, 6))]))
    lists = np.vstack([LISTS, [[0, 1, 2]]]).astype(np.int32)
    scores = score_ranking(lists, relevant, 3)
    assert np.isnan([scores.ndcg[2], scores.recall[2], scores.hit_rate[2], scores.precision[2]]).all()
    assert scores.means()["recall"] == pytest.approx((2 / 3 + 1) / 2)


def test_k_longer_than_the_list_counts_the_missing_places_as_misses() -> None:
    scores = score_ranking(LISTS, RELEVANT, 10)
    assert scores.precision == pytest.approx([2 / 10, 1 / 10])
    assert scores.recall == pytest.approx([2 / 3, 1])


def test_revenue_captured_is_the_money_spent_on_hits() -> None:
    revenue = sp.csr_array(np.array([[0, 10.0, 0, 2.5, 4, 0], [0, 0, 0, 0, 0, 7]]))
    hits = hits_at(LISTS, RELEVANT, 3)
    assert revenue_captured(hits, LISTS, revenue) == pytest.approx([10 + 2.5, 7])
    none = hits_at(np.array([[0, 2], [0, 1]]), RELEVANT, 2)
    assert revenue_captured(none, np.array([[0, 2], [0, 1]]), revenue).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("lists", "k", "message"),
    [
        (LISTS, 0, "k == 0, must be 1 or more"),
        (LISTS[:1], 3, "1 lists for 2 accounts"),
        (np.array([[1, 1, 0], [0, 1, 2]]), 3, "names a product twice"),
    ],
)
def test_wrong_arguments_are_refused(lists: np.ndarray, k: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_ranking(lists, RELEVANT, k)


@given(st.permutations(range(6)), st.integers(1, 6))
def test_metrics_lie_between_zero_and_one_and_a_longer_list_never_recalls_less(order: list[int], k: int) -> None:
    lists = np.array([order, order], dtype=np.int32)
    scores = score_ranking(lists, RELEVANT, k)
    for values in (scores.ndcg, scores.recall, scores.hit_rate, scores.precision, scores.average_precision):
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    assert (score_ranking(lists, RELEVANT, k + 1).recall >= scores.recall).all()


def test_ndcg_agrees_with_scikit_learn_where_the_list_holds_everything() -> None:
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(7)
    relevant = rng.random((50, 30)) < 0.2
    relevant[:, 0] = True
    scores = rng.random((50, 30))
    lists = np.argsort(-scores, axis=1).astype(np.int32)
    ours = score_ranking(lists, sp.csr_array(relevant.astype(float)), 10).ndcg.mean()
    assert ours == pytest.approx(ndcg_score(relevant.astype(float), scores, k=10))
