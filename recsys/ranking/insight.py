"""What people ask of a model beyond a slate: why not this product, whom to call, what is left to sell."""

from __future__ import annotations

from collections.abc import Mapping

from recsys.contracts.offers import AccountState, OfferRequest
from recsys.ranking.engine import OfferEngine
from recsys.ranking.explorer import Call, StateOf, Takers, call_list, takers_of
from recsys.ranking.white_space import Board, WhiteSpace
from recsys.ranking.why_not import WhyNot, why_not


class Insight:
    """Explains one model. `takers_of` and `board` may take tenths of a second and belong in a thread."""

    def __init__(self, engine: OfferEngine) -> None:
        self._engine = engine
        self._white_space = WhiteSpace(engine)

    def knows(self, product_id: str) -> bool:
        """Return whether the model knows a product."""
        return self._engine.catalogue.row(product_id) >= 0

    def why_not(
        self, request: OfferRequest, state: AccountState, product_id: str, refused: Mapping[str, str]
    ) -> WhyNot:
        """Return why a product was not offered; see `recsys.ranking.why_not`."""
        return why_not(self._engine, request, state, product_id, refused)

    def takers_of(self, product_id: str) -> Takers:
        """Return the accounts that have a product among their candidates; see `recsys.ranking.explorer`."""
        return takers_of(self._engine, product_id)

    def call_list(self, takers: Takers, capacity: int, state_of: StateOf) -> tuple[Call, ...]:
        """Return the likeliest takers; see `recsys.ranking.explorer`."""
        return call_list(self._engine, takers, capacity, state_of)

    def board(self, account_id: str, state: AccountState, cells_per_category: int) -> Board:
        """Return an account's white-space board; see `recsys.ranking.white_space`."""
        return self._white_space.board(account_id, state, cells_per_category)
