from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, false_discovery_control, poisson

from recsys.contracts import columns as c
from recsys.mining.counting import Margins, number_baskets, pair_counts, read_margins, read_pairs, read_product_ids
from recsys.mining.significance import false_discovery_rate, fit_null, tail_above, tail_below

Q = 0.05


@pytest.fixture(scope="module")
def small():
    """300 orders of 1 to 12 products out of 30, popular ones first."""
    rng = np.random.default_rng(5)
    weight = 1 / np.arange(1, 31)
    size = rng.integers(1, 13, 300)
    baskets = [rng.choice(30, n, replace=False, p=weight / weight.sum()) for n in size]
    n_with = np.bincount(np.concatenate(baskets), minlength=30)
    known, count = np.unique(size, return_counts=True)
    return Margins(np.arange(30).astype(object), n_with[None, :], np.zeros(len(known), dtype=int), known, count)


def test_tails_are_scipys_poisson():
    count, mean = np.array([0, 1, 5, 40]), np.array([2.0, 0.001, 3.5, 12.0])
    assert tail_above(count, mean) == pytest.approx(poisson.sf(count - 1, mean))
    assert tail_below(count, mean) == pytest.approx(poisson.cdf(count, mean))


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 1.0]), max_size=30), st.integers(0, 50))
def test_the_false_discovery_rate_is_scipys_with_the_missing_tests_as_ones(p_values, n_missing):
    whole = false_discovery_control(np.array(p_values + [1.0] * n_missing))[: len(p_values)]
    ours = false_discovery_rate(np.array(p_values), len(p_values) + n_missing)
    assert ours == pytest.approx(whole, rel=1e-12, abs=1e-300)


def test_the_family_matters():
    p_values = np.array([0.001])
    assert false_discovery_rate(p_values, 1).tolist() == [0.001]
    assert false_discovery_rate(p_values, 1000).tolist() == [1.0]


def test_the_false_discovery_rate_of_many_tests_is_the_formula():
    p_values = np.random.default_rng(3).random(200_000) ** 8
    p_values[::7] = p_values[0]
    scaled = np.sort(p_values) * 1_000_000 / np.arange(1, len(p_values) + 1)
    known = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)[p_values.argsort().argsort()]
    np.testing.assert_allclose(false_discovery_rate(p_values, 1_000_000), known, rtol=1e-12, atol=1e-300)


def test_the_proportional_mean_is_the_formula(small):
    null = fit_null(small, "proportional")
    left, right = np.triu_indices(30, 1)
    n_a, n_b = small.n_with[0, left], small.n_with[0, right]
    n_pairs, n_lines = (small.n_orders * small.size * (small.size - 1)).sum(), (small.n_orders * small.size).sum()
    assert null.expected(left, right)[0] == pytest.approx(n_a * n_b * n_pairs / n_lines**2, rel=1e-5)


def test_the_saturating_mean_keeps_both_margins(small):
    # Over all partners, a product's pairs are its orders' sizes less one: known when all orders are of one size.
    one_size = Margins(
        small.product_ids, np.array([np.linspace(2, 118, 30)]), np.array([0]), np.array([6]), np.array([300])
    )
    left, right = np.triu_indices(30, 1)
    expected, _ = fit_null(one_size, "saturating").expected(left, right)
    partners = np.bincount(left, weights=expected, minlength=30) + np.bincount(right, weights=expected, minlength=30)
    assert partners == pytest.approx(one_size.n_with[0] * 5, rel=0.01)


def test_the_saturating_mean_counts_every_pair_of_every_order(small):
    null = fit_null(small, "saturating")
    left, right = np.triu_indices(30, 1)
    n_pairs = (small.n_orders * small.size * (small.size - 1) / 2).sum()
    assert null.expected(left, right)[0].sum() == pytest.approx(n_pairs, rel=1e-4)


def test_expected_adds_up_over_periods_and_halves(small):
    twice = Margins(
        small.product_ids,
        np.concatenate([small.n_with, small.n_with]),
        np.repeat([0, 1], len(small.size)),
        np.tile(small.size, 2),
        np.tile(small.n_orders, 2),
    )
    left, right = np.triu_indices(30, 1)
    once = fit_null(small, "saturating").expected(left, right)[0]
    whole, first = fit_null(twice, "saturating").expected(left, right)
    assert first == pytest.approx(once, rel=1e-5)
    assert whole == pytest.approx(2 * once, rel=1e-5)


