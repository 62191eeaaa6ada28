"""The short ways to the best of a row against the plain ones, with ties, zeros and rows of every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.models.next_product.features import _rank_within
from recsys.models.retrieval.retriever import OpenScores, SharedScores, nth_largest, top_k_rows


def drawn_scores(seed: int, n_products: int, levels: int) -> np.ndarray:
    """Return three channels of five accounts; few levels make many ties."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-2, levels, size=(3, 5, n_products)) / 4).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9_999), st.integers(30, 400), st.integers(1, 600), st.integers(1, 25))
def test_the_nth_largest_is_what_sorting_gives(seed: int, n_products: int, levels: int, n: int) -> None:
    scores = drawn_scores(seed, n_products, levels)[0]
    np.testing.assert_array_equal(nth_largest(scores, n), np.sort(scores, axis=1)[:, -n])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9_999), st.integers(1, 80), st.integers(1, 60), st.integers(1, 12))
def test_scores_shared_by_all_accounts_are_pruned_as_if_each_had_its_own(
    seed: int, n_products: int, levels: int, k: int
) -> None:
    rng = np.random.default_rng(seed)
    shared = drawn_scores(seed, n_products, levels)[:, 0]
    owned = sp.csr_array((rng.random((5, n_products)) < 0.2).astype(np.float32))
    closed = np.flatnonzero(rng.random(n_products) < 0.1)
    shared[:, closed] = 0.0
    each_its_own = np.repeat(shared[:, None, :], 5, axis=1)
    ways: tuple[Any, Any] = SharedScores(shared, owned), OpenScores.of(each_its_own, closed, owned)
    chosen = [np.zeros((5, n_products), dtype=bool) for _ in ways]
    for way, marks in zip(ways, chosen, strict=True):
        way.choose(k, marks)
    np.testing.assert_array_equal(chosen[0], chosen[1])
    row, place = np.nonzero(chosen[0])
    np.testing.assert_array_equal(*(way.at(row, place) for way in ways))
    np.testing.assert_array_equal(*(np.maximum(way.best(), 0) for way in ways))


def test_what_is_owned_or_closed_is_never_chosen() -> None:
    scores = np.array([[[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]]], dtype=np.float32)
    owned = sp.csr_array(np.array([[0, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32))
    chosen = np.zeros((2, 4), dtype=bool)
    OpenScores.of(scores, np.array([0]), owned).choose(1, chosen)
    assert chosen.tolist() == [[False, False, True, False], [False, True, False, False]]
    assert top_k_rows(scores[0], 4).sum() == 5  # their scores are 0, which is no evidence


@pytest.mark.parametrize("n_rows", [0, 1, 7, 70_000])
def test_ranks_within_rows_with_ties_by_position(n_rows: int) -> None:
    rng = np.random.default_rng(n_rows)
    row = np.repeat(np.arange(n_rows, dtype=np.int32), rng.integers(1, 5, size=n_rows))
    values = rng.choice(np.array([-3.5, -0.0, 0.0, 1e-30, 2.0, 7e8], dtype=np.float32), size=len(row))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_rows))]).astype(np.int64)
    order = np.lexsort((-values, row))
    wanted = np.empty(len(row))
    wanted[order] = np.arange(len(row)) - offsets[row[order]]
    np.testing.assert_array_equal(_rank_within(row, values, offsets), wanted)
