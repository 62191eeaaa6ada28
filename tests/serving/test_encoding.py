"""The text of an answer is what its offers say, whatever is asked; the last offer may be drawn."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys.contracts.offers import ANSWERED, EMPTY_STATE, KINDS, LOGGED, CartLine, Explain, OfferRequest
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.ranking.engine import OfferEngine
from recsys.ranking.ranked import DEPTH, TIERS, Exploration
from serving.encoding import EncodedSlate, EncodingEngine, encode
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model, with_price_breaks

SIZE = SyntheticModelConfig(n_accounts=30, n_products=110, n_categories=3)
MODEL = synthetic_model(SIZE, np.random.default_rng(1))
PEOPLE = {"owner": "A. Buyer", "reason": "spring"}
SPOKEN = {"discount_percent": 12.5, "text": "Ask for the spring price: 12 % off"}
RULES = [
    BusinessRule(name='"spring"', action="boost", products=("P000003", "P000007"), factor=9.0, **PEOPLE, **SPOKEN),
    BusinessRule(name="first", action="pin", products=("P000040",), **PEOPLE),
    BusinessRule(name="not these", action="block", products=("P000001",), **PEOPLE),
]


def read(encoded: EncodedSlate) -> Any:
    """The slate with what its JSON texts hold."""
    return encoded._replace(offers=json.loads(encoded.offers), kept=json.loads(encoded.kept))


@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("explain", ["none", "brief", "full"])
def test_it_says_what_the_offers_say(explain: Explain, ruled: bool) -> None:
    model = with_price_breaks(MODEL, np.random.default_rng(2))
    engine = OfferEngine(replace(model, products=replace(MODEL.products, price=_with_gaps(MODEL.products.price))))
    engine.use_rules(RULES if ruled else [])
    encoding, n_annotated = EncodingEngine(engine), 0
    for row in range(34):
        account_id = None if row > 32 else f"A{row:07d}"
        cart = tuple(CartLine(f"P{(7 * row + step) % 113:06d}") for step in range(row % 4))
        for kinds, limit in ((KINDS, 10), (KINDS[:1], 40), (KINDS[1:], 3)):
            request = OfferRequest(account_id, cart, kinds=kinds, limit=limit, explain=explain)
            slate = engine.recommend(request)
            assert read(encoding.answer(request)) == read(encode(slate))
            n_annotated += sum(offer.rule is not None for offer in slate.offers)
    assert bool(n_annotated) == ruled


def _with_gaps(price: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(price)) % 3 == 0, np.nan, price)


def test_a_request_with_a_great_many_rows_is_answered_like_any_other() -> None:
    engine = OfferEngine(MODEL)
    cart = tuple(CartLine(f"P{row:06d}") for row in range(110))
    excluded = frozenset(f"P{row:06d}" for row in range(110)) | {f"unknown {row}" for row in range(5_000)}
    for request in (OfferRequest("A0000001", cart, limit=5_000), OfferRequest("A0000001", exclude=excluded, limit=1)):
        assert read(EncodingEngine(engine).answer(request)) == read(encode(engine.recommend(request)))


def test_the_last_offer_is_drawn_and_keeps_its_propensity() -> None:
    encoding, request = EncodingEngine(OfferEngine(MODEL)), OfferRequest("A0000001", limit=3)
    wide, usual = encoding.answer(replace(request, limit=3 + DEPTH)).product_ids, encoding.answer(request)
    seen = set()
    for seed in range(60):
        drawn = read(encoding.answer(request, EMPTY_STATE, Exploration(0.8, random.Random(seed))))
        assert [offer["rank"] for offer in drawn.offers] == [1, 2, 3]
        assert [offer["product_id"] for offer in drawn.offers][:2] == wide[:2]
        last = drawn.offers[-1]["product_id"]
        propensities = [offer[11] for offer in drawn.kept]
        share = 0.2 if last == wide[2] else 0.8 / (len(wide) - 3)
        assert propensities == [1.0, 1.0, pytest.approx(share)]
        assert (drawn.returned, drawn.requested, drawn.shortfall) == (3, 3, None)
        assert drawn.tier == min((offer["tier"] for offer in drawn.offers), key=TIERS.index)
        assert drawn.n_considered == usual.n_considered
        seen.add(last)
    assert len(seen) > 10
    assert seen <= set(wide[2:])


def test_names_with_quotes_and_percent_signs_stay_what_they_are() -> None:
    names = [f'100 % "wool" \\ {row} é' for row in range(SIZE.n_products)]
    engine = OfferEngine(replace(MODEL, products=replace(MODEL.products, names=type(MODEL.products.names).of(names))))
    request = OfferRequest("A0000001", explain="full")
    assert read(EncodingEngine(engine).answer(request)) == read(encode(engine.recommend(request)))


def test_the_fields_come_in_the_order_of_the_declaration() -> None:
    encoded = EncodingEngine(OfferEngine(MODEL)).answer(OfferRequest("A0000001"))
    assert [tuple(offer) for offer in json.loads(encoded.offers)] == [ANSWERED] * 10
    assert {len(offer) for offer in json.loads(encoded.kept)} == {len(LOGGED)}


def test_the_tier_of_a_drawn_answer_is_the_best_of_what_it_offers() -> None:
    """With a cart, ranks further down may rest on better evidence: the widest slate has another tier."""
    encoding, differ = EncodingEngine(OfferEngine(MODEL)), 0
    for row in range(30):
        cart = tuple(CartLine(f"P{(7 * row + step) % 110:06d}") for step in range(2))
        request = OfferRequest(f"A{row:07d}", cart, limit=2)
        wide = encoding.answer(replace(request, limit=2 + DEPTH)).tier
        for seed in range(4):
            drawn = read(encoding.answer(request, EMPTY_STATE, Exploration(0.5, random.Random(seed))))
            assert drawn.tier == min((offer["tier"] for offer in drawn.offers), key=TIERS.index)
            differ += drawn.tier != wide
    assert differ > 0
