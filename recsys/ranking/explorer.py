"""What people ask of a model beyond a slate: why not this product, whom to call about it, what is left to sell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from recsys.contracts.answers import CallList, CallListEntry
from recsys.contracts.money import after_discount
from recsys.contracts.offers import EMPTY_STATE, AccountState, Objective, Offer, OfferRequest
from recsys.offer_model.tables import Int64, account_name
from recsys.ranking.active_rules import NO_ANNOTATION, AppliedRules
from recsys.ranking.engine import OfferEngine
from recsys.ranking.kernel.layout import NO_ROW
from recsys.ranking.languages import LANGUAGES, Language
from recsys.ranking.live_catalogue import REFUSALS
from recsys.ranking.white_space import WhiteSpace, WhiteSpaceBuilder
from recsys.ranking.why_not import SENTENCES, WhyNot, why_not

StateOf = Callable[[str], AccountState]


@dataclass(frozen=True, slots=True)
class LikelyBuyers:
    """The accounts that have a product among their candidates, the most likely first.

    Attributes:
        candidates: rows of the candidate table; an account may stand with a cross-sell and an upgrade.
        accounts: rows of their accounts, of the same shape.
        refusal: why the product may not be offered to anybody; None where it may.
    """

    candidates: Int64
    accounts: Int64
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an account is offered a product, or why not.

    Attributes:
        account_id: whom it would be offered; None for an anonymous visitor.
        product_id: the product.
        code: `offered`, or the first rule that removed it, as `recsys.ranking.why_not.SENTENCES` has them.
        sentence: the same for people.
        values: the counts behind the offer, or what the rule looked at.
        offer: the offer, where there is one.
        account_name: what people call the account; None where that is not known.
    """

    account_id: str | None
    product_id: str
    code: str
    sentence: str
    values: Mapping[str, float | int | str | bool | None]
    offer: Offer | None = None
    account_name: str | None = None


def explain(engine: OfferEngine, request: OfferRequest, product_id: str) -> Explanation:
    """Return why a request's answer holds a product, with the counts behind it, or the first rule that removed it.

    Raises:
        ConfigError: the model can't answer such a request.
    """
    slate = engine.recommend(replace(request, explain="full"))
    name = None if request.account_id is None else account_name(engine.model, request.account_id)
    for offer in slate.offers:
        if offer.product_id == product_id:
            return Explanation(request.account_id, product_id, "offered", offer.reason, offer.evidence, offer, name)
    found = why_not(engine, request, EMPTY_STATE, product_id, slate.refused)
    return Explanation(request.account_id, product_id, found.code, found.sentence, found.values, None, name)


def takers_of(engine: OfferEngine, product_id: str) -> LikelyBuyers:
    """Return the takers of a product, none where it may not be offered.

    It looks through every account's candidates, tens of milliseconds for a million accounts: not for an event loop.
    """
    row = engine.catalogue.row(product_id)
    code = "unknown_product" if row < 0 else REFUSALS[engine.catalogue.refusal[row]]
    if row < 0 or engine.catalogue.refusal[row]:
        return LikelyBuyers(np.zeros(0, np.int64), np.zeros(0, np.int64), SENTENCES[code])
    table = engine.model.candidates
    rows = (table.product == row).nonzero()[0]
    rows = rows[np.argsort(-table.probability[rows], kind="stable")]
    return LikelyBuyers(rows, _owners(rows, engine))


def likely_buyers(
    engine: OfferEngine,
    takers: LikelyBuyers,
    capacity: int,
    state_of: StateOf,
    language: Language = LANGUAGES["en"],
) -> tuple[CallListEntry, ...]:
    """Return the likeliest takers, each account once, `capacity` at the most.

    Left out are accounts that want no offers, own the product by now, have declined it lately or were erased, those for
    which a business rule blocks it, and those for whom it is nothing but an upgrade that costs no more today.

    Args:
        engine: of the model.
        takers: of the product.
        capacity: how many calls can be made.
        state_of: what is known of an account beyond the bundle; asked for those only that may be on the list.
        language: of the reasons.
    """
    calls: list[CallListEntry] = []
    seen: set[int] = set()
    for candidate, account in zip(takers.candidates.tolist(), takers.accounts.tolist(), strict=True):
        if len(calls) == capacity:
            break
        if account in seen:
            continue
        seen.add(account)
        product, state = int(engine.model.candidates.product[candidate]), state_of(engine.model.accounts.ids[account])
        rules = engine.applied_rules(OfferRequest(engine.model.accounts.ids[account]), state)
        if product in rules.blocking or not _may_be_called(engine, account, product, state):
            continue
        form = _form(engine, account, product, rules)
        if form is not None:
            probability = float(engine.model.candidates.probability[candidate])
            calls.append(_call(engine, form, probability, account, len(calls) + 1, language))
    return tuple(calls)


def _shortfall(engine: OfferEngine, takers: LikelyBuyers, capacity: int, n_calls: int) -> str | None:
    """Return why fewer accounts than `capacity` are to be called, None where all came."""
    if n_calls >= capacity:
        return None
    asked, refusal = f"asked for {capacity}", takers.refusal
    if refusal is None and len(takers.candidates):
        product = int(engine.model.candidates.product[takers.candidates[0]])
        rule = engine.applied_rules(OfferRequest()).blocking.get(product)
        refusal = None if rule is None else SENTENCES["blocked"].format(rule=rule)
    if refusal is not None:
        return f"{asked}, nobody is to be called: {refusal}"
    n_takers = len(np.unique(takers.accounts))
    found = f"{asked}, accounts that have it among their candidates: {n_takers}"
    if n_takers == n_calls:
        return found
    rules = "own it by now, declined it lately, want no offers, are kept from it by a business rule or own a dearer one"
    return f"{found}; left out: {n_takers - n_calls} that {rules}"


