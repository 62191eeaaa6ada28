"""What stands ready for each account: its candidates, what it has bought, and lists for accounts hardly known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys.arrays import unique_sorted
from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY, History
from recsys.fitting.products import (
    Codes,
    Ranges,
    Vocabulary,
    distinct_pairs,
    ranges,
    rank_within,
    row_of_entries,
    texts,
)
from recsys.models.candidates import Candidates
from recsys.models.lifetime_value import LifetimeValues
from recsys.offer_model.tables import (
    EVERYONE,
    AccountTable,
    CandidateTable,
    FallbackTable,
    Float32,
    Float64,
    Int32,
    OwnedTable,
    SegmentTable,
)
from recsys.offer_model.utf8_column import Utf8Column

_LATEST_ORDERS = 3
"""Orders of an account whose products it is taken to have in mind."""


@dataclass(frozen=True)
class OrderRates:
    """How often accounts order, by row of the accounts."""

    n_orders: Int32
    orders_in_horizon: Float32


def purchases(
    history: History,
    accounts: Vocabulary,
    products: Vocabulary,
    *,
    as_of_seconds: int,
    window_days: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> tuple[OwnedTable, Ranges]:
    """Return what each account has bought; `owned` where the last purchase lies within the product's window.

    Args:
        history: the order lines.
        accounts: rows of accounts.
        products: rows of products.
        as_of_seconds: the end of the window, seconds since 1970.
        window_days: shape `(n_products,)`, by row of `products`; infinite: the whole history.
    """
    lines = history.known()
    key = accounts.history_rows[lines.account].astype(np.int64) * len(products) + products.history_rows[lines.product]
    pairs, position = np.unique(key, return_inverse=True)
    last = np.zeros(len(pairs), dtype=np.int64)
    np.maximum.at(last, position, lines.seconds)
    product = (pairs % max(len(products), 1)).astype(np.int32)
    table = OwnedTable(
        product=product,
        owned=last >= as_of_seconds - window_days[product] * SECONDS_A_DAY,
        n_orders=_orders_per_pair(position, lines, len(pairs)),
    )
    return table, ranges(pairs // max(len(products), 1), len(accounts))


def familiarity(
    history: History, accounts: Vocabulary, products: Vocabulary, owned: OwnedTable, rows: Ranges
) -> Float64:
    """Return how present each purchase is to its account, by row of `owned`, from 0 to 1.

    It is 1 for what stands in one of the account's `_LATEST_ORDERS` latest orders, else the share of its orders that
    hold the product.
    """
    lines = history.known()
    account = accounts.history_rows[lines.account].astype(np.int64)
    placed = np.zeros(max(history.n_orders, 1), dtype=np.int64)
    placed[lines.order] = lines.seconds
    orders = unique_sorted(account * max(history.n_orders, 1) + lines.order)
    buyer, order = orders // max(history.n_orders, 1), orders % max(history.n_orders, 1)
    latest_first = np.lexsort((order, -placed[order], buyer))
    is_late = np.zeros(max(history.n_orders, 1), dtype=bool)
    is_late[order[latest_first[rank_within(buyer[latest_first]) < _LATEST_ORDERS]]] = True
    late = is_late[lines.order]
    n_products = max(len(products), 1)
    fresh = unique_sorted(account[late] * n_products + products.history_rows[lines.product[late]])
    owner = row_of_entries(rows.count).astype(np.int64)
    n_orders = np.bincount(buyer, minlength=len(accounts))
    share = owned.n_orders / np.maximum(n_orders[owner], 1)
    return np.where(np.isin(owner * n_products + owned.product, fresh), 1.0, share)


def candidate_table(
    cross: Candidates, up: Candidates | None, accounts: Vocabulary, products: Vocabulary, per_kind: int
) -> tuple[CandidateTable, Ranges]:
    """Return the first `per_kind` candidates of each account and kind, without evidence yet."""
    parts = [cross] if up is None else [cross, up]
    account = accounts.history_rows[np.concatenate([part.account for part in parts])]
    product = products.history_rows[np.concatenate([part.product for part in parts])]
    origin = np.concatenate([part.from_product for part in parts])
    from_product = np.where(origin >= 0, products.history_rows[origin], -1).astype(np.int32)
    score = np.concatenate([part.score for part in parts]).astype(np.float32)
    kind = account.astype(np.int64) * 2 + (from_product >= 0)
    order = np.lexsort((from_product, product, -score, kind))
    order = order[rank_within(kind[order]) < per_kind]
    table = CandidateTable(
        product=product[order],
        from_product=from_product[order],
        score=score[order],
        probability=np.concatenate([part.probability for part in parts]).astype(np.float32)[order],
        expected_quantity=np.concatenate([part.expected_quantity for part in parts]).astype(np.float32)[order],
        evidence=np.full(len(order), -1, dtype=np.int32),
    )
    return table, ranges(account[order], len(accounts))


def account_table(
    vocabulary: Vocabulary,
    frame: pd.DataFrame,
    paces: OrderRates,
    segment: Int32,
    candidates: Ranges,
    owned: Ranges,
    lifetime: LifetimeValues,
) -> AccountTable:
    """Return the accounts with the ranges of their candidates and purchases."""

    def by_row(values: Float64) -> Float64:
        placed = np.full(len(vocabulary), np.nan)
        placed[vocabulary.history_rows] = values
        return placed

    return AccountTable(
        ids=Utf8Column.of(vocabulary.ids.tolist()),
        segment=segment,
        do_not_offer=vocabulary.column(frame, c.DO_NOT_OFFER, False).astype(bool),
        n_orders=paces.n_orders,
        orders_in_horizon=paces.orders_in_horizon,
        candidates_start=candidates.start,
        candidates_count=candidates.count,
        owned_start=owned.start,
        owned_count=owned.count,
        names=Utf8Column.of(texts(vocabulary.column(frame, c.NAME, None))),
        language=Utf8Column.of(texts(vocabulary.column(frame, c.LANGUAGE, None))),
        lifetime_value=by_row(lifetime.expected),
        lifetime_value_low=by_row(lifetime.low),
        lifetime_value_high=by_row(lifetime.high),
    )


def paces(history: History, accounts: Vocabulary, *, as_of_seconds: int, horizon_days: int) -> OrderRates:
    """Return how often accounts order: `n_orders * horizon / days since the first`, a horizon of days at least."""
    lines = history.known()
    pairs = unique_sorted(lines.account.astype(np.int64) * max(history.n_orders, 1) + lines.order)
    rows = accounts.history_rows[pairs // max(history.n_orders, 1)]
    n_orders = np.bincount(rows, minlength=len(accounts)).astype(np.int32)
    first = np.full(len(accounts), as_of_seconds, dtype=np.int64)
    np.minimum.at(first, accounts.history_rows[lines.account], lines.seconds)
    days = np.maximum((as_of_seconds - first) / SECONDS_A_DAY, horizon_days)
    return OrderRates(n_orders, (n_orders * horizon_days / days).astype(np.float32))


def _orders_per_pair(position: np.ndarray[tuple[int], np.dtype[np.intp]], lines: History, n_pairs: int) -> Int32:
    found = unique_sorted(position.astype(np.int64) * max(lines.n_orders, 1) + lines.order)
    return np.bincount(found // max(lines.n_orders, 1), minlength=n_pairs).astype(np.int32)


@dataclass(frozen=True)
class Segments:
    """Segments with accounts enough to stand for their members; row 0 is everyone.

    Attributes:
        names: shape `(n_segments,)`.
        of_account: by row of the accounts, `EVERYONE` where the account has none or its segment is too small.
        n_accounts: accounts with an order, by segment; of everyone in row 0.
    """

    names: tuple[str, ...]
    of_account: Int32
    n_accounts: Int32


def segments_of(
    accounts: Vocabulary, frame: pd.DataFrame, n_orders: Int32, least_accounts: int, most_segments: int
) -> Segments:
    """Return the `most_segments` largest segments of at least `least_accounts` accounts that have ordered."""
    codes = Codes.of(accounts.column(frame, c.SEGMENT, None))
    buying = n_orders > 0
    sizes = np.bincount(codes.codes[buying & (codes.codes >= 0)], minlength=len(codes.names))
    largest = np.argsort(-sizes, kind="stable")[:most_segments]
    kept = np.sort(largest[sizes[largest] >= least_accounts])
    new_code = np.full(len(codes.names) + 1, EVERYONE, dtype=np.int32)  # the last entry stands for code -1
    new_code[kept] = np.arange(1, len(kept) + 1)
    counts = np.concatenate([[buying.sum()], sizes[kept]]).astype(np.int32)
    return Segments(("", *(codes.names[row] for row in kept)), new_code[codes.codes], counts)


def fallback_tables(
    history: History,
    accounts: Vocabulary,
    products: Vocabulary,
    segments: Segments,
    *,
    since_seconds: int | None,
    size: int,
) -> tuple[SegmentTable, FallbackTable]:
    """Return the `size` products of each segment that most of its accounts bought since `since_seconds`.

    `probability = buyers / accounts of the segment`, over a window as long as the model's horizon; ties go to the
    smaller id. Where no order has an account, the buyers are orders.
    """
    recent = history if since_seconds is None else history.select(history.seconds >= since_seconds)
    known = recent.known()
    if len(history.known()):
        buyer_product, buyer = distinct_pairs(known.product, known.account)
        segment = segments.of_account[accounts.history_rows[buyer]]
        sizes = segments.n_accounts
    else:
        buyer_product, buyer = distinct_pairs(recent.product, recent.order)
        segment = np.zeros(len(buyer), dtype=np.int32)
        sizes = np.array([history.n_orders], dtype=np.int32)
    product = products.history_rows[buyer_product]
    everyone = np.zeros(len(product), dtype=np.int32)
    of_segments = segment != EVERYONE
    owner = np.concatenate([everyone, segment[of_segments]]).astype(np.int64)
    bought = np.concatenate([product, product[of_segments]])
    key, n_buyers = np.unique(owner * max(len(products), 1) + bought, return_counts=True)
    return _tables(segments, sizes, key // max(len(products), 1), key % max(len(products), 1), n_buyers, size)


def window_start(as_of_seconds: int, days: int | None) -> int | None:
    """Return the first second of the fallback window; None for the whole history."""
    return None if days is None else as_of_seconds - days * SECONDS_A_DAY


def _tables(
    segments: Segments, sizes: Int32, owner: np.ndarray, product: np.ndarray, n_buyers: np.ndarray, size: int
) -> tuple[SegmentTable, FallbackTable]:
    order = np.lexsort((product, -n_buyers, owner))
    order = order[rank_within(owner[order]) < size]
    lists = ranges(owner[order], len(segments.names))
    share = n_buyers[order] / np.maximum(sizes[owner[order]], 1)
    return (
        SegmentTable(Utf8Column.of(segments.names), sizes, lists.start, lists.count),
        FallbackTable(
            product=product[order].astype(np.int32),
            probability=np.minimum(share, 1.0).astype(np.float32),
            n_buyers=n_buyers[order].astype(np.int32),
        ),
    )
