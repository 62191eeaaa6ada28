"""What stands ready for each account: its candidates, and what it has bought."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recsys.arrays import distinct
from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY, History
from recsys.fitting.vocabulary import Vocabulary, ranges, rank_within
from recsys.models.candidates import Candidates
from recsys.ranking.model import AccountTable, Bool, CandidateTable, Float32, Int32, OwnedTable
from recsys.ranking.strings import Strings


@dataclass(frozen=True)
class Purchases:
    """What accounts have bought, one row an account and product, sorted by both; rows of the model's tables."""

    account: Int32
    product: Int32
    owned: Bool
    n_orders: Int32


@dataclass(frozen=True)
class Paces:
    """How often accounts order, by row of the accounts."""

    n_orders: Int32
    orders_in_horizon: Float32


@dataclass(frozen=True)
class Portfolio:
    """Candidates of accounts as parallel arrays in the order of `CandidateTable`."""

    account: Int32
    table: CandidateTable


def purchases(
    history: History,
    accounts: Vocabulary,
    products: Vocabulary,
    *,
    as_of_seconds: int,
    window_days: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> Purchases:
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
    return Purchases(
        account=(pairs // max(len(products), 1)).astype(np.int32),
        product=product,
        owned=last >= as_of_seconds - window_days[product] * SECONDS_A_DAY,
        n_orders=_orders_per_pair(position, lines, len(pairs)),
    )


def portfolio(cross: Candidates, up: Candidates | None, accounts: Vocabulary, products: Vocabulary) -> Portfolio:
    """Return the candidates of both kinds in one table, without evidence yet."""
    parts = [cross] if up is None else [cross, up]
    account = accounts.history_rows[np.concatenate([part.account for part in parts])]
    product = products.history_rows[np.concatenate([part.product for part in parts])]
    origin = np.concatenate([part.from_product for part in parts])
    from_product = np.where(origin >= 0, products.history_rows[origin], -1).astype(np.int32)
    score = np.concatenate([part.score for part in parts]).astype(np.float32)
    order = np.lexsort((from_product, product, -score, from_product >= 0, account))
    return Portfolio(
        account=account[order],
        table=CandidateTable(
            product=product[order],
            from_product=from_product[order],
            score=score[order],
            probability=np.concatenate([part.probability for part in parts]).astype(np.float32)[order],
            expected_quantity=np.concatenate([part.expected_quantity for part in parts]).astype(np.float32)[order],
            evidence=np.full(len(order), -1, dtype=np.int32),
        ),
    )


def best_of(ready: Portfolio, per_kind: int) -> Portfolio:
    """Return the first `per_kind` candidates of each account and kind."""
    kind = ready.account.astype(np.int64) * 2 + (ready.table.from_product >= 0)
    keep = rank_within(kind) < per_kind
    table = {name: getattr(ready.table, name)[keep] for name in CandidateTable.__dataclass_fields__}
    return Portfolio(ready.account[keep], CandidateTable(**table))


def account_table(
    vocabulary: Vocabulary,
    frame: pd.DataFrame,
    paces: Paces,
    segment: Int32,
    ready: Portfolio,
    bought: Purchases,
) -> AccountTable:
    """Return the accounts with the ranges of their candidates and purchases."""
    candidates_start, candidates_count = ranges(ready.account, len(vocabulary))
    owned_start, owned_count = ranges(bought.account, len(vocabulary))
    return AccountTable(
        ids=Strings.of(vocabulary.ids.tolist()),
        segment=segment,
        do_not_offer=vocabulary.column(frame, c.DO_NOT_OFFER, False).astype(bool),
        n_orders=paces.n_orders,
        orders_in_horizon=paces.orders_in_horizon,
        candidates_start=candidates_start,
        candidates_count=candidates_count,
        owned_start=owned_start,
        owned_count=owned_count,
    )


def owned_table(bought: Purchases) -> OwnedTable:
    """Return the columns of `bought` that a model keeps."""
    return OwnedTable(product=bought.product, owned=bought.owned, n_orders=bought.n_orders)


def paces(history: History, accounts: Vocabulary, *, as_of_seconds: int, horizon_days: int) -> Paces:
    """Return how often accounts order: `n_orders * horizon / days since the first`, a horizon of days at least."""
    lines = history.known()
    pairs = distinct(lines.account.astype(np.int64) * max(history.n_orders, 1) + lines.order)
    rows = accounts.history_rows[pairs // max(history.n_orders, 1)]
    n_orders = np.bincount(rows, minlength=len(accounts)).astype(np.int32)
    first = np.full(len(accounts), as_of_seconds, dtype=np.int64)
    np.minimum.at(first, accounts.history_rows[lines.account], lines.seconds)
    days = np.maximum((as_of_seconds - first) / SECONDS_A_DAY, horizon_days)
    return Paces(n_orders, (n_orders * horizon_days / days).astype(np.float32))


def _orders_per_pair(position: np.ndarray[tuple[int], np.dtype[np.intp]], lines: History, n_pairs: int) -> Int32:
    found = distinct(position.astype(np.int64) * max(lines.n_orders, 1) + lines.order)
    return np.bincount(found // max(lines.n_orders, 1), minlength=n_pairs).astype(np.int32)
