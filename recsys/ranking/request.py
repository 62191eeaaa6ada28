"""A request with its ids looked up: rows of the cart's products and of what is ruled out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from recsys.contracts.offers import AccountState, OfferRequest
from recsys.offer_model.tables import EVERYONE, OfferModel
from recsys.ranking.active_rules import NO_RULES, ActiveRules, AppliedRules, segment_name
from recsys.ranking.live_catalogue import LiveCatalogue


class ResolvedRequest(NamedTuple):
    """What one request is about, as rows of the model's tables.

    Attributes:
        cart: units of each product of the cart, by its row, and of the one that is viewed.
        excluded: products that the request excludes.
        suppressed: products held back for this account now.
        bought: products bought since the model's `as_of`, latest first.
        segment: that the state names; None leaves it to the model.
        categories: that are wanted; None: any.
        rules: what business rules do to it.
        unknown_products: ids of the cart that the model does not know.
        unknown_categories: categories of the request that the model does not know.
    """

    cart: dict[int, float]
    excluded: list[int]
    suppressed: list[int]
    bought: list[int]
    segment: int | None
    categories: list[int] | None
    rules: AppliedRules
    unknown_products: tuple[str, ...]
    unknown_categories: tuple[str, ...]


class RequestResolver:
    """Looks requests up in one model.

    Attributes:
        categories: code by name.
    """

    def __init__(self, model: OfferModel, catalogue: LiveCatalogue) -> None:
        self._model = model
        self._catalogue = catalogue
        self._row = catalogue.row
        self.categories = {name: code for code, name in enumerate(model.categories.names)}
        self._segments = {name: row for row, name in enumerate(model.segments.names) if row != EVERYONE}

    def resolve(self, request: OfferRequest, state: AccountState, rules: ActiveRules | None) -> ResolvedRequest:
        """Return what `request` is about; products that the model does not know are reported, not refused."""
        cart, unknown = self._cart(request)
        wanted = request.categories
        return ResolvedRequest(
            cart,
            self._known(request.exclude) if request.exclude else [],
            self._known(state.suppressed) if state.suppressed else [],
            self._known(state.bought) if state.bought else [],
            None if state.segment is None else self.segment_row(state.segment),
            [self.categories[name] for name in set(wanted) & self.categories.keys()] if wanted else None,
            self.applied(rules, request, state),
            unknown,
            tuple(name for name in dict.fromkeys(wanted) if name not in self.categories) if wanted else (),
        )

    def segment_row(self, name: str) -> int:
        """Return the row of a segment, `EVERYONE` for one that the model does not know."""
        return self._segments.get(name, EVERYONE)

    def applied(self, rules: ActiveRules | None, request: OfferRequest, state: AccountState) -> AppliedRules:
        """Return what business rules do to a request; the model's own order is without them."""
        if rules is None or request.raw:
            return NO_RULES
        name, model = state.segment, self._model
        if name is None and request.account_id is not None and not state.is_forgotten:
            row = model.accounts.ids.find(request.account_id)
            name = segment_name(model, int(model.accounts.segment[row])) if row >= 0 else None
        return rules.applied(name, request.region or state.region, request.channel, request.surface)

    def _cart(self, request: OfferRequest) -> tuple[dict[int, float], tuple[str, ...]]:
        units: dict[int, float] = {}
        unknown: dict[str, None] = {}
        for line in request.cart:
            row = self._row(line.product_id)
            if row < 0:
                unknown[line.product_id] = None
            else:
                units[row] = units.get(row, 0.0) + line.quantity
        viewed = request.viewed_product_id
        if viewed is not None:
            row = self._row(viewed)
            if row < 0:
                unknown[viewed] = None
            else:
                units.setdefault(row, 1.0)
        return units, tuple(unknown)

    def _known(self, product_ids: Iterable[str]) -> list[int]:
        return [row for row in map(self._row, product_ids) if row >= 0]
