"""A request with its ids looked up: rows of the account, the cart and what is ruled out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from recsys.contracts.offers import AccountState, OfferRequest
from recsys.offer_model.tables import EVERYONE, Int32, OfferModel
from recsys.ranking.active_rules import ActiveRules, AppliedRules, segment_name
from recsys.ranking.eligibility import NO_ROWS, Barriers, Bounds
from recsys.ranking.explanations import SILENT
from recsys.ranking.live_catalogue import LiveCatalogue
from recsys.ranking.retrieval import habitual, has_crosses, owned_by


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """What one request is about.

    Attributes:
        account: row of the account; -1 where there is none or the model does not know it.
        segment: row of its segment.
        cart: rows of the cart's products and of the viewed one, without doubles.
        quantities: units of each.
        recent: purchases of an account that the model has no candidates for: posted ones, latest first, then what it
            bought most often.
        barriers: what is ruled out.
        unknown: product ids of the cart that the model does not know.
        unknown_categories: categories of the request that the model does not know.
        silent: why no offer at all may be made; None where one may.
        effect: what business rules do to it; None without any.
    """

    account: int
    segment: int
    cart: list[int]
    quantities: list[float]
    recent: list[int]
    barriers: Barriers
    unknown: tuple[str, ...]
    unknown_categories: tuple[str, ...]
    silent: str | None
    effect: AppliedRules | None = None


class RequestResolver:
    """Looks requests up in one model.

    Attributes:
        categories: code by name.
    """

    def __init__(self, model: OfferModel, catalogue: LiveCatalogue, recent_purchases: int) -> None:
        self._model = model
        self._catalogue = catalogue
        self._recent_purchases = recent_purchases
        self.categories = {name: code for code, name in enumerate(model.categories.names)}
        self._segments = {name: row for row, name in enumerate(model.segments.names) if row != EVERYONE}

    def situation(
        self, request: OfferRequest, state: AccountState, rules: ActiveRules | None = None
    ) -> ResolvedRequest:
        """Return what `request` is about; products that the model does not know are reported, not refused."""
        account = self._account(request, state)
        cart, unknown = self._cart(request)
        bought = self._known(state.bought)
        recent = [row for row in dict.fromkeys(self._speaking(account, bought)) if row not in cart]
        segment = self._segment(account, state)
        effect = None if rules is None or request.raw else self._effect(rules, request, state, segment)
        return ResolvedRequest(
            account=account,
            segment=segment,
            cart=list(cart),
            quantities=list(cart.values()),
            recent=recent[: self._recent_purchases],
            barriers=self._barriers(request, state, account, list(cart), bought, effect),
            unknown=unknown,
            unknown_categories=tuple(name for name in dict.fromkeys(request.categories) if name not in self.categories),
            silent=self._silent(account, state),
            effect=effect,
        )

    def _speaking(self, account: int, bought: list[int]) -> list[int]:
        """Return the purchases that speak for an account without candidates; none where it has some."""
        if account < 0:
            return bought
        return [] if has_crosses(self._model, account) else [*bought, *habitual(self._model, account)]

    def _effect(
        self, rules: ActiveRules, request: OfferRequest, state: AccountState, segment: int
    ) -> AppliedRules | None:
        name = state.segment or segment_name(self._model, segment)
        return rules.effect(name, request.region or state.region, request.channel)

    def _account(self, request: OfferRequest, state: AccountState) -> int:
        if request.account_id is None or state.is_forgotten:
            return -1
        return self._model.accounts.ids.find(request.account_id)

    def _cart(self, request: OfferRequest) -> tuple[dict[int, float], tuple[str, ...]]:
        quantities: dict[int, float] = {}
        unknown: dict[str, None] = {}
        for line in request.cart:
            row = self._catalogue.row(line.product_id)
            if row < 0:
                unknown[line.product_id] = None
            else:
                quantities[row] = quantities.get(row, 0.0) + line.quantity
        viewed = request.viewed_product_id
        if viewed is not None:
            row = self._catalogue.row(viewed)
            if row < 0:
                unknown[viewed] = None
            else:
                quantities.setdefault(row, 1.0)
        return quantities, tuple(unknown)

    def segment_row(self, name: str) -> int:
        """Return the row of a segment, `EVERYONE` for one that the model does not know."""
        return self._segments.get(name, EVERYONE)

    def _segment(self, account: int, state: AccountState) -> int:
        if state.segment is not None:
            return self.segment_row(state.segment)
        return int(self._model.accounts.segment[account]) if account >= 0 else EVERYONE

    def _silent(self, account: int, state: AccountState) -> str | None:
        wants_none = state.do_not_offer
        if wants_none is None:
            wants_none = account >= 0 and bool(self._model.accounts.do_not_offer[account])
        return SILENT if wants_none else state.silence

    def _barriers(
        self,
        request: OfferRequest,
        state: AccountState,
        account: int,
        cart: list[int],
        bought: list[int],
        effect: AppliedRules | None,
    ) -> Barriers:
        return Barriers(
            in_cart=_sorted(cart),
            excluded=_sorted(self._known(request.exclude)),
            withheld=_sorted(self._known(state.withheld)),
            owned=self._owned(account, bought, in_cart_answer=bool(cart), new_only=request.new_only),
            new_only=request.new_only,
            blocked=NO_ROWS if effect is None else effect.blocked,
            bounds=self._bounds(request),
        )

    def _bounds(self, request: OfferRequest) -> Bounds | None:
        if not request.categories and request.min_price is None and request.max_price is None:
            return None
        wanted = None
        if request.categories:
            wanted = _sorted([self.categories[name] for name in set(request.categories) & self.categories.keys()])
        return Bounds(self._model.products.category, wanted, request.min_price, request.max_price)

    def _owned(self, account: int, bought: list[int], *, in_cart_answer: bool, new_only: bool) -> Int32:
        # Half of what known accounts buy is repeat: in a cart answer earlier purchases stay, unless only new is wanted.
        if in_cart_answer and not new_only:
            return NO_ROWS
        owned = NO_ROWS if account < 0 else owned_by(self._model, account, ever=new_only)
        return np.union1d(owned, np.array(bought, dtype=np.int32)) if bought else owned

    def _known(self, product_ids: Iterable[str]) -> list[int]:
        return [row for row in map(self._catalogue.row, product_ids) if row >= 0]


def _sorted(rows: list[int]) -> Int32:
    return np.array(sorted(rows), dtype=np.int32) if rows else NO_ROWS
