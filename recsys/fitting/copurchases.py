"""What accounts and orders did, counted for the reasons: the answers to queries over the training orders.

- `n_anchor`: accounts of the peer group that bought the anchor;
- `n_followed`: of those, the ones whose first purchase of the product came after their first purchase of the anchor,
  at most `window_days` later;
- without an anchor: accounts of the peer group that bought the product;
- overall: the same question asked of every purchase: `n_follow_ons` of `n_first_purchases`; a first purchase is an
  account and a product that it bought, and a follow-on is one after which the product came within the window;
- in one order: how often two products stand in it, and how many buyers are behind that, for a cart's reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from pydantic import Field
from statsmodels.stats.proportion import proportion_confint

from recsys.arrays import unique_sorted
from recsys.contracts import columns as c
from recsys.contracts.config import Config
from recsys.data.history import SECONDS_A_DAY, UNKNOWN_ACCOUNT, History
from recsys.data.sources import connect
from recsys.fitting.accounts import Segments
from recsys.fitting.products import Ranges, Vocabulary, distinct_pairs, ranges, row_of_entries
from recsys.offer_model.tables import (
    COMPLEMENT,
    EVERYONE,
    NO_RELATION,
    SUBSTITUTE,
    CartTable,
    Float32,
    Float64,
    Int32,
    Int64,
    RuleTable,
)

UNREMARKABLE = -1.0
CONFIDENCE_LEVEL = 0.95


class EvidenceConfig(Config):
    """How reasons are counted.

    Attributes:
        window_days: "added B within": long enough for a second order of most accounts, short enough to mean something.
        least_accounts: a reason that rests on fewer is not spoken: it would point at persons, and at chance.
        block_pairs: anchors looked up at a time; bounds the memory at about 40 bytes each.
    """

    window_days: int = Field(default=60, ge=1)
    least_accounts: int = Field(default=10, ge=5)
    block_pairs: int = Field(default=2_000_000, ge=1)


@dataclass(frozen=True)
class FirstPurchases:
    """What accounts bought first and when, over the model's rows, and which segment each belongs to."""

    account: Int32
    product: Int32
    seconds: Int64
    segment: Int32  # of the account
    n_accounts: Int32  # by segment, row 0 everyone
    n_products: int

    @classmethod
    def of(cls, history: History, accounts: Vocabulary, products: Vocabulary, segments: Segments) -> FirstPurchases:
        """Return the first purchases of a history."""
        first = history.first_purchases()
        account = accounts.history_rows[first.account]
        return cls(
            account=account,
            product=products.history_rows[first.product],
            seconds=first.seconds,
            segment=segments.of_account[account],
            n_accounts=segments.n_accounts,
            n_products=len(products),
        )

    def buyers(self) -> Int64:
        """Return how many accounts of each segment bought each product, `(n_segments, n_products)`; row 0 everyone."""
        shape = (len(self.n_accounts), self.n_products)
        of_segment = np.bincount(self.segment.astype(np.int64) * shape[1] + self.product, minlength=shape[0] * shape[1])
        counts = of_segment.reshape(shape)
        counts[EVERYONE] = np.bincount(self.product, minlength=shape[1])
        return counts


@dataclass(frozen=True)
class FollowOns:
    """Ordered pairs that enough accounts followed: row `segment * n_products + anchor`, column product.

    Attributes:
        count: accounts that followed.
        lift: lower end of the Wilson interval of the follow rate, over the overall rate of the product; `UNREMARKABLE`
            where that is not above 1: such a pair explains an upgrade, never a cross-sell.
        overall: follow-ons of each product after all anchors of all accounts, shape `(n_products,)`.
    """

    count: sp.csr_array
    lift: sp.csr_array
    overall: Int64


def follow_on_pairs(peers: FirstPurchases, buyers: Int64, config: EvidenceConfig) -> FollowOns:
    """Return how many accounts of each segment first bought a product within the window after an anchor."""
    counts, totals = _count_follow_ons(peers, config)
    segment, anchor, product, n = (counts[name].to_numpy() for name in ("segment", "anchor", "product", "n"))
    overall = np.zeros(peers.n_products, dtype=np.int64)
    overall[totals["product"].to_numpy()] = totals["n"].to_numpy()
    lift = _lift(n, buyers[segment, anchor], overall[product] / max(len(peers.product), 1))
    shape = (len(peers.n_accounts) * peers.n_products, peers.n_products)
    rows = segment.astype(np.int64) * peers.n_products + anchor
    return FollowOns(
        count=_canonical(n.astype(np.int32), rows, product, shape),
        lift=_canonical(lift, rows, product, shape),
        overall=overall,
    )


