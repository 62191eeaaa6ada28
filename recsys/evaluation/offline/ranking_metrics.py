"""Ranking metrics at k over the full catalogue, one value an account, and what the lists do to the catalogue.

Every function takes the recommended product rows `(n, k)`, best first, -1 where the list is shorter, and what was
relevant, `(n, n_products)`; row i of both belongs to the same account. A short list is judged as it is: its empty
places are misses. An account without anything relevant has no defined value and gets NaN: leave it out of means.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import BoolArray, FloatArray, RowArray, sparse_lookup
from recsys.data.history import History
from recsys.errors import DataError


@dataclass(frozen=True)
class RankingScores:
    """Ranking metrics at one k, arrays of shape `(n,)`, one value an account.

    Attributes:
        ndcg: discounted gain over the gain of an ideal list of `min(k, n_relevant)` hits.
        recall: hits / relevant products.
        hit_rate: 1 where at least one product hit.
        precision: hits / k.
        average_precision: mean precision at the ranks of the hits, over `min(k, n_relevant)`; its mean is MAP.
    """

    ndcg: FloatArray
    recall: FloatArray
    hit_rate: FloatArray
    precision: FloatArray
    average_precision: FloatArray

    def means(self) -> dict[str, float]:
        """Return the mean over accounts of each metric, by name; NaN accounts are left out."""
        return {field.name: _mean(getattr(self, field.name)) for field in fields(self)}


def score_ranking(recommended: RowArray, relevant: sp.csr_array, k: int) -> RankingScores:
    """Return all ranking metrics at k.

    Example:
        >>> relevant = sp.csr_array([[0, 1, 1, 0]])
        >>> score_ranking(np.array([[1, 0]]), relevant, 2).recall
        array([0.5])
    """
    hits = hits_at(recommended, relevant, k)
    n_relevant = np.diff(relevant.indptr)
    return RankingScores(
        ndcg=ndcg(hits, n_relevant),
        recall=recall(hits, n_relevant),
        hit_rate=hit_rate(hits, n_relevant),
        precision=precision(hits, n_relevant),
        average_precision=average_precision(hits, n_relevant),
    )


def hits_at(recommended: RowArray, relevant: sp.csr_array, k: int) -> BoolArray:
    """Return whether the product at each of the first k places is relevant, `(n, k)`.

    Raises:
        DataError: k is below 1, the accounts of both arguments differ in number, or a list names a product twice.
    """
    if k < 1:
        raise DataError(f"k == {k}, must be 1 or more; ask for at least one place")
    if len(recommended) != relevant.shape[0]:
        raise DataError(
            f"{len(recommended)} lists for {relevant.shape[0]} accounts, must be one list an account; "
            "select the same accounts on both sides"
        )
    lists = np.full((len(recommended), k), -1, dtype=np.int64)
    width = min(k, recommended.shape[1])
    lists[:, :width] = recommended[:, :width]
    _refuse_repeats(lists)
    keys = np.arange(len(lists))[:, None] * np.int64(relevant.shape[1]) + lists
    return np.isin(keys, _keys(relevant)) & (lists >= 0)


def ndcg(hits: BoolArray, n_relevant: NDArray[np.integer]) -> FloatArray:
    """Return `sum_i hit_i / log2(i + 1)` over `sum_{i <= min(k, n_relevant)} 1 / log2(i + 1)`, shape `(n,)`.

    The ideal is truncated: a list of k hits scores 1 even where more than k products are relevant. Source: Järvelin
    and Kekäläinen (2002), binary gain.
    """
    k = hits.shape[1]
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[np.nan], np.cumsum(discount)])
    gain: FloatArray = (hits @ discount) / ideal[np.minimum(k, n_relevant)]
    return gain


def recall(hits: BoolArray, n_relevant: NDArray[np.integer]) -> FloatArray:
    """Return hits over relevant products, shape `(n,)`."""
    found: FloatArray = hits.sum(axis=1) / _or_nan(n_relevant)
    return found


def hit_rate(hits: BoolArray, n_relevant: NDArray[np.integer]) -> FloatArray:
    """Return 1 where any place hit, else 0, shape `(n,)`."""
    return np.where(n_relevant > 0, hits.any(axis=1).astype(np.float64), np.nan)


def precision(hits: BoolArray, n_relevant: NDArray[np.integer]) -> FloatArray:
    """Return hits over k, shape `(n,)`."""
    return np.where(n_relevant > 0, hits.mean(axis=1, dtype=np.float64), np.nan)


def average_precision(hits: BoolArray, n_relevant: NDArray[np.integer]) -> FloatArray:
    """Return `sum_i hit_i * precision_at_i / min(k, n_relevant)`, shape `(n,)`."""
    k = hits.shape[1]
    precision_at = hits.cumsum(axis=1) / np.arange(1, k + 1)
    total: FloatArray = (hits * precision_at).sum(axis=1) / _or_nan(np.minimum(k, n_relevant))
    return total


def revenue_captured(hits: BoolArray, recommended: RowArray, revenue: sp.csr_array) -> FloatArray:
    """Return the money that each account spent on the products that hit, shape `(n,)`.

    Over `revenue.sum()` it is the share of all novel revenue that the lists had named beforehand.
    """
    rows, places = np.nonzero(hits)
    money = sparse_lookup(revenue, rows, recommended[rows, places])
    return np.bincount(rows, weights=money, minlength=len(hits)).astype(np.float64)


def _or_nan(counts: NDArray[np.integer]) -> FloatArray:
    return np.where(counts > 0, counts, np.nan).astype(np.float64)


def _mean(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _keys(matrix: sp.csr_array) -> NDArray[np.int64]:
    coordinates = matrix.tocoo()
    filled = coordinates.data != 0
    keys: NDArray[np.int64] = coordinates.row[filled].astype(np.int64) * matrix.shape[1] + coordinates.col[filled]
    return keys


def _refuse_repeats(lists: NDArray[np.int64]) -> None:
    ordered = np.sort(lists, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        raise DataError(f"list {row} == {lists[row].tolist()} names a product twice, must not; drop the repeats")


def active_products(history: History, cutoff: datetime, window_days: float = 90.0) -> NDArray[np.bool_]:
    """Return whether each product was sold in the `window_days` before the cutoff, shape `(n_products,)`."""
    recent = history.between(cutoff - timedelta(days=window_days), window_days)
    return np.bincount(recent.product, minlength=history.n_products) > 0


def coverage(recommended: NDArray[np.int32], catalogue: NDArray[np.bool_]) -> float:
    """Return the share of the catalogue that stands on somebody's list: distinct offered / catalogue size, in [0, 1].

    Args:
        recommended: product rows, `(n, k)`, -1 where a list is shorter.
        catalogue: which products count, shape `(n_products,)`.
    """
    offered = np.unique(recommended[recommended >= 0])
    return float(catalogue[offered].sum() / catalogue.sum()) if catalogue.any() else float("nan")


def novelty(recommended: NDArray[np.int32], n_buyers: NDArray[np.integer], n_accounts: int) -> float:
    """Return the mean self-information of the offered products, bits.

    `-log2((n_buyers + 1) / (n_accounts + 1))` averaged over all places: 0 where everybody already buys what is
    offered; one bit more for each halving of the buyers. The added one keeps a product without buyers finite.
    Source: Zhou et al. (2010).

    Args:
        recommended: product rows, `(n, k)`, -1 where a list is shorter.
        n_buyers: accounts that bought each product before the cutoff, shape `(n_products,)`.
        n_accounts: accounts with an order before the cutoff.
    """
    offered = recommended[recommended >= 0]
    if len(offered) == 0:
        return float("nan")
    return float(-np.log2((n_buyers[offered] + 1.0) / (n_accounts + 1.0)).mean())
