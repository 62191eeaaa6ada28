"""Why a product was not offered: one case a rule, and the law that every product has an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.contracts.offers import AccountState, CartLine, OfferRequest, ProductChange
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import NameTable, owned_by
from recsys.offer_model.utf8_column import Utf8Column
from recsys.ranking.engine import OfferEngine
from recsys.ranking.explorer import ModelExplorer, explain, likely_buyers, takers_of
from recsys.ranking.white_space import WhiteSpaceBuilder
from recsys.ranking.why_not import SENTENCES, WhyNot, why_not
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

MODEL = synthetic_model(
    SyntheticModelConfig(n_accounts=40, n_products=120, n_categories=4, fallback_size=30), np.random.default_rng(11)
)
ENGINE = OfferEngine(MODEL)
ASKED = OfferRequest(account_id="A0000003", limit=4)
NEW = AccountState()
ALL = [offer.product_id for offer in ENGINE.recommend(replace(ASKED, limit=100)).offers]
OWNED = [MODEL.products.ids[row] for row in owned_by(MODEL, 3, ever=False).tolist()]


def ask(
    product_id: str, request: OfferRequest = ASKED, state: AccountState = NEW, refused: Mapping[str, str] | None = None
) -> WhyNot:
    return why_not(ENGINE, request, state, product_id, refused or {})


@pytest.mark.parametrize(
    ("code", "request_", "state"),
    [
        ("excluded", replace(ASKED, exclude=frozenset(ALL[:1])), NEW),
        ("in_cart", replace(ASKED, cart=(CartLine(ALL[0]),)), NEW),
        ("filtered", replace(ASKED, max_price=0.01), NEW),
        ("withheld", ASKED, AccountState(suppressed={ALL[0]: "declined lately"})),
        ("owned", ASKED, AccountState(bought=(ALL[0],))),
        ("silent", ASKED, AccountState(do_not_offer=True)),
        ("offered_now", ASKED, NEW),
    ],
)
def test_each_filter_is_named(code: str, request_: OfferRequest, state: AccountState) -> None:
    assert ask(ALL[0], request_, state).code == code


def test_the_reason_of_a_withheld_product_is_told() -> None:
    found = ask(ALL[0], state=AccountState(suppressed={ALL[0]: "declined lately"}))
    assert (found.sentence, found.values) == (
        "it is withheld for this account: declined lately",
        {"why": "declined lately"},
    )


def test_what_the_account_owns_in_the_bundle_is_owned() -> None:
    """Also where nothing proposes it, for an account as for a cart."""
    assert {ask(product).code for product in OWNED} == {"owned"}
    everything = [ask(product, replace(ASKED, cart=(CartLine(product),))).code for product in MODEL.products.ids]
    assert set(everything) == {"in_cart"}


def test_a_product_that_came_after_the_last_has_its_place() -> None:
    found = ask(ALL[5])
    assert found.code == "outranked"
    assert found.values["place"] >= 5
    assert found.values["n_eligible"] >= found.values["place"]


def test_what_nobody_knows_and_what_nothing_speaks_for() -> None:
    assert ask("no such").code == "unknown_product"
    codes = {ask(product).code for product in MODEL.products.ids}
    assert {"not_a_candidate", "not_reached", "outranked", "offered_now"} <= codes


def test_a_reason_that_has_changed_since_is_the_one_that_held_then() -> None:
    found = ask(ALL[0], refused={ALL[0]: "out_of_stock"})
    assert (found.code, found.sentence) == ("out_of_stock", "it was out of stock")
    assert set(found.values) == {"price", "cost", "stock", "active", "do_not_offer"}
    by_rule = ask(ALL[0], refused={ALL[0]: "rule:contract"})
    assert (by_rule.code, by_rule.rule) == ("blocked", "contract")
    assert by_rule.sentence == "the business rule 'contract' blocks it"


def test_a_rule_that_blocks_now_is_named() -> None:
    engine = OfferEngine(MODEL)
    engine.use_rules([BusinessRule(name="contract", action="block", products=(ALL[0],), owner="o", reason="r")])
    assert why_not(engine, ASKED, NEW, ALL[0], {}).rule == "contract"
    engine.use_rules([])
    engine.apply(ProductChange(ALL[0], stock=0))
    assert why_not(engine, ASKED, NEW, ALL[0], {}).values["stock"] == 0.0


def test_near_duplicates_and_substitutes_name_the_other() -> None:
    found: dict[str, Any] = {}
    for account in range(40):
        request = OfferRequest(account_id=f"A{account:07d}", limit=30)
        for product in MODEL.products.ids:
            told = ask(product, request)
            found.setdefault(told.code, (told, product))
    for code in ("near_duplicate", "substitute"):
        told, product = found[code]
        assert told.values["other"] != product
        assert MODEL.products.ids.find(told.values["other"]) >= 0


products = st.integers(0, 119).map(lambda row: f"P{row:06d}")


@settings(max_examples=100, deadline=None)
@given(
    account=st.integers(-1, 39),
    cart=st.lists(products, max_size=3),
    product=products,
    limit=st.integers(1, 30),
    raw=st.booleans(),
    objective=st.sampled_from(["conversion", "revenue"]),
)
def test_every_product_is_offered_or_has_a_reason(
    account: int, cart: list[str], product: str, limit: int, raw: bool, objective: Any
) -> None:
    request = OfferRequest(
        account_id=None if account < 0 else f"A{account:07d}",
        cart=tuple(CartLine(one) for one in cart),
        limit=limit,
        raw=raw,
        objective=objective,
    )
    told = ask(product, request)
    offered = product in {offer.product_id for offer in ENGINE.recommend(request).offers}
    assert (told.code == "offered_now") is offered
    assert told.code in SENTENCES


def takers(product_id: str, capacity: int = 5, **states: AccountState) -> list[str]:
    found = likely_buyers(ENGINE, takers_of(ENGINE, product_id), capacity, lambda account: states.get(account, NEW))
    assert [call.rank for call in found] == list(range(1, len(found) + 1))
    assert [call.probability for call in found] == sorted((call.probability for call in found), reverse=True)
    return [call.account_id for call in found]


def test_a_call_list_has_the_likeliest_accounts_each_once() -> None:
    product = ALL[0]
    row = MODEL.products.ids.find(product)
    best: dict[str, float] = {}
    for account, account_id in enumerate(MODEL.accounts.ids):
        start, count = int(MODEL.accounts.candidates_start[account]), int(MODEL.accounts.candidates_count[account])
        for at in range(start, start + count):
            if MODEL.candidates.product[at] == row:
                best[account_id] = max(best.get(account_id, 0.0), float(MODEL.candidates.probability[at]))
    found = likely_buyers(ENGINE, takers_of(ENGINE, product), 1_000, lambda _: NEW)
    assert {call.account_id: call.probability for call in found} == pytest.approx(best)
    assert takers(product, 3) == [call.account_id for call in found][:3]


def test_who_must_not_be_called_is_not_on_the_list() -> None:
    product = ALL[0]
    first, second, third, fourth, fifth = takers(product)
    left = takers(
        product,
        1,
        **{
            first: AccountState(do_not_offer=True),
            second: AccountState(bought=(product,)),
            third: AccountState(suppressed={product: "declined lately"}),
            fourth: AccountState(is_forgotten=True),
        },
    )
    assert left == [fifth]
    sold_out = OfferEngine(MODEL)
    sold_out.apply(ProductChange(product, stock=0))
    assert len(takers_of(sold_out, product).accounts) == len(takers_of(sold_out, "no such").accounts) == 0


def test_a_call_list_says_why_it_is_short() -> None:
    product, engine = ALL[0], OfferEngine(MODEL)
    explorer = ModelExplorer(engine)

    def shortfall(capacity: int, state: AccountState = NEW) -> str | None:
        return explorer.call_list(explorer.takers_of(product), capacity, lambda _: state).shortfall

    n = len(set(takers(product, 1_000)))
    assert shortfall(n) is None
    assert shortfall(n + 1) == f"asked for {n + 1}, accounts that have it among their candidates: {n}"
    assert f"left out: {n} that own it by now, declined" in str(shortfall(1, AccountState(bought=(product,))))
    engine.use_rules([BusinessRule(name="recalled", action="block", products=(product,), owner="A", reason="R")])
    assert shortfall(1) == "asked for 1, nobody is to be called: the business rule 'recalled' blocks it"
    engine.use_rules([])
    engine.apply(ProductChange(product, stock=0))
    assert shortfall(1) == "asked for 1, nobody is to be called: it was out of stock"
    assert "the model does not know" in str(
        explorer.call_list(explorer.takers_of("no such"), 1, lambda _: NEW).shortfall
    )


def test_the_board_says_of_every_product_where_it_stands() -> None:
    declined = ALL[1]
    state = AccountState(bought=(ALL[0],), suppressed={declined: "declined lately"})
    board = WhiteSpaceBuilder(ENGINE).board("A0000003", state, 1_000)
    cells = {cell.product_id: cell for shelf in board.shelves for cell in shelf.cells}
    assert len(cells) == 120
    standing = {
        name: {one for one, cell in cells.items() if cell.standing == name}
        for name in ("owned", "offered", "gap", "not_eligible")
    }
    assert standing["owned"] == {*OWNED, ALL[0]} - standing["offered"]
    offered = {offer.product_id: offer for offer in ENGINE.recommend(replace(ASKED, limit=100), state).offers}
    assert standing["offered"] == set(offered)
    assert standing["not_eligible"] == {declined}
    assert all(cells[one].probability == offer.probability for one, offer in offered.items())
    assert standing["gap"]


def test_penetration_is_counted_on_the_accounts_segment() -> None:
    account = int((MODEL.accounts.segment > 0).argmax())
    segment = int(MODEL.accounts.segment[account])
    board = WhiteSpaceBuilder(ENGINE).board(MODEL.accounts.ids[account], NEW, 1_000)
    assert board.peer_group == MODEL.segments.names[segment]
    peers = [row for row in range(40) if MODEL.accounts.segment[row] == segment]
    cell = board.shelves[0].cells[0]
    row = MODEL.products.ids.find(cell.product_id)
    n_owners = sum(row in owned_by(MODEL, peer, ever=True) for peer in peers)
    assert cell.penetration == pytest.approx(min(n_owners / board.n_peers, 1.0))


def test_a_board_is_cut_to_the_most_common_gaps_but_keeps_what_is_owned_and_offered() -> None:
    board = WhiteSpaceBuilder(ENGINE).board("A0000003", NEW, 2)
    cells = [cell for shelf in board.shelves for cell in shelf.cells]
    assert {cell.product_id for cell in cells if cell.standing == "owned"} >= set(OWNED) - set(ALL)
    assert len([cell for cell in cells if cell.standing == "gap"]) <= 2 * len(board.shelves)
    assert [shelf.n_products for shelf in board.shelves] == [30, 30, 30, 30]


def test_nobody_is_called_about_what_a_business_rule_blocks() -> None:
    product, engine = ALL[0], OfferEngine(MODEL)
    everybody = likely_buyers(engine, takers_of(engine, product), 1_000, lambda _: NEW)
    segment = MODEL.segments.names[1]
    of = {account_id: int(MODEL.accounts.segment[row]) for row, account_id in enumerate(MODEL.accounts.ids)}
    rule = BusinessRule(
        name="not to them",
        action="block",
        products=(product,),
        segments=(segment,),
        owner="A. Buyer",
        reason="recalled",
    )
    engine.use_rules([rule])
    found = likely_buyers(engine, takers_of(engine, product), 1_000, lambda _: NEW)
    assert (
        {of[call.account_id] for call in everybody}
        > {of[call.account_id] for call in found}
        == {of[call.account_id] for call in everybody} - {1}
    )


def test_people_see_the_name_of_an_account() -> None:
    calls = likely_buyers(ENGINE, takers_of(ENGINE, "P000007"), 5, lambda _: NEW)
    assert calls
    assert [call.account_name for call in calls] == [f"Account {int(call.account_id[1:])}" for call in calls]
    assert WhiteSpaceBuilder(ENGINE).board("A0000003", NEW, 1).account_name == "Account 3"
    assert WhiteSpaceBuilder(ENGINE).board("nobody", NEW, 1).account_name is None
    assert WhiteSpaceBuilder(ENGINE).board("A0000003", AccountState(is_forgotten=True), 1).account_name is None
    assert explain(ENGINE, OfferRequest("A0000003"), "P000007").account_name == "Account 3"


def test_without_categories_a_board_has_a_shelf_a_family() -> None:
    """Before, everything stood on one shelf without a name."""
    products = replace(MODEL.products, category=np.full_like(MODEL.products.category, -1))
    nameless = replace(MODEL, products=products, categories=NameTable(Utf8Column.of([])))
    board = WhiteSpaceBuilder(OfferEngine(nameless)).board("A0000003", NEW, 3)
    families = {MODEL.families.names[code] if code >= 0 else None for code in MODEL.products.family.tolist()}
    assert len(families) > 2
    assert {shelf.category for shelf in board.shelves} == families


def test_without_families_either_names_tell_the_shelves() -> None:
    """Purchases without a table of products have neither; before, their board was one shelf without a name."""
    n = len(MODEL.products.ids)
    nowhere, empty = np.full(n, -1, dtype=np.int32), NameTable(Utf8Column.of([]))
    is_mug = np.arange(n) % 3 == 1
    names = [f"{('RED', 'BLUE')[row % 2]} {('LUNCH BAG', 'MUG')[mug]}" for row, mug in enumerate(is_mug.tolist())]
    price, named = np.where(is_mug, 2.0, 5.0), Utf8Column.of(names)
    products = replace(MODEL.products, category=nowhere, family=nowhere, names=named, price=price)
    bare = replace(MODEL, products=products, categories=empty, families=empty)
    board = WhiteSpaceBuilder(OfferEngine(bare)).board("A0000003", NEW, 3)
    assert {shelf.title for shelf in board.shelves} == {"LUNCH BAG", "RED MUG", "BLUE MUG"}


def test_the_shelf_without_a_name_comes_last_and_says_what_it_is() -> None:
    """Before, it came first wherever it held the most on offer: thirteen hundred products of real invoices."""
    category = np.where(np.arange(len(MODEL.products.ids)) % 4, -1, MODEL.products.category).astype(np.int32)
    engine = OfferEngine(replace(MODEL, products=replace(MODEL.products, category=category)))
    board = WhiteSpaceBuilder(engine).board("A0000003", NEW, 1_000)
    *named, last = board.shelves
    assert [shelf.title for shelf in named] == [shelf.category for shelf in named]
    assert (last.category, last.title, last.n_products) == (None, "products without a category", 90)
    on_offer = [sum(cell.expected_value or 0.0 for cell in shelf.cells) for shelf in board.shelves]
    assert on_offer[-1] > on_offer[-2]
    assert on_offer[:-1] == sorted(on_offer[:-1], reverse=True)