def _count_follow_ons(peers: FirstPurchases, config: EvidenceConfig) -> tuple[pa.Table, pa.Table]:
    """Return `segment anchor product n` where `n` is large enough, and `product n` over all anchors and accounts."""
    firsts = ibis.memtable(
        pa.table(
            {"account": peers.account, "product": peers.product, "seconds": peers.seconds, "segment": peers.segment}
        )
    )
    later = firsts.select("account", "product", then="seconds")
    earlier = firsts.rename(anchor="product")
    window = config.window_days * SECONDS_A_DAY
    pairs = earlier.join(
        later,
        [
            earlier.account == later.account,
            later.then > earlier.seconds,
            later.then <= earlier.seconds + window,
        ],
    )
    counted = pairs.group_by(["segment", "anchor", "product"]).aggregate(n=pairs.count())
    connection = connect()
    by_segment = connection.create_table("by_segment", counted)
    everyone = by_segment.group_by(["anchor", "product"]).aggregate(n=by_segment.n.sum())
    everyone = everyone.mutate(segment=ibis.literal(EVERYONE, "int32")).select("segment", "anchor", "product", "n")
    segments = by_segment.filter(by_segment.segment != EVERYONE).select("segment", "anchor", "product", "n")
    both = everyone.cast({"n": "int64"}).union(segments.cast({"n": "int64"}))
    enough = both.filter(both.n >= config.least_accounts).order_by(["segment", "anchor", "product"])
    totals = by_segment.group_by("product").aggregate(n=by_segment.n.sum().cast("int64"))
    return connection.to_pyarrow(enough), connection.to_pyarrow(totals)


