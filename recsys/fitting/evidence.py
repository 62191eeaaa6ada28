"""Chooses what explains each candidate when a model is built: a relation to something that the account owns.

A counted relation goes first: the products stand in orders together, or accounts went on from one to the other, more
often than chance gives, with accounts enough behind it. Then comes what is alike (one family, or names that share most
of their words), then what is of one category. `recsys.fitting.copurchases` counts.

The peer group of "went on" is the account's segment where that has counts enough, else all accounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import sparse_lookup
from recsys.fitting.copurchases import CopurchaseLift, EvidenceConfig, FirstPurchases, FollowOns, follow_on_pairs
from recsys.fitting.nearness import SAME_SHELF, Nearness
from recsys.fitting.products import Ranges
from recsys.ladder.upgrade_events import EdgeRows
from recsys.offer_model.tables import (
    ALIKE,
    EVERYONE,
    FOLLOWED,
    SAME_CATEGORY,
    TOGETHER,
    Bool,
    CandidateTable,
    EvidenceTable,
    Float64,
    Int32,
    Int64,
    OwnedTable,
)

NO_EVIDENCE = -1
NO_ANCHOR = -1


@dataclass(frozen=True)
class ChosenEvidence:
    """What reasons are spoken from.

    Attributes:
        of_candidates: row of `table` of each candidate, -1 for none.
        of_edges: row of `table` of each upgrade edge, -1 for none: an upgrade from the cart of someone unknown.
        table: the counts.
        n_follow_ons: see `FollowOns.overall`.
    """

    of_candidates: Int32
    of_edges: Int32
    table: EvidenceTable
    n_follow_ons: Int64


@dataclass(frozen=True)
class Purchases:
    """What accounts own, as anchors.

    Attributes:
        owned: what they have bought.
        rows: where the rows of each account are in `owned`.
        familiarity: how present each purchase is to the account, by row of `owned`, from 0 to 1.
    """

    owned: OwnedTable
    rows: Ranges
    familiarity: Float64


@dataclass(frozen=True)
class _Explained:
    """Candidates and what explains them; parallel arrays."""

    product: Int32
    anchor: Int32
    relation: Int32
    segment: Int32  # whose peers were counted; `NO_EVIDENCE`: nothing explains it

    @classmethod
    def nothing(cls, product: Int32) -> _Explained:
        n = len(product)
        none = np.full(n, NO_ANCHOR, dtype=np.int32)
        return cls(product, none, np.full(n, FOLLOWED, dtype=np.int32), np.full(n, NO_EVIDENCE, dtype=np.int32))

    def put(self, rows: NDArray[np.intp], anchor: Int32, relation: Int32, segment: Int32) -> None:
        """Explain candidates by anchors, those of the relation `FOLLOWED` by a segment, where there is an anchor."""
        found = anchor != NO_ANCHOR
        rows, relation = rows[found], relation[found]
        self.anchor[rows], self.relation[rows] = anchor[found], relation
        self.segment[rows] = np.where(relation == FOLLOWED, segment[found], EVERYONE)


def choose_evidence(
    candidates: CandidateTable,
    account: Int32,
    edges: EdgeRows,
    purchases: Purchases,
    peers: FirstPurchases,
    segment_of_account: Int32,
    together: CopurchaseLift,
    nearness: Nearness,
    config: EvidenceConfig,
) -> ChosenEvidence:
    """Return what explains each candidate and each upgrade edge.

    An upgrade is explained by the rung it starts from. A cross-sell is explained by the account's own purchase with the
    largest `lift * (1 + nearness) * (1 + familiarity)`: how many times as often as by chance the relation holds, at the
    lower end of its interval; how alike the products are; and how present the purchase is to the account. Without a
    counted relation it is the nearest purchase. Ties go to the smaller product id.

    Args:
        candidates: what is explained.
        account: of each candidate, `(n_candidates,)`.
        edges: what is explained of upgrades from a cart.
        purchases: what accounts own.
        peers: the first purchases that are counted.
        segment_of_account: by row of the accounts.
        together: how often products stand in orders together.
        nearness: how alike products are.
        config: how they are counted.
    """
    buyers = peers.buyers()
    follow = follow_on_pairs(peers, buyers, config)
    own = segment_of_account[account]
    explained = _Explained.nothing(candidates.product)
    search = _AnchorSearch(candidates, account, purchases, follow.lift, together.lift, nearness, config.block_pairs)
    for level in (own, np.full(len(own), EVERYONE, dtype=np.int32)):
        search.upgrades(explained, level)
        search.counted(explained, level)
    search.nearest(explained)
    is_open = (explained.anchor == NO_ANCHOR) & (candidates.from_product < 0)
    popular = is_open & _popular(candidates.product, own, peers, buyers, config.least_accounts)
    explained.segment[popular] = own[popular]
    climbed = (
        sparse_lookup(follow.count, edges.lower.astype(np.int64), edges.upper) > 0
    )  # the rows of everyone come first
    both = _Explained(
        product=np.concatenate([candidates.product, edges.upper]),
        anchor=np.concatenate([explained.anchor, edges.lower]),
        relation=np.concatenate([explained.relation, np.full(len(edges.lower), FOLLOWED, dtype=np.int32)]),
        segment=np.concatenate([explained.segment, np.where(climbed, EVERYONE, NO_EVIDENCE)]).astype(np.int32),
    )
    rows, table = _table(both, peers, buyers, follow, together)
    return ChosenEvidence(rows[: len(own)], rows[len(own) :], table, follow.overall)


def _popular(product: Int32, own: Int32, peers: FirstPurchases, buyers: Int64, least: int) -> Bool:
    """Return which products are at least as popular in the account's own segment as with everyone."""
    of_peers = buyers[own, product]
    share = of_peers / np.maximum(peers.n_accounts[own], 1)
    overall = buyers[EVERYONE, product] / max(int(peers.n_accounts[EVERYONE]), 1)
    popular: Bool = (own != EVERYONE) & (of_peers >= least) & (share >= overall)
    return popular


