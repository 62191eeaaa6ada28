"""The tables of a model made by hand: five accounts, five products, one order without an account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from recsys.bundle.save import save_bundle
from recsys.contracts import columns as c
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.data.history import History
from recsys.fitting.assembly import LearnedParts, OfferModelConfig, build_offer_model
from recsys.fitting.links import CartWeights
from recsys.models.candidates import Candidates
from recsys.offer_model.tables import CartCurve, OfferModel, noisy_or_curve, owned_by
from recsys.ranking.config import RankingConfig
from recsys.ranking.engine import OfferEngine
from tests.support.reference_ranker.candidates import repeat_rate

AS_OF = datetime(2026, 1, 31, tzinfo=UTC)

LINES = [
    # order, account, product, day of January, quantity, price
    ("1", "ann", "mug", 1, 2.0, 4.0),
    ("1", "ann", "tea", 1, 5.0, 3.0),
    ("2", "bob", "mug", 2, 4.0, 4.0),
    ("3", "bob", "mug", 20, 6.0, 5.0),
    ("4", "cat", "tea", 25, 1.0, 3.0),
    ("5", None, "mug", 26, 1.0, 5.0),
    ("5", None, "tea", 26, 1.0, 3.0),
    ("6", "dan", "pot", 27, 1.0, 20.0),
]

PRODUCTS = pd.DataFrame(
    {
        c.PRODUCT_ID: ["tea", "mug", "pot", "jar", "old"],
        c.NAME: ["Green  tea ", "Mug", "Pot", "Jar", None],
        c.CATEGORY: ["drink", "china", "china", "china", None],
        c.PRICE: [3.5, np.nan, 20.0, 9.0, 1.0],
        c.COST: [2.0, np.nan, 10.0, np.nan, np.nan],
        c.ACTIVE: [True, True, True, True, False],
        c.STOCK: [np.nan, 3.0, 1.0, 0.0, np.nan],
    }
)
ACCOUNTS = pd.DataFrame(
    {
        c.ACCOUNT_ID: ["eve", "ann", "bob", "cat"],
        c.SEGMENT: ["home", "home", "home", None],
        c.DO_NOT_OFFER: [True] + [None] * 3,
    }
)
RULES = pd.DataFrame(
    {
        c.ANTECEDENT_ID: ["mug", "tea", "mug", "pot"],
        c.CONSEQUENT_ID: ["tea", "mug", "pot", "jar"],
        c.N_BOTH: [2, 2, 0, 0],
        c.N_ANTECEDENT: [4, 3, 4, 1],
        c.CONFIDENCE: [2 / 4, 2 / 3, 0.0, 0.0],
        c.RELATION: ["complement", "complement", "substitute", "none"],
    }
)
EDGES = pd.DataFrame(
    {
        c.FROM_PRODUCT_ID: ["mug", "mug"],
        c.TO_PRODUCT_ID: ["jar", "pot"],
        c.N_STANDING: [2, 2],
        c.N_CLIMBED: [0, 1],
        c.CLIMB_RATE: [0.1, 0.4],
    }
)
IDS = ["jar", "mug", "old", "pot", "tea"]


def history(lines: Sequence[tuple[object, ...]] = LINES) -> History:
    names = [c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID, c.ORDERED_AT, c.QUANTITY, c.UNIT_PRICE]
    frame = pd.DataFrame(lines, columns=names)
    frame[c.ORDERED_AT] = [datetime(2026, 1, 1, tzinfo=UTC) + pd.Timedelta(days=day - 1) for day in frame[c.ORDERED_AT]]
    return History.from_frame(frame)


def cross(of: History) -> Candidates:
    """Mug and pot for cat, pot then tea for bob; rows of the history's vocabularies."""
    account = [of.account_ids.tolist().index(name) for name in ("bob", "bob", "cat", "cat")]
    product = [of.product_ids.tolist().index(name) for name in ("pot", "tea", "mug", "pot")]
    return Candidates(
        np.array(account, dtype=np.int32),
        np.array(product, dtype=np.int32),
        np.full(4, -1, dtype=np.int32),
        np.array([2, 1, 5, 4], dtype=np.float32),
        np.array([0.2, 0.1, 0.5, 0.4], dtype=np.float32),
        np.array([1, 1, 2, 1], dtype=np.float32),
    )


def build(
    config: OfferModelConfig | None = None, lines: Sequence[tuple[object, ...]] = LINES, **learned: object
) -> OfferModel:
    past = history(lines)
    if "cross" not in learned:
        learned["cross"] = cross(past)
    given = LearnedParts(**{"rules": RULES, "ladder": EDGES} | learned)  # type: ignore[arg-type]
    options = config or OfferModelConfig(least_segment_accounts=2)
    model = build_offer_model(past, PRODUCTS, ACCOUNTS, given, options, as_of=AS_OF, horizon_days=10, currency="EUR")
    model.check()
    return model