def _canonical(data: Int32 | Float32, rows: Int64, columns: Int32, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.coo_array((data, (rows, columns)), shape=shape).tocsr()
    matrix.sort_indices()
    return matrix


RELATIONS = {"complement": COMPLEMENT, "substitute": SUBSTITUTE, "none": NO_RELATION}


@dataclass(frozen=True)
class CopurchaseCounts:
    """Counts of pairs, parallel arrays in the order of the pairs asked for.

    Attributes:
        n_orders: orders that hold both products.
        n_buyers: distinct accounts that placed them; an order without an account is a buyer of its own.
    """

    n_orders: Int32
    n_buyers: Int32


def rule_table(
    rules: pd.DataFrame, cart: CartTable, cart_ranges: Ranges, history: History, products: Vocabulary, least: int
) -> tuple[RuleTable, Ranges]:
    """Return the mined pairs and those that the cart's weights name, by antecedent, each with its counts.

    A pair that is no complement and no substitute is kept where `least` buyers stand behind it: it can be spoken.
    """
    mined = products.rows_of(rules[c.ANTECEDENT_ID]), products.rows_of(rules[c.CONSEQUENT_ID])
    relation = np.array([RELATIONS.get(str(value), NO_RELATION) for value in rules[c.RELATION]], dtype=np.int8)
    antecedent = np.concatenate([mined[0], row_of_entries(cart_ranges.count)])
    consequent = np.concatenate([mined[1], cart.consequent])
    known = (antecedent >= 0) & (consequent >= 0)
    relation = np.concatenate([relation, np.full(len(cart.consequent), NO_RELATION, dtype=np.int8)])[known]
    key = antecedent[known].astype(np.int64) * len(products) + consequent[known]
    pairs, first = np.unique(key, return_index=True)  # the mined pairs come first, and know their relation
    antecedent, consequent = (pairs // len(products)).astype(np.int32), (pairs % len(products)).astype(np.int32)
    counts = count_together(history, products, antecedent, consequent)
    keep = (relation[first] != NO_RELATION) | (counts.n_buyers >= least)
    table = RuleTable(
        consequent=consequent[keep],
        n_both=counts.n_orders[keep],
        n_antecedent=_orders_of(history, products)[antecedent[keep]],
        n_buyers=counts.n_buyers[keep],
        relation=relation[first][keep],
    )
    return table, ranges(antecedent[keep], len(products))


def count_together(history: History, products: Vocabulary, one: Int32, other: Int32) -> CopurchaseCounts:
    """Return how many orders hold both products of each pair, rows of `products`, and how many buyers placed them."""
    n_orders, n_buyers = np.zeros(len(one), dtype=np.int32), np.zeros(len(one), dtype=np.int32)
    if not len(one):
        return CopurchaseCounts(n_orders, n_buyers)
    low, high = np.minimum(one, other), np.maximum(one, other)
    pairs, row = np.unique(low.astype(np.int64) * len(products) + high, return_inverse=True)
    wanted = ibis.memtable(pa.table({"pair": np.arange(len(pairs)), "key": pairs}))
    buyer = np.where(history.account == UNKNOWN_ACCOUNT, -1 - history.order.astype(np.int64), history.account)
    lines = {"order": history.order, "low": products.history_rows[history.product].astype(np.int64), "buyer": buyer}
    first = ibis.memtable(pa.table(lines)).distinct()
    second = first.select("order", high="low")
    together = first.join(second, ["order", first.low < second.high])
    # One key a pair, so that the pairs asked for are looked up and not joined to every line of one of their products.
    met = together.select("buyer", key=together.low * len(products) + together.high)
    of_buyer = wanted.join(met, "key").group_by(["pair", "buyer"]).aggregate(orders=lambda t: t.count())
    answer = of_buyer.group_by("pair").aggregate(orders=lambda t: t.orders.sum(), buyers=lambda t: t.count())
    answer = connect().to_pyarrow(answer)
    of_pair = np.zeros((2, len(pairs)), dtype=np.int32)
    of_pair[:, answer["pair"].to_numpy()] = answer["orders"].to_numpy(), answer["buyers"].to_numpy()
    return CopurchaseCounts(of_pair[0][row], of_pair[1][row])


@dataclass(frozen=True)
class CopurchaseLift:
    """Ordered pairs of an antecedent and a product that enough buyers had in one order.

    Attributes:
        count: orders that hold both.
        lift: as of `FollowOns`, of the orders that hold the antecedent, over all orders.
        n_orders: orders that hold each product, shape `(n_products,)`.
    """

    count: sp.csr_array
    lift: sp.csr_array
    n_orders: Int32


def copurchase_lift(
    rules: RuleTable, rule_ranges: Ranges, history: History, products: Vocabulary, least: int
) -> CopurchaseLift:
    """Return what the pairs of a rule table say of their products; pairs that replace each other apart."""
    n_orders = _orders_of(history, products)
    keep = (rules.n_buyers >= least) & (rules.relation != SUBSTITUTE)
    antecedent, consequent, n_both = (
        row_of_entries(rule_ranges.count)[keep],
        rules.consequent[keep],
        rules.n_both[keep],
    )
    base = n_orders[consequent] / max(len(unique_sorted(history.order)), 1)
    shape = (len(products), len(products))
    lift = _lift(n_both, n_orders[antecedent], base)
    return CopurchaseLift(
        count=_canonical(n_both, antecedent.astype(np.int64), consequent, shape),
        lift=_canonical(lift, antecedent.astype(np.int64), consequent, shape),
        n_orders=n_orders,
    )


def _lift(n: Int32 | Int64, n_of: Int32 | Int64, base: Float64) -> Float32:
    """Return the lower end of the interval of `n / n_of` over a base rate; `UNREMARKABLE` where it is 1 or less."""
    if not len(n):
        return np.zeros(0, dtype=np.float32)
    low, _ = proportion_confint(n, n_of, alpha=1 - CONFIDENCE_LEVEL, method="wilson")
    lift = low / np.maximum(base, np.finfo(np.float64).tiny)
    return np.where(lift > 1, lift, UNREMARKABLE).astype(np.float32)


def _orders_of(history: History, products: Vocabulary) -> Int32:
    rows, _ = distinct_pairs(products.history_rows[history.product], history.order)
    return np.bincount(rows, minlength=len(products)).astype(np.int32)