@dataclass(frozen=True)
class _AnchorSearch:
    """Looks for the purchase that explains a candidate best."""

    candidates: CandidateTable
    account: Int32
    purchases: Purchases
    follow: sp.csr_array
    together: sp.csr_array
    nearness: Nearness
    block_pairs: int

    def upgrades(self, explained: _Explained, level: Int32) -> None:
        """Explain upgrades by the rung that they start from, where accounts of the segments `level` followed."""
        lower = self.candidates.from_product
        rows = np.flatnonzero((lower >= 0) & (explained.anchor == NO_ANCHOR))
        n_products = self.follow.shape[1]
        pairs = level[rows].astype(np.int64) * n_products + lower[rows]
        followed = sparse_lookup(self.follow, pairs, self.candidates.product[rows]) != 0
        anchor = np.where(followed, lower[rows], NO_ANCHOR).astype(np.int32)
        explained.put(rows, anchor, np.full(len(rows), FOLLOWED, dtype=np.int32), level[rows])

    def counted(self, explained: _Explained, level: Int32) -> None:
        """Explain cross-sells by what accounts of the segments `level` did, or by what stands in orders together."""
        n_products = self.follow.shape[1]
        for rows, owner, anchor, begins, familiarity in self._blocks(explained):
            product, segment = self.candidates.product[rows][owner], level[rows][owner].astype(np.int64)
            followed = sparse_lookup(self.follow, segment * n_products + anchor, product)
            together = sparse_lookup(self.together, anchor, product)
            near = self.nearness.between(anchor, product)
            score = np.maximum(followed, together) * (1 + near) * (1 + familiarity)
            best = _first_of_the_largest(score, begins)
            relation = np.where(together[best] >= followed[best], TOGETHER, FOLLOWED).astype(np.int32)
            found = np.where(score[best] > 0, anchor[best], NO_ANCHOR).astype(np.int32)
            explained.put(rows, found, relation, level[rows])

    def nearest(self, explained: _Explained) -> None:
        """Explain cross-sells by what is alike, or of one category."""
        for rows, owner, anchor, begins, familiarity in self._blocks(explained):
            near = self.nearness.between(anchor, self.candidates.product[rows][owner])
            best = _first_of_the_largest(near * (1 + familiarity), begins)
            relation = np.where(near[best] > SAME_SHELF, ALIKE, SAME_CATEGORY).astype(np.int32)
            found = np.where(near[best] > 0, anchor[best], NO_ANCHOR).astype(np.int32)
            explained.put(rows, found, relation, np.full(len(rows), EVERYONE, dtype=np.int32))

    def _blocks(self, explained: _Explained) -> Iterator[tuple[NDArray[np.intp], Int64, Int32, Int64, Float64]]:
        """Yield cross-sells without an explanation, with all purchases of their accounts, some at a time.

        Yields:
            Rows of candidates; then for each of their purchases the position of its candidate among those rows, the
            product bought, and its familiarity; and where the purchases of each candidate begin.
        """
        start, count = self.purchases.rows.start, self.purchases.rows.count
        is_open = (explained.anchor == NO_ANCHOR) & (self.candidates.from_product < 0)
        crosses = np.flatnonzero(is_open & (count[self.account] > 0))
        for block in _blocks(count[self.account[crosses]], self.block_pairs):
            rows = crosses[block]
            sizes = count[self.account[rows]]
            ends = np.cumsum(sizes, dtype=np.int64)
            owner = np.repeat(np.arange(len(rows)), sizes)
            bought = np.arange(ends[-1]) + np.repeat(start[self.account[rows]] - (ends - sizes), sizes)
            yield rows, owner, self.purchases.owned.product[bought], ends - sizes, self.purchases.familiarity[bought]


