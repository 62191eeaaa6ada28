"""Picks a slate from a ranked list: no near-duplicates, no substitutes, a mix of kinds and categories.

Candidates are taken one rank at a time, and what is taken at a rank depends on the ranks above only: slate(k) is a
prefix of slate(k + 1). Near-duplicates (the same family) and substitutes of what was taken are left out for good; the
caps on one kind and one category bend where nothing else is left.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import Field

from recsys.contracts.config import Config
from recsys.ranking.model import Bool, Int32, OfferModel


class DiversityConfig(Config):
    """How alike the offers of one slate may be.

    Attributes:
        max_kind_share: of the ranks so far that one kind may fill; 0.75 keeps one offer in four for the other kind.
        max_category_share: of the ranks so far that one category may fill; half leaves the best category its weight.
        free_ranks: offers of one kind or category that are always allowed: a share of two ranks means nothing.
    """

    max_kind_share: float = Field(default=0.75, gt=0, le=1)
    max_category_share: float = Field(default=0.5, gt=0, le=1)
    free_ranks: int = Field(default=2, ge=1)


@dataclass(slots=True)
class _Chosen:
    """What a slate holds so far, and what that rules out."""

    products: set[int] = field(default_factory=set)
    families: set[int] = field(default_factory=set)
    substitutes: set[int] = field(default_factory=set)
    kinds: Counter[bool] = field(default_factory=Counter)
    categories: Counter[int] = field(default_factory=Counter)


class _Listed(NamedTuple):
    """One candidate of a ranked list; code -1 where it has no family or category."""

    position: int
    product: int
    climbs: bool
    family: int
    category: int


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

    def pick(self, products: Int32, climbs: Bool, n: int) -> list[int]:
        """Return the positions of up to `n` more offers of a ranked list, in order of rank."""
        columns = (products, climbs, self._products.family[products], self._products.category[products])
        waiting = list(map(_Listed, range(len(products)), *(column.tolist() for column in columns)))
        taken: list[int] = []
        while len(taken) < n:
            found = self._next(waiting)
            if found is None:
                break
            waiting.remove(found)
            self._take(found)
            taken.append(found.position)
        return taken

    def _next(self, waiting: list[_Listed]) -> _Listed | None:
        """Return the first candidate that fits, else the first that is allowed; forget those that are not."""
        full_kinds, full_categories = self._full()
        allowed: _Listed | None = None
        refused = []
        for item in waiting:
            full = item.climbs in full_kinds or item.category in full_categories
            if full and allowed is not None:
                continue
            reason = self._refusal(item)
            if reason is not None:
                self.dropped.setdefault(item.product, reason)
                refused.append(item)
                continue
            allowed = item
            if not full:
                break
        for item in refused:
            waiting.remove(item)
        return allowed

    def _full(self) -> tuple[set[bool], set[int]]:
        """Return the kinds and categories that may not fill the next rank too."""
        if not self._diverse:
            return set(), set()
        config, chosen, rank = self._config, self._chosen, len(self._chosen.products) + 1
        most = max(config.free_ranks, math.ceil(config.max_kind_share * rank))
        kinds = {kind for kind, n in chosen.kinds.items() if n >= most} if self._mixed else set()
        most = max(config.free_ranks, math.ceil(config.max_category_share * rank))
        return kinds, {category for category, n in chosen.categories.items() if n >= most and category >= 0}

    def _refusal(self, item: _Listed) -> str | None:
        if item.product in self._chosen.products:
            return "chosen"
        if not self._diverse:
            return None
        crosses = not item.climbs
        if item.family in self._chosen.families or (crosses and item.family in self._beside.families):
            return "near_duplicate"
        replaced = item.product in self._chosen.substitutes or (crosses and item.product in self._beside.substitutes)
        return "substitute" if replaced else None

    def _take(self, item: _Listed) -> None:
        self._chosen.products.add(item.product)
        if self._diverse:
            self._chosen.kinds[item.climbs] += 1
            self._chosen.categories[item.category] += 1
            self._rule_out(self._chosen, item.product, item.family)

    def _rule_out(self, chosen: _Chosen, product: int, family: int) -> None:
        if family >= 0:
            chosen.families.add(family)
        start = int(self._products.substitutes_start[product])
        count = int(self._products.substitutes_count[product])
        if count:
            chosen.substitutes.update(self._substitutes[start : start + count].tolist())
