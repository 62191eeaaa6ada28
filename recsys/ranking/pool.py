"""Candidates of one request as parallel arrays, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.contracts.offers import Tier
from recsys.offer_model.tables import Bool, Float64, Int32

TIERS: tuple[Tier, ...] = ("account", "recent", "cart", "segment", "popular")


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates of one request, shape `(n_candidates,)` each.

    Attributes:
        product: row of the product.
        from_product: the rung that an upgrade starts from; -1: a cross-sell.
        probability: within the model's horizon.
        chance: what ranks: beside a cart the probability that this very order holds it, else `probability`.
        quantity: expected units.
        score: the ranker's own order, comparable within one kind.
        evidence: row of the evidence table, of the fallback table in the tiers segment and popular; -1 without one.
        tier: position in `TIERS`.
    """

    product: Int32
    from_product: Int32
    probability: Float64
    chance: Float64
    quantity: Float64
    score: Float64
    evidence: Int32
    tier: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.product)

    def part(self, begin: int, end: int) -> Pool:
        """Return the candidates from `begin` to before `end`, without a copy."""
        rows = slice(begin, end)
        return Pool(
            self.product[rows],
            self.from_product[rows],
            self.probability[rows],
            self.chance[rows],
            self.quantity[rows],
            self.score[rows],
            self.evidence[rows],
            self.tier[rows],
        )

    def ranked_by(self, chance: Float64, probability: Float64 | None = None) -> Pool:
        """Return the same candidates with other chances, which are their scores too."""
        return Pool(
            self.product,
            self.from_product,
            self.probability if probability is None else probability,
            chance,
            self.quantity,
            chance,
            self.evidence,
            self.tier,
        )

    def take(self, rows: NDArray[np.intp] | Bool) -> Pool:
        """Return the candidates at `rows`."""
        return Pool(
            self.product[rows],
            self.from_product[rows],
            self.probability[rows],
            self.chance[rows],
            self.quantity[rows],
            self.score[rows],
            self.evidence[rows],
            self.tier[rows],
        )


def crosses(product: Int32, probability: Float64, quantity: Float64, tier: int, evidence: Int32 | None = None) -> Pool:
    """Return cross-sell candidates that are scored by their probability."""
    n = len(product)
    none = np.full(n, -1, dtype=np.int32)
    return Pool(
        product,
        none,
        probability,
        probability,
        quantity,
        probability,
        none if evidence is None else evidence,
        np.full(n, tier, dtype=np.int8),
    )


def joined(pools: list[Pool]) -> Pool:
    """Return the candidates of all pools, in their order; at least one pool."""
    filled = [pool for pool in pools if len(pool.product)]
    if len(filled) <= 1:
        return filled[0] if filled else pools[0]
    return Pool(
        np.concatenate([pool.product for pool in filled]),
        np.concatenate([pool.from_product for pool in filled]),
        np.concatenate([pool.probability for pool in filled]),
        np.concatenate([pool.chance for pool in filled]),
        np.concatenate([pool.quantity for pool in filled]),
        np.concatenate([pool.score for pool in filled]),
        np.concatenate([pool.evidence for pool in filled]),
        np.concatenate([pool.tier for pool in filled]),
    )


def member(rows: Int32, among: Int32) -> Bool:
    """Return which `rows` stand in `among`, which is sorted."""
    if not len(among):
        return np.zeros(len(rows), dtype=bool)
    position = np.minimum(among.searchsorted(rows), len(among) - 1)
    found: Bool = among[position] == rows
    return found