def test_a_product_in_every_order_is_no_surprise():
    # Two products, always both: the margins alone force it.
    margins = Margins(np.array(["a", "b"], object), np.array([[9, 9]]), np.array([0]), np.array([2]), np.array([9]))
    expected, _ = fit_null(margins, "saturating").expected(np.array([0]), np.array([1]))
    assert expected == pytest.approx([9], rel=0.01)


@dataclass(frozen=True)
class Pairs:
    """All pairs of eligible products, together or not, and what is needed to test them."""

    margins: Margins
    left: np.ndarray
    right: np.ndarray
    n_both: np.ndarray

    def p_values(self, model):
        expected, _ = fit_null(self.margins, model).expected(self.left, self.right)
        return tail_above(self.n_both, expected), tail_below(self.n_both, expected)

    def blind_p_values(self):
        """Return the test of plain lift, mean n_a n_b / N: it knows nothing of the order sizes."""
        n_with, n_orders = self.margins.n_with[0], int(self.margins.n_orders.sum())
        return tail_above(self.n_both, n_with[self.left] * n_with[self.right] / n_orders)


def all_pairs(orders, min_orders):
    baskets = number_baskets(orders).cache()
    margins = read_margins(baskets, read_product_ids(orders))
    eligible = np.flatnonzero(margins.n_with[0] >= min_orders)
    counted = read_pairs(pair_counts(baskets, n_periods=1), min_both=1)
    together = np.zeros((margins.n_with.shape[1],) * 2, dtype=np.int64)
    together[counted.left, counted.right] = counted.n_both
    row, column = np.triu_indices(len(eligible), 1)
    left, right = eligible[row], eligible[column]
    return Pairs(margins, left, right, together[left, right])


def n_called(p_values):
    return int((false_discovery_rate(p_values, len(p_values)) <= Q).sum())


def assert_quiet_under_the_null(pairs):
    above, below = pairs.p_values("saturating")
    assert n_called(above) == 0
    assert n_called(below) == 0
    # Not only the extremes: p <= 0.01 comes no more often than in 1 % of the pairs, given the binomial's band.
    for p_values in (above, below):
        assert (p_values <= 0.01).sum() <= binom.ppf(0.999, len(p_values), 0.01)


def test_groceries_without_structure_give_no_discovery(groceries, shuffled, to_duckdb):
    pairs = all_pairs(to_duckdb(shuffled(groceries.to_pandas(), seed=1)), min_orders=5)
    assert_quiet_under_the_null(pairs)
    # Negative control: blind to the order sizes, a test calls chance a discovery, many times.
    assert n_called(pairs.blind_p_values()) >= 500


def test_the_mean_is_that_of_groceries_without_structure(groceries, shuffled, to_duckdb):
    lines, n_tables, total = groceries.to_pandas(), 8, 0
    for seed in range(n_tables):
        lines = shuffled(lines, seed=seed, passes=40 if seed == 0 else 8)
        pairs = all_pairs(to_duckdb(lines), min_orders=1)
        total = total + pairs.n_both
    share = {model: mean_ratios(pairs, model, total / n_tables) for model in ("saturating", "proportional")}
    assert share["saturating"] == pytest.approx([1, 1, 1, 1], abs=0.03)
    # Negative control: without saturation the mean is off both ways.
    assert share["proportional"][0] > 1.08
    assert share["proportional"][3] < 0.96


def mean_ratios(pairs, model, counted):
    """Return counted over expected, for pairs expected up to 5, 20, 100 and more times."""
    expected, _ = fit_null(pairs.margins, model).expected(pairs.left, pairs.right)
    group = np.digitize(expected, [5, 20, 100])
    return [counted[group == number].sum() / expected[group == number].sum() for number in range(4)]


@pytest.mark.data
def test_two_months_of_online_retail_without_structure_give_no_discovery(retail_lines, shuffled, to_duckdb):
    lines = retail_lines[retail_lines[c.ORDERED_AT] < "2010-02-01"]
    pairs = all_pairs(to_duckdb(shuffled(lines, seed=1)), min_orders=60)
    assert_quiet_under_the_null(pairs)
    assert n_called(pairs.blind_p_values()) >= 5_000


@pytest.mark.proof
def test_online_retail_without_structure_gives_no_discovery(retail_lines, shuffled, to_duckdb):
    pairs = all_pairs(to_duckdb(shuffled(retail_lines, seed=1, passes=30)), min_orders=5)
    assert_quiet_under_the_null(pairs)
    assert n_called(pairs.blind_p_values()) >= 1_000_000
    # The mean without saturation is too high for popular pairs: chance looks like avoidance, and the other way round.
    above, below = pairs.p_values("proportional")
    assert n_called(below) > 1_000
    assert n_called(above) > 0
