"""What an upgrade costs more than what it displaces: a field of the offer, and a part of its reason."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from recsys.contracts.offers import CartLine, Explain, Offer, OfferRequest, ProductChange
from recsys.ranking.engine import OfferEngine
from serving.encoding import EncodingEngine
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

MODEL = synthetic_model(SyntheticModelConfig(n_accounts=5, n_products=60), np.random.default_rng(1))
LOWER = int(np.flatnonzero(MODEL.products.ladder_count)[0])
LOWER_ID, UPPER_ID = MODEL.products.ids[LOWER], MODEL.products.ids[int(MODEL.ladder.to_product[0])]
IN_CART = OfferRequest(cart=(CartLine(LOWER_ID, 3),), kinds=("upsell",), limit=3, sources="evidence")


def priced(lower: float, upper: float, currency: str | None = "GBP") -> OfferEngine:
    engine = OfferEngine(replace(MODEL, facts=MODEL.facts.model_copy(update={"currency": currency})))
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
