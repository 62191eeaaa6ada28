"""What stands before an engine: usual requests are ranked in microseconds, of the others the answers are remembered.

The memory is for requests that the engine ranks step by step, where the same question to the same model, with nothing
changed since, has the same answer. What may change one empties it (prices, stock, flags, business rules) or passes it
by (an account with news of its own); experiments choose the request or the model, and exploration draws after the
ranking, so both are unaffected.
"""

from __future__ import annotations

from collections.abc import Sequence

from recsys.contracts.offers import EMPTY_STATE, AccountState, NameKind, OfferRequest, ProductChange, Slate
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.ranking.engine import OfferEngine
from serving.encoding import EncodedSlate, ResponseEncoder, encode


class RankingEngine:
    """Answers from one engine.

    Args:
        engine: ranks what is not usual.
        most: answers of those that are remembered.
    """

    def __init__(self, engine: OfferEngine, most: int) -> None:
        self._engine = engine
        self._quick = ResponseEncoder(engine)
        self._most = most
        self._answers: dict[OfferRequest, EncodedSlate] = {}

    def recommend(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> Slate:
        """Return the ranked answer to one request."""
        return self._engine.recommend(request, state)

    def answer(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> EncodedSlate:
        """Return the ranked answer to one request as text.

        Raises:
            ConfigError: the model can't answer such a request.
        """
        quick = self._quick.packed(request, state)
        if quick is not None:
            return quick
        if state != EMPTY_STATE or not self._most:
            return encode(self._engine.recommend(request, state))
        known = self._answers.pop(request, None)
        if known is None:
            known = encode(self._engine.recommend(request, state))
            if len(self._answers) >= self._most:
                self._answers.pop(next(iter(self._answers), request), None)  # the one that was asked longest ago
        self._answers[request] = known
        return known

    def knows(self, kind: NameKind, name: str) -> bool:
        """Return whether the model has anything to say about what is called so."""
        return self._engine.knows(kind, name)

    def apply(self, change: ProductChange) -> bool:
        """Put new values of a product in force; return whether the model knows the product."""
        known = self._engine.apply(change)
        self._answers.clear()
        return known

    def use_rules(self, rules: Sequence[BusinessRule]) -> None:
        """Put business rules in force, and no other."""
        self._engine.use_rules(rules)
        self._answers.clear()
