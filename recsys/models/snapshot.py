"""What was known at a moment, the order lines strictly before it, and the moments at which the past is replayed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import AnyFloatArray, BoolArray, RowArray
from recsys.contracts import columns as c
from recsys.contracts.config import Config
from recsys.data.history import SECONDS_A_DAY, UNKNOWN_ACCOUNT, History, epoch_seconds


@dataclass(frozen=True)
class AccountProductPairs:
    """Each account and product that met, once: parallel arrays of shape `(n_pairs,)`, sorted by account, then product.

    Attributes:
        account: row of the account.
        product: row of the product.
        first_age: days between the first purchase and the snapshot, above zero.
        last_age: days between the last purchase and the snapshot, above zero.
        n_lines: order lines of the pair.
    """

    account: RowArray
    product: RowArray
    first_age: AnyFloatArray
    last_age: AnyFloatArray
    n_lines: AnyFloatArray


@dataclass(frozen=True)
class Snapshot:
    """The purchase history as it stood at `as_of`. Sources and features see nothing else, so nothing later can leak.

    Attributes:
        as_of: the moment; every line is strictly earlier.
        lines: all order lines, those without an account too.
        age: days between each line and `as_of`, shape `(n_lines,)`.
        known: the lines that have an account.
        known_age: their age in days.
        pairs: each account and product that met.
        names: name of each product, "" where there is none, shape `(n_products,)`.
        categories: number of each product's category, -1 where there is none, shape `(n_products,)`.
        offerable: products that may be offered at all, shape `(n_products,)`.
        time_scale: how many times as long as their names say the windows of features are, where accounts order rarely.
    """

    as_of: datetime
    lines: History
    age: AnyFloatArray
    known: History
    known_age: AnyFloatArray
    pairs: AccountProductPairs
    names: NDArray[np.object_]
    categories: RowArray
    offerable: BoolArray
    time_scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """The sizes of the vocabularies: accounts, products."""
        return self.lines.n_accounts, self.lines.n_products

    @property
    def span_days(self) -> float:
        """Days between the first line and `as_of`; 0 without lines."""
        return float(self.age.max(initial=0.0))

    def matrix(self, values: NDArray[np.floating] | None = None) -> sp.csr_array:
        """Return one value for each pair as a sparse matrix `(n_accounts, n_products)`; default: 1 where owned."""
        data = np.ones(len(self.pairs.account)) if values is None else values
        found = sp.coo_array((data.astype(np.float32), (self.pairs.account, self.pairs.product)), shape=self.shape)
        matrix = found.tocsr()
        matrix.eliminate_zeros()
        return matrix

    def decayed(self, half_life_days: float | None) -> sp.csr_array:
        """Return `2^(-last_age / half_life_days)` for each pair; 1 without a half-life."""
        if half_life_days is None:
            return self.matrix()
        return self.matrix(np.exp2(-self.pairs.last_age / half_life_days))

    def newly_bought(self, window_days: float, half_life_days: float) -> sp.csr_array:
        """Return `2^(-first_age / half_life_days)` for first purchases at most `window_days` old, 0 for others."""
        age = self.pairs.first_age
        return self.matrix(np.where(age <= window_days, np.exp2(-age / half_life_days), 0.0))

    def of_products(self, products: RowArray) -> Snapshot:
        """Return what concerns some products, as if there were no others: rows, ascending, become 0, 1, ..."""
        if len(products) == self.shape[1]:
            return self
        place = np.full(self.shape[1], _OUTSIDE, dtype=np.int32)
        place[products] = np.arange(len(products), dtype=np.int32)
        lines, known, pairs = (place[each.product] != _OUTSIDE for each in (self.lines, self.known, self.pairs))
        return replace(
            self,
            lines=_narrowed(self.lines.select(lines), place, products),
            age=self.age[lines],
            known=_narrowed(self.known.select(known), place, products),
            known_age=self.known_age[known],
            pairs=AccountProductPairs(
                account=self.pairs.account[pairs],
                product=place[self.pairs.product[pairs]],
                first_age=self.pairs.first_age[pairs],
                last_age=self.pairs.last_age[pairs],
                n_lines=self.pairs.n_lines[pairs],
            ),
            names=self.names[products],
            categories=self.categories[products],
            offerable=self.offerable[products],
        )


_OUTSIDE = -1


def take_snapshot(history: History, as_of: datetime, products: pd.DataFrame, time_scale: float = 1.0) -> Snapshot:
    """Return what stands in `history` strictly before `as_of`, with the names and categories of `products`."""
    lines = history.before(as_of)
    known = lines.known()
    known_age = _age(known, as_of)
    sold = np.zeros(history.n_products, dtype=bool)
    sold[lines.product] = True
    return Snapshot(
        as_of=as_of,
        lines=lines,
        age=_age(lines, as_of),
        known=known,
        known_age=known_age,
        pairs=_pairs(known, known_age),
        names=_texts(products, c.NAME, history.product_ids),
        categories=_codes(_texts(products, c.CATEGORY, history.product_ids)),
        offerable=sold & ~barred(products, history.product_ids),
        time_scale=time_scale,
    )


def _narrowed(lines: History, place: RowArray, products: RowArray) -> History:
    return replace(lines, product_ids=lines.product_ids[products], product=place[lines.product])


def _age(lines: History, as_of: datetime) -> AnyFloatArray:
    return ((epoch_seconds(as_of) - lines.seconds) / SECONDS_A_DAY).astype(np.float32)


def _pairs(known: History, age: AnyFloatArray) -> AccountProductPairs:
    key = known.account.astype(np.int64) * known.n_products + known.product
    order = np.argsort(key, kind="stable")  # lines are sorted by time: within a pair the first line comes first
    ordered = key[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else np.zeros(0, int)
    stops = np.append(starts[1:], len(ordered)) - 1 if len(ordered) else starts
    first, last = order[starts], order[stops]
    return AccountProductPairs(
        account=known.account[first],
        product=known.product[first],
        first_age=age[first],
        last_age=age[last],
        n_lines=(stops - starts + 1).astype(np.float32),
    )


def _texts(products: pd.DataFrame, column: str, product_ids: NDArray[np.object_]) -> NDArray[np.object_]:
    if column not in products or products.empty:
        return np.full(len(product_ids), "", dtype=object)
    by_id = pd.Series(products[column].to_numpy(dtype=object), index=products[c.PRODUCT_ID].astype(str).to_numpy())
    return by_id.reindex(product_ids).fillna("").astype(str).to_numpy(dtype=object)


def _codes(texts: NDArray[np.object_]) -> RowArray:
    codes, levels = pd.factorize(texts, sort=True)
    blank = np.flatnonzero(levels == "")
    return np.where(np.isin(codes, blank), UNKNOWN_ACCOUNT, codes).astype(np.int32)


def barred(products: pd.DataFrame, product_ids: NDArray[np.object_]) -> BoolArray:
    """Return which products the products table keeps from being offered, `(n_products,)`."""
    found = np.zeros(len(product_ids), dtype=bool)
    for column, bad in ((c.ACTIVE, False), (c.DO_NOT_OFFER, True)):
        if column in products:
            ids = products.loc[products[column].fillna(not bad).astype(bool) == bad, c.PRODUCT_ID].astype(str)
            found |= np.isin(product_ids.astype(str), ids.to_numpy(dtype=str))
    return found


class CutoffConfig(Config):
    """When to replay the past.

    Attributes:
        n_cutoffs: how many, the newest first; each costs one pass over the history.
        step_days: days between two cutoffs; below the horizon, so that windows overlap and none is wasted.
        min_history_days: days of history that a cutoff must have behind it.
    """

    n_cutoffs: int = Field(default=10, ge=1)
    step_days: float = Field(default=15.0, gt=0)
    min_history_days: float = Field(default=30.0, ge=0)


def rolling_cutoffs(
    history: History, as_of: datetime, horizon_days: float, config: CutoffConfig
) -> tuple[datetime, ...]:
    """Return the cutoffs, newest first: `as_of - horizon_days - i * step_days` for i = 0, 1, ...

    Every label window `[cutoff, cutoff + horizon_days)` ends at or before `as_of`, so that no label is from the
    future, and every cutoff has `min_history_days` of history behind it. A history that is too short gives none.
    """
    before = history.before(as_of)
    if len(before) == 0:
        return ()
    oldest = int(before.seconds.min()) + config.min_history_days * SECONDS_A_DAY
    newest = as_of - timedelta(days=horizon_days)
    found = (newest - timedelta(days=i * config.step_days) for i in range(config.n_cutoffs))
    return tuple(cutoff for cutoff in found if epoch_seconds(cutoff) >= oldest)