def test_facts_count_accounts_orders_and_first_purchases() -> None:
    facts = build().facts
    assert (facts.as_of, facts.horizon_days, facts.currency) == ("2026-01-31T00:00:00+00:00", 10, "EUR")
    assert (facts.n_accounts, facts.n_orders, facts.n_first_purchases) == (4, 6, 5)
    assert (facts.fallback_window_days, facts.fallback_unit) == (10, "accounts")


def test_products_are_the_union_of_table_and_history() -> None:
    products = build().products
    assert list(products.ids) == IDS
    assert list(products.names) == ["Jar", "Mug", "", "Pot", "Green tea"]
    assert products.price.tolist() == [9.0, 4.0, 1.0, 20.0, 3.5]  # the mug's is what ann and bob paid most
    assert products.n_accounts.tolist() == [0, 2, 0, 1, 2]
    assert products.n_orders.tolist() == [0, 4, 0, 1, 3]
    assert products.usual_quantity.tolist() == [1, 4, 1, 1, 1]  # of known accounts: medians of 2 4 6, and lower of 5 1
    assert products.active.tolist() == [True, True, False, True, True]
    assert products.stock[0] == 0


def test_accounts_are_the_union_of_table_and_history() -> None:
    model = build()
    assert list(model.accounts.ids) == ["ann", "bob", "cat", "dan", "eve"]
    assert model.accounts.n_orders.tolist() == [1, 2, 1, 1, 0]
    # bob's first order lies 29 days back: two orders in 29 days are 20 / 29 in ten; cat and dan count as ten days old.
    assert model.accounts.orders_in_horizon.tolist() == pytest.approx([10 / 30, 20 / 29, 1, 1, 0])
    assert model.accounts.do_not_offer.tolist() == [False, False, False, False, True]
    assert model.accounts.candidates_count.tolist() == [0, 2, 2, 0, 0]


def test_segments_need_accounts_that_order() -> None:
    model = build()
    assert list(model.segments.names) == ["", "home"]
    assert model.segments.n_accounts.tolist() == [4, 2]  # eve never ordered
    assert model.accounts.segment.tolist() == [1, 1, 0, 0, 1]
    assert list(build(OfferModelConfig(least_segment_accounts=3)).segments.names) == [""]


def test_only_the_largest_segments_are_kept() -> None:
    single = ACCOUNTS.assign(**{c.SEGMENT: ["home", "office", "home", "office"]})
    past = history([*LINES, ("7", "eve", "tea", 5, 1.0, 3.0), ("8", "zoe", "tea", 5, 1.0, 3.0)])
    options = OfferModelConfig(least_segment_accounts=1, most_segments=1)
    learned = LearnedParts(cross=cross(past))
    model = build_offer_model(past, PRODUCTS, single, learned, options, as_of=AS_OF, horizon_days=10)
    assert list(model.segments.names) == ["", "home"]  # as many accounts as `office`, and first by name


def test_the_fallback_is_the_share_of_accounts_that_bought_within_the_horizon() -> None:
    model = build()
    # From the 21st on: cat bought tea, dan a pot; of four accounts. Nobody of `home` bought anything.
    assert [model.products.ids[row] for row in model.fallback.product.tolist()] == ["pot", "tea"]
    assert model.fallback.probability.tolist() == [0.25, 0.25]
    assert model.segments.fallback_count.tolist() == [2, 0]


def test_without_accounts_the_fallback_counts_orders() -> None:
    nobody = [(order, None, *rest) for order, _, *rest in LINES]
    none = Candidates(*(np.zeros(0, kind) for kind in [np.int32] * 3 + [np.float32] * 3))  # type: ignore[arg-type]
    model = build(lines=nobody, cross=none)
    assert model.facts.fallback_unit == "orders"
    assert dict(zip(model.fallback.product.tolist(), model.fallback.probability.tolist(), strict=True)) == {
        IDS.index("tea"): pytest.approx(2 / 6),
        IDS.index("mug"): pytest.approx(1 / 6),
        IDS.index("pot"): pytest.approx(1 / 6),
    }


