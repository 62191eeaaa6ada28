from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts import columns as c
from recsys.errors import EmptyDataError
from recsys.mining.counting import (
    BASKET,
    PRODUCT_CODE,
    count_pairs,
    number_baskets,
    pair_counts,
    read_given_pairs,
    read_margins,
    read_pairs,
    read_product_ids,
)
from recsys.mining.itemsets import mine_itemsets

BASKETS = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=6), min_size=1, max_size=12)


def as_dict(table):
    rows = table.to_pyarrow().to_pylist()
    return {(row[c.ANTECEDENT_ID], row[c.CONSEQUENT_ID]): row[c.N_BOTH] for row in rows}


@settings(max_examples=25, deadline=None)
@given(baskets=BASKETS)
def test_pairs_equal_those_counted_by_hand(baskets, to_orders, count_by_hand):
    assert as_dict(count_pairs(to_orders(baskets))) == count_by_hand(baskets)


@settings(max_examples=10, deadline=None)
@given(baskets=BASKETS, seed=st.integers(0, 1000))
def test_counts_do_not_change_when_the_rows_are_shuffled(baskets, seed, to_orders, to_duckdb):
    lines = to_orders(baskets).to_pandas()
    mixed = lines.sample(frac=1, random_state=seed)
    assert as_dict(count_pairs(to_duckdb(mixed))) == as_dict(count_pairs(to_duckdb(lines)))


def test_a_product_counts_once_an_order(to_orders):
    assert as_dict(count_pairs(to_orders([["a", "a", "b", "b"]]))) == {("a", "b"): 1}


def test_lines_without_order_or_product_are_no_pairs(to_duckdb):
    lines = pd.DataFrame({c.ORDER_ID: ["1", "1", None, None], c.PRODUCT_ID: ["a", None, "a", "b"]})
    assert as_dict(count_pairs(to_duckdb(lines))) == {}


@pytest.mark.parametrize("baskets", [[], [[]], [["a"]], [["a"], ["b"]]])
def test_nothing_together_gives_an_empty_table_of_the_same_columns(baskets, to_orders):
    counted = count_pairs(to_orders(baskets)).to_pyarrow()
    assert counted.num_rows == 0
    assert counted.column_names == [c.ANTECEDENT_ID, c.CONSEQUENT_ID, c.N_BOTH]


def test_the_first_half_ends_at_the_median_order(to_orders):
    numbered = number_baskets(to_orders([["a", "b"]] * 3 + [["a", "c"]] * 3), n_periods=2)
    pairs = read_pairs(pair_counts(numbered, n_periods=2), min_both=1)
    assert pairs.n_both.tolist() == [3, 3]
    assert pairs.n_first_half.tolist() == [3, 0]


def test_given_pairs_come_in_their_order_with_zeros(to_orders):
    counted = pair_counts(number_baskets(to_orders([["a", "b"], ["a", "b"], ["b", "c"]])), n_periods=1)
    pairs = read_given_pairs(counted, np.array([1, 0, 0]), np.array([2, 2, 1]))
    assert pairs.n_both.tolist() == [1, 0, 2]
    assert len(read_given_pairs(counted, np.array([], dtype=int), np.array([], dtype=int))) == 0


def test_margins_are_the_sums_of_the_matrix(to_orders):
    orders = to_orders([["a", "b"], ["a"], ["a", "b", "c"], ["c"]])
    margins = read_margins(number_baskets(orders, n_periods=2), read_product_ids(orders))
    assert margins.product_ids.tolist() == ["a", "b", "c"]
    assert margins.n_with.tolist() == [[2, 1, 0], [1, 1, 2]]
    sizes = zip(margins.period.tolist(), margins.size.tolist(), margins.n_orders.tolist(), strict=True)
    assert list(sizes) == [(0, 1, 1), (0, 2, 1), (1, 1, 1), (1, 3, 1)]


def test_margins_of_nothing_are_refused(to_orders):
    orders = to_orders([])
    with pytest.raises(EmptyDataError, match="at least one order"):
        read_margins(number_baskets(orders), read_product_ids(orders))


def mlxtend_pairs(orders, min_count):
    ids = read_product_ids(orders)
    lines = number_baskets(orders).select(BASKET, PRODUCT_CODE).to_pandas()
    place = lines[BASKET].to_numpy(), lines[PRODUCT_CODE].to_numpy()
    held = sp.csr_array((np.ones(len(lines), dtype=bool), place))
    found = mine_itemsets(held, min_count, 2)
    return {(ids[pair[0]], ids[pair[1]]): count for pair, count in found if len(pair) == 2}


def test_pair_counts_equal_mlxtends_on_groceries(groceries):
    assert_equals_mlxtend(groceries, 0.001)


@pytest.mark.data
def test_pair_counts_equal_mlxtends_on_online_retail(retail_until_june):
    assert_equals_mlxtend(retail_until_june, 0.01)


@pytest.mark.proof
def test_pair_counts_equal_mlxtends_on_all_of_online_retail(retail):
    assert_equals_mlxtend(retail, 0.003)


def assert_equals_mlxtend(orders, support):
    """Pairs of a higher support are among those of a lower one: one bound is enough."""
    least = int(np.ceil(support * orders[c.ORDER_ID].nunique().to_pyarrow().as_py()))
    counted = count_pairs(orders)
    ours = as_dict(counted.filter(counted[c.N_BOTH] >= least))
    assert len(ours) > 50
    assert ours == mlxtend_pairs(orders, least)
