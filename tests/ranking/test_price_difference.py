"""What an upgrade costs more than what it displaces: a field of the offer, and a part of its reason."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from recsys.contracts.answers import CallListEntry
from recsys.contracts.offers import EMPTY_STATE, CartLine, Explain, Objective, Offer, OfferRequest, ProductChange
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import OfferModel
from recsys.ranking.engine import OfferEngine
from recsys.ranking.explorer import likely_buyers, takers_of
from recsys.ranking.languages import LANGUAGES
from recsys.ranking.why_not import why_not
from serving.encoding import EncodingEngine
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

MODEL = synthetic_model(SyntheticModelConfig(n_accounts=5, n_products=60), np.random.default_rng(1))
LOWER = int(np.flatnonzero(MODEL.products.ladder_count)[0])
LOWER_ID, UPPER_ID = MODEL.products.ids[LOWER], MODEL.products.ids[int(MODEL.ladder.to_product[0])]
IN_CART = OfferRequest(cart=(CartLine(LOWER_ID, 3),), kinds=("upsell",), limit=3, sources="evidence")


BOTH_KINDS = replace(IN_CART, kinds=("cross_sell", "upsell"), limit=40, sources="all")


def priced(lower: float, upper: float, currency: str | None = "GBP", model: OfferModel = MODEL) -> OfferEngine:
    engine = OfferEngine(replace(model, facts=model.facts.model_copy(update={"currency": currency})))
    engine.apply(ProductChange(LOWER_ID, price=lower))
    engine.apply(ProductChange(UPPER_ID, price=upper))
    return engine


def upgrade(engine: OfferEngine, **asked: object) -> Offer:
    (offer,) = engine.recommend(replace(IN_CART, **asked)).offers  # type: ignore[arg-type]
    assert (offer.kind, offer.tier, offer.from_product_id, offer.product_id) == ("upsell", "cart", LOWER_ID, UPPER_ID)
    return offer


def test_beside_a_cart_line_the_larger_one_says_what_it_costs_more() -> None:
    offer = upgrade(priced(4.95, 7.05))
    assert offer.price_difference == 2.1  # in the currency's digits, not 2.0999999999999996
    assert offer.expected_quantity == 3
    assert offer.reason.endswith("; +2.10 GBP a unit")
    assert offer.reason_for_shopper.endswith(", +2.10 GBP")


@pytest.mark.parametrize(
    ("prices", "currency", "rep", "shopper"),
    [
        ((4.95, 7.05), "EUR", "; +2,10 EUR je Stück", ", +2,10 EUR"),
        ((1000.0, 2290.0), "JPY", "; +1.290 JPY je Stück", ", +1.290 JPY"),
        ((0.011, 0.015), None, "; +0,004 je Stück", ", +0,004"),
    ],
)
def test_german_says_it_in_its_own_words_and_digits(
    prices: tuple[float, float], currency: str | None, rep: str, shopper: str
) -> None:
    offer = upgrade(priced(*prices, currency), language="de")
    assert offer.reason.endswith(rep)
    assert offer.reason_for_shopper.endswith(shopper)


def test_a_posted_price_is_said_at_once() -> None:
    engine = priced(4.95, 7.05)
    upgrade(engine)
    engine.apply(ProductChange(UPPER_ID, price=9.95))
    offer = upgrade(engine)
    assert (offer.price_difference, offer.reason.endswith("; +5.00 GBP a unit")) == (5.0, True)


def test_without_a_price_nothing_is_said() -> None:
    offer = upgrade(priced(float("nan"), 7.05))
    assert (offer.price_difference, "+" in offer.reason) == (None, False)


def test_a_cross_sell_displaces_nothing() -> None:
    offers = priced(4.95, 7.05).recommend(replace(IN_CART, kinds=("cross_sell",), sources="all")).offers
    assert offers
    assert {offer.price_difference for offer in offers} == {None}


@pytest.mark.parametrize("explain", ["none", "brief", "full"])
def test_the_fast_encoding_says_the_same(explain: Explain) -> None:
    engine = priced(4.95, 7.05)
    request = replace(IN_CART, explain=explain)
    for lower in (4.95, 3.0):
        engine.apply(ProductChange(LOWER_ID, price=lower))
        (offer,) = engine.recommend(request).offers
        (encoded,) = json.loads(EncodingEngine(engine).answer(request).offers)
        assert {name: encoded[name] for name in ("price_difference", "reason", "reason_for_shopper")} == {
            "price_difference": offer.price_difference,
            "reason": offer.reason,
            "reason_for_shopper": offer.reason_for_shopper,
        }


def sold_together(weight: float = 0.9) -> OfferModel:
    """The model with the upper one as the strongest of what goes with the lower, and no families to rule it out."""
    products, cart, first = MODEL.products, MODEL.cart, int(MODEL.products.cart_start[LOWER])
    upper = MODEL.products.ids.find(UPPER_ID)
    consequent, weights = np.array(cart.consequent), np.array(cart.weight)
    consequent[first], weights[first] = upper, weight
    return replace(
        MODEL,
        products=replace(products, family=np.full_like(products.family, -1)),
        cart=replace(cart, consequent=consequent, weight=weights),
    )


def of_upper(engine: OfferEngine, request: OfferRequest) -> Offer:
    (offer,) = [offer for offer in engine.recommend(request).offers if offer.product_id == UPPER_ID]
    return offer


@pytest.mark.parametrize("account_id", [None, MODEL.accounts.ids[2]])
def test_a_product_has_one_chance_beside_a_cart_whichever_kind_it_is(account_id: str | None) -> None:
    """It was .1 of an upgrade, and .36 or .61 of the same product that is bought together with the lower one."""
    engine = priced(4.95, 7.05, model=sold_together())
    asked = replace(BOTH_KINDS, account_id=account_id, mix="none")
    both, upsell = of_upper(engine, asked), of_upper(engine, replace(asked, kinds=("upsell",)))
    cross_sell = of_upper(engine, replace(asked, kinds=("cross_sell",)))
    assert both.probability == upsell.probability == cross_sell.probability > 0.3
    assert (both.kind, both.from_product_id, both.price_difference) == ("upsell", LOWER_ID, 2.1)
    assert (cross_sell.kind, cross_sell.price_difference) == ("cross_sell", None)


def test_an_upgrade_that_little_else_speaks_for_keeps_the_larger_chance_of_climbing() -> None:
    engine = priced(4.95, 7.05, model=sold_together(weight=0.01))
    kinds = [of_upper(engine, replace(BOTH_KINDS, kinds=kinds)) for kinds in (("upsell",), ("cross_sell",))]
    assert [offer.probability for offer in kinds] == pytest.approx([0.1, 0.1])


def test_beside_a_cart_an_upgrade_is_no_less_likely_than_as_a_popular_product() -> None:
    upper, fallback, model = MODEL.products.ids.find(UPPER_ID), MODEL.fallback, sold_together()
    popular, chances, linked = (
        np.array(fallback.product),
        np.array(fallback.probability),
        np.array(model.cart.consequent),
    )
    popular[0], chances[0], linked[linked == upper] = upper, 0.7, LOWER
    fallback = replace(fallback, product=popular, probability=chances)
    model = replace(model, fallback=fallback, cart=replace(model.cart, consequent=linked))
    engine = priced(4.95, 7.05, model=model)
    asked = replace(BOTH_KINDS, limit=60)
    upsell = of_upper(engine, replace(asked, kinds=("upsell",)))
    popular_one = of_upper(engine, replace(asked, kinds=("cross_sell",)))
    assert (upsell.tier, popular_one.tier) == ("cart", "popular")
    assert upsell.probability == popular_one.probability == pytest.approx(0.7)


@pytest.mark.parametrize("upper", [4.95, 4.0, 0.0])
@pytest.mark.parametrize("objective", ["conversion", "revenue"])
def test_what_costs_no_more_than_what_it_would_replace_is_no_upsell(upper: float, objective: Objective) -> None:
    """By conversion it was offered as one, at a negative value. What goes with the cart is a cross-sell of it still."""
    engine = priced(4.95, upper, model=sold_together())
    asked = replace(IN_CART, objective=objective)
    assert engine.recommend(asked).offers == ()
    assert why_not(engine, asked, EMPTY_STATE, UPPER_ID, {}).code == "worth_less"
    assert of_upper(engine, replace(BOTH_KINDS, objective=objective, mix="none")).kind == "cross_sell"


def discounted(percent: float, model: OfferModel = MODEL) -> OfferEngine:
    engine = priced(1.65, 2.95, model=model)
    rule = {"name": "spring", "action": "boost", "factor": 1.0, "owner": "A. Buyer", "reason": "spring"}
    engine.use_rules([BusinessRule.model_validate(rule | {"products": (UPPER_ID,), "discount_percent": percent})])
    return engine


def test_with_a_discount_the_sentence_tells_what_is_paid_more() -> None:
    engine = discounted(20)
    offer = upgrade(engine)
    assert (offer.price, offer.price_to_pay, offer.price_difference) == (2.95, 2.36, 1.3)
    assert offer.reason.endswith("; +0.71 GBP a unit")
    assert offer.expected_value == pytest.approx(offer.probability * 3 * (0.8 * 2.95 - 1.65))
    (encoded,) = json.loads(EncodingEngine(engine).answer(IN_CART).offers)
    assert (encoded["price_to_pay"], encoded["price_difference"]) == (2.36, 1.3)
    assert (encoded["reason"], encoded["reason_for_shopper"]) == (offer.reason, offer.reason_for_shopper)


def test_a_discount_below_the_lower_price_leaves_no_upsell() -> None:
    assert discounted(60).recommend(IN_CART).offers == ()
    goes_with_it = of_upper(discounted(60, sold_together()), replace(BOTH_KINDS, mix="none"))
    assert (goes_with_it.kind, goes_with_it.price_to_pay, "+" in goes_with_it.reason) == ("cross_sell", 1.18, False)


def test_a_call_list_says_what_is_paid_more_and_has_no_upsell_that_costs_less() -> None:
    table = MODEL.candidates
    row = int(np.flatnonzero(np.asarray(table.from_product) >= 0)[0])
    upper, lower = (MODEL.products.ids[int(column[row])] for column in (table.product, table.from_product))
    engine = OfferEngine(MODEL)
    engine.apply(ProductChange(lower, price=4.95))
    engine.apply(ProductChange(upper, price=7.05))

    def upsells() -> list[CallListEntry]:
        calls = likely_buyers(engine, takers_of(engine, upper), 50, lambda _: EMPTY_STATE, LANGUAGES["en"])
        return [call for call in calls if call.from_product_id == lower]

    assert [call.reason.endswith("; +2.10 EUR a unit") for call in upsells()] == [True] * len(upsells()) != []
    for call in upsells():
        offers = engine.recommend(OfferRequest(call.account_id, limit=60, mix="none")).offers
        told = [(offer.kind, offer.probability, offer.reason) for offer in offers if offer.product_id == upper]
        assert told == [(call.kind, call.probability, call.reason)]
    engine.apply(ProductChange(upper, price=4.0))
    assert upsells() == []
