"""Chooses the counts that explain each candidate when a model is built; `recsys.ranking.peers` counts them.

The peer group is the account's segment where that has counts enough, else all accounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.ranking.model import EVERYONE, EvidenceTable, Int32, Int64
from recsys.ranking.peers import EvidenceConfig, FollowOns, Peers, follow_ons
from recsys.ranking.portfolio import Portfolio, Purchases
from recsys.ranking.vocabulary import ranges

NO_EVIDENCE = -1
NO_ANCHOR = -1


@dataclass(frozen=True)
class Evidence:
    """What reasons are spoken from.

    Attributes:
        rows: row of `table` of each candidate, -1 for none.
        table: the counts.
        n_follow_ons: see `FollowOns.overall`.
    """

    rows: Int32
    table: EvidenceTable
    n_follow_ons: Int64


def choose_evidence(
    ready: Portfolio, bought: Purchases, peers: Peers, segment_of_account: Int32, config: EvidenceConfig
) -> Evidence:
    """Return the counts that explain each candidate.

    A cross-sell is explained by the account's own purchase after which most of its peers, by the lower end of the
    interval, went on to the product; an upgrade by the rung it starts from. Ties go to the smaller product id.
    """
    buyers = peers.buyers()
    follow = follow_ons(peers, buyers, config)
    group = np.full(len(ready.account), NO_EVIDENCE, dtype=np.int32)
    anchor = np.full(len(ready.account), NO_ANCHOR, dtype=np.int32)
    for level in (segment_of_account[ready.account], np.zeros(len(ready.account), dtype=np.int32)):
        found = _best_anchor(ready, bought, follow.strength, level, peers.n_products, config.block_pairs)
        fresh = (anchor == NO_ANCHOR) & (found != NO_ANCHOR)
        anchor[fresh], group[fresh] = found[fresh], level[fresh]
    rows, table = _table(ready, group, anchor, segment_of_account, peers, buyers, follow, config.least_accounts)
    return Evidence(rows, table, follow.overall)


def _best_anchor(
    ready: Portfolio, bought: Purchases, strength: sp.csr_array, level: Int32, n_products: int, block_pairs: int
) -> Int32:
    """Return the strongest anchor of each candidate under the segment `level` of its account, -1 for none."""
    best = np.full(len(ready.account), NO_ANCHOR, dtype=np.int32)
    climbs = np.flatnonzero(ready.table.from_product >= 0)
    if len(climbs):
        rung = ready.table.from_product[climbs]
        found = _lookup(strength, level[climbs].astype(np.int64) * n_products + rung, ready.table.product[climbs])
        best[climbs] = np.where(found != 0, rung, NO_ANCHOR)
    n_accounts = int(max(ready.account.max(initial=-1), bought.account.max(initial=-1))) + 1
    start, count = ranges(bought.account, n_accounts)
    crosses = np.flatnonzero((ready.table.from_product < 0) & (count[ready.account] > 0))
    for block in _blocks(count[ready.account[crosses]], block_pairs):
        rows = crosses[block]
        owned_start, owned_count = start[ready.account[rows]], count[ready.account[rows]]
        rows, owned_start, owned_count = (
            rows[owned_count > 0],
            owned_start[owned_count > 0],
            owned_count[owned_count > 0],
        )
        if not len(rows):
            continue
        ends = np.cumsum(owned_count)
        offset = np.arange(ends[-1]) - np.repeat(ends - owned_count, owned_count)
        anchor = bought.product[np.repeat(owned_start, owned_count) + offset]
        segment = np.repeat(level[rows].astype(np.int64), owned_count)
        found = _lookup(strength, segment * n_products + anchor, np.repeat(ready.table.product[rows], owned_count))
        top = np.maximum.reduceat(found, ends - owned_count)
        # The first anchor that reaches the top: owned products are sorted, so ties go to the smaller id.
        position = np.where(found == np.repeat(top, owned_count), offset, np.iinfo(np.int64).max)
        winner = np.minimum.reduceat(position, ends - owned_count)
        best[rows] = np.where(top > 0, bought.product[owned_start + np.minimum(winner, owned_count - 1)], NO_ANCHOR)
    return best


def _lookup(matrix: sp.csr_array, rows: Int64, columns: Int32) -> NDArray[np.generic]:
    return np.asarray(matrix[rows, columns]).ravel()


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
    ready: Portfolio,
    group: Int32,
    anchor: Int32,
    segment_of_account: Int32,
    peers: Peers,
    buyers: Int64,
    follow: FollowOns,
    least: int,
) -> tuple[Int32, EvidenceTable]:
    product = ready.table.product
    # Without an anchor: popular in the account's own segment, where it is at least as popular there as with everyone.
    own = segment_of_account[ready.account]
    of_peers = buyers[own, product]
    share = of_peers / np.maximum(peers.n_accounts[own], 1)
    overall = buyers[EVERYONE, product] / max(int(peers.n_accounts[EVERYONE]), 1)
    popular = (anchor == NO_ANCHOR) & (own != EVERYONE) & (of_peers >= least) & (share >= overall)
    group = np.where(popular, own, group).astype(np.int32)
    rows = np.flatnonzero(group != NO_EVIDENCE)
    n = np.int64(peers.n_products)
    key = (group[rows] * (n + 1) + (anchor[rows] + 1)) * n + product[rows]
    keys, position = np.unique(key, return_inverse=True)
    evidence = np.full(len(product), NO_EVIDENCE, dtype=np.int32)
    evidence[rows] = position
    offered, pair = (keys % n).astype(np.int32), keys // n
    segment, source = (pair // (n + 1)).astype(np.int32), (pair % (n + 1) - 1).astype(np.int32)
    anchored = source != NO_ANCHOR
    followed = _lookup(follow.count, segment[anchored].astype(np.int64) * n + source[anchored], offered[anchored])
    n_followed = buyers[segment, offered].astype(np.int32)
    n_followed[anchored] = followed
    n_anchor = np.where(anchored, buyers[segment, np.maximum(source, 0)], peers.n_accounts[segment])
    return evidence, EvidenceTable(segment, source, offered, n_anchor.astype(np.int32), n_followed)
