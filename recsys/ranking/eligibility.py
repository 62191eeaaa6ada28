"""Which candidates may be offered at all, and the first rule that says no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys.ranking.model import Bool, Int32
from recsys.ranking.pool import Pool, member
from recsys.ranking.state import REFUSALS, LiveCatalogue

NO_ROWS: Int32 = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Barriers:
    """What one request rules out, as sorted rows of products.

    Attributes:
        in_cart: products of the cart and the one that is viewed.
        excluded: product ids that the request names.
        withheld: held back for this account now.
        owned: left out of cross-sell, or of everything for `new_only`.
        new_only: whether `owned` bars upgrades too.
    """

    in_cart: Int32
    excluded: Int32
    withheld: Int32
    owned: Int32
    new_only: bool

    def eligible(self, pool: Pool, catalogue: LiveCatalogue) -> tuple[Bool, dict[str, int]]:
        """Return which candidates may be offered, and how many each rule was the first to bar."""
        keep = np.ones(len(pool), dtype=bool)
        counts: dict[str, int] = {}
        for name, bars in self._rules(pool, catalogue):
            first = int(np.count_nonzero(bars & keep))
            if first:
                counts[name] = first
                keep &= ~bars
        return keep, counts

    def _rules(self, pool: Pool, catalogue: LiveCatalogue) -> Iterator[tuple[str, Bool]]:
        refusal = catalogue.refusal[pool.product]
        if refusal.any():
            yield from ((REFUSALS[code], refusal == code) for code in range(1, len(REFUSALS)))
        for name, rows in (("in_cart", self.in_cart), ("excluded", self.excluded), ("withheld", self.withheld)):
            if len(rows):
                yield name, member(pool.product, rows)
        if len(self.owned):
            owned = member(pool.product, self.owned)
            yield "owned", owned if self.new_only else owned & (pool.from_product < 0)
