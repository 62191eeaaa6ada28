"""The white-space board of one account: category by product, what it owns, what it would be offered, what is left.

Where no product has a category, families stand for them; where none has a family either, what names say a thing is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Final, NamedTuple

import numpy as np

from recsys.contracts.answers import WhiteSpaceItem
from recsys.contracts.offers import AccountState, Objective, OfferRequest
from recsys.offer_model.tables import EVERYONE, Float64, Int32, Int64, account_name, owned_by
from recsys.products.shelves import shelves_of_names
from recsys.ranking.engine import OfferEngine
from recsys.ranking.live_catalogue import REFUSALS
from recsys.ranking.ranked import RankedOffer, RankedSlate
from recsys.ranking.why_not import SENTENCES

N_OFFERED: Final = 100
"""Offers that the board asks the engine for."""


@dataclass(frozen=True, slots=True)
class WhiteSpaceCategory:
    """One category of the board.

    Attributes:
        category: None for products without one, the last of the board; the family where no product of the model has a
            category, the words that names share where none has a family either.
        n_products: in the category.
        n_owned: of them.
        penetration: mean over its products of the share of peers that have bought each.
        cells: what is owned first, then offered, then gaps, each by probability, then penetration.
        title: the category, or what its products have in common without one.
    """

    category: str | None
    n_products: int
    n_owned: int
    penetration: float
    cells: tuple[WhiteSpaceItem, ...]
    title: str


@dataclass(frozen=True, slots=True)
class WhiteSpace:
    """The white-space board of one account.

    Attributes:
        peer_group: whom penetration is measured on.
        n_peers: accounts with an order among them.
        shelves: the category with the largest value on offer first, products without one last.
        account_name: what people call the account; None where that is not known.
    """

    peer_group: str
    n_peers: int
    shelves: tuple[WhiteSpaceCategory, ...]
    account_name: str | None = None


class _Board(NamedTuple):
    """The code of each product's shelf, -1 for none, the names behind the codes, and what the shelf of -1 is called."""

    code: Int32
    names: Sequence[str]
    without: str


