"""Remembers slates: the same question to the same model, with nothing changed since, has the same answer.

A visitor who goes back and forth between pages asks the same again and again. What may change an answer empties the
memory (prices, stock, flags, business rules) or passes it by (an account with news of its own); experiments choose the
request or the model, and exploration draws after the ranking, so both are unaffected.
"""

from __future__ import annotations

from collections.abc import Sequence

from recsys.contracts.offers import NOTHING_NEW, AccountState, OfferRequest, ProductChange, Slate
from recsys.ranking.rules import Rule
from serving.models import Recommender


class RememberingEngine:
    """Stands before an engine and answers what it was asked before.

    Attributes:
        ranker: ranks what is new.
    """

    def __init__(self, engine: Recommender, most: int) -> None:
        self.ranker = engine
        self._most = most
        self._slates: dict[OfferRequest, Slate] = {}

    def recommend(self, request: OfferRequest, state: AccountState = NOTHING_NEW) -> Slate:
        """Return the ranked answer to one request."""
        if state is not NOTHING_NEW:
            return self.ranker.recommend(request, state)
        slate = self._slates.pop(request, None)
        if slate is None:
            slate = self.ranker.recommend(request, state)
            if len(self._slates) >= self._most:
                self._slates.pop(next(iter(self._slates), request), None)  # the one that was asked longest ago
        if self._most:
            self._slates[request] = slate
        return slate

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether the model knows the product."""
        known = self.ranker.apply(change)
        self._slates.clear()
        return known

    def use_rules(self, rules: Sequence[Rule]) -> None:
        """Put business rules in force, and no other."""
        self.ranker.use_rules(rules)
        self._slates.clear()
