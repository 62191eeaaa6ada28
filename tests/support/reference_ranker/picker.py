"""Picks a slate from a ranked list: no near-duplicates, no substitutes, a mix of kinds and categories.

Candidates are taken one rank at a time, and what is taken at a rank depends on the ranks above only: slate(k) is a
prefix of slate(k + 1). Near-duplicates (of one family) and substitutes of what was taken are left out for good,
variants until the first ranks are full; the caps on one kind and one category bend where nothing else is left that is
worth a tenth as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from recsys.contracts.offers import Mix
from recsys.offer_model.tables import Bool, Float64, Int32, OfferModel
from recsys.ranking.config import DiversityConfig
from recsys.ranking.kernel.layout import BY_CATEGORIES, BY_KINDS, BY_RULE, BY_VARIANTS, NOT_MOVED


class Slot(NamedTuple):
    """A rank that a business rule speaks of: one of `rows` stands there, or stood before where `or_before`."""

    rank: int
    rows: frozenset[int]
    or_before: bool


@dataclass(slots=True)
class _Chosen:
    """What a slate holds so far, and what that rules out."""

    products: set[int] = field(default_factory=set)
    families: set[int] = field(default_factory=set)
    variants: set[int] = field(default_factory=set)
    substitutes: set[int] = field(default_factory=set)
    kinds: list[int] = field(default_factory=lambda: [0, 0])  # cross-sells, upgrades
    categories: dict[int, int] = field(default_factory=dict)


class _Listed:
    """A ranked list as parallel columns; code -1 where a product has no family or category, 0 without variants."""

    __slots__ = (
        "_worths",
        "aside",
        "best_from",
        "category",
        "climbs",
        "family",
        "gone",
        "of_kind",
        "product",
        "variant",
        "worth",
    )

    def __init__(
        self,
        product: list[int],
        climbs: Bool,
        family: list[int],
        variant: list[int],
        category: list[int],
        worth: Float64,
    ) -> None:
        self.product = product
        self.climbs: list[bool] = climbs.tolist()
        self.family = family
        self.variant = variant
        self.category = category
        self.worth: list[float] = worth.tolist()
        self.aside: list[int] = []  # variants that wait until the first ranks are full
        self.gone = bytearray(len(product))  # taken, or refused for good
        self.of_kind: tuple[list[int], list[int]] = (~climbs).nonzero()[0].tolist(), climbs.nonzero()[0].tolist()
        self.best_from: list[float] = []
        self._worths = worth

    def measure(self) -> None:
        """Note the best worth from each position on; only a list that is full of one kind or category needs it."""
        if not self.best_from:
            self.best_from = np.maximum.accumulate(self._worths[::-1])[::-1].tolist()


class Picker:
    """Takes offers from ranked lists, one list after the other, into one slate.

    Attributes:
        dropped: product -> why it was passed over for good.
        moved: of each that was taken, what put it before others of a higher score: position in `MOVERS`.
    """

    def __init__(
        self,
        model: OfferModel,
        config: DiversityConfig,
        *,
        diverse: bool,
        mixed: bool,
        mix: Mix = "all",
        leaves_variants_out: bool = True,
    ) -> None:
        self._products = model.products
        self._substitutes = model.substitutes.product
        self._config = config
        self._diverse = diverse
        self._mixes_kinds = mixed and diverse and mix in {"all", "kinds"}
        self._mixes_categories = diverse and mix in {"all", "categories"}
        self._leaves_variants_out = leaves_variants_out
        self._chosen = _Chosen()
        self._beside = _Chosen()
        self._places: Sequence[Slot] = ()
        self.dropped: dict[int, str] = {}
        self.moved: list[int] = []

    def stand_beside(self, cart: Sequence[int]) -> None:
        """Keep out cross-sells that replace a product of the cart; an upgrade may."""
        for product in cart:
            self._rule_out(self._beside, product, int(self._products.family[product]))

    def stand_by(self, places: Sequence[Slot]) -> None:
        """Let business rules say who stands at which rank."""
        self._places = places

    def pick(self, products: Int32, climbs: Bool, worth: Float64, n: int) -> list[int]:
        """Return the positions of up to `n` more offers of a ranked list, in order of rank.

        Whoever is pinned to a rank waits for it; a list of nobody else ends the waiting.
        """
        listed = _Listed(
            products.tolist(),
            climbs,
            self._products.family[products].tolist(),
            self._products.variant_group[products].tolist(),
            self._products.category[products].tolist(),
            worth,
        )
        taken: list[int] = []
        waiting = self._waiting(listed) if self._places else []
        while len(taken) < n:
            if len(self._chosen.products) == self._config.variant_ranks:
                for waited in listed.aside:
                    listed.gone[waited] = 0
            placed = self._placed(listed, waiting) if self._places else None
            position, moved = self._next(listed) if placed is None else (placed, BY_RULE)
            if position is None:
                break
            self.moved.append(BY_VARIANTS if moved == NOT_MOVED and position in listed.aside else moved)
            listed.gone[position] = 1
            self._take(listed, position)
            taken.append(position)
        if len(self._chosen.products) <= self._config.variant_ranks:
            for waited in listed.aside:
                self.dropped.setdefault(listed.product[waited], "near_duplicate")
        return taken

    def _waiting(self, listed: _Listed) -> list[int]:
        """Set those aside that are pinned to a rank; return their positions."""
        pinned = {row for place in self._places if not place.or_before for row in place.rows}
        waiting = [at for at, row in enumerate(listed.product) if row in pinned]
        if len(waiting) == len(listed.product):
            return []
        for at in waiting:
            listed.gone[at] = 1
        return waiting

    def _placed(self, listed: _Listed, waiting: list[int]) -> int | None:
        """Return the position of whom a business rule wants at this rank, None where it wants nobody there."""
        rank = len(self._chosen.products) + 1
        for place in self._places:
            if place.rank != rank or (place.or_before and place.rows & self._chosen.products):
                continue
            for at in waiting:  # a pin stands beside its near-duplicates too: somebody wants it there
                pinned = not place.or_before and listed.product[at] in place.rows
                if pinned and listed.product[at] not in self._chosen.products:
                    return at
            for at in range(len(listed.product)):
                wanted = place.or_before and listed.product[at] in place.rows and not listed.gone[at]
                if wanted and self._is_allowed(listed, at):
                    return at
        return None

    def _next(self, listed: _Listed) -> tuple[int | None, int]:
        """Return the first candidate that fits and is worth it, else the first that is allowed; forget the others."""
        position = self._allowed(listed, 0)
        if position is None:
            return None, NOT_MOVED
        kinds, categories, categorised = self._chosen.kinds, self._chosen.categories, listed.category
        most_of_kind, most_of_category = self._most()
        kind = listed.climbs[position]
        full = kinds[kind] >= most_of_kind
        if not full and categories.get(categorised[position], 0) < most_of_category:
            return position, NOT_MOVED
        listed.measure()
        least = self._config.least_worth * listed.worth[position]
        others = listed.of_kind[not kind] if full else range(position + 1, len(listed.product))
        for other in others:
            if other <= position or listed.gone[other] or listed.worth[other] < least:
                if listed.best_from[other] < least:
                    break
                continue
            crowded = kinds[listed.climbs[other]] >= most_of_kind
            if crowded or categories.get(categorised[other], 0) >= most_of_category:
                continue
            if self._is_allowed(listed, other):
                return other, BY_KINDS if full else BY_CATEGORIES
        return position, NOT_MOVED

    def _allowed(self, listed: _Listed, position: int) -> int | None:
        """Return the first position that may be taken, from `position` on."""
        while (position := listed.gone.find(0, position)) >= 0:
            if self._is_allowed(listed, position):
                return position
        return None

    def _is_allowed(self, listed: _Listed, position: int) -> bool:
        reason = self._refusal(listed, position)
        if reason is None:
            return True
        if reason == "variant":
            listed.aside.append(position)
        else:
            self.dropped.setdefault(listed.product[position], reason)
        listed.gone[position] = 1
        return False

    def _most(self) -> tuple[float, float]:
        """Return how many of one kind and of one category may stand before the next rank."""
        config, rank = self._config, len(self._chosen.products) + 1
        of_kind = max(config.free_ranks, math.ceil(config.max_kind_share * rank))
        of_category = max(config.free_ranks, math.ceil(config.max_category_share * rank))
        return of_kind if self._mixes_kinds else math.inf, of_category if self._mixes_categories else math.inf

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
        if replaced:
            return "substitute"
        variant, is_early = listed.variant[position], len(self._chosen.products) < self._config.variant_ranks
        is_another = variant in self._chosen.variants or (crosses and variant in self._beside.variants)
        return "variant" if is_early and is_another else None

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
        variant = int(self._products.variant_group[product])
        if variant and self._leaves_variants_out:
            chosen.variants.add(variant)
        count = int(self._products.substitutes_count[product])
        if count:
            start = int(self._products.substitutes_start[product])
            chosen.substitutes.update(self._substitutes[start : start + count].tolist())
