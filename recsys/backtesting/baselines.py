"""The baselines in the order of reports: popularity, association rules, item likeness, neighbours, EASE.

Every baseline is fitted on the lines before a cutoff, then ranks products that the account does not own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from recsys.arrays import RowArray
from recsys.contracts.plugins import check_unique, load_plugin
from recsys.data.history import SECONDS_A_DAY as DAY
from recsys.data.history import History, binary, epoch_seconds

FloatMatrix = NDArray[np.float32]
Counted = Literal["every", "latest"]
"""Which lines of an account and product count under a half-life: all of them, or the latest alone."""

# Cells of a dense block of scores (accounts x products): 80 MB of float32.
BLOCK_CELLS = 20_000_000


class BacktestModel(Protocol):
    """A method that the engine is compared with; one of one's own needs these three names and no base class."""

    @property
    def name(self) -> str:
        """What reports call it, unique over all methods."""
        ...

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Learn from the lines before `cutoff` only, and forget what was learned before."""
        ...

    def recommend(self, accounts: RowArray, k: int) -> RowArray:
        """Return the best k products that each account does not own, rows `(n, k)`, -1 where there are fewer.

        Ties go to the product with the lower row, so that equal data give equal lists.
        """
        ...


class BlockBaseline(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A baseline that scores a block of accounts against all products at once.

    A subclass sets `owned_` in `fit` and gives `_scores`. A score of zero or less means "no evidence": such a
    product is not recommended.
    """

    owned_: sp.csr_array

    def recommend(self, accounts: RowArray, k: int) -> RowArray:
        """Return the best k products that each account does not own, rows `(n, k)`, -1 where there are fewer."""
        check_is_fitted(self)
        size = max(1, BLOCK_CELLS // max(1, self.owned_.shape[1]))
        blocks = [accounts[start : start + size] for start in range(0, len(accounts), size)]
        lists = [top_k_mask(without_owned(self._scores(block), self.owned_[block]), k) for block in blocks]
        return np.concatenate(lists) if lists else np.empty((0, k), dtype=np.int32)

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        """Return the scores of all products, `(n, n_products)`."""
        raise NotImplementedError


def without_owned(scores: FloatMatrix, owned: sp.csr_array) -> FloatMatrix:
    """Return `scores` with what the account owns at zero, `(n, n_products)`."""
    rows, columns = owned.nonzero()
    scores[rows, columns] = 0.0
    return scores


def top_k_mask(scores: FloatMatrix, k: int) -> RowArray:
    """Return the columns of the k best positive scores of each row, best first, `(n, k)`, -1 where there are fewer.

    Ties go to the lower column.

    Example:
        >>> top_k_mask(np.array([[0.5, 0.0, 0.9, 0.5]], dtype=np.float32), 3)
        array([[2, 0, 3]], dtype=int32)
    """
    n, width = scores.shape
    place = max(0, width - k)
    threshold = np.partition(scores, place, axis=1)[:, place] if width else np.zeros(n, dtype=scores.dtype)
    # Everything at the threshold stays in, so that the sort below, not the partition, breaks the ties.
    rows, columns = np.nonzero((scores >= threshold[:, None]) & (scores > 0))
    order = np.lexsort((columns, -scores[rows, columns], rows))
    rows, columns = rows[order], columns[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    lists = np.full((n, k), -1, dtype=np.int32)
    keep = rank < k
    lists[rows[keep], rank[keep]] = columns[keep]
    return lists


def purchase_weights(
    history: History, cutoff: datetime, half_life_days: float | None, counted: Counted = "every"
) -> sp.csr_array:
    """Return how much each account's purchases of each product count, `(n_accounts, n_products)`.

    1 without a half-life; with one `sum of 0.5 ** (age / half_life_days)` over the lines of the account and product,
    age being days from the line to the cutoff; or the value of the latest line alone, at most 1, which is the better
    ranker where products are bought again and again.
    """
    past = history.before(cutoff).known()
    shape = (history.n_accounts, history.n_products)
    if half_life_days is None:
        return past.owned()
    age_days = (epoch_seconds(cutoff) - past.seconds) / DAY
    weight = (0.5 ** (age_days / half_life_days)).astype(np.float32)
    if counted == "every":
        return sp.csr_array(sp.coo_array((weight, (past.account, past.product)), shape=shape))
    key = past.account.astype(np.int64) * shape[1] + past.product
    # Lines are sorted by time: read backwards, the first index of a key is its latest purchase.
    unique, latest = np.unique(key[::-1], return_index=True)
    rows, columns = np.divmod(unique, shape[1])
    return sp.csr_array(sp.coo_array((weight[::-1][latest], (rows, columns)), shape=shape))


def half_life_suffix(half_life_days: float | None, counted: Counted = "every") -> str:
    """Return how a half-life reads in a baseline's name: `""`, `", decay 90 d"` or `", latest 90 d"`."""
    if half_life_days is None:
        return ""
    return f", {'decay' if counted == 'every' else 'latest'} {half_life_days:g} d"


# The inverse of a dense matrix of this many products takes 8 s and 0.8 GB on two cores.
HEAD_SIZE = 6_000


class EaseBaseline(BlockBaseline):
    """Products by `X B` with `B` the ridge regression of each product on all others, its diagonal zero.

    `P = (X'X + penalty I)^-1`, `B_ij = -P_ij / P_jj`. Over the `head_size` products with the most accounts, because
    the inverse costs their number cubed. Source: Steck (2019), Embarrassingly Shallow Autoencoders, equation 8.
    """

    def __init__(self, penalty: float = 500.0, head_size: int = HEAD_SIZE) -> None:
        self.penalty = penalty
        self.head_size = head_size

    @property
    def name(self) -> str:
        """Its kind and settings."""
        return f"EASE {self.penalty:g}"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Solve for the weights between the products of the head."""
        self.owned_ = history.before(cutoff).owned()
        counts = np.bincount(self.owned_.indices, minlength=history.n_products)
        bought = np.flatnonzero(counts)
        self.head_ = np.sort(bought[np.argsort(-counts[bought], kind="stable")[: self.head_size]])
        self.weights_ = ease_weights(self.owned_[:, self.head_], self.penalty)
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        scores = np.zeros((len(accounts), self.owned_.shape[1]), dtype=np.float32)
        scores[:, self.head_] = self.owned_[accounts][:, self.head_] @ self.weights_
        return scores


def ease_weights(purchases: sp.csr_array, penalty: float) -> NDArray[np.float32]:
    """Return the EASE weights of a row x product matrix, antecedent by consequent, `(n_products, n_products)`."""
    gram = np.asarray((purchases.T @ purchases).todense(), dtype=np.float64)
    gram[np.diag_indices_from(gram)] += penalty
    inverse = _inverse(gram)
    weights = -inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(weights, 0.0)
    return weights.astype(np.float32)


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a symmetric, positive definite matrix, by its Cholesky factor: half the work of a general one."""
    factor, _ = dpotrf(matrix, lower=True)
    half, _ = dpotri(factor, lower=True)
    whole: NDArray[np.float64] = np.tril(half) + np.tril(half, -1).T
    return whole


class UserKnnBaseline(BlockBaseline):
    """Products by the summed cosine of the nearest accounts that bought them.

    `score_j = sum over the n_neighbours nearest accounts b of cos(a, b) w_bj`, cosine over the account x product
    weights; ties between neighbours go to the lower account row.
    """

    def __init__(
        self, n_neighbours: int = 100, half_life_days: float | None = None, counted: Counted = "every"
    ) -> None:
        self.n_neighbours = n_neighbours
        self.half_life_days = half_life_days
        self.counted = counted

    @property
    def name(self) -> str:
        """Its kind and settings."""
        return f"user kNN {self.n_neighbours}{half_life_suffix(self.half_life_days, self.counted)}"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Scale each account's weights to length one."""
        self.owned_ = history.before(cutoff).owned()
        self.weights_ = purchase_weights(history, cutoff, self.half_life_days, self.counted)
        length = np.sqrt(np.asarray(self.weights_.power(2).sum(axis=1)).ravel())
        self.unit_ = sp.csr_array(
            sp.diags_array(1.0 / np.where(length > 0, length, 1.0), dtype=np.float32) @ self.weights_
        ).astype(np.float32)
        self.unit_transposed_ = sp.csr_array(self.unit_.T)
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        # Accounts against accounts is wider than against products: a smaller block keeps the same memory bound.
        size = max(1, len(accounts) * self.owned_.shape[1] // max(1, self.owned_.shape[0]))
        parts = [self._block(accounts[start : start + size]) for start in range(0, len(accounts), size)]
        return np.concatenate(parts)

    def _block(self, accounts: RowArray) -> FloatMatrix:
        likeness = np.asarray((self.unit_[accounts] @ self.unit_transposed_).todense())
        likeness[np.arange(len(accounts)), accounts] = 0.0
        nearest = top_k_mask(likeness, self.n_neighbours)
        rows, places = np.nonzero(nearest >= 0)
        columns = nearest[rows, places]
        kept = sp.csr_array((likeness[rows, columns], (rows, columns)), shape=likeness.shape)
        return np.asarray((kept @ self.weights_).todense())


class AccountCosineBaseline(BlockBaseline):
    """Products like those the account owns: `score_j = sum_i w_i n_ij / (n_i ** alpha * n_j ** (1 - alpha))`.

    `n_ij` is the inner product of the columns i and j of the account x product weights, `n_i` a column's squared
    norm; `alpha = 0.5` is the cosine, a larger alpha favours popular products. Source: Aiolli (2013), asymmetric
    cosine.
    """

    def __init__(self, alpha: float = 0.5, half_life_days: float | None = None, counted: Counted = "every") -> None:
        self.alpha = alpha
        self.half_life_days = half_life_days
        self.counted = counted

    @property
    def name(self) -> str:
        """Its kind and settings."""
        return f"account cosine {self.alpha:g}{half_life_suffix(self.half_life_days, self.counted)}"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Count the products that the same accounts bought, in a sparse product x product matrix."""
        self.owned_ = history.before(cutoff).owned()
        self.weights_ = purchase_weights(history, cutoff, self.half_life_days, self.counted)
        together = sp.csr_array(self.weights_.T @ self.weights_)
        norms = together.diagonal()
        safe = np.where(norms > 0, norms, 1.0)
        left, right = (sp.diags_array(safe**power, dtype=np.float32) for power in (-self.alpha, self.alpha - 1.0))
        self.likeness_ = left @ together @ right
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        scores: FloatMatrix = (self.weights_[accounts] @ self.likeness_).toarray()
        return scores


class RuleConfidenceBaseline(BlockBaseline):
    """Products by the best confidence of a rule from anything that the account owns.

    `score_j = max over owned i of n_ij / n_i`, counts of orders (anonymous ones too) before the cutoff, rules seen
    in fewer than `min_orders` orders left out. Source: Agrawal, Imielinski and Swami (1993).
    """

    def __init__(self, min_orders: int = 10) -> None:
        self.min_orders = min_orders

    @property
    def name(self) -> str:
        """Its kind and settings."""
        return "rule confidence"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Count product pairs over orders."""
        past = history.before(cutoff)
        self.owned_ = past.owned()
        orders = binary(past.order, past.product, (history.n_orders, history.n_products))
        self.rules_ = order_confidence(orders, self.min_orders)
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        scores = np.zeros((len(accounts), self.owned_.shape[1]), dtype=np.float32)
        for row, account in enumerate(accounts):
            owned = self.owned_.indices[self.owned_.indptr[account] : self.owned_.indptr[account + 1]]
            rules = self.rules_[owned]
            np.maximum.at(scores[row], rules.indices, rules.data)
        return scores


def order_confidence(orders: sp.csr_array, min_orders: int) -> sp.csr_array:
    """Return `P(j in order | i in order)` for the pairs of at least `min_orders` orders, antecedent by consequent."""
    pairs = sp.csr_array(orders.T @ orders)
    totals = pairs.diagonal()
    pairs.setdiag(0)
    pairs.data[pairs.data < min_orders] = 0
    pairs.eliminate_zeros()
    return sp.csr_array(sp.diags_array(1.0 / np.where(totals > 0, totals, 1.0), dtype=np.float32) @ pairs).astype(
        np.float32
    )


class PopularBaseline(BlockBaseline):
    """Products by the number of accounts that bought them before the cutoff."""

    @property
    def name(self) -> str:
        """Its kind."""
        return "popular"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Count the accounts of each product."""
        self.owned_ = history.before(cutoff).owned()
        self.counts_ = np.bincount(self.owned_.indices, minlength=history.n_products).astype(np.float32)
        return self

    def _scores(self, accounts: RowArray) -> FloatMatrix:
        return np.tile(self.counts_, (len(accounts), 1))


class RecentlyPopularBaseline(PopularBaseline):
    """Products by the number of accounts that bought them for the first time in the last days before the cutoff."""

    def __init__(self, window_days: int = 30) -> None:
        self.window_days = window_days

    @property
    def name(self) -> str:
        """Its kind and settings."""
        return f"recently popular, {self.window_days} d"

    def fit(self, history: History, cutoff: datetime) -> Self:
        """Count the first purchases of each product within the window."""
        past = history.before(cutoff)
        self.owned_ = past.owned()
        recent = past.first_purchases().between(cutoff - timedelta(days=self.window_days), self.window_days)
        self.counts_ = np.bincount(recent.product, minlength=history.n_products).astype(np.float32)
        return self


DECAYS: tuple[tuple[float | None, Counted], ...] = ((None, "every"), (90.0, "every"), (90.0, "latest"))
"""Half-life and what counts under it. The latest purchase alone makes the strongest rivals on Online Retail II."""


def default_baselines(plugins: Sequence[str] = ()) -> tuple[BacktestModel, ...]:
    """Return one of each baseline, not fitted, and those of other packages, by the names of their entry points.

    Raises:
        PluginError: one of another package can't be had, or has the name of another.
    """
    found: tuple[BacktestModel, ...] = (
        PopularBaseline(),
        RecentlyPopularBaseline(window_days=30),
        RuleConfidenceBaseline(),
        *(AccountCosineBaseline(alpha, *decay) for decay in DECAYS for alpha in (0.5, 0.7)),
        *(UserKnnBaseline(n, *decay) for decay in DECAYS for n in (100, 300)),
        EaseBaseline(penalty=500.0),
        EaseBaseline(penalty=2_000.0),
    )
    found += tuple(load_plugin("baselines", name) for name in plugins)
    check_unique("baseline", [each.name for each in found])
    return found
