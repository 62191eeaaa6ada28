"""Lists for accounts that the model knows little about: popular in the segment, popular with everyone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY, History
from recsys.fitting.products import distinct_pairs
from recsys.fitting.vocabulary import Codes, Vocabulary, ranges, rank_within
from recsys.ranking.model import EVERYONE, FallbackTable, Int32, SegmentTable
from recsys.ranking.strings import Strings


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
    start, count = ranges(owner[order], len(segments.names))
    share = n_buyers[order] / np.maximum(sizes[owner[order]], 1)
    return (
        SegmentTable(Strings.of(segments.names), sizes, start, count),
        FallbackTable(
            product=product[order].astype(np.int32),
            probability=np.minimum(share, 1.0).astype(np.float32),
            n_buyers=n_buyers[order].astype(np.int32),
        ),
    )
