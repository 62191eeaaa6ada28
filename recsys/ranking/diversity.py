"""Picks a slate from a ranked list: no near-duplicates, no substitutes, a mix of kinds and categories.

Candidates are taken one rank at a time, and what is taken at a rank depends on the ranks above only: slate(k) is a
prefix of slate(k + 1). Near-duplicates (the same family) and substitutes of what was taken are left out for good; the
caps on one kind and one category bend where nothing else is left that is worth a tenth as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import Field

from recsys.contracts.config import Config
from recsys.ranking.model import Bool, Float64, Int32, OfferModel


class DiversityConfig(Config):
    """How alike the offers of one slate may be.

    Attributes:
        max_kind_share: of the ranks so far that one kind may fill; 0.75 keeps one offer in four for the other kind.
        max_category_share: of the ranks so far that one category may fill; half leaves the best category its weight.
        free_ranks: offers of one kind or category that are always allowed: a share of two ranks means nothing.
        least_worth: share of the worth of an offer that another must have to go before it for the mix's sake; variety
            that nobody wants is none.
    """

    max_kind_share: float = Field(default=0.75, gt=0, le=1)
    max_category_share: float = Field(default=0.5, gt=0, le=1)
    free_ranks: int = Field(default=2, ge=1)
    least_worth: float = Field(default=0.1, ge=0, le=1)


@dataclass(slots=True)
class _Chosen:
    """What a slate holds so far, and what that rules out."""

    products: set[int] = field(default_factory=set)
    families: set[int] = field(default_factory=set)
    substitutes: set[int] = field(default_factory=set)
    kinds: list[int] = field(default_factory=lambda: [0, 0])  # cross-sells, upgrades
    categories: dict[int, int] = field(default_factory=dict)


class _Listed(NamedTuple):
    """A ranked list as parallel columns; code -1 where a product has no family or category."""

    product: list[int]
    climbs: list[bool]
    family: list[int]
    category: list[int]
    worth: list[float]


class Picker:
    """Takes offers from ranked lists, one list after the other, into one slate.

    Attributes:
        dropped: product -> why it was passed over for good.
    """

    def __init__(self, model: OfferModel, config: DiversityConfig, *, diverse: bool, mixed: bool) -> None:
        self._products = model.products
        self._substitutes = model.substitutes.product
        self._config = config
        self._diverse = diverse
        self._mixed = mixed
        self._chosen = _Chosen()
        self._beside = _Chosen()
        self.dropped: dict[int, str] = {}

    def stand_beside(self, cart: Sequence[int]) -> None:
        """Keep out cross-sells that replace a product of the cart; an upgrade may."""
        for product in cart:
            self._rule_out(self._beside, product, int(self._products.family[product]))

    def pick(self, products: Int32, climbs: Bool, worth: Float64, n: int) -> list[int]:
        """Return the positions of up to `n` more offers of a ranked list, in order of rank."""
        listed = _Listed(
            products.tolist(),
            climbs.tolist(),
            self._products.family[products].tolist(),
            self._products.category[products].tolist(),
            worth.tolist(),
        )
        waiting = list(range(len(products)))
        taken: list[int] = []
        while len(taken) < n:
            position = self._next(listed, waiting)
            if position is None:
                break
            waiting.remove(position)
            self._take(listed, position)
            taken.append(position)
        return taken

    def _next(self, listed: _Listed, waiting: list[int]) -> int | None:
        """Return the first candidate that fits and is worth it, else the first that is allowed; forget the others."""
        kinds, categories = self._chosen.kinds, self._chosen.categories
        most_of_kind, most_of_category = self._most()
        allowed: int | None = None
        least = 0.0
        refused = []
        for position in waiting:
            full = (
                kinds[listed.climbs[position]] >= most_of_kind
                or categories.get(listed.category[position], 0) >= most_of_category
            )
            if allowed is not None and (full or listed.worth[position] < least):
                continue
            reason = self._refusal(listed, position)
            if reason is not None:
                self.dropped.setdefault(listed.product[position], reason)
                refused.append(position)
                continue
            allowed = position
            if not full:
                break
            least = self._config.least_worth * listed.worth[position]
        for position in refused:
            waiting.remove(position)
        return allowed

    def _most(self) -> tuple[float, float]:
        """Return how many of one kind and of one category may stand before the next rank."""
        if not self._diverse:
            return math.inf, math.inf
        config, rank = self._config, len(self._chosen.products) + 1
        of_kind = max(config.free_ranks, math.ceil(config.max_kind_share * rank)) if self._mixed else math.inf
        return of_kind, max(config.free_ranks, math.ceil(config.max_category_share * rank))

    def _refusal(self, listed: _Listed, position: int) -> str | None:
        product = listed.product[position]
        if product in self._chosen.products:
            return "chosen"
        if not self._diverse:
            return None
        family, crosses = listed.family[position], not listed.climbs[position]
        if family in self._chosen.families or (crosses and family in self._beside.families):
            return "near_duplicate"
        replaced = product in self._chosen.substitutes or (crosses and product in self._beside.substitutes)
        return "substitute" if replaced else None

    def _take(self, listed: _Listed, position: int) -> None:
        chosen, product, category = self._chosen, listed.product[position], listed.category[position]
        chosen.products.add(product)
        if self._diverse:
            chosen.kinds[listed.climbs[position]] += 1
            if category >= 0:
                chosen.categories[category] = chosen.categories.get(category, 0) + 1
            self._rule_out(chosen, product, listed.family[position])

    def _rule_out(self, chosen: _Chosen, product: int, family: int) -> None:
        if family >= 0:
            chosen.families.add(family)
        start = int(self._products.substitutes_start[product])
        count = int(self._products.substitutes_count[product])
        if count:
            chosen.substitutes.update(self._substitutes[start : start + count].tolist())