def test_owned_is_what_was_bought_within_the_window_of_its_category() -> None:
    def owned(config: OfferModelConfig) -> dict[str, list[str]]:
        model = build(config)
        rows = {name: owned_by(model, row, ever=False) for row, name in enumerate(model.accounts.ids)}
        return {name: [IDS[product] for product in products.tolist()] for name, products in rows.items()}

    ever = {"ann": ["mug", "tea"], "bob": ["mug"], "cat": ["tea"], "dan": ["pot"], "eve": []}
    assert owned(OfferModelConfig()) == ever
    assert owned(OfferModelConfig(owned_window_days=10)) == ever | {"ann": [], "bob": []}
    mixed = OfferModelConfig(owned_window_days=10, owned_window_by_category={"china": 60})
    assert owned(mixed)["bob"] == ["mug"]
    assert owned(mixed)["ann"] == ["mug"]


def test_what_was_ever_bought_counts_for_new_only_and_for_repeats() -> None:
    model = build(OfferModelConfig(owned_window_days=1))
    bob = model.accounts.ids.find("bob")
    assert [IDS[row] for row in owned_by(model, bob, ever=True).tolist()] == ["mug"]
    rate = repeat_rate(model, bob, np.array([IDS.index("mug"), IDS.index("tea")], dtype=np.int32), 2.0)
    assert rate.tolist() == [2 / (2 + 2), 0]


def test_what_an_account_buys_again_and_again_speaks_for_it_in_a_cart() -> None:
    again = [*LINES, ("9", "bob", "tea", 3, 1.0, 3.0)]
    model, weight = build(lines=again), RankingConfig().repeat_weight
    request = OfferRequest("bob", cart=(CartLine("mug"),), kinds=("cross_sell",), limit=1)
    stranger = OfferEngine(model).recommend(replace(request, account_id=None)).offers[0].probability
    known = OfferEngine(model, RankingConfig(repeat_prior_orders=1.0)).recommend(request).offers[0]
    own = float(cross(history(again)).probability[1])  # the account's own candidate: the larger chance is told
    assert known.product_id == "tea"
    one_more = own / (1 + model.accounts.orders_in_horizon[list(model.accounts.ids).index("bob")])
    by_account = 1 - (1 - own) * (1 - one_more)
    by_cart = 1 - (1 - stranger) * (1 - weight * 1 / (3 + 1))
    assert known.probability == pytest.approx(max(by_account, by_cart))
    without = OfferEngine(model, RankingConfig(repeat_weight=0.0)).recommend(request).offers[0]
    assert without.probability == pytest.approx(max(by_account, stranger))


def test_candidates_keep_the_best_of_each_kind() -> None:
    model = build(OfferModelConfig(candidates_per_kind=1))
    names = [model.products.ids[row] for row in model.candidates.product.tolist()]
    assert names == ["pot", "mug"]  # of bob, of cat


def test_rules_stand_by_antecedent_and_the_strongest_stay() -> None:
    model = build(OfferModelConfig(rules_per_product=1))
    assert model.products.rules_count.tolist() == [0, 1, 0, 0, 1]  # nobody bought pot and jar together
    mug = int(model.products.rules_start[IDS.index("mug")])
    assert IDS[model.rules.consequent[mug]] == "tea"
    assert (model.rules.n_both[mug], model.rules.n_antecedent[mug]) == (2, 4)
    assert model.rules.n_buyers[mug] == 2  # ann, and the order without an account


def test_substitutes_count_in_both_directions() -> None:
    model = build()
    assert model.products.substitutes_count.tolist() == [0, 1, 0, 1, 0]
    assert [IDS[row] for row in model.substitutes.product.tolist()] == ["pot", "mug"]


def test_without_learned_weights_a_cart_is_the_noisy_or_of_confidences() -> None:
    engine = OfferEngine(build())
    offers = engine.recommend(OfferRequest(cart=(CartLine("mug"),), kinds=("cross_sell",), limit=1)).offers
    assert offers[0].product_id == "tea"
    assert offers[0].probability == pytest.approx(2 / 4, abs=5e-4)


def _curve(score: list[float], probability: list[float]) -> CartCurve:
    return CartCurve.plain(np.array(score), np.array(probability), np.ones(len(score), dtype=np.int32))


def test_learned_weights_add_up_to_the_prior_and_pass_through_the_curve() -> None:
    products = history().product_ids.tolist()  # mug, pot, tea
    weights = sp.csr_array((np.array([0.2, 0.3]), ([0, 1], [2, 2])), shape=(3, 3))
    prior = np.array([0.0, 0.0, 0.1], dtype=np.float32)
    curve = _curve([0.0, 1.0], [0.0, 0.5])
    assert products == ["mug", "pot", "tea"]
    engine = OfferEngine(build(cart=CartWeights(weights, 0 * weights, prior, curve)))
    cart = (CartLine("mug"), CartLine("pot"))
    offers = engine.recommend(OfferRequest(cart=cart, kinds=("cross_sell",), limit=1)).offers
    assert offers[0].probability == pytest.approx(0.5 * (0.1 + 0.2 + 0.3))


