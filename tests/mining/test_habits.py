from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from recsys.contracts import columns as c
from recsys.mining.counting import number_baskets
from recsys.mining.rules import RuleConfig, rules_frame
from recsys.mining.significance import read_habits

PAIR = (np.array([0]), np.array([1]))


def habits_of(to_orders, baskets, accounts, n_products=2):
    return read_habits(number_baskets(to_orders(baskets, accounts)), n_products)


def moments(null):
    mean = float((null.held[:, [0]].multiply(null.held[:, [1]])).sum())
    variance = float((null.free[:, [0]].multiply(null.free[:, [1]])).sum())
    return mean, variance


def test_orders_of_one_size_have_the_hypergeometric_moments(to_orders):
    # One account, 6 orders of 2 products: a in 3, b in 4, the rest filled with what is in none else.
    baskets = [["a", "b"], ["a", "b"], ["a", "x"], ["b", "y"], ["b", "z"], ["v", "w"]]
    mean, variance = moments(habits_of(to_orders, baskets, ["A"] * 6, n_products=7))
    assert (mean, variance) == pytest.approx(hypergeom.stats(6, 3, 4))


def test_accounts_add_up(to_orders):
    baskets = [["a", "b"], ["a", "x"], ["b", "y"]]
    one = moments(habits_of(to_orders, baskets, ["A"] * 3, n_products=4))
    two = moments(habits_of(to_orders, baskets * 2, ["A"] * 3 + ["B"] * 3, n_products=4))
    assert two == pytest.approx((2 * one[0], 2 * one[1]))


def test_accounts_with_one_order_say_nothing(to_orders):
    null = habits_of(to_orders, [["a", "b"]] * 50, [f"A{i}" for i in range(50)])
    assert moments(null) == pytest.approx((50, 0))
    assert null.tail_above(*PAIR, np.array([50])).tolist() == [1.0]


def test_needed_by_the_same_accounts_is_no_surprise_but_always_together_is(to_orders):
    apart = [["a", "x"], ["b", "x"], ["a", "y"], ["b", "y"]]
    together = [["a", "b"], ["x", "y"], ["a", "b"], ["x", "y"]]
    accounts = [f"A{i // 4}" for i in range(400)]
    p_values = []
    for baskets in (apart, together):
        null = habits_of(to_orders, baskets * 100, accounts, n_products=4)
        p_values.append(null.tail_above(*PAIR, np.array([sum({"a", "b"} <= set(b) for b in baskets) * 100]))[0])
    assert p_values[0] == 1.0
    assert p_values[1] < 1e-12


def test_orders_without_account_are_those_of_one(to_orders):
    baskets = [["a", "b"], ["a", "x"], ["b", "y"]]
    none = moments(habits_of(to_orders, baskets, [None] * 3, n_products=4))
    one = moments(habits_of(to_orders, baskets, ["A"] * 3, n_products=4))
    assert none == pytest.approx(one)


@pytest.mark.proof
def test_products_dealt_out_again_within_accounts_give_no_complement(retail_lines, shuffled, to_duckdb):
    known = retail_lines.dropna(subset=c.ACCOUNT_ID)
    null = to_duckdb(shuffled(known, seed=2, passes=60, within=c.ACCOUNT_ID))
    rules = rules_frame(null, RuleConfig(max_q_value=0.05))
    assert (rules[c.RELATION] == "complement").sum() == 0
    # Negative control: over all orders, what the same accounts buy is together far more often than chance.
    blind = rules_frame(null, RuleConfig(max_q_value=0.05, within_accounts=False))
    assert (blind[c.RELATION] == "complement").sum() > 10_000
