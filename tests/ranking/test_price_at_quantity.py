"""The price of an offer is the one at its quantity, for the account's segment; a posted price wins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys.contracts.money import currency_digits
from recsys.contracts.offers import EMPTY_STATE, Offer, OfferRequest, PriceBreak, ProductChange
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import OfferModel, PriceTable
from recsys.ranking.engine import OfferEngine
from recsys.ranking.explorer import likely_buyers, takers_of
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

PLAIN = synthetic_model(SyntheticModelConfig(n_accounts=5), np.random.default_rng(1))
ACCOUNT, OTHER_SEGMENT = "A0000001", 2


def priced(*, quantity: float, currency: str = "EUR") -> OfferModel:
    """Every product costs 12.75, from 16 units on 10.95; in segment 2 it costs 9, from 4 units on 8."""
    n = len(PLAIN.products.ids)
    rows = [(0, 16.0, 10.95), (OTHER_SEGMENT, 0.0, 9.0), (OTHER_SEGMENT, 4.0, 8.0)] * n
    segment, least, price = (np.array(column) for column in zip(*rows, strict=True))
    units = np.full(len(PLAIN.candidates.product), quantity, dtype=np.float32)
    return replace(
        PLAIN,
        facts=PLAIN.facts.model_copy(update={"currency": currency}),
        products=replace(PLAIN.products, price=np.full(n, 12.75)),
        accounts=replace(PLAIN.accounts, segment=np.array([0, 0, 2, 1, 0], dtype=np.int32)),
        candidates=replace(PLAIN.candidates, expected_quantity=units),
        prices=PriceTable(np.repeat(np.arange(n, dtype=np.int32), 3), segment.astype(np.int32), least, price),
    )


def first(engine: OfferEngine, account: str = ACCOUNT, **asked: object) -> Offer:
    request = OfferRequest(account_id=account, limit=1, kinds=("cross_sell",))
    return engine.recommend(replace(request, **asked)).offers[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(("quantity", "price"), [(2.0, 12.75), (15.9, 12.75), (16.0, 10.95), (40.0, 10.95)])
def test_the_price_is_the_one_at_the_expected_quantity(quantity: float, price: float) -> None:
    offer = first(OfferEngine(priced(quantity=quantity)), objective="revenue")
    assert (offer.price, offer.expected_quantity) == (price, pytest.approx(quantity))
    assert offer.expected_value == pytest.approx(offer.probability * offer.expected_quantity * price)
    assert offer.price_breaks == (PriceBreak(1.0, 12.75), PriceBreak(16.0, 10.95))


def test_a_segment_has_its_own_prices_and_the_others_everybodys() -> None:
    engine = OfferEngine(priced(quantity=2.0))
    assert [first(engine, f"A{row:07d}").price for row in (1, 2, 3)] == [12.75, 9.0, 12.75]
    assert first(engine, "A0000002").price_breaks == (PriceBreak(1.0, 9.0), PriceBreak(4.0, 8.0))


def test_price_bounds_look_at_the_price_at_the_quantity() -> None:
    engine = OfferEngine(priced(quantity=20.0))
    assert first(engine, max_price=11.0).price == 10.95
    few = OfferEngine(priced(quantity=2.0))
    account = OfferRequest(account_id=ACCOUNT, max_price=11.0, kinds=("cross_sell",), sources="evidence")
    assert few.recommend(account).offers == ()


def test_call_lists_take_the_price_at_the_quantity() -> None:
    engine = OfferEngine(priced(quantity=20.0))
    product = first(engine).product_id
    calls = likely_buyers(engine, takers_of(engine, product), 5, lambda _: EMPTY_STATE)
    assert calls
    for call in calls:
        price = 8.0 if call.account_id == "A0000002" else 10.95
        assert call.kind == "upsell" or call.expected_value == pytest.approx(call.probability * 20 * price)


def test_a_posted_price_wins_at_any_quantity_and_for_everybody() -> None:
    engine = OfferEngine(priced(quantity=20.0))
    for account in (ACCOUNT, "A0000002"):
        engine.apply(ProductChange(first(engine, account).product_id, price=11.5))
        offer = first(engine, account)
        assert (offer.price, offer.price_breaks) == (11.5, ())
        assert offer.expected_value == pytest.approx(offer.probability * 20 * 11.5)


@pytest.mark.parametrize(
    ("currency", "digits", "off", "to_pay"),
    [("EUR", 2, 1.27, 11.48), ("KWD", 3, 1.275, 11.475), ("JPY", 0, 1.275, 11.475), ("", 2, 1.27, 11.48)],
)
def test_the_price_to_pay_has_the_digits_of_the_currency(currency: str, digits: int, off: float, to_pay: float) -> None:
    """At twelve yen a whole yen would be too coarse: a price that rounding moves by over 1 % keeps its digits."""
    engine = OfferEngine(priced(quantity=2.0, currency=currency))
    plain = first(engine)
    assert (plain.discount, plain.price_to_pay) == (None, None)
    engine.use_rules(
        [
            BusinessRule(
                name="ten off", action="boost", products=(plain.product_id,), factor=9, discount_percent=10,
                owner="A. Buyer", reason="spring",
            )
        ]
    )  # fmt: skip
    offer = first(engine)
    assert currency_digits(currency) == digits
    assert (offer.price, offer.discount, offer.price_to_pay) == (12.75, off, to_pay)
