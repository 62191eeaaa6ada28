"""Chooses the counts that explain each candidate when a model is built; `recsys.fitting.copurchases` counts them.

The peer group is the account's segment where that has counts enough, else all accounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import sparse_lookup
from recsys.fitting.copurchases import EvidenceConfig, FirstPurchases, FollowOns, follow_on_pairs
from recsys.fitting.products import Ranges
from recsys.ladder.upgrade_events import EdgeRows
from recsys.offer_model.tables import EVERYONE, Bool, CandidateTable, EvidenceTable, Int32, Int64, OwnedTable

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
class _Explained:
    """An offered product, what it is explained by, and whose peers were counted; parallel arrays."""

    product: Int32
    anchor: Int32
    segment: Int32  # `NO_EVIDENCE`: nothing explains it


def choose_evidence(
    candidates: CandidateTable,
    account: Int32,
    edges: EdgeRows,
    owned: OwnedTable,
    owned_rows: Ranges,
    peers: FirstPurchases,
    segment_of_account: Int32,
    config: EvidenceConfig,
) -> ChosenEvidence:
    """Return the counts that explain each candidate and each upgrade edge.

    A cross-sell is explained by the account's own purchase after which most of its peers, by the lower end of the
    interval, went on to the product; an upgrade by the rung it starts from. Ties go to the smaller product id.

    Args:
        candidates: what is explained.
        account: of each candidate, `(n_candidates,)`.
        edges: what is explained of upgrades from a cart.
        owned: what accounts have bought.
        owned_rows: where the rows of each account are in `owned`.
        peers: the first purchases that are counted.
        segment_of_account: by row of the accounts.
        config: how they are counted.
    """
    buyers = peers.buyers()
    follow = follow_on_pairs(peers, buyers, config)
    own = segment_of_account[account]
    segment = np.full(len(own), NO_EVIDENCE, dtype=np.int32)
    anchor = np.full(len(own), NO_ANCHOR, dtype=np.int32)
    search = _AnchorSearch(
        candidates, account, owned, owned_rows, follow.strength, peers.n_products, config.block_pairs
    )
    for level in (own, np.full(len(own), EVERYONE, dtype=np.int32)):
        open_rows = np.flatnonzero((anchor == NO_ANCHOR) & (segment != level))
        segment[open_rows] = level[open_rows]
        anchor[open_rows] = search.best(open_rows, level)
    segment[anchor == NO_ANCHOR] = NO_EVIDENCE
    popular = (anchor == NO_ANCHOR) & _popular(candidates.product, own, peers, buyers, config.least_accounts)
    segment[popular] = own[popular]
    climbed = (
        sparse_lookup(follow.count, edges.lower.astype(np.int64), edges.upper) > 0
    )  # the rows of everyone come first
    explained = _Explained(
        product=np.concatenate([candidates.product, edges.upper]),
        anchor=np.concatenate([anchor, edges.lower]),
        segment=np.concatenate([segment, np.where(climbed, EVERYONE, NO_EVIDENCE)]).astype(np.int32),
    )
    rows, table = _table(explained, peers, buyers, follow)
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
    owned: OwnedTable
    owned_rows: Ranges
    strength: sp.csr_array
    n_products: int
    block_pairs: int

    def best(self, rows: NDArray[np.intp], level: Int32) -> Int32:
        """Return the strongest anchor of the candidates in `rows` under the segments `level`, -1 for none.

        `level` is by candidate, as all of `candidates`.
        """
        best = np.full(len(rows), NO_ANCHOR, dtype=np.int32)
        climbs = self.candidates.from_product[rows] >= 0
        best[climbs] = self._rung(rows[climbs], level)
        start, count = self.owned_rows.start, self.owned_rows.count
        crosses = np.flatnonzero(~climbs & (count[self.account[rows]] > 0))
        for block in _blocks(count[self.account[rows[crosses]]], self.block_pairs):
            account = self.account[rows[crosses[block]]]
            best[crosses[block]] = self._purchase(rows[crosses[block]], level, start[account], count[account])
        return best

    def _rung(self, rows: NDArray[np.intp], level: Int32) -> Int32:
        lower, product = self.candidates.from_product[rows], self.candidates.product[rows]
        followed = sparse_lookup(self.strength, level[rows].astype(np.int64) * self.n_products + lower, product) != 0
        return np.where(followed, lower, NO_ANCHOR).astype(np.int32)

    def _purchase(self, rows: NDArray[np.intp], level: Int32, start: Int64, count: Int32) -> Int32:
        """Compare all of each account's purchases, one or more; `start` and `count` say which they are."""
        ends = np.cumsum(count)
        offset = np.arange(ends[-1]) - np.repeat(ends - count, count)
        anchor = self.owned.product[np.repeat(start, count) + offset]
        segment = np.repeat(level[rows].astype(np.int64), count)
        product = np.repeat(self.candidates.product[rows], count)
        found = sparse_lookup(self.strength, segment * self.n_products + anchor, product)
        top = np.maximum.reduceat(found, ends - count)
        # The first anchor that reaches the top: purchases are sorted by product, so ties go to the smaller id.
        place = np.where(found == np.repeat(top, count), offset, np.iinfo(np.int64).max)
        winner = np.minimum.reduceat(place, ends - count)
        return np.where(top > 0, self.owned.product[start + winner], NO_ANCHOR).astype(np.int32)


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
    explained: _Explained, peers: FirstPurchases, buyers: Int64, follow: FollowOns
) -> tuple[Int32, EvidenceTable]:
    """Return the row of each explanation in the table of the distinct ones, and that table with its counts."""
    rows = np.flatnonzero(explained.segment != NO_EVIDENCE)
    n = np.int64(peers.n_products)
    key = (explained.segment[rows] * (n + 1) + (explained.anchor[rows] + 1)) * n + explained.product[rows]
    keys, position = np.unique(key, return_inverse=True)
    evidence = np.full(len(explained.product), NO_EVIDENCE, dtype=np.int32)
    evidence[rows] = position
    product, pair = (keys % n).astype(np.int32), keys // n
    segment, anchor = (pair // (n + 1)).astype(np.int32), (pair % (n + 1) - 1).astype(np.int32)
    anchored = anchor != NO_ANCHOR
    n_followed = buyers[segment, product].astype(np.int32)
    n_followed[anchored] = sparse_lookup(
        follow.count, segment[anchored].astype(np.int64) * n + anchor[anchored], product[anchored]
    )
    n_anchor = np.where(anchored, buyers[segment, np.maximum(anchor, 0)], peers.n_accounts[segment])
    return evidence, EvidenceTable(segment, anchor, product, n_anchor.astype(np.int32), n_followed)
