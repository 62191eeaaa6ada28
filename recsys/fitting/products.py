"""The product table of a model, what the history says about each product, and the join of other tables to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import unique_sorted
from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.fitting.prices import PaidPrices
from recsys.models.quantities import product_quantities
from recsys.offer_model.tables import Float32, Float64, Int32, Int64, NameTable, PriceTable, ProductTable
from recsys.offer_model.utf8_column import Utf8Column
from recsys.products.variants import variant_groups


@dataclass(frozen=True)
class Vocabulary:
    """Sorted ids, the union of the history's and a table's.

    Attributes:
        ids: shape `(n,)`, sorted.
        history_rows: row in `ids` of each id of the history's vocabulary.
        table_rows: row in `ids` of each row of the table.
    """

    ids: NDArray[np.object_]
    history_rows: Int32
    table_rows: Int32

    @classmethod
    def of(cls, history_ids: NDArray[np.object_], table_ids: Iterable[str]) -> Vocabulary:
        """Return the union of both, in the order of the bytes of UTF-8 (that of Python's strings)."""
        given = np.array([str(value) for value in table_ids], dtype=object)
        ids = np.array(sorted({*history_ids.tolist(), *given.tolist()}), dtype=object)
        index = pd.Index(ids)
        return cls(
            ids=ids,
            history_rows=index.get_indexer(pd.Index(history_ids)).astype(np.int32),
            table_rows=index.get_indexer(pd.Index(given)).astype(np.int32) if len(given) else np.zeros(0, np.int32),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, frame: pd.DataFrame, name: str, default: object) -> NDArray[np.object_]:
        """Return a column of the table by row of this vocabulary, `default` where it is null or absent."""
        values = np.full(len(self), default, dtype=object)
        if name in frame:
            known = frame[name].notna().to_numpy(dtype=bool)
            values[self.table_rows[known]] = frame[name].to_numpy(dtype=object)[known]
        return values

    def rows_of(self, ids: pd.Series) -> Int32:
        """Return the row of each id, -1 where it is not there."""
        return pd.Index(self.ids).get_indexer(pd.Index(ids.astype(object))).astype(np.int32)


@dataclass(frozen=True)
class Codes:
    """Names as numbers: `names` sorted, `codes` -1 where there is none."""

    names: tuple[str, ...]
    codes: Int32

    @classmethod
    def of(cls, values: NDArray[np.object_]) -> Codes:
        """Return the codes of `values`, where None has none."""
        codes, names = pd.factorize(pd.Series(values, dtype=object), sort=True)
        return cls(tuple(str(name) for name in names), codes.astype(np.int32))


@dataclass(frozen=True)
class Ranges:
    """Where each owner's rows of a sorted table start, and how many there are."""

    start: Int64
    count: Int32


def ranges(owner: NDArray[np.integer], n_owners: int) -> Ranges:
    """Return where the rows of each owner are; `owner` is sorted."""
    counts = np.bincount(owner, minlength=n_owners).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(counts[:-1], dtype=np.int64)]).astype(np.int64)
    return Ranges(starts[:n_owners], counts)


def row_of_entries(counts: NDArray[np.integer]) -> Int32:
    """Return the owner of each row, where owner i has `counts[i]` rows; the inverse of `ranges`."""
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def rank_within(owner: NDArray[np.integer]) -> Int64:
    """Return the position of each row among its owner's rows, from 0; `owner` is sorted."""
    if not len(owner):
        return np.zeros(0, dtype=np.int64)
    first = np.concatenate([[True], owner[1:] != owner[:-1]])
    starts = np.flatnonzero(first)
    return np.arange(len(owner), dtype=np.int64) - np.repeat(starts, np.diff(np.append(starts, len(owner))))


@dataclass(frozen=True)
class Links:
    """What hangs on each product: where its rows of the other tables are."""

    rules: Ranges
    cart: Ranges
    ladder: Ranges
    substitutes: Ranges
    cart_prior: Float32  # by row of the history's products