def test_the_weights_that_are_largest_in_size_stay() -> None:
    weights = sp.csr_array((np.array([0.2, -0.3]), ([0, 0], [1, 2])), shape=(3, 3))
    cart = CartWeights(weights, 0 * weights, np.zeros(3, dtype=np.float32), noisy_or_curve())
    model = build(OfferModelConfig(cart_weights_per_product=1), cart=cart)
    assert model.cart.weight.tolist() == pytest.approx([-0.3])


def test_a_cart_is_offered_the_rungs_above_at_its_own_quantity() -> None:
    engine = OfferEngine(build())
    request = OfferRequest(cart=(CartLine("mug", 3.0),), kinds=("upsell",), limit=5, objective="revenue")
    slate = engine.recommend(request)
    assert [offer.product_id for offer in slate.offers] == ["pot"]  # the jar is out of stock
    offer = slate.offers[0]
    assert (offer.from_product_id, offer.expected_quantity) == ("mug", 3.0)
    assert offer.expected_value == pytest.approx(0.4 * 3 * (20 - 4), rel=1e-6)


def test_an_account_s_own_propensity_replaces_the_climb_rate() -> None:
    past = history()
    up = Candidates(
        np.array([past.account_ids.tolist().index("bob")], dtype=np.int32),
        np.array([past.product_ids.tolist().index("pot")], dtype=np.int32),
        np.array([past.product_ids.tolist().index("mug")], dtype=np.int32),
        np.array([1.0], dtype=np.float32),
        np.array([0.7], dtype=np.float32),
        np.array([5.0], dtype=np.float32),
    )
    engine = OfferEngine(build(up=up))
    request = OfferRequest("bob", kinds=("upsell",), limit=5)
    alone = engine.recommend(request).offers[0]
    assert (alone.product_id, alone.expected_quantity, alone.tier) == ("pot", 5.0, "account")
    assert alone.probability == pytest.approx(0.7)
    beside = engine.recommend(OfferRequest("bob", cart=(CartLine("mug", 2.0),), kinds=("upsell",), limit=5)).offers
    assert [(offer.product_id, offer.expected_quantity, offer.tier) for offer in beside] == [("pot", 2.0, "cart")]
    assert beside[0].probability == pytest.approx(0.7)


def test_lines_at_or_after_as_of_change_no_table(tmp_path: Path) -> None:
    later = [("7", "ann", "pot", 31, 1.0, 99.0), ("8", "cat", "mug", 40, 1.0, 99.0), ("8", None, "tea", 40, 1.0, 99.0)]
    before = save_bundle(tmp_path / "a", build())
    assert save_bundle(tmp_path / "b", build(lines=[*LINES, *later])).files == before.files
    # The check has teeth: the same line one day earlier does change them.
    earlier = [*LINES, ("7", "ann", "pot", 30, 1.0, 99.0)]
    assert save_bundle(tmp_path / "c", build(lines=earlier)).files != before.files


def test_the_order_of_the_input_tables_changes_no_table(tmp_path: Path) -> None:
    past = history()
    turned = [frame.iloc[::-1] for frame in (PRODUCTS, ACCOUNTS, RULES, EDGES)]
    learned = LearnedParts(cross=cross(past), rules=turned[2], ladder=turned[3])
    options = OfferModelConfig(least_segment_accounts=2)
    model = build_offer_model(
        past, turned[0], turned[1], learned, options, as_of=AS_OF, horizon_days=10, currency="EUR"
    )
    one, other = save_bundle(tmp_path / "a", build()), save_bundle(tmp_path / "b", model)
    assert one.files == other.files


def test_a_pair_that_only_the_weights_name_is_counted_and_spoken() -> None:
    ten = [(f"b{row}", f"new{row}", product, 10, 1.0, 3.0) for row in range(10) for product in ("mug", "pot")]
    weights = sp.csr_array((np.array([0.4]), ([0], [1])), shape=(3, 3))  # from mug to pot
    cart = CartWeights(weights, 0 * weights, np.zeros(3, dtype=np.float32), noisy_or_curve())
    engine = OfferEngine(build(lines=[*LINES, *ten], cart=cart, rules=None))
    request = OfferRequest(cart=(CartLine("mug"),), kinds=("cross_sell",), limit=1)
    assert engine.recommend(request).offers[0].reason == "Pot was in 10 of 14 orders with Mug; 69 % overall"
    fewer = OfferEngine(build(lines=[*LINES, *ten[2:]], cart=cart, rules=None))
    assert "orders with" not in fewer.recommend(request).offers[0].reason
