from __future__ import annotations

from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd
import pytest
from mlxtend.frequent_patterns import association_rules
from scipy.stats import binomtest

from recsys.contracts import columns as c
from recsys.errors import EmptyDataError
from recsys.mining.itemsets import frequent_itemsets
from recsys.mining.rules import RULE_COLUMNS, RuleConfig, rules_frame
from recsys.mining.similarity import LikenessConfig

# Our name -> mlxtend's.
MEASURES = {
    c.SUPPORT: "support",
    c.CONFIDENCE: "confidence",
    c.LIFT: "lift",
    c.LEVERAGE: "leverage",
    c.CONVICTION: "conviction",
    c.ZHANG: "zhangs_metric",
    c.JACCARD: "jaccard",
    c.CERTAINTY: "certainty",
    c.KULCZYNSKI: "kulczynski",
}


@pytest.fixture(scope="module")
def shop(to_orders):
    """800 orders: `cup` and `saucer` go together, `tea` and `coffee` avoid each other, the rest is chance."""
    rng = np.random.default_rng(11)
    fill = [f"p{number:02d}" for number in range(30)]
    baskets = []
    for _ in range(800):
        basket = list(rng.choice(fill, rng.integers(2, 6), replace=False))
        if rng.random() < 0.15:
            basket += ["cup", "saucer"] if rng.random() < 0.7 else ["cup"]
        if rng.random() < 0.5:
            basket.append("tea" if rng.random() < 0.5 else "coffee")
        baskets.append(basket)
    products = pd.DataFrame({c.PRODUCT_ID: ["tea", "coffee", "cup"], c.CATEGORY: ["drinks", "drinks", "china"]})
    return SimpleNamespace(baskets=baskets, orders=to_orders(baskets), products=products)


def pairs_of(rules, relation):
    kept = rules[rules[c.RELATION] == relation]
    return set(zip(kept[c.ANTECEDENT_ID], kept[c.CONSEQUENT_ID], strict=True))


def both_ways(a, b):
    return {(a, b), (b, a)}


def test_complements_and_substitutes_are_told_apart_both_ways(shop):
    rules = rules_frame(shop.orders, RuleConfig(), shop.products)
    assert pairs_of(rules, "complement") == both_ways("cup", "saucer")
    assert pairs_of(rules, "substitute") == both_ways("tea", "coffee")
    assert set(rules[c.RELATION]) == {"complement", "substitute"}
    assert rules[c.HOLDS_IN_BOTH_HALVES].all()


def test_counts_and_columns_are_written_out(shop):
    rules = rules_frame(shop.orders, RuleConfig(), shop.products)
    assert list(rules) == list(RULE_COLUMNS)
    row = rules[rules[c.ANTECEDENT_ID] == "cup"].iloc[0]
    n_cup = sum("cup" in basket for basket in shop.baskets)
    n_both = sum("saucer" in basket for basket in shop.baskets)
    assert (row[c.N_ORDERS], row[c.N_ANTECEDENT], row[c.N_CONSEQUENT], row[c.N_BOTH]) == (800, n_cup, n_both, n_both)
    known = binomtest(n_both, n_cup).proportion_ci(0.95, method="wilson")
    assert row[c.CONFIDENCE] == n_both / n_cup
    assert (row[c.CONFIDENCE_LOW], row[c.CONFIDENCE_HIGH]) == pytest.approx((known.low, known.high), abs=1e-12)
    assert row[c.EXPECTED_BOTH] < n_both / 3


def test_the_order_is_by_confidence_and_not_by_lift(shop):
    rules = rules_frame(shop.orders, RuleConfig(keep="all", min_both=2), shop.products)
    by = rules.sort_values(
        [c.ANTECEDENT_ID, c.CONFIDENCE, c.N_BOTH, c.CONSEQUENT_ID], ascending=[True, False, False, True]
    )
    assert by.index.tolist() == list(range(len(rules)))
    first = rules.groupby(c.ANTECEDENT_ID).first()
    assert (first[c.LIFT] < rules.groupby(c.ANTECEDENT_ID)[c.LIFT].max()).any()


def test_rules_do_not_change_when_the_rows_are_shuffled(shop, to_duckdb):
    lines = shop.orders.to_pandas()
    config = RuleConfig(keep="all")
    there, back = (
        rules_frame(to_duckdb(lines.sample(frac=1, random_state=seed)), config, shop.products) for seed in (1, 2)
    )
    pd.testing.assert_frame_equal(there, back)


def test_all_keeps_every_pair_with_enough_orders(shop, count_by_hand):
    rules = rules_frame(shop.orders, RuleConfig(keep="all", min_both=8), shop.products)
    counted = {pair for pair, count in count_by_hand(shop.baskets).items() if count >= 8}
    kept = pairs_of(rules, "complement") | pairs_of(rules, "none")
    assert kept == counted | {(b, a) for a, b in counted}
    assert rules[[c.ANTECEDENT_ID, c.CONSEQUENT_ID]].duplicated().sum() == 0
    assert pairs_of(rules, "substitute") == both_ways("tea", "coffee")