def _first_of_the_largest(score: Float64, begins: Int64) -> Int64:
    """Return the position of the largest score of each run, the first of equal ones: the smaller product id."""
    top = np.maximum.reduceat(score, begins)
    sizes = np.diff(np.append(begins, len(score)))
    place = np.where(score == np.repeat(top, sizes), np.arange(len(score)), len(score))
    first: Int64 = np.minimum.reduceat(place, begins)
    return first


def _blocks(sizes: Int32, limit: int) -> Iterator[slice]:
    """Yield runs of rows whose sizes add up to about `limit`, one row at least."""
    ends = np.cumsum(sizes, dtype=np.int64)
    begin = 0
    while begin < len(sizes):
        done = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, done + limit, side="right")), begin + 1)
        yield slice(begin, end)
        begin = end


def _table(
    explained: _Explained, peers: FirstPurchases, buyers: Int64, follow: FollowOns, together: CopurchaseLift
) -> tuple[Int32, EvidenceTable]:
    """Return the row of each explanation in the table of the distinct ones, and that table with its counts."""
    rows = np.flatnonzero(explained.segment != NO_EVIDENCE)
    n, n_segments = np.int64(peers.n_products), np.int64(len(peers.n_accounts))
    group = explained.relation[rows] * n_segments + explained.segment[rows]
    key = (group * (n + 1) + (explained.anchor[rows] + 1)) * n + explained.product[rows]
    keys, position = np.unique(key, return_inverse=True)
    evidence = np.full(len(explained.product), NO_EVIDENCE, dtype=np.int32)
    evidence[rows] = position
    product, pair = (keys % n).astype(np.int32), keys // n
    group, anchor = pair // (n + 1), (pair % (n + 1) - 1).astype(np.int32)
    relation, segment = group // n_segments, (group % n_segments).astype(np.int32)
    n_anchor, n_followed = np.zeros((2, len(keys)), dtype=np.int32)
    alone = anchor == NO_ANCHOR
    n_anchor[alone], n_followed[alone] = peers.n_accounts[segment[alone]], buyers[segment[alone], product[alone]]
    counted = ~alone & (relation == FOLLOWED)
    n_anchor[counted] = buyers[segment[counted], anchor[counted]]
    n_followed[counted] = sparse_lookup(
        follow.count, segment[counted].astype(np.int64) * n + anchor[counted], product[counted]
    )
    beside = relation == TOGETHER
    n_anchor[beside] = together.n_orders[anchor[beside]]
    n_followed[beside] = sparse_lookup(together.count, anchor[beside], product[beside])
    return evidence, EvidenceTable(segment, anchor, product, n_anchor, n_followed, relation.astype(np.int8))
