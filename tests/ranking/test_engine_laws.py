"""What holds for every request: the laws of a slate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts.offers import KINDS, AccountState, CartLine, OfferRequest, ProductChange
from recsys.errors import ConfigError
from recsys.offer_model.tables import EVERYONE, OfferModel, owned_by
from recsys.ranking.compiled_ranker import usual_pace
from recsys.ranking.config import RankingConfig
from recsys.ranking.engine import OfferEngine
from recsys.ranking.kernel.layout import LATER_OF_CARTS
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

N_ACCOUNTS, N_PRODUCTS = 40, 120
MODEL = synthetic_model(
    SyntheticModelConfig(n_accounts=N_ACCOUNTS, n_products=N_PRODUCTS, n_categories=4), np.random.default_rng(11)
)
ENGINE = OfferEngine(MODEL)

products = st.integers(0, N_PRODUCTS + 5).map(lambda row: f"P{row:06d}")  # the last ones are unknown
requests = st.builds(
    OfferRequest,
    account_id=st.one_of(st.none(), st.integers(0, N_ACCOUNTS + 3).map(lambda row: f"A{row:07d}")),
    cart=st.lists(st.builds(CartLine, products, st.floats(0.5, 20)), max_size=4).map(tuple),
    viewed_product_id=st.one_of(st.none(), products),
    kinds=st.sampled_from([KINDS, ("cross_sell",), ("upsell",), ("upsell", "cross_sell")]),
    limit=st.integers(1, 60),
    exclude=st.frozensets(products, max_size=5),
    new_only=st.booleans(),
    objective=st.sampled_from(["conversion", "revenue", "margin"]),
    raw=st.booleans(),
    explain=st.sampled_from(["none", "brief", "full"]),
)
laws = settings(max_examples=150, deadline=None)


def owned_ids(account_id: str | None, *, ever: bool) -> set[str]:
    row = -1 if account_id is None else MODEL.accounts.ids.find(account_id)
    return set() if row < 0 else {MODEL.products.ids[product] for product in owned_by(MODEL, row, ever=ever).tolist()}


@laws
@given(requests)
def test_a_slate_is_a_prefix_of_the_next_longer_one(request_: OfferRequest) -> None:
    longer = ENGINE.recommend(replace(request_, limit=request_.limit + 1))
    assert ENGINE.recommend(request_).offers == longer.offers[: request_.limit]


@laws
@given(requests)
def test_it_returns_what_was_asked_or_says_why_not(request_: OfferRequest) -> None:
    slate = ENGINE.recommend(request_)
    assert slate.returned <= request_.limit == slate.requested
    assert (slate.shortfall is None) == (slate.returned == request_.limit)
    assert [offer.rank for offer in slate.offers] == list(range(1, slate.returned + 1))
    assert len({offer.product_id for offer in slate.offers}) == slate.returned
    assert {offer.kind for offer in slate.offers} <= set(request_.kinds)


@laws
@given(requests)
def test_the_cart_the_viewed_product_and_exclusions_are_never_offered(request_: OfferRequest) -> None:
    offered = {offer.product_id for offer in ENGINE.recommend(request_).offers}
    assert not offered & {line.product_id for line in request_.cart}
    assert request_.viewed_product_id not in offered
    assert not offered & request_.exclude


@laws
@given(requests)
def test_owned_products_are_no_cross_sell_without_a_cart_and_nothing_at_all_for_new_only(
    request_: OfferRequest,
) -> None:
    slate = ENGINE.recommend(request_)
    beside = [*(line.product_id for line in request_.cart), request_.viewed_product_id]
    has_cart = any(product is not None and MODEL.products.ids.find(product) >= 0 for product in beside)
    if not has_cart:
        crosses = {offer.product_id for offer in slate.offers if offer.kind == "cross_sell"}
        assert not crosses & owned_ids(request_.account_id, ever=False)
    if request_.new_only:
        assert not {offer.product_id for offer in slate.offers} & owned_ids(request_.account_id, ever=True)


@laws
@given(requests)
def test_unknown_products_are_reported_and_tolerated(request_: OfferRequest) -> None:
    asked = dict.fromkeys([*(line.product_id for line in request_.cart), request_.viewed_product_id])
    strangers = [product for product in asked if product is not None and MODEL.products.ids.find(product) < 0]
    assert list(ENGINE.recommend(request_).unknown_products) == strangers


@laws
@given(requests, st.lists(st.sampled_from([*MODEL.categories.names, "X1", "X2"]), min_size=1, max_size=6))
def test_unknown_categories_are_reported_and_tolerated(request_: OfferRequest, categories: list[str]) -> None:
    slate = ENGINE.recommend(replace(request_, categories=tuple(categories)))
    assert slate.unknown_categories == tuple(name for name in dict.fromkeys(categories) if name[0] == "X")
    if known := tuple(name for name in categories if name[0] != "X"):
        assert ENGINE.recommend(replace(request_, categories=known)).offers == slate.offers
    else:
        assert slate.offers == ()


def test_a_model_says_which_names_it_knows() -> None:
    segments = [name for row, name in enumerate(MODEL.segments.names) if row != EVERYONE]
    assert segments
    assert all(ENGINE.knows("segment", name) for name in segments)
    assert ENGINE.knows("product", "P000000")
    assert ENGINE.knows("category", MODEL.categories.names[0])
    assert not any(ENGINE.knows(kind, name) for kind in ("product", "segment", "category") for name in ("", "X1"))


@laws
@given(requests)
def test_the_same_request_gets_the_same_slate_from_another_engine(request_: OfferRequest) -> None:
    assert OfferEngine(MODEL).recommend(request_) == ENGINE.recommend(request_)


@laws
@given(requests)
def test_numbers_are_what_they_claim(request_: OfferRequest) -> None:
    for offer in ENGINE.recommend(request_).offers:
        assert 0 <= offer.probability <= 1
        assert np.isfinite([offer.expected_value, offer.score, offer.expected_quantity]).all()
        assert (offer.reason == "") == (request_.explain == "none")
        assert request_.explain == "full" or not offer.evidence
        assert offer.kind == "cross_sell" or offer.from_product_id is not None


@laws
@given(requests)
def test_no_two_of_a_family_or_of_substitutes_stand_in_one_slate(request_: OfferRequest) -> None:
    if request_.raw:
        return
    rows = [MODEL.products.ids.find(offer.product_id) for offer in ENGINE.recommend(request_).offers]
    families = [int(MODEL.products.family[row]) for row in rows if MODEL.products.family[row] >= 0]
    assert len(families) == len(set(families))
    assert not any(row % 10 == 2 and row + 1 in rows for row in rows)  # the third and fourth of ten are substitutes


def test_raw_gives_each_kind_in_the_ranker_s_own_order() -> None:
    slate = ENGINE.recommend(OfferRequest(account_id="A0000005", limit=22, raw=True))
    account = MODEL.accounts.ids.find("A0000005")
    start = int(MODEL.accounts.candidates_start[account])
    stored = MODEL.candidates.product[start : start + int(MODEL.accounts.candidates_count[account])]
    for kind, rows in (("cross_sell", stored[:20]), ("upsell", stored[20:])):
        mine = [offer.product_id for offer in slate.offers if offer.kind == kind and offer.tier == "account"]
        assert mine == [MODEL.products.ids[row] for row in rows.tolist()]


def test_raw_leaves_the_cap_on_categories_off() -> None:
    def first_ranks(*, raw: bool) -> list[str]:
        request = OfferRequest(account_id="A0000005", limit=8, raw=raw, kinds=("cross_sell",))
        model = replace(MODEL, products=replace(MODEL.products, category=(np.arange(N_PRODUCTS, dtype=np.int32) % 2)))
        return [offer.product_id for offer in OfferEngine(_crowded(model)).recommend(request).offers]

    assert first_ranks(raw=True) != first_ranks(raw=False)


def _crowded(model: OfferModel) -> OfferModel:
    """Put the best six candidates of the account into one category."""
    account = model.accounts.ids.find("A0000005")
    start = int(model.accounts.candidates_start[account])
    category = model.products.category.copy()
    category[:] = 0
    category[model.candidates.product[start : start + 6]] = 1
    return replace(model, products=replace(model.products, category=category))


def test_an_account_gets_its_own_tier_and_a_stranger_the_fallback() -> None:
    assert ENGINE.recommend(OfferRequest(account_id="A0000001", limit=3)).tier == "account"
    stranger = ENGINE.recommend(OfferRequest(account_id="nobody", limit=3))
    assert stranger.tier == "popular"
    assert {offer.tier for offer in stranger.offers} == {"popular"}


def test_account_and_cart_both_change_the_answer() -> None:
    alone = ENGINE.recommend(OfferRequest(account_id="A0000001", limit=15))
    with_cart = ENGINE.recommend(OfferRequest(account_id="A0000001", cart=(CartLine("P000040"),), limit=15))
    cart_only = ENGINE.recommend(OfferRequest(cart=(CartLine("P000040"),), limit=15))
    assert cart_only.tier == "cart"
    assert len({tuple(o.product_id for o in slate.offers) for slate in (alone, with_cart, cart_only)}) == 3


def test_a_segment_answers_for_an_account_newer_than_the_bundle() -> None:
    slate = ENGINE.recommend(OfferRequest(account_id="new", limit=3), AccountState(segment="segment 1"))
    assert slate.tier == "segment"
    assert "segment 1" in slate.offers[0].reason


def test_posted_purchases_answer_for_an_account_that_the_bundle_does_not_know() -> None:
    state = AccountState(bought=("P000040", "P000041"))
    slate = ENGINE.recommend(OfferRequest(account_id="new", limit=5), state)
    assert slate.tier == "recent"
    assert not {offer.product_id for offer in slate.offers} & set(state.bought)


def test_what_was_bought_since_the_bundle_is_owned_at_once() -> None:
    request = OfferRequest(account_id="A0000001", limit=5, kinds=("cross_sell",))
    best = ENGINE.recommend(request).offers[0].product_id
    after = ENGINE.recommend(request, AccountState(bought=(best,)))
    assert best not in {offer.product_id for offer in after.offers}


def test_withheld_products_stay_out_and_are_counted() -> None:
    request = OfferRequest(account_id="A0000001", limit=500)
    best = ENGINE.recommend(request).offers[0].product_id
    after = ENGINE.recommend(request, AccountState(suppressed={best: "declined yesterday"}))
    assert best not in {offer.product_id for offer in after.offers}
    assert "withheld for this account now" in (after.shortfall or "")


def test_an_account_that_wants_no_offers_gets_none() -> None:
    silent = replace(MODEL, accounts=replace(MODEL.accounts, do_not_offer=np.ones(N_ACCOUNTS, dtype=bool)))
    slate = OfferEngine(silent).recommend(OfferRequest(account_id="A0000001"))
    assert slate.offers == ()
    assert slate.shortfall == "the account wants no offers"
    spoken_up = OfferEngine(silent).recommend(OfferRequest(account_id="A0000001"), AccountState(do_not_offer=False))
    assert spoken_up.returned == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (ProductChange("", stock=0.0), "out of stock"),
        (ProductChange("", active=False), "inactive"),
        (ProductChange("", do_not_offer=True), "flagged do_not_offer"),
    ],
)
def test_a_change_of_a_product_is_in_force_at_once(change: ProductChange, words: str) -> None:
    engine = OfferEngine(MODEL)
    request = OfferRequest(account_id="A0000001", limit=500)
    best = engine.recommend(request).offers[0].product_id
    assert engine.catalogue.apply(replace(change, product_id=best))
    after = engine.recommend(request)
    assert best not in {offer.product_id for offer in after.offers}
    assert words in (after.shortfall or "")
    assert engine.catalogue.apply(ProductChange(best, stock=5.0, active=True, do_not_offer=False))
    assert engine.recommend(request).offers[0].product_id == best


def test_a_new_price_is_in_the_next_answer() -> None:
    engine = OfferEngine(MODEL)
    request = OfferRequest(account_id="A0000001", limit=1)
    best = engine.recommend(request).offers[0].product_id
    engine.catalogue.apply(ProductChange(best, price=123.0))
    assert engine.recommend(request).offers[0].price == 123.0
    assert not engine.catalogue.apply(ProductChange("unknown", price=1.0))


def test_nothing_credible_is_an_answer() -> None:
    strict = OfferEngine(MODEL, RankingConfig(min_probability=0.99))
    slate = strict.recommend(OfferRequest(account_id="A0000001", limit=3))
    assert slate.offers == ()
    assert (slate.shortfall or "").startswith("asked for 3, found nothing credible in")
    assert "below the least probability" in (slate.shortfall or "")


def test_a_catalogue_that_runs_out_says_what_was_left_out() -> None:
    request = OfferRequest(account_id="A0000001", limit=500, kinds=("cross_sell",))
    assert "owned" in (ENGINE.recommend(request).shortfall or "")


def test_wrong_requests_are_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="limit == 0, must be 1 or more"):
        ENGINE.recommend(OfferRequest(limit=0))
    with pytest.raises(ConfigError, match="kinds is empty"):
        ENGINE.recommend(OfferRequest(kinds=()))
    free = replace(MODEL, products=replace(MODEL.products, cost=np.full(N_PRODUCTS, np.nan)))
    with pytest.raises(ConfigError, match="no product of this model has a cost"):
        OfferEngine(free).recommend(OfferRequest(objective="margin"))


def test_a_model_without_accounts_links_or_segments_still_answers() -> None:
    bare = SyntheticModelConfig(
        n_accounts=0, n_segments=0, candidates_per_account=0, owned_per_account=0, links_per_product=0, fallback_size=9
    )
    model = synthetic_model(bare, np.random.default_rng(1))
    model.check()
    slate = OfferEngine(model).recommend(OfferRequest(account_id="A1", cart=(CartLine("P000003"),), limit=4))
    assert slate.tier == "popular"
    assert slate.returned == 4


@laws
@given(requests)
def test_a_cart_never_lowers_what_the_account_or_the_crowd_speaks_for(request_: OfferRequest) -> None:
    """Whatever lies in the cart, known or not: an order that is placed makes a purchase no less probable."""
    asked = replace(request_, kinds=("cross_sell",), viewed_product_id=None, limit=60, new_only=True)
    without = {offer.product_id: offer for offer in ENGINE.recommend(replace(asked, cart=())).offers}
    for offer in ENGINE.recommend(asked).offers:
        before = without.get(offer.product_id)
        if before is not None:
            assert offer.probability >= before.probability - 1e-12


@pytest.mark.parametrize("account_id", [None, MODEL.accounts.ids[3], MODEL.accounts.ids[4]])
def test_what_goes_with_the_cart_is_no_less_likely_than_as_a_popular_product(account_id: str | None) -> None:
    """With an account it had the chance of what carts are followed by, though without the cart it had a larger one."""
    fallback = MODEL.fallback
    liked = replace(MODEL, fallback=replace(fallback, probability=np.full_like(fallback.probability, 0.95)))
    request = OfferRequest(account_id, kinds=("cross_sell",), limit=100, mix="none", sources="popular")
    popular = {offer.product_id for offer in OfferEngine(liked).recommend(request).offers}
    asked = replace(request, sources="all", cart=(CartLine("P000003"), CartLine("P000007")))
    found = [offer for offer in OfferEngine(liked).recommend(asked).offers if offer.tier == "cart"]
    assert popular & {offer.product_id for offer in found}
    assert all(offer.probability >= 0.94 for offer in found if offer.product_id in popular)


@pytest.mark.parametrize("account_id", [None, MODEL.accounts.ids[3]])
def test_a_cart_of_unknown_products_is_an_order_all_the_same(account_id: str | None) -> None:
    """Of what fills the answer, and of what the account itself speaks for."""
    curve = MODEL.cart_curve
    rising = np.linspace(0.8, 0.9, len(curve.score))
    engine = OfferEngine(replace(MODEL, cart_curve=replace(curve, of_unlinked=rising)))
    request = OfferRequest(account_id=account_id, kinds=("cross_sell",), limit=30, new_only=True)
    everything = engine.recommend(replace(request, limit=100)).offers
    without = {offer.product_id: offer.probability for offer in everything}
    offers = engine.recommend(replace(request, cart=(CartLine("launched today"),))).offers
    assert len(offers) == 30
    assert all(offer.probability > without[offer.product_id] for offer in offers)


def test_a_cart_of_unknown_products_orders_as_any_other_cart_does() -> None:
    """Chances counted the order, while rank probabilities, boosts and what is owned did not."""
    held_back = np.full(N_PRODUCTS, 0.5, dtype=np.float32)
    model = replace(MODEL, products=replace(MODEL.products, held_back=held_back))
    account_id, orders = MODEL.accounts.ids[3], 1.0 + float(MODEL.accounts.orders_in_horizon[3])
    request = OfferRequest(account_id, kinds=("cross_sell",), limit=60)
    before = {offer.product_id: offer for offer in ENGINE.recommend(request).offers}
    asked = replace(request, cart=(CartLine("launched today"),))
    offers = OfferEngine(model).recommend(asked).offers
    own = [offer for offer in offers if offer.tier == "account"]
    assert own
    for offer in own:
        alone = before[offer.product_id].probability
        assert offer.rank_probability == pytest.approx(min(LATER_OF_CARTS * alone / orders, 1.0))
        assert offer.boost == 1.0
    assert owned_ids(account_id, ever=False) & {offer.product_id for offer in offers}


def test_who_orders_more_often_buys_again_more_likely_beside_a_cart() -> None:
    """Seldom buyers repeated .7 times as often as stated, frequent ones 1.3 times: a horizon holds more orders."""
    paces = MODEL.accounts.orders_in_horizon
    n_repeats = 0
    for row, account_id in enumerate(MODEL.accounts.ids):
        request = OfferRequest(
            account_id, cart=(CartLine(MODEL.products.ids[row % N_PRODUCTS]),), kinds=("cross_sell",), limit=60
        )
        slow, fast = (
            {offer.product_id: offer for offer in _at_pace(row, pace).recommend(request).offers}
            for pace in (usual_pace(paces) / 16, usual_pace(paces))
        )
        for product_id in slow.keys() & fast.keys() & owned_ids(account_id, ever=True):
            told = [of[product_id].probability for of in (slow, fast)]
            if {of[product_id].tier for of in (slow, fast)} == {"cart"} and told[0] != told[1]:
                odds = [chance / (1 - chance) for chance in told]
                assert odds[0] == pytest.approx(odds[1] / 2, rel=0.05)  # the fourth root of 16
                n_repeats += 1
    assert n_repeats > 10


def _at_pace(row: int, pace: float) -> OfferEngine:
    paces = MODEL.accounts.orders_in_horizon.copy()
    paces[row] = pace
    return OfferEngine(replace(MODEL, accounts=replace(MODEL.accounts, orders_in_horizon=paces)))