def test_a_pair_under_the_least_count_is_no_rule(shop):
    n_both = sum("saucer" in basket for basket in shop.baskets)
    at, above = (rules_frame(shop.orders, RuleConfig(min_both=least), shop.products) for least in (n_both, n_both + 1))
    assert pairs_of(at, "complement") == both_ways("cup", "saucer")
    assert pairs_of(above, "complement") == set()


def test_a_product_under_the_least_count_is_in_no_rule_and_no_family(shop):
    few = rules_frame(shop.orders, RuleConfig(min_product_orders=120), shop.products)
    assert not pairs_of(few, "complement")  # cup is in about 120 orders, saucer in about 85
    q_of_small = rules_frame(shop.orders, RuleConfig(min_product_orders=60), shop.products)[c.Q_VALUE]
    assert len(q_of_small)


def test_confidence_can_be_asked_for(shop):
    rules = rules_frame(shop.orders, RuleConfig(min_confidence=0.9), shop.products)
    assert pairs_of(rules, "complement") == {("saucer", "cup")}
    assert pairs_of(rules, "substitute") == both_ways("tea", "coffee")


def test_a_stricter_discovery_rate_keeps_less(shop):
    loose = rules_frame(shop.orders, RuleConfig(max_q_value=0.9, min_both=1), shop.products)
    strict = rules_frame(shop.orders, RuleConfig(max_q_value=1e-12, min_both=1), shop.products)
    assert pairs_of(strict, "complement") == both_ways("cup", "saucer") < pairs_of(loose, "complement")
    assert loose[c.Q_VALUE].max() <= 0.9


def test_the_interval_widens_with_its_level(shop):
    narrow, wide = (
        rules_frame(shop.orders, RuleConfig(confidence_level=level), shop.products) for level in (0.5, 0.99)
    )
    widths = [(rules[c.CONFIDENCE_HIGH] - rules[c.CONFIDENCE_LOW]).to_numpy() for rules in (narrow, wide)]
    assert (widths[0] < widths[1]).all()


def test_too_little_expected_makes_no_substitute(shop):
    assert not pairs_of(rules_frame(shop.orders, RuleConfig(min_expected=10_000), shop.products), "substitute")


def test_too_little_more_than_chance_is_no_relation(shop):
    rules = rules_frame(shop.orders, RuleConfig(), shop.products)
    excess = dict(zip(rules[c.RELATION], rules[c.N_BOTH] / rules[c.EXPECTED_BOTH], strict=True))
    assert excess["substitute"] == 0
    asked = RuleConfig(min_excess=excess["complement"] + 0.1)
    assert pairs_of(rules_frame(shop.orders, asked, shop.products), "complement") == set()
    assert pairs_of(rules_frame(shop.orders, asked, shop.products), "substitute") == both_ways("tea", "coffee")


def test_substitutes_must_be_alike(shop):
    assert not pairs_of(rules_frame(shop.orders, RuleConfig()), "substitute")
    config = RuleConfig(likeness=LikenessConfig(use_category=False))
    assert not pairs_of(rules_frame(shop.orders, config, shop.products), "substitute")


def test_the_mean_follows_the_null_that_is_asked_for(shop):
    config = RuleConfig(periods_a_half=1, null="proportional", within_accounts=False)
    simple = rules_frame(shop.orders, config, shop.products)
    fitted = rules_frame(shop.orders, config.model_copy(update={"null": "saturating"}), shop.products)
    assert simple[c.EXPECTED_BOTH].tolist() != fitted[c.EXPECTED_BOTH].tolist()
    assert simple[c.EXPECTED_BOTH].to_numpy() == pytest.approx(fitted[c.EXPECTED_BOTH].to_numpy(), rel=0.3)


@pytest.fixture(scope="module")
def halves(to_orders):
    """600 orders: `a` and `b` are each in a third; together in one half of the time only, or in both."""
    rng = np.random.default_rng(8)
    fill = [f"p{number:02d}" for number in range(20)]

    def draw(until):
        baskets = []
        for number in range(600):
            kind = rng.integers(3)
            with_both = ["a", "b"] if kind == 0 else []
            with_one = ["a"] if kind == 0 else ["b"] if kind == 1 else []
            baskets.append([*(with_both if number < until else with_one), *rng.choice(fill, 3, replace=False)])
        return to_orders(baskets)

    return {until: draw(until) for until in (300, 600)}


@pytest.mark.parametrize(("until", "holds"), [(300, False), (600, True)])
def test_a_pair_of_one_half_is_a_rule_that_does_not_hold_in_both(halves, until, holds):
    rules = rules_frame(halves[until], RuleConfig(periods_a_half=1))
    assert ("a", "b") in pairs_of(rules, "complement")
    assert set(rules.loc[rules[c.ANTECEDENT_ID] == "a", c.HOLDS_IN_BOTH_HALVES]) == {holds}


