"""Which candidates may be offered at all, and the first rule that says no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from recsys.offer_model.tables import Bool, Float64, Int32
from recsys.ranking.live_catalogue import REFUSALS, LiveCatalogue
from tests.support.reference_ranker.candidates import Pool, member

NO_ROWS: Int32 = np.zeros(0, dtype=np.int32)

BLOCKED_BY_RULE: Final = "blocked"
CHANGING: Final = frozenset({*REFUSALS[1:], BLOCKED_BY_RULE})
"""Reasons that change from moment to moment: a decision keeps which of its candidates they removed."""


def prices_of(products: Int32, quantity: Float64, segment: int, catalogue: LiveCatalogue) -> Float64:
    """Return what a segment pays for each product at a quantity."""
    pairs = zip(products.tolist(), quantity.tolist(), strict=True)
    return np.array([catalogue.price_at(product, segment, units) for product, units in pairs], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a request wants to be offered at all.

    Attributes:
        category_of: category of each product, shape `(n_products,)`.
        categories: the wanted ones, sorted; None: any.
        min_price: money a unit.
        max_price: money a unit.
        segment: whose prices they are about.
    """

    category_of: Int32
    categories: Int32 | None
    min_price: float | None
    max_price: float | None
    segment: int

    def outside(self, pool: Pool, catalogue: LiveCatalogue) -> Bool:
        """Return which products the request does not want; one without a price is outside every price band."""
        products = pool.product
        out = np.zeros(len(products), dtype=bool)
        if self.categories is not None:
            out |= ~member(self.category_of[products], self.categories)
        price = prices_of(products, pool.quantity, self.segment, catalogue)
        if self.min_price is not None:
            out |= ~(price >= self.min_price)
        if self.max_price is not None:
            out |= ~(price <= self.max_price)
        return out


@dataclass(frozen=True, slots=True)
class Barriers:
    """What one request rules out, as sorted rows of products.

    Attributes:
        in_cart: products of the cart and the one that is viewed.
        excluded: product ids that the request names.
        suppressed: held back for this account now.
        owned: left out of cross-sell, or of everything for `new_only`.
        new_only: whether `owned` bars upgrades too.
        blocked: barred by business rules.
        bounds: categories and prices that the request asks for; None without any.
    """

    in_cart: Int32
    excluded: Int32
    suppressed: Int32
    owned: Int32
    new_only: bool
    blocked: Int32 = field(default_factory=lambda: NO_ROWS)
    bounds: Bounds | None = None

    def eligible(self, pool: Pool, catalogue: LiveCatalogue) -> tuple[Bool, dict[str, int]]:
        """Return which candidates may be offered, and how many each rule was the first to bar."""
        keep = np.ones(len(pool), dtype=bool)
        counts: dict[str, int] = {}
        for name, bars in self.rules(pool, catalogue):
            first = int(np.count_nonzero(bars & keep))
            if first:
                counts[name] = first
                keep &= ~bars
        return keep, counts

    def changing(self, pool: Pool, catalogue: LiveCatalogue) -> dict[int, str]:
        """Return the candidates that only a reason of `CHANGING` removes, and which."""
        found: dict[int, str] = {}
        for name, bars in self.rules(pool, catalogue):
            if name in CHANGING:
                for row in pool.product[bars].tolist():
                    found.setdefault(row, name)
        return found

    def rules(self, pool: Pool, catalogue: LiveCatalogue) -> Iterator[tuple[str, Bool]]:
        """Yield each rule that may bar a candidate, by name and in order, and whom it bars."""
        refusal = catalogue.refusal[pool.product]
        if refusal.any():
            yield from ((REFUSALS[code], refusal == code) for code in range(1, len(REFUSALS)))
        if len(self.blocked):
            yield BLOCKED_BY_RULE, member(pool.product, self.blocked)
        if self.bounds is not None:
            yield "filtered", self.bounds.outside(pool, catalogue)
        for name, rows in (("in_cart", self.in_cart), ("excluded", self.excluded), ("withheld", self.suppressed)):
            if len(rows):
                yield name, member(pool.product, rows)
        if len(self.owned):
            owned = member(pool.product, self.owned)
            yield "owned", owned if self.new_only else owned & (pool.from_product < 0)
