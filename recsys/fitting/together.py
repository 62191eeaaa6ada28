"""How often two products stand in one order, and how many buyers are behind that: what a cart's reason speaks."""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from recsys.contracts import columns as c
from recsys.data.history import UNKNOWN_ACCOUNT, History
from recsys.data.sources import connect
from recsys.fitting.products import Ranges, distinct_pairs
from recsys.fitting.vocabulary import Vocabulary, owners, ranges
from recsys.ranking.model import COMPLEMENT, NO_RELATION, SUBSTITUTE, CartTable, Int32, RuleTable

RELATIONS = {"complement": COMPLEMENT, "substitute": SUBSTITUTE, "none": NO_RELATION}


@dataclass(frozen=True)
class Together:
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
    antecedent = np.concatenate([mined[0], owners(cart_ranges.count)])
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
    return table, Ranges(*ranges(antecedent[keep], len(products)))


def count_together(history: History, products: Vocabulary, one: Int32, other: Int32) -> Together:
    """Return how many orders hold both products of each pair, rows of `products`, and how many buyers placed them."""
    n_orders, n_buyers = np.zeros(len(one), dtype=np.int32), np.zeros(len(one), dtype=np.int32)
    if not len(one):
        return Together(n_orders, n_buyers)
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
    return Together(of_pair[0][row], of_pair[1][row])


def _orders_of(history: History, products: Vocabulary) -> Int32:
    rows, _ = distinct_pairs(products.history_rows[history.product], history.order)
    return np.bincount(rows, minlength=len(products)).astype(np.int32)