def test_a_half_holds_at_the_level_asked_for(halves):
    rules = rules_frame(halves[600], RuleConfig(max_half_p_value=1e-60))
    assert ("a", "b") in pairs_of(rules, "complement")
    assert not rules[c.HOLDS_IN_BOTH_HALVES].any()


def test_fashion_is_no_complement_when_periods_are_kept(to_orders):
    # a and b are sold in the first quarter only, each in every second order, by chance.
    rng = np.random.default_rng(3)
    fill = [f"p{number:02d}" for number in range(20)]
    baskets = []
    for number in range(1200):
        fashion = [p for p in "ab" if number < 300 and rng.random() < 0.5]
        baskets.append([*fashion, *rng.choice(fill, 4, replace=False)])
    kept, mixed = (
        pairs_of(rules_frame(to_orders(baskets), RuleConfig(periods_a_half=n)), "complement") for n in (2, 1)
    )
    assert ("a", "b") not in kept
    assert ("a", "b") in mixed


def test_needs_are_no_complements_when_accounts_are_kept(to_orders):
    # Half of the accounts need a and b, and put each in every second of their ten orders, by chance.
    rng = np.random.default_rng(4)
    fill = [f"p{number:02d}" for number in range(20)]
    accounts = [f"A{number // 10:03d}" for number in range(1000)]
    baskets = []
    for account in accounts:
        needed = [p for p in "ab" if int(account[1:]) % 2 and rng.random() < 0.5]
        baskets.append([*needed, *rng.choice(fill, 3, replace=False)])
    orders = to_orders(baskets, accounts)
    assert ("a", "b") not in pairs_of(rules_frame(orders, RuleConfig()), "complement")
    assert ("a", "b") in pairs_of(rules_frame(orders, RuleConfig(within_accounts=False)), "complement")


@pytest.mark.parametrize("baskets", [[["a", "b", "c"]], [["a"]] * 20, [["a"], ["b"]] * 10])
def test_one_order_or_one_product_gives_an_empty_frame_of_the_same_types(baskets, to_orders, shop):
    empty = rules_frame(to_orders(baskets), RuleConfig(), shop.products)
    full = rules_frame(shop.orders, RuleConfig(), shop.products)
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_no_order_is_refused(to_orders):
    with pytest.raises(EmptyDataError, match="orders == 0 lines"):
        rules_frame(to_orders([]), RuleConfig())


def mlxtend_rules(orders: ibis.Table, min_count: int) -> pd.DataFrame:
    found = frequent_itemsets(orders, min_count, 2)
    itemsets = pd.DataFrame({"itemsets": found[c.ITEMSET].map(frozenset), "support": found[c.SUPPORT]})
    n_orders = round(found[c.N_HOLDING].iloc[0] / found[c.SUPPORT].iloc[0])
    rules = association_rules(itemsets, num_itemsets=n_orders, metric="support", min_threshold=0.0)
    rules[c.ANTECEDENT_ID] = [next(iter(items)) for items in rules["antecedents"]]
    rules[c.CONSEQUENT_ID] = [next(iter(items)) for items in rules["consequents"]]
    # mlxtend's order changes with the hash seed.
    return rules.sort_values([c.ANTECEDENT_ID, c.CONSEQUENT_ID], ignore_index=True)


def assert_measures_equal(orders, min_count):
    known = mlxtend_rules(orders, min_count)
    rules = rules_frame(orders, RuleConfig(keep="all", min_both=min_count, within_accounts=False))
    rules = rules[rules[c.N_BOTH] >= min_count].sort_values([c.ANTECEDENT_ID, c.CONSEQUENT_ID], ignore_index=True)
    assert len(known) > 100
    assert rules[c.ANTECEDENT_ID].tolist() == known[c.ANTECEDENT_ID].tolist()
    assert rules[c.CONSEQUENT_ID].tolist() == known[c.CONSEQUENT_ID].tolist()
    for ours, theirs in MEASURES.items():
        np.testing.assert_allclose(rules[ours], known[theirs], rtol=1e-9, atol=1e-12, err_msg=ours)


@pytest.mark.parametrize("min_count", [200, 50, 10])
def test_measures_equal_mlxtends_on_groceries(groceries, min_count):
    assert_measures_equal(groceries, min_count)


@pytest.mark.data
@pytest.mark.parametrize("support", [0.02, 0.01])
def test_measures_equal_mlxtends_on_online_retail(retail_until_june, support):
    n_orders = retail_until_june[c.ORDER_ID].nunique().to_pyarrow().as_py()
    assert_measures_equal(retail_until_june, int(np.ceil(support * n_orders)))


@pytest.mark.proof
@pytest.mark.parametrize("support", [0.02, 0.01, 0.005])
def test_measures_equal_mlxtends_on_all_of_online_retail(retail, support):
    n_orders = retail[c.ORDER_ID].nunique().to_pyarrow().as_py()
    assert_measures_equal(retail, int(np.ceil(support * n_orders)))
