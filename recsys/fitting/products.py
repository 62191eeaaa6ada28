"""The product table of a model, and what the history says about each product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import distinct
from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.fitting.vocabulary import Codes, Vocabulary, ranges
from recsys.ranking.model import Bool, Float32, Float64, Int32, Int64, NameTable, ProductTable
from recsys.ranking.strings import Strings


@dataclass(frozen=True)
class Ranges:
    """Where each product's rows of a sorted table start, and how many there are."""

    start: Int64
    count: Int32


@dataclass(frozen=True)
class Links:
    """What hangs on each product: where its rows of the other tables are."""

    rules: Ranges
    cart: Ranges
    ladder: Ranges
    substitutes: Ranges
    cart_prior: Float32  # by row of the history's products


def product_table(
    vocabulary: Vocabulary, frame: pd.DataFrame, history: History, links: Links, n_follow_ons: Int64
) -> tuple[ProductTable, NameTable, NameTable]:
    """Return the products, the names of their categories and those of their families.

    A product without a price in `frame` gets the last price that was paid; one that the frame does not name is active.
    """
    category = Codes.of(vocabulary.column(frame, c.CATEGORY, None))
    family = Codes.of(vocabulary.column(frame, c.FAMILY, None))
    price = _numbers(vocabulary.column(frame, c.PRICE, np.nan))
    table = ProductTable(
        ids=Strings.of(vocabulary.ids.tolist()),
        names=Strings.of(_texts(vocabulary.column(frame, c.NAME, None))),
        category=category.codes,
        family=family.codes,
        tier=Strings.of(_texts(vocabulary.column(frame, c.TIER, None))),
        price=np.where(np.isnan(price), _last_price(vocabulary, history), price),
        cost=_numbers(vocabulary.column(frame, c.COST, np.nan)),
        active=_flags(vocabulary.column(frame, c.ACTIVE, True)),
        stock=_numbers(vocabulary.column(frame, c.STOCK, np.nan)),
        do_not_offer=_flags(vocabulary.column(frame, c.DO_NOT_OFFER, False)),
        n_accounts=_distinct(vocabulary, history.known().product, history.known().account),
        n_orders=_distinct(vocabulary, history.product, history.order),
        n_follow_ons=n_follow_ons,
        usual_quantity=_median_quantity(vocabulary, history),
        cart_prior=_spread(links.cart_prior, vocabulary),
        rules_start=links.rules.start,
        rules_count=links.rules.count,
        cart_start=links.cart.start,
        cart_count=links.cart.count,
        ladder_start=links.ladder.start,
        ladder_count=links.ladder.count,
        substitutes_start=links.substitutes.start,
        substitutes_count=links.substitutes.count,
    )
    return table, NameTable(Strings.of(category.names)), NameTable(Strings.of(family.names))


def distinct_pairs(product: NDArray[np.integer], other: NDArray[np.integer]) -> tuple[Int32, Int32]:
    """Return the distinct pairs of two parallel arrays of codes, sorted by product, then the other."""
    span = int(other.max()) + 1 if len(other) else 1
    key = distinct(product.astype(np.int64) * span + other)
    return (key // span).astype(np.int32), (key % span).astype(np.int32)


def _distinct(vocabulary: Vocabulary, product: Int32, other: Int32) -> Int32:
    rows, _ = distinct_pairs(product, other)
    return np.bincount(vocabulary.history_rows[rows], minlength=len(vocabulary)).astype(np.int32)


def _last_price(vocabulary: Vocabulary, history: History) -> Float64:
    price = np.full(len(vocabulary), np.nan)
    price[vocabulary.history_rows[history.product]] = history.unit_price  # sorted by time: the last one stays
    return price


def _median_quantity(vocabulary: Vocabulary, history: History) -> Float32:
    quantity = np.ones(len(vocabulary), dtype=np.float32)
    if len(history):
        order = np.lexsort((history.quantity, history.product))
        start, count = ranges(history.product[order], history.n_products)
        bought = np.flatnonzero(count)
        middle = order[start[bought] + (count[bought] - 1) // 2]  # the lower median: a quantity that was really bought
        quantity[vocabulary.history_rows[bought]] = history.quantity[middle]
    return quantity


def _spread(values: Float32, vocabulary: Vocabulary) -> Float32:
    spread = np.zeros(len(vocabulary), dtype=np.float32)
    spread[vocabulary.history_rows] = values
    return spread


def _numbers(values: NDArray[np.object_]) -> Float64:
    return values.astype(np.float64)


def _flags(values: NDArray[np.object_]) -> Bool:
    return values.astype(bool)


def _texts(values: NDArray[np.object_]) -> list[str | None]:
    return [None if value is None else " ".join(str(value).split()) for value in values]
