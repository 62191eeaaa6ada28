"""Business rules at work: who is offered, where, and at what price."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts.offers import EMPTY_STATE, AccountState, CartLine, Offer, OfferRequest, ProductChange
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import owned_by
from recsys.ranking.engine import OfferEngine
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

MODEL = synthetic_model(SyntheticModelConfig(n_accounts=40, n_products=120, n_categories=4), np.random.default_rng(11))
ROW = int((MODEL.accounts.segment > 0).argmax())
SEGMENT = MODEL.segments.names[int(MODEL.accounts.segment[ROW])]
ASKED = OfferRequest(account_id=MODEL.accounts.ids[ROW], limit=8)
PLAIN = OfferEngine(MODEL)


def rule(action: str, name: str = "r", **more: Any) -> BusinessRule:
    return BusinessRule.model_validate({"name": name, "action": action, "owner": "o", "reason": "why"} | more)


def engine(*rules: BusinessRule) -> OfferEngine:
    made = OfferEngine(MODEL)
    made.use_rules(rules)
    return made


def offers(request: OfferRequest = ASKED, *rules: BusinessRule, state: AccountState = EMPTY_STATE) -> tuple[Offer, ...]:
    return engine(*rules).recommend(request, state).offers


def ids(found: tuple[Offer, ...]) -> list[str]:
    return [offer.product_id for offer in found]


BEFORE = ids(PLAIN.recommend(ASKED).offers)
STRANGER = next(
    product
    for product in MODEL.products.ids
    if product not in ids(PLAIN.recommend(replace(ASKED, limit=60)).offers)
    and MODEL.products.ids.find(product) not in owned_by(MODEL, ROW, ever=True)
)


def category_of(product_id: str) -> str:
    return MODEL.categories.names[int(MODEL.products.category[MODEL.products.ids.find(product_id)])]


def test_no_rules_and_rules_about_others_change_nothing() -> None:
    assert offers() == PLAIN.recommend(ASKED).offers
    of_others = rule("block", products=BEFORE[:1], segments=["nobody"])
    assert offers(ASKED, of_others) == PLAIN.recommend(ASKED).offers


def test_a_blocked_product_is_not_offered_and_the_slate_names_the_rule() -> None:
    slate = engine(rule("block", "contract", products=BEFORE[:1])).recommend(ASKED)
    assert ids(slate.offers)[:7] == BEFORE[1:]
    assert slate.refused[BEFORE[0]] == "rule:contract"


def test_a_blocked_category_is_gone_altogether() -> None:
    blocked = category_of(BEFORE[0])
    found = offers(replace(ASKED, limit=50), rule("block", categories=[blocked]))
    assert found
    assert blocked not in {category_of(product) for product in ids(found)}


@pytest.mark.parametrize(
    ("condition", "request_", "state"),
    [
        ({"channels": ["web"]}, replace(ASKED, channel="web"), AccountState()),
        ({"regions": ["DE"]}, replace(ASKED, region="DE"), AccountState()),
        ({"regions": ["DE"]}, ASKED, AccountState(region="DE")),
        ({"segments": ["vip"]}, ASKED, AccountState(segment="vip")),
        ({"segments": [SEGMENT]}, ASKED, AccountState()),
    ],
)
def test_conditions_look_at_segment_region_and_channel(
    condition: dict[str, Any], request_: OfferRequest, state: AccountState
) -> None:
    first = ids(PLAIN.recommend(request_, state).offers)[0]
    named = rule("block", products=[first], **condition)
    assert first not in ids(offers(request_, named, state=state))
    elsewhere = replace(request_, account_id="nobody", channel="phone", region="FR")
    popular = ids(PLAIN.recommend(elsewhere).offers)[0]
    of_others = rule("block", products=[popular], **condition)
    assert popular in ids(offers(elsewhere, of_others))


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_a_pin_stands_at_its_rank_a_candidate_or_not(rank: int) -> None:
    for product in (BEFORE[5], STRANGER):
        found = offers(ASKED, rule("pin", products=[product], rank=rank))
        assert ids(found)[rank - 1] == product
        assert len(set(ids(found))) == 8


def test_a_pin_stands_at_its_rank_for_somebody_unknown() -> None:
    found = offers(OfferRequest(limit=6), rule("pin", products=[STRANGER], rank=4))
    assert ids(found)[3] == STRANGER
    assert "accounts have bought Product" in found[3].reason


def test_a_pin_brings_back_nothing_that_may_not_be_offered() -> None:
    pin = rule("pin", products=[STRANGER])
    assert STRANGER not in ids(offers(replace(ASKED, exclude=frozenset({STRANGER})), pin))
    assert STRANGER not in ids(offers(ASKED, pin, state=AccountState(suppressed={STRANGER: "declined lately"})))
    assert STRANGER not in ids(offers(ASKED, pin, state=AccountState(bought=(STRANGER,))))
    assert STRANGER not in ids(offers(ASKED, pin, rule("block", "b", products=[STRANGER])))
    sold_out = engine(pin)
    sold_out.apply(ProductChange(STRANGER, stock=0))
    assert STRANGER not in ids(sold_out.recommend(ASKED).offers)


def test_a_required_product_stands_at_its_rank_at_the_latest() -> None:
    late = BEFORE[6]
    found = offers(ASKED, rule("require", products=[late, STRANGER], rank=2))
    assert ids(found)[:2] == [BEFORE[0], late]
    assert ids(offers(ASKED, rule("require", products=[BEFORE[0]], rank=2))) == BEFORE
    assert ids(offers(ASKED, rule("require", products=[STRANGER]))) == BEFORE


def test_a_boost_lifts_and_lowers() -> None:
    assert ids(offers(ASKED, rule("boost", products=[BEFORE[4]], factor=1_000)))[0] == BEFORE[4]
    assert BEFORE[0] not in ids(offers(ASKED, rule("boost", products=[BEFORE[0]], factor=1e-9)))[:3]
    before = {offer.product_id: offer.probability for offer in PLAIN.recommend(replace(ASKED, limit=30)).offers}
    (lifted,) = offers(replace(ASKED, limit=1), rule("boost", products=[BEFORE[4]], factor=1_000))
    assert lifted.probability == before[BEFORE[4]]


def test_a_discount_comes_off_the_value_and_goes_out_with_its_text() -> None:
    plain = PLAIN.recommend(ASKED).offers[0]
    lower = rule("boost", "ten off", products=[plain.product_id], factor=1.0, discount_percent=10, text="This week")
    offer = offers(ASKED, lower)[0]
    assert (offer.rule, offer.text, offer.price) == ("ten off", "This week", plain.price)
    assert offer.discount == pytest.approx(0.1 * plain.price, abs=0.005)  # to pay are whole cents
    assert offer.price_to_pay == round(0.9 * plain.price, 2)
    quantity = plain.expected_quantity
    assert offer.expected_value == pytest.approx(
        plain.expected_value - offer.probability * quantity * 0.1 * plain.price
    )
    assert all(other.rule is None for other in offers(ASKED, lower)[1:])


def test_a_discount_lowers_what_revenue_ranks_by() -> None:
    request = replace(ASKED, objective="revenue", limit=30)
    plain = {offer.product_id: offer for offer in PLAIN.recommend(request).offers}
    first = next(iter(plain))
    found = offers(request, rule("boost", products=[first], factor=1.0, discount_percent=50))
    by_id = {offer.product_id: offer for offer in found}
    assert by_id[first].score < plain[first].score


def test_the_raw_order_knows_no_rules() -> None:
    request = replace(ASKED, raw=True)
    first = PLAIN.recommend(request).offers[0].product_id
    assert offers(request, rule("block", products=[first])) == PLAIN.recommend(request).offers


def test_rules_about_what_the_model_does_not_know_are_tolerated() -> None:
    unknown = [
        rule("pin", products=["nope"]),
        rule("block", "b", categories=["nope"]),
        rule("boost", "c", products=["nope"], factor=2),
    ]
    assert ids(offers(ASKED, *unknown)) == BEFORE


products = st.integers(0, 119).map(lambda row: f"P{row:06d}")
any_rule = st.one_of(
    st.builds(lambda p: rule("block", f"b{p}", products=[p]), products),
    st.builds(lambda p, r: rule("pin", f"p{p}", products=[p], rank=r), products, st.integers(1, 12)),
    st.builds(lambda p, r: rule("require", f"q{p}", products=[p], rank=r), products, st.integers(1, 12)),
    st.builds(lambda p, f: rule("boost", f"f{p}", products=[p], factor=f), products, st.floats(0.01, 100)),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(any_rule, max_size=5), st.integers(0, 39), st.lists(products, max_size=3), st.integers(1, 20))
def test_whatever_the_rules_a_slate_is_whole(
    rules: list[BusinessRule], account: int, cart: list[str], limit: int
) -> None:
    request = OfferRequest(account_id=f"A{account:07d}", cart=tuple(CartLine(product) for product in cart), limit=limit)
    made = engine(*rules)
    slate = made.recommend(request)
    assert len(set(ids(slate.offers))) == slate.returned <= limit
    assert (slate.shortfall is None) == (slate.returned == limit)
    assert not set(ids(slate.offers)) & set(cart)
    blocked = {product for one in rules if one.action == "block" for product in one.products}
    assert not set(ids(slate.offers)) & blocked
    longer = made.recommend(replace(request, limit=limit + 1))
    assert longer.offers[:limit] == slate.offers


def test_filters_keep_to_categories_and_prices() -> None:
    wanted = category_of(BEFORE[0])
    found = PLAIN.recommend(replace(ASKED, categories=(wanted,), min_price=10.0, max_price=40.0, limit=20))
    assert found.offers
    assert {category_of(product) for product in ids(found.offers)} == {wanted}
    assert all(10 <= offer.price <= 40 for offer in found.offers)
    assert "outside the categories or prices asked for" in (found.shortfall or "")
    assert PLAIN.recommend(replace(ASKED, categories=("no such",))).offers == ()


def test_sources_leave_out_the_popular_or_offer_nothing_else() -> None:
    evidence = PLAIN.recommend(replace(ASKED, limit=60, sources="evidence")).offers
    assert {offer.tier for offer in evidence} == {"account"}
    popular = PLAIN.recommend(replace(ASKED, sources="popular", cart=(CartLine(BEFORE[0]),)))
    assert {offer.tier for offer in popular.offers} == {"popular"}
    assert BEFORE[0] not in ids(popular.offers)
    popular = PLAIN.recommend(replace(ASKED, sources="popular"))
    owned = set(owned_by(MODEL, ROW, ever=False).tolist())
    assert not owned & {MODEL.products.ids.find(one) for one in ids(popular.offers)}


def test_a_forgotten_account_is_nobody() -> None:
    assert (
        PLAIN.recommend(ASKED, AccountState(is_forgotten=True)).offers == PLAIN.recommend(OfferRequest(limit=8)).offers
    )


def test_a_silent_account_says_why() -> None:
    slate = PLAIN.recommend(ASKED, AccountState(opt_out_reason="12 offers were presented today"))
    assert (slate.offers, slate.shortfall) == ((), "12 offers were presented today")


def test_boosts_of_one_product_are_bounded_together() -> None:
    many = [rule("boost", name=f"b{number}", products=[STRANGER, BEFORE[1]], factor=1_000.0) for number in range(110)]
    found = offers(replace(ASKED, objective="revenue"), *many)
    assert all(np.isfinite(offer.score) for offer in found)
    assert found[0].product_id == BEFORE[1]


@pytest.mark.parametrize("text", ["a \0 b", "a \n b"])
def test_control_characters_in_a_rule_are_refused(text: str) -> None:
    changes: list[dict[str, Any]] = [{"name": text}, {"text": text}]
    for change in changes:
        with pytest.raises(ValueError, match="control character"):
            rule("boost", products=BEFORE[:1], factor=2.0, **change)


def test_a_rule_may_ask_for_the_place_of_the_offers() -> None:
    on_the_cart = rule("block", products=BEFORE[:1], surfaces=["cart", "checkout"])
    made = engine(on_the_cart)
    for surface, is_blocked in (("cart", True), ("checkout", True), ("home", False), (None, False)):
        slate = made.recommend(replace(ASKED, surface=surface))
        assert (BEFORE[0] not in ids(slate.offers)) == is_blocked
        assert (slate.refused == {BEFORE[0]: "rule:r"}) == is_blocked
