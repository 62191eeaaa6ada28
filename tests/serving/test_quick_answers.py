"""The compiled ranking answers what the engine answers, text for text, whatever is asked and whatever has changed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts.offers import EMPTY_STATE, KINDS, AccountState, CartLine, OfferRequest, ProductChange
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import OfferModel
from recsys.ranking.diversity import DiversityConfig
from recsys.ranking.engine import OfferEngine, RankingConfig
from recsys.ranking.kernel import COLUMNS, FILTERS
from recsys.ranking.live_catalogue import REFUSALS
from recsys.ranking.synthetic import SyntheticModelConfig, synthetic_model
from serving.encoding import EncodedSlate, ResponseEncoder, encode

N_ACCOUNTS, N_PRODUCTS = 30, 110


def model_of(seed: int, **changes: Any) -> OfferModel:
    config = SyntheticModelConfig(n_accounts=N_ACCOUNTS, n_products=N_PRODUCTS, n_categories=3)
    return synthetic_model(config.model_copy(update=changes), np.random.default_rng(seed))


def with_ties(model: OfferModel) -> OfferModel:
    """Half of all candidates and weights alike, so that order rests on scores and ids; half of all prices unknown."""
    candidates, cart, products = model.candidates, model.cart, model.products
    even = np.arange(len(candidates.product)) % 2 == 0
    score = np.where(even, np.float32(0.1), candidates.score)
    probability = np.where(even, np.float32(0.1), candidates.probability)
    weight = np.where(np.arange(len(cart.weight)) % 2 == 0, np.float32(0.2), cart.weight)
    price = np.where(np.arange(len(products.price)) % 2 == 0, np.nan, products.price)
    return replace(
        model,
        candidates=replace(candidates, score=score, probability=probability),
        cart=replace(cart, weight=weight),
        products=replace(products, price=price),
    )


TIGHT = RankingConfig(
    diversity=DiversityConfig(max_kind_share=0.5, max_category_share=0.3, least_worth=0.5), relevance_floor=0.5
)
BARE = {"candidates_per_account": 0, "links_per_product": 25}
ENGINES = {
    "plain": OfferEngine(model_of(1)),
    "accounts without candidates": OfferEngine(model_of(2, **BARE)),
    "ties": OfferEngine(with_ties(model_of(3))),
    "tight caps": OfferEngine(model_of(4), TIGHT),
    "no accounts": OfferEngine(model_of(5, n_accounts=0, n_segments=0)),
}
QUICK = {name: ResponseEncoder(engine) for name, engine in ENGINES.items()}

ids = st.integers(0, N_PRODUCTS + 4).map(lambda row: f"P{row:06d}")  # the last ones are unknown
requests = st.builds(
    OfferRequest,
    account_id=st.one_of(st.none(), st.integers(0, N_ACCOUNTS + 2).map(lambda row: f"A{row:07d}"), st.text(max_size=9)),
    cart=st.lists(st.builds(CartLine, ids, st.floats(0.5, 20)), max_size=8).map(tuple),
    viewed_product_id=st.one_of(st.none(), ids),
    kinds=st.sampled_from([KINDS, KINDS[:1], KINDS[1:], KINDS[::-1]]),
    limit=st.sampled_from([1, 3, 10, 40, 100]),
    exclude=st.frozensets(ids, max_size=5),
    new_only=st.booleans(),
    explain=st.sampled_from(["none", "brief", "full"]),
    channel=st.sampled_from([None, "web"]),
)
states = st.one_of(
    st.just(EMPTY_STATE),
    st.builds(
        AccountState,
        bought=st.lists(ids, max_size=14).map(tuple),
        withheld=st.dictionaries(ids, st.just("declined lately"), max_size=3),
        segment=st.sampled_from([None, "segment 0", "segment 1", "nobody's"]),
        do_not_offer=st.sampled_from([None, False]),
        is_forgotten=st.booleans(),
    ),
)
changes = st.lists(
    st.builds(
        ProductChange,
        ids,
        price=st.sampled_from([None, 5.0, 7.5]),
        active=st.sampled_from([None, True, False]),
        stock=st.sampled_from([None, 0.0, 3.0]),
        do_not_offer=st.sampled_from([None, True, False]),
    ),
    max_size=2,
)
BLOCKING = BusinessRule(
    name="not these",
    action="block",
    products=("P000001", "P000040", "P000041"),
    channels=("web",),
    owner="A. Buyer",
    reason="recalled",
)


def read(packed: EncodedSlate) -> EncodedSlate:
    return packed._replace(offers=json.loads(packed.offers), kept=json.loads(packed.kept))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(ENGINES)), requests, states, changes, st.booleans())
def test_it_answers_what_the_engine_answers(
    name: str, request_: OfferRequest, state: AccountState, changed: list[ProductChange], ruled: bool
) -> None:
    engine = ENGINES[name]
    for change in changed:
        engine.apply(change)
    engine.use_rules([BLOCKING] if ruled else [])
    quick = QUICK[name].packed(request_, state)
    assert quick is not None
    assert read(quick) == read(encode(engine.recommend(request_, state)))


@pytest.mark.parametrize(
    "change",
    [
        {"objective": "revenue"},
        {"raw": True},
        {"sources": "popular"},
        {"categories": ("Category 0",)},
        {"max_price": 3.0},
        {"limit": 5_000},
        {"cart": tuple(CartLine(f"P{row:06d}") for row in range(N_PRODUCTS)), "exclude": frozenset({"P000001"})},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_not_usual_is_left_to_the_engine_or_answered_alike(change: dict[str, Any]) -> None:
    request = replace(OfferRequest("A0000001"), **change)
    quick = QUICK["plain"].packed(request, EMPTY_STATE)
    assert (quick is None) == ("cart" not in change)
    assert quick is None or read(quick) == read(encode(ENGINES["plain"].recommend(request)))


def test_an_account_that_wants_no_offers_is_left_to_the_engine() -> None:
    model = model_of(6)
    silent = replace(model.accounts, do_not_offer=np.ones(N_ACCOUNTS, dtype=bool))
    engine = OfferEngine(replace(model, accounts=silent))
    quick = ResponseEncoder(engine)
    request = OfferRequest("A0000001")
    assert quick.packed(request, EMPTY_STATE) is None
    assert quick.packed(request, AccountState(do_not_offer=True)) is None
    assert quick.packed(request, AccountState(silence="enough for today")) is None
    asked_for = AccountState(do_not_offer=False)
    again = quick.packed(request, asked_for)
    assert again is not None
    assert read(again) == read(encode(engine.recommend(request, asked_for)))


@pytest.mark.parametrize("action", ["pin", "boost", "require"])
def test_rules_that_lift_are_left_to_the_engine(action: str) -> None:
    more = {"factor": 2.0} if action == "boost" else {}
    rule = BusinessRule.model_validate(
        {"name": "lift", "action": action, "products": ("P000003",), "owner": "A. Buyer", "reason": "spring", **more}
    )
    engine = OfferEngine(model_of(7))
    engine.use_rules([rule])
    assert ResponseEncoder(engine).packed(OfferRequest("A0000001"), EMPTY_STATE) is None


def test_names_with_quotes_and_percent_signs_stay_what_they_are() -> None:
    model = model_of(8)
    names = [f'100 % "wool" \\ {row} é' for row in range(N_PRODUCTS)]
    engine = OfferEngine(replace(model, products=replace(model.products, names=type(model.products.names).of(names))))
    request = OfferRequest("A0000001", explain="full")
    quick = ResponseEncoder(engine).packed(request, EMPTY_STATE)
    assert quick is not None
    assert read(quick) == read(encode(engine.recommend(request)))


def test_the_kernel_names_columns_and_refusals_as_the_model_does() -> None:
    assert FILTERS[: len(REFUSALS)] == REFUSALS
    model = model_of(9)
    for name in COLUMNS:
        table, _, column = name.partition(".")
        assert not column or hasattr(getattr(model, table), column.partition(".")[0])
