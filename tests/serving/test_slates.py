"""The memory of slates: the same question, the same answer, until anything changes."""

from __future__ import annotations

from recsys.contracts.offers import AccountState, OfferRequest, ProductChange, Slate
from recsys.ranking.state import NOTHING_NEW
from serving.fakes import FakeEngine
from serving.slates import Beside, RememberingEngine


class CountingEngine(FakeEngine):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str | None] = []

    def recommend(self, request: OfferRequest, state: AccountState = NOTHING_NEW) -> Slate:
        self.asked.append(request.account_id)
        return super().recommend(request, state)


def test_what_was_asked_before_is_not_ranked_again() -> None:
    inner = CountingEngine()
    engine = RememberingEngine(inner, 8)
    first = engine.recommend(OfferRequest(account_id="A1"))
    assert engine.recommend(OfferRequest(account_id="A1")) is first
    assert engine.recommend(OfferRequest(account_id="A1", limit=3)) != first
    assert inner.asked == ["A1", "A1"]


def test_news_of_the_account_pass_the_memory_by() -> None:
    engine = RememberingEngine(FakeEngine(), 8)
    first = engine.recommend(OfferRequest(account_id="A1"))
    bought = AccountState(bought=(first.offers[0].product_id,))
    assert engine.recommend(OfferRequest(account_id="A1"), bought).offers[0] != first.offers[0]
    assert engine.recommend(OfferRequest(account_id="A1")) is first


def test_a_price_or_a_rule_that_changes_empties_it() -> None:
    inner = CountingEngine()
    engine = RememberingEngine(inner, 8)
    for change in (lambda: engine.apply(ProductChange("P1", stock=0.0)), lambda: engine.use_rules(())):
        engine.recommend(OfferRequest(account_id="A2"))
        change()
    engine.recommend(OfferRequest(account_id="A2"))
    assert inner.asked == ["A2"] * 3


def test_it_keeps_no_more_than_it_may_and_forgets_what_was_asked_longest_ago() -> None:
    inner = CountingEngine()
    engine = RememberingEngine(inner, 2)
    for account in ("A1", "A2", "A1", "A3", "A1", "A2"):
        engine.recommend(OfferRequest(account_id=account))
    assert inner.asked == ["A1", "A2", "A3", "A2"]
    plain = CountingEngine()
    for _ in range(2):
        RememberingEngine(plain, 0).recommend(OfferRequest())
    assert plain.asked == [None, None]


def test_what_was_made_of_a_slate_is_found_again_under_its_model_only() -> None:
    engine, made = FakeEngine(), Beside[bytes](2)
    slates = [engine.recommend(OfferRequest(account_id=f"A{number}")) for number in range(3)]
    assert made.get(slates[0], "v1") is None
    made.put(slates[0], "v1", b"first")
    assert made.get(slates[0], "v1") == b"first"
    assert made.get(slates[0], "v2") is None
    assert made.get(slates[1], "v1") is None
    for slate in slates[1:]:
        made.put(slate, "v1", b"later")
    assert made.get(slates[0], "v1") is None
    assert made.get(slates[2], "v1") == b"later"
    nothing = Beside[bytes](0)
    nothing.put(slates[0], "v1", b"first")
    assert nothing.get(slates[0], "v1") is None