def _owners(rows: Int64, engine: OfferEngine) -> Int64:
    """Return the account of each candidate: the last one that starts at or before it and has candidates."""
    accounts = engine.model.accounts
    having = (accounts.candidates_count > 0).nonzero()[0]
    owner: Int64 = having[np.searchsorted(accounts.candidates_start[having], rows, side="right") - 1]
    return owner


def _may_be_called(engine: OfferEngine, account: int, product: int, state: AccountState) -> bool:
    wants_none = engine.model.accounts.do_not_offer[account] if state.do_not_offer is None else state.do_not_offer
    if wants_none or state.opt_out_reason or state.is_forgotten:
        return False
    product_id = engine.catalogue.ids[product]
    return product_id not in state.bought and product_id not in state.suppressed


class _Form(NamedTuple):
    """A row of the candidate table, and what a unit costs more to pay than what it displaces; None: not known."""

    candidate: int
    paid: float | None


def _form(engine: OfferEngine, account: int, product: int, rules: AppliedRules) -> _Form | None:
    """Return how an account is offered a product: as an upgrade that costs more, else as a cross-sell, if at all."""
    table, accounts = engine.model.candidates, engine.model.accounts
    start, segment = int(accounts.candidates_start[account]), int(accounts.segment[account])
    found = np.flatnonzero(table.product[start : start + int(accounts.candidates_count[account])] == product)
    cross_sell: _Form | None = None
    share = rules.annotations.get(product, NO_ANNOTATION).discount
    for candidate in (start + found).tolist():
        lower, quantity = int(table.from_product[candidate]), float(table.expected_quantity[candidate])
        if lower == NO_ROW:
            cross_sell = _Form(candidate, None)
            continue
        price = engine.catalogue.price_at(product, segment, quantity)
        if share is not None and not math.isnan(price):
            _, price = after_discount(price, share, engine.model.facts.currency)
        paid = engine.price_difference(price, lower, quantity, segment)
        if paid is None or paid > 0:
            return _Form(candidate, paid)
    return cross_sell


def _call(
    engine: OfferEngine, form: _Form, probability: float, account: int, rank: int, language: Language
) -> CallListEntry:
    table, reasons, candidate = engine.model.candidates, engine.reasons, form.candidate
    product, lower = int(table.product[candidate]), int(table.from_product[candidate])
    quantity, is_upgrade = float(table.expected_quantity[candidate]), lower >= 0
    spoken = reasons.speak(reasons.of_candidate(product, lower, int(table.evidence[candidate])), language)
    segment = int(engine.model.accounts.segment[account])
    return CallListEntry(
        rank=rank,
        account_id=engine.model.accounts.ids[account],
        kind="upsell" if is_upgrade else "cross_sell",
        probability=probability,
        expected_quantity=quantity,
        expected_value=probability * engine.catalogue.money(product, lower, segment, quantity),
        reason=reasons.dearer(spoken, form.paid, language).for_rep,
        from_product_id=engine.catalogue.ids[lower] if is_upgrade else None,
        account_name=account_name(engine.model, engine.model.accounts.ids[account]),
    )


class ModelExplorer:
    """Explains one model. `takers_of` and `board` may take tenths of a second and belong in a thread."""

    def __init__(self, engine: OfferEngine) -> None:
        self._engine = engine
        self._white_space = WhiteSpaceBuilder(engine)

    def knows(self, product_id: str) -> bool:
        """Return whether the model knows a product."""
        return self._engine.catalogue.row(product_id) >= 0

    def why_not(
        self, request: OfferRequest, state: AccountState, product_id: str, refused: Mapping[str, str]
    ) -> WhyNot:
        """Return why a product was not offered; see `recsys.ranking.why_not`."""
        return why_not(self._engine, request, state, product_id, refused)

    def takers_of(self, product_id: str) -> LikelyBuyers:
        """Return the accounts that have a product among their candidates; see `recsys.ranking.explorer`."""
        return takers_of(self._engine, product_id)

    def call_list(
        self,
        takers: LikelyBuyers,
        capacity: int,
        state_of: StateOf,
        language: str | None = None,
        default_language: str = "en",
    ) -> CallList:
        """Return the likeliest takers, their reasons in a language as of `OfferRequest`, and why they are no more.

        Raises:
            ConfigError: a tag is none of a language.
        """
        asked = OfferRequest(language=language, default_language=default_language)
        spoken = self._engine.reasons.language(asked, NO_ROW)
        calls = likely_buyers(self._engine, takers, capacity, state_of, spoken)
        return CallList(calls, _shortfall(self._engine, takers, capacity, len(calls)))

    def board(
        self, account_id: str, state: AccountState, cells_per_category: int, objective: Objective = "conversion"
    ) -> WhiteSpace:
        """Return an account's white-space board; see `recsys.ranking.white_space`."""
        return self._white_space.board(account_id, state, cells_per_category, objective)
