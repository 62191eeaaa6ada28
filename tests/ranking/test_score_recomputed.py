"""What an answer says is enough to compute each score again, and the order of the offers from the scores."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys.bundle.load import load_bundle
from recsys.contracts.offers import EMPTY_STATE, KINDS, AccountState, CartLine, Offer, OfferRequest, Slate
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.ranking.config import RankingConfig
from recsys.ranking.engine import OfferEngine
from recsys.ranking.ranked import TIERS, Exploration
from tests.golden.storage import archive_of, unpack

N_REQUESTS = 600
BY = {"owner": "A. Buyer", "reason": "spring"}
RULES = [
    BusinessRule(name="lift", action="boost", categories=("Lighting", "Bathroom"), factor=1.75, **BY),
    BusinessRule(name="lower", action="boost", categories=("Home Decor",), factor=0.4, discount_percent=5, **BY),
    BusinessRule(name="again", action="boost", products=("P000002", "P000004"), factor=3.0, **BY),
    BusinessRule(name="leaflet", action="pin", products=("P000045",), rank=3, **BY),
    BusinessRule(name="one of", action="require", products=("P000031", "P000032", "P000033"), rank=2, **BY),
    BusinessRule(name="never", action="block", products=("P000021",), **BY),
]


def score_of(offer: Offer, slate: Slate) -> float:
    """The formula as the description of the field has it."""
    assert offer.rank_probability is not None
    score = offer.rank_probability * offer.boost
    return score if slate.objective == "conversion" else score * offer.expected_value / offer.probability


def stage_of(offer: Offer) -> int:
    """Evidence, the segment's list, everybody's list: a later one only fills what an earlier one left open."""
    return max(TIERS.index(offer.tier) - TIERS.index("cart"), 0)


def check(slate: Slate) -> None:
    for offer in slate.offers:
        assert offer.score == pytest.approx(score_of(offer, slate), rel=1e-9, abs=1e-15)
    places = [(stage_of(offer), -offer.score) for offer in slate.offers if offer.moved_by is None]
    assert places == sorted(places)


class Asking:
    """Draws requests over all that moves a score or an order."""

    def __init__(self, engine: OfferEngine, seed: int) -> None:
        self._rng = random.Random(seed)
        self._products, self._accounts = list(engine.model.products.ids), list(engine.model.accounts.ids)
        self._categories = list(engine.model.categories.names)

    def requests(self, n: int) -> Iterator[tuple[OfferRequest, AccountState]]:
        rng = self._rng
        for _ in range(n):
            values: dict[str, Any] = {
                "account_id": rng.choice([None, "nobody", *rng.choices(self._accounts, k=6)]),
                "cart": tuple(
                    CartLine(product, rng.choice((1, 6))) for product in self._some(rng.choice((0, 0, 1, 5)))
                ),
                "kinds": rng.choice((KINDS, KINDS, KINDS[:1], KINDS[1:])),
                "limit": rng.choice((4, 10, 30)),
                "objective": rng.choice(("conversion", "conversion", "revenue", "margin")),
                "mix": rng.choice((None, "none", "kinds", "categories", "all")),
                "variants": rng.choice((None, "keep")),
                "explain": "none",
            }
            if rng.random() < 0.2:
                values |= {"categories": tuple(rng.sample(self._categories, 3)), "max_price": 30.0}
            state = AccountState(bought=tuple(self._some(2))) if rng.random() < 0.2 else EMPTY_STATE
            yield OfferRequest(**values), state

    def _some(self, most: int) -> list[str]:
        return self._rng.sample(self._products, self._rng.randint(0, most))


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[OfferEngine]:
    """Of both recorded bundles, with a third of the products held back and some of them variants."""
    found = []
    for name in ("north", "south"):
        bundle = load_bundle(unpack(archive_of(name), tmp_path_factory.mktemp(name)))
        row = np.arange(len(bundle.model.products.ids))
        products = replace(
            bundle.model.products,
            held_back=np.where(row % 3 == 0, 0.3, 0.0).astype(np.float32),
            variant_group=np.where(row % 4 == 0, row // 16 + 1, 0).astype(np.int32),
        )
        found.append(OfferEngine(replace(bundle.model, products=products), bundle.manifest.ranking))
    return found


@pytest.mark.parametrize("ruled", [False, True])
def test_every_score_and_every_order_can_be_computed_again(engines: list[OfferEngine], ruled: bool) -> None:
    seen: Counter[str] = Counter()
    for seed, engine in enumerate(engines):
        engine.use_rules(RULES if ruled else [])
        for request, state in Asking(engine, seed).requests(N_REQUESTS):
            if request.objective == "margin" and engine.catalogue.margin_rate is None:
                request = replace(request, objective="revenue")
            slate = engine.recommend(request, state)
            check(slate)
            assert slate.mix == (request.mix or "all")
            assert slate.variants == (request.variants or "leave_out")
            movers = {offer.moved_by for offer in slate.offers}
            assert slate.mix in {"kinds", "all"} or "kinds" not in movers
            assert slate.mix in {"categories", "all"} or "categories" not in movers
            assert ruled or "rule" not in movers
            assert request.objective != "conversion" or "relevance" not in movers
            seen.update(f"moved by {offer.moved_by}" for offer in slate.offers)
            seen.update(f"boost {offer.boost:g}" for offer in slate.offers)
            seen.update(offer.tier for offer in slate.offers)
            seen["unlike the probability"] += sum(o.rank_probability != o.probability for o in slate.offers)
    moved = {"kinds", "categories", "relevance", None} | ({"rule"} if ruled else set())
    assert {f"moved by {by}" for by in moved} <= set(seen)
    assert {"boost 1", "boost 0.7"} <= set(seen)
    assert not ruled or {"boost 1.75", "boost 0.4"} <= set(seen)
    assert min(seen["account"], seen["cart"], seen["popular"], seen["unlike the probability"]) > 100


def test_what_is_not_said_is_missed(engines: list[OfferEngine]) -> None:
    """The check has teeth: without what was held back, or what was moved, it fails."""
    engines[0].use_rules([])
    slates = [engines[0].recommend(request, state) for request, state in Asking(engines[0], 9).requests(200)]
    for change in ({"boost": 1.0}, {"moved_by": None}):
        wrong = [replace(slate, offers=tuple(o._replace(**change) for o in slate.offers)) for slate in slates]
        assert sum(not _passes(slate) for slate in wrong) > 5


def _passes(slate: Slate) -> bool:
    try:
        check(slate)
    except AssertionError:
        return False
    return True


def test_scores_alone_order_an_answer_that_mixes_nothing(engines: list[OfferEngine]) -> None:
    engines[0].use_rules([])
    for account_id in engines[0].model.accounts.ids:
        slate = engines[0].recommend(OfferRequest(account_id, mix="none", variants="keep", limit=20))
        assert all(offer.moved_by is None for offer in slate.offers)
        check(slate)


def test_an_offer_that_was_drawn_says_so(engines: list[OfferEngine]) -> None:
    engines[0].use_rules([])
    request = OfferRequest(engines[0].model.accounts.ids[3], limit=3, mix="none")
    usual = engines[0].recommend(request).offers
    for seed in range(20):
        offers = engines[0].recommend(request, exploration=Exploration(0.5, random.Random(seed))).offers
        assert offers[:2] == usual[:2]
        assert offers[2].moved_by == (None if offers[2].product_id == usual[2].product_id else "exploration")


def test_what_is_held_back_keeps_its_probability_and_stands_as_ever_beside_a_cart(engines: list[OfferEngine]) -> None:
    held, model = engines[0], engines[0].model
    held.use_rules([])
    free = OfferEngine(
        replace(model, products=replace(model.products, held_back=model.products.held_back * 0)), held.config
    )
    n_held = 0
    for account_id in list(model.accounts.ids)[:30]:
        request = OfferRequest(account_id, limit=500, mix="none", variants="keep", kinds=("cross_sell",))
        before = {offer.product_id: offer for offer in free.recommend(request).offers}
        for offer in held.recommend(request).offers:
            row = held.catalogue.row(offer.product_id)
            is_held = offer.tier == "account" and row % 3 == 0
            assert offer.boost == pytest.approx(0.7 if is_held else 1.0)
            if offer.product_id in before:  # of two substitutes the other may be left out now
                assert offer.probability == before[offer.product_id].probability
                n_held += is_held
        beside = replace(request, cart=(CartLine(model.products.ids[0]),))
        assert held.recommend(beside) == free.recommend(beside)
    assert n_held > 100


def test_beside_a_cart_what_goes_with_a_line_goes_before_what_goes_with_anything(engines: list[OfferEngine]) -> None:
    model = engines[0].model
    plain = OfferEngine(model, RankingConfig(relation_weight=0.0, min_probability=0.0))
    related = OfferEngine(model, RankingConfig(relation_weight=0.5, min_probability=0.0))
    products, rules = model.products, model.rules
    lift: dict[tuple[str, str], float] = {}
    for line, (start, count) in enumerate(zip(products.rules_start, products.rules_count, strict=True)):
        for rule in range(start, start + count):
            other = rules.consequent[rule]
            if rules.n_buyers[rule] >= 10:
                usual = products.n_orders[other] / model.facts.n_orders
                shrunk = (rules.n_both[rule] + 20 * usual) / (rules.n_antecedent[rule] + 20)
                lift[products.ids[line], products.ids[other]] = shrunk / usual
    boosts: list[float] = []
    moved = 0
    for in_cart in list(products.ids)[:40]:
        request = OfferRequest(cart=(CartLine(in_cart),), limit=30, mix="none", variants="keep", kinds=("cross_sell",))
        before, after = plain.recommend(request), related.recommend(request)
        assert {offer.boost for offer in before.offers} <= {1.0}
        chances = {offer.product_id: offer.probability for offer in before.offers}
        for offer in after.offers:
            expected = min(max(lift.get((in_cart, offer.product_id), 1.0), 1.0), 10.0) / 10.0
            if offer.tier == "cart":
                assert offer.boost == pytest.approx(expected**0.5)
                boosts.append(offer.boost)
            assert chances.get(offer.product_id, offer.probability) == offer.probability
        check(after)
        moved += [offer.product_id for offer in before.offers] != [offer.product_id for offer in after.offers]
    assert moved > 10
    assert len({round(boost, 6) for boost in boosts}) > 20