class WhiteSpaceBuilder:
    """Makes boards from one model; what peers own is counted once a segment, when first asked for."""

    def __init__(self, engine: OfferEngine) -> None:
        self._engine = engine
        self._counts: dict[int, Int64] = {}
        self._lock = Lock()

    def board(
        self, account_id: str, state: AccountState, cells_per_category: int, objective: Objective = "conversion"
    ) -> WhiteSpace:
        """Return the board of an account; one that the model does not know owns what it has posted.

        Counting the peers of a segment for the first time takes some tenths of a second for a million accounts.

        Args:
            account_id: the account.
            state: what is known of it beyond the bundle.
            cells_per_category: gaps and products that are not eligible are cut to this many a category.
            objective: what the offers are ranked by.

        Raises:
            ConfigError: `margin` where no product has a cost.
        """
        engine, model = self._engine, self._engine.model
        request = OfferRequest(account_id=account_id, limit=N_OFFERED, objective=objective, explain="none")
        ranked = engine.rank(request, state)
        offered = {offer.product: offer for offer in ranked.offers}
        n_peers = max(int(model.segments.n_accounts[ranked.segment]), 1)
        penetration = np.minimum(self._owners(ranked.segment) / n_peers, 1.0)
        owned = self._owned(ranked)
        shelves = [
            self._shelf(code, rows, ranked, owned, offered, penetration, cells_per_category)
            for code, rows in self._categories()
        ]
        group = "all accounts" if ranked.segment == EVERYONE else model.segments.names[ranked.segment]
        ordered = tuple(sorted(shelves, key=_on_offer, reverse=True))
        return WhiteSpace(group, n_peers, ordered, None if state.is_forgotten else account_name(model, account_id))

    def _categories(self) -> Iterable[tuple[int, Int64]]:
        category = self._shelves.code
        order = np.argsort(category, kind="stable")
        codes, starts = np.unique(category[order], return_index=True)
        return zip(codes.tolist(), np.split(order, starts[1:]), strict=True)

    @cached_property
    def _shelves(self) -> _Board:
        model = self._engine.model
        if len(model.categories.names):
            return _Board(model.products.category, model.categories.names, "products without a category")
        if len(model.families.names):
            return _Board(model.products.family, model.families.names, "products without a family")
        found = shelves_of_names(list(model.products.names), model.products.price)
        return _Board(found.code, found.names, "things of which there are few, by their names")

    def _shelf(
        self,
        code: int,
        rows: Int64,
        ranked: RankedSlate,
        owned: set[int],
        offered: dict[int, RankedOffer],
        penetration: Float64,
        most: int,
    ) -> WhiteSpaceCategory:
        likely = rows[np.argsort(-penetration[rows], kind="stable")]
        cells = [self._cell(row, ranked, owned, offered, float(penetration[row])) for row in likely.tolist()[:most]]
        shown = {cell.product_id for cell in cells}
        more = [row for row in rows.tolist() if row in owned or row in offered]
        cells += [
            self._cell(row, ranked, owned, offered, float(penetration[row]))
            for row in more
            if self._engine.catalogue.ids[row] not in shown
        ]
        category = self._shelves.names[code] if code >= 0 else None
        return WhiteSpaceCategory(
            category=category,
            n_products=len(rows),
            n_owned=sum(row in owned for row in rows.tolist()),
            penetration=float(penetration[rows].mean()),
            cells=tuple(sorted(cells, key=_place)),
            title=self._shelves.without if category is None else category,
        )

    def _cell(
        self, row: int, ranked: RankedSlate, owned: set[int], offered: dict[int, RankedOffer], penetration: float
    ) -> WhiteSpaceItem:
        product_id = self._engine.catalogue.ids[row]
        name = self._engine.model.products.names[row] or None
        offer = offered.get(row)
        if offer is not None:
            return WhiteSpaceItem(
                product_id, name, "offered", None, offer.probability, offer.expected_value, penetration
            )
        if row in owned:
            return WhiteSpaceItem(product_id, name, "owned", None, None, None, penetration)
        why = self._why(row, ranked)
        return WhiteSpaceItem(product_id, name, "gap" if why is None else "not_eligible", why, None, None, penetration)

    def _why(self, row: int, ranked: RankedSlate) -> str | None:
        if ranked.is_opted_out:
            return ranked.shortfall
        refusal, blocking = int(self._engine.catalogue.refusal[row]), ranked.resolved.rules.blocking
        if refusal:
            return SENTENCES[REFUSALS[refusal]]
        if row in blocking:
            return SENTENCES["blocked"].format(rule=blocking[row])
        return "it is withheld for this account" if row in ranked.resolved.suppressed else None

    def _owned(self, ranked: RankedSlate) -> set[int]:
        posted = set(ranked.resolved.bought)
        if ranked.account < 0:
            return posted
        return posted | set(owned_by(self._engine.model, ranked.account, ever=False).tolist())

    def _owners(self, segment: int) -> Int64:
        """Return how many accounts of a segment have bought each product, shape `(n_products,)`."""
        model = self._engine.model
        if segment == EVERYONE:
            return model.products.n_accounts.astype(np.int64)
        with self._lock:
            if segment not in self._counts:
                peers = np.repeat(model.accounts.segment == segment, model.accounts.owned_count)
                self._counts[segment] = np.bincount(
                    model.owned.product[peers], minlength=len(model.products.price)
                ).astype(np.int64)
            return self._counts[segment]


def _place(cell: WhiteSpaceItem) -> tuple[int, float, float, str]:
    order = ("owned", "offered", "gap", "not_eligible").index(cell.standing)
    return order, -(cell.probability or 0.0), -cell.penetration, cell.product_id


def _on_offer(shelf: WhiteSpaceCategory) -> tuple[bool, float]:
    return shelf.category is not None, sum(cell.expected_value or 0.0 for cell in shelf.cells)
