"""Remembers slates: the same question to the same model, with nothing changed since, has the same answer.

A visitor who goes back and forth between pages asks the same again and again. What may change an answer empties the
memory (prices, stock, flags, business rules) or passes it by (an account with news of its own); experiments choose the
request or the model, and exploration draws after the ranking, so both are unaffected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from recsys.contracts.offers import NOTHING_NEW, AccountState, OfferRequest, ProductChange, Slate
from recsys.ranking.rules import Rule
from serving.models import Recommender

T = TypeVar("T")


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
        if state != NOTHING_NEW:
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


class Beside(Generic[T]):
    """Keeps what was made of a slate, for as long as the same slate object comes again; the latest made are kept.

    Args:
        most: slates that something is kept of; 0 keeps nothing.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: dict[int, tuple[Slate, object, T]] = {}  # holds its slate, so that no other can take its identity

    def get(self, slate: Slate, model: object = None) -> T | None:
        """Return what was made of `slate` under `model`, None where nothing was."""
        found = self._made.get(id(slate))
        return found[2] if found is not None and found[1] is model else None

    def put(self, slate: Slate, model: object, made: T) -> None:
        """Keep what was made of `slate` under `model`."""
        if self._most:
            if len(self._made) >= self._most:
                del self._made[next(iter(self._made))]
            self._made[id(slate)] = slate, model, made
