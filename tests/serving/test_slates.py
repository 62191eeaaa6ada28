"""What stands before the engine: usual requests pass the memory by, the same unusual one has the same answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from recsys.contracts.offers import EMPTY_STATE, AccountState, OfferRequest, ProductChange, Slate
from recsys.ranking.engine import OfferEngine
from recsys.ranking.synthetic import SyntheticModelConfig, synthetic_model
from serving.encoding import encode
from serving.slates import RankingEngine

MODEL = synthetic_model(SyntheticModelConfig(), np.random.default_rng(5))


class CountingEngine(OfferEngine):
    def __init__(self) -> None:
        super().__init__(MODEL)
        self.asked: list[str | None] = []

    def recommend(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> Slate:
        self.asked.append(request.account_id)
        return super().recommend(request, state)


def unusual(account: str = "A0000001", limit: int = 10) -> OfferRequest:
    return OfferRequest(account_id=account, objective="revenue", limit=limit)


def test_a_usual_request_is_not_ranked_step_by_step() -> None:
    inner = CountingEngine()
    answer = RankingEngine(inner, 8).answer(OfferRequest(account_id="A0000001"))
    assert inner.asked == []
    assert answer.product_ids == [offer.product_id for offer in inner.recommend(OfferRequest("A0000001")).offers]


def test_what_was_asked_before_is_not_ranked_again() -> None:
    inner = CountingEngine()
    engine = RankingEngine(inner, 8)
    first = engine.answer(unusual())
    assert first == encode(OfferEngine(MODEL).recommend(unusual()))
    assert engine.answer(unusual()) is first
    assert engine.answer(unusual(limit=3)) != first
    assert len(inner.asked) == 2


def test_news_of_the_account_pass_the_memory_by() -> None:
    engine = RankingEngine(OfferEngine(MODEL), 8)
    first = engine.answer(unusual())
    bought = AccountState(bought=(first.product_ids[0],))
    assert first.product_ids[0] not in engine.answer(unusual(), bought).product_ids
    assert engine.answer(unusual()) is first


@pytest.mark.parametrize(
    "change",
    [lambda engine: engine.apply(ProductChange("P000001", stock=0.0)), lambda engine: engine.use_rules(())],
    ids=["price", "rules"],
)
def test_a_price_or_a_rule_that_changes_empties_it(change: Callable[[RankingEngine], object]) -> None:
    inner = CountingEngine()
    engine = RankingEngine(inner, 8)
    engine.answer(unusual())
    change(engine)
    engine.answer(unusual())
    assert len(inner.asked) == 2


def test_it_keeps_no_more_than_it_may_and_forgets_what_was_asked_longest_ago() -> None:
    inner = CountingEngine()
    engine = RankingEngine(inner, 2)
    accounts = [f"A000000{number}" for number in (1, 2, 1, 3, 1, 2)]
    for account in accounts:
        engine.answer(unusual(account))
    assert inner.asked == ["A0000001", "A0000002", "A0000003", "A0000002"]
    plain = CountingEngine()
    for _ in range(2):
        RankingEngine(plain, 0).answer(unusual())
    assert len(plain.asked) == 2
