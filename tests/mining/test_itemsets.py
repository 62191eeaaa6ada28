from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts import columns as c
from recsys.errors import ConfigError
from recsys.mining.itemsets import frequent_itemsets

BASKETS = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6), min_size=1, max_size=10)


def brute_force(baskets, min_count, max_length):
    """Count every subset of every basket."""
    counts: dict[tuple[Any, ...], int] = {}
    for basket in baskets:
        products = sorted(set(basket))
        for length in range(1, len(products) + 1):
            if max_length is not None and length > max_length:
                break
            for itemset in combinations(products, length):
                counts[itemset] = counts.get(itemset, 0) + 1
    return {itemset: count for itemset, count in counts.items() if count >= min_count}


def as_dict(found):
    return dict(zip(found[c.ITEMSET], found[c.N_HOLDING], strict=True))


@settings(max_examples=30, deadline=None)
@given(baskets=BASKETS, min_count=st.integers(1, 4), max_length=st.sampled_from([None, 1, 2, 3]))
def test_itemsets_equal_the_brute_force_miners(baskets, min_count, max_length, to_orders):
    found = frequent_itemsets(to_orders(baskets), min_count, max_length)
    assert as_dict(found) == brute_force(baskets, min_count, max_length)


@settings(max_examples=15, deadline=None)
@given(baskets=BASKETS)
def test_support_falls_as_itemsets_grow(baskets, to_orders):
    found = frequent_itemsets(to_orders(baskets), 1)
    support = dict(zip(found[c.ITEMSET], found[c.SUPPORT], strict=True))
    for itemset, value in support.items():
        for left_out in itemset:
            part = tuple(product for product in itemset if product != left_out)
            assert not part or support[part] >= value


def test_a_share_and_the_count_it_stands_for_are_the_same(to_orders):
    orders = to_orders([["a", "b"]] * 3 + [["b"]] * 7)
    # 0.3 x 10 is 3.0000000000000004 or less than 3 in binary: neither may change the answer.
    assert as_dict(frequent_itemsets(orders, 0.3)) == as_dict(frequent_itemsets(orders, 3))
    assert as_dict(frequent_itemsets(orders, 0.31)) == {("b",): 10}
    assert as_dict(frequent_itemsets(orders, 1.0)) == {("b",): 10}


def test_the_order_is_by_length_then_count_then_name(to_orders):
    found = frequent_itemsets(to_orders([["a", "b"], ["b", "c"], ["b"]]), 1)
    assert found[c.ITEMSET].tolist() == [("b",), ("a",), ("c",), ("a", "b"), ("b", "c")]
    assert found[c.LENGTH].tolist() == [1, 1, 1, 2, 2]
    assert found[c.SUPPORT].tolist() == pytest.approx([3 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3])


def test_no_order_gives_an_empty_frame_of_the_same_types(to_orders):
    empty, full = frequent_itemsets(to_orders([]), 1), frequent_itemsets(to_orders([["a"]]), 1)
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_nothing_frequent_gives_an_empty_frame(to_orders):
    assert len(frequent_itemsets(to_orders([["a"], ["b"]]), 2)) == 0


@pytest.mark.parametrize("min_support", [0, 0.0, -1, 1.5])
def test_a_wrong_support_is_refused(min_support, to_orders):
    with pytest.raises(ConfigError, match=rf"min_support == {min_support}, must be > 0; give a count"):
        frequent_itemsets(to_orders([["a"]]), min_support)


def test_a_wrong_length_is_refused(to_orders):
    with pytest.raises(ConfigError, match="max_length == 0, must be 1 or more"):
        frequent_itemsets(to_orders([["a"]]), 1, max_length=0)


def test_groceries_hold_the_published_triple(groceries):
    # arules' vignette: {whole milk} is the most frequent item of Groceries, in 2,513 of 9,835 baskets.
    found = frequent_itemsets(groceries, 0.02)
    assert found.loc[0, c.ITEMSET] == ("whole milk",)
    assert found.loc[0, c.N_HOLDING] == 2_513
    assert set(found[c.LENGTH]) == {1, 2, 3}