def product_table(
    vocabulary: Vocabulary,
    frame: pd.DataFrame,
    history: History,
    usual_price: Float64,
    links: Links,
    n_follow_ons: Int64,
    details: Sequence[str | None],
) -> tuple[ProductTable, NameTable, NameTable]:
    """Return the products, the names of their categories and those of their families.

    A product without a price in `frame` gets what is usually paid for it, `usual_price` by row of the history's
    products; one that the frame does not name is active; none is held back yet. `details` are as
    `recsys.fitting.catalogue` has them.
    """
    category = Codes.of(vocabulary.column(frame, c.CATEGORY, None))
    family = Codes.of(vocabulary.column(frame, c.FAMILY, None))
    price = vocabulary.column(frame, c.PRICE, np.nan).astype(np.float64)
    paid = np.full(len(vocabulary), np.nan)
    paid[vocabulary.history_rows] = usual_price
    known_price = np.where(np.isnan(price), paid, price)
    names = texts(vocabulary.column(frame, c.NAME, None))
    quantity = np.ones(len(vocabulary), dtype=np.float32)
    quantity[vocabulary.history_rows] = product_quantities(history)
    table = ProductTable(
        ids=Utf8Column.of(vocabulary.ids.tolist()),
        names=Utf8Column.of(names),
        category=category.codes,
        family=family.codes,
        tier=Utf8Column.of(texts(vocabulary.column(frame, c.TIER, None))),
        price=known_price,
        cost=vocabulary.column(frame, c.COST, np.nan).astype(np.float64),
        active=vocabulary.column(frame, c.ACTIVE, True).astype(bool),
        stock=vocabulary.column(frame, c.STOCK, np.nan).astype(np.float64),
        do_not_offer=vocabulary.column(frame, c.DO_NOT_OFFER, False).astype(bool),
        n_accounts=_distinct(vocabulary, history.known().product, history.known().account),
        n_orders=_distinct(vocabulary, history.product, history.order),
        n_follow_ons=n_follow_ons,
        usual_quantity=quantity,
        cart_prior=_spread(links.cart_prior, vocabulary),
        rules_start=links.rules.start,
        rules_count=links.rules.count,
        cart_start=links.cart.start,
        cart_count=links.cart.count,
        ladder_start=links.ladder.start,
        ladder_count=links.ladder.count,
        substitutes_start=links.substitutes.start,
        substitutes_count=links.substitutes.count,
        details=Utf8Column.of(details),
        variant_group=variant_groups(names, known_price, family.codes),
        held_back=np.zeros(len(vocabulary), dtype=np.float32),
    )
    return table, NameTable(Utf8Column.of(category.names)), NameTable(Utf8Column.of(family.names))


def price_table(paid: PaidPrices, vocabulary: Vocabulary, frame: pd.DataFrame) -> PriceTable:
    """Return the further prices of the products that have no price in `frame`."""
    product = vocabulary.history_rows[paid.product]
    is_given = vocabulary.column(frame, c.PRICE, np.nan).astype(np.float64)[product] >= 0
    return PriceTable(
        product=product[~is_given],
        segment=paid.segment[~is_given],
        least_quantity=paid.least_quantity[~is_given],
        price=paid.price[~is_given],
    )


def distinct_pairs(product: NDArray[np.integer], other: NDArray[np.integer]) -> tuple[Int32, Int32]:
    """Return the distinct pairs of two parallel arrays of codes, sorted by product, then the other."""
    span = int(other.max()) + 1 if len(other) else 1
    key = unique_sorted(product.astype(np.int64) * span + other)
    return (key // span).astype(np.int32), (key % span).astype(np.int32)


def _distinct(vocabulary: Vocabulary, product: Int32, other: Int32) -> Int32:
    rows, _ = distinct_pairs(product, other)
    return np.bincount(vocabulary.history_rows[rows], minlength=len(vocabulary)).astype(np.int32)


def _spread(values: Float32, vocabulary: Vocabulary) -> Float32:
    spread = np.zeros(len(vocabulary), dtype=np.float32)
    spread[vocabulary.history_rows] = values
    return spread


def texts(values: NDArray[np.object_]) -> list[str | None]:
    """Return texts with single blanks, None where there is none."""
    return [None if value is None else " ".join(str(value).split()) for value in values]
