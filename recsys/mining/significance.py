"""Is a pair together more, or less, often than order sizes, popularities and repeat purchases alone explain?

Large orders put everything together: under independence given both margins of the order x product matrix plain lift
is far above 1. So the null keeps the margins: each order keeps its number of products, each product its number of
orders, a period apart, and everything else is chance.

Two forms of it:

- `proportional`: an order of s products holds product a with chance s n_a / S (S = all lines), which makes the mean
  of a pair n_a n_b sum s(s-1) / S^2. Simple, but a popular product's chance exceeds 1 in a large order: the mean is
  then too high for popular pairs and too low for rare ones, and null pairs pass the test both ways.
- `saturating`: the chance is x_s y_a / (1 + x_s y_a), with x and y fitted so that both margins hold (the bipartite
  configuration model). The default.

Accounts that need both products buy both, sooner or later in one order, without the one calling for the other. Such
pairs are significant over all orders and say nothing about a cart. So a second null keeps, for each account, how
often it bought each product, and leaves to chance in which of its orders. Orders without an account are taken as
those of one account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import ibis
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc
from statsmodels.stats.multitest import fdrcorrection

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.mining.counting import ACCOUNT_CODE, BASKET, PRODUCT_CODE, Margins

NullModel = Literal["saturating", "proportional"]


SIZE_STEP = 1.1  # orders whose sizes differ by less share a class: the mean of a pair moves by less than 0.1 %
MAX_STEPS = 500
TOLERANCE = 1e-8
_BLOCK_CELLS = 20_000_000


@dataclass(frozen=True)
class _Classes:
    """Orders of about equal size: mean size, number of orders, mean of s(s-1), each of shape `(n_classes,)`."""

    size: FloatArray
    n_orders: FloatArray
    ordered_pairs: FloatArray


@dataclass(frozen=True)
class PairNull:
    """The expected number of orders that hold both products of a pair when only the margins matter.

    The mean of (a, b) is the sum over terms of weighted[a] * factor[b].

    Attributes:
        weighted: shape `(n_terms, n_products)`.
        factor: shape `(n_terms, n_products)`.
        in_first_half: which terms are of the first half of the periods, `(n_terms,)`.
    """

    weighted: NDArray[np.float32]
    factor: NDArray[np.float32]
    in_first_half: NDArray[np.bool_]

    def expected(self, left: IntArray, right: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the mean of each pair over all orders and over the first half, each of shape `(n_pairs,)`."""
        first = self._sum_over(left, right, self.in_first_half)
        return first + self._sum_over(left, right, ~self.in_first_half), first

    def _sum_over(self, left: IntArray, right: IntArray, terms: NDArray[np.bool_]) -> FloatArray:
        """Return sum over terms of weighted[left] * factor[right], a block of left products at a time."""
        mean = np.zeros(len(left))
        if len(left) == 0 or not terms.any():
            return mean
        rows, factor = np.ascontiguousarray(self.weighted[terms].T), self.factor[terms]
        rank = np.argsort(left, kind="stable")
        step = max(1, _BLOCK_CELLS // factor.shape[1])
        for start in range(0, int(left.max()) + 1, step):
            low, high = np.searchsorted(left[rank], (start, start + step))
            here = rank[low:high]
            mean[here] = (rows[start : start + step] @ factor)[left[here] - start, right[here]]
        return mean


def fit_null(margins: Margins, model: NullModel) -> PairNull:
    """Return the null of the pairs for these margins.

    With p_a the chance of product a in an order of s products, v = p (1 - p) and d = sum of v over all products, the
    chance that the order holds both a and b is, because its size is fixed, p_a p_b - v_a v_b / d (times a factor
    close to 1 that makes the pairs of the order s(s-1) / 2); in the proportional form p_a p_b (s-1) / s.

    Sources: Saracco, Di Clemente, Gabrielli, Squartini 2015 (bipartite configuration model, equations 3 and 6) for
    the chances; Hajek 1964, equation 5.27, for two of them at a fixed size.
    """
    terms = []
    for period in range(margins.n_periods):
        inside = (margins.period == period) & (margins.size > 0)
        classes = _merge_sizes(margins.size[inside], margins.n_orders[inside])
        n_with = margins.n_with[period].astype(np.float64)
        build = _saturating_terms if model == "saturating" else _proportional_terms
        weighted, factor = build(classes, n_with)
        terms.append((weighted, factor, np.full(len(factor), 2 * period < margins.n_periods)))
    weighted, factor, halves = (np.concatenate(parts) for parts in zip(*terms, strict=True))
    return PairNull(weighted.astype(np.float32), factor.astype(np.float32), halves)


def _proportional_terms(classes: _Classes, n_with: FloatArray) -> tuple[FloatArray, FloatArray]:
    chance = np.outer(classes.size, n_with) / (classes.size @ classes.n_orders)
    weight = classes.n_orders * classes.ordered_pairs / classes.size**2
    return weight[:, None] * chance, chance


def _saturating_terms(classes: _Classes, n_with: FloatArray) -> tuple[FloatArray, FloatArray]:
    chance = _fit_chances(classes, n_with)
    free = chance * (1 - chance)
    spread = free.sum(axis=1)
    # An order of one product holds no pair; nor is anything free where every product is in every order.
    shared = np.divide((free**2).sum(axis=1), spread, out=np.zeros(len(spread)), where=spread > 0)
    every_pair = np.maximum(chance.sum(axis=1) ** 2 - (chance**2).sum(axis=1) - spread + shared, TOLERANCE)
    weight = classes.n_orders * classes.ordered_pairs / every_pair
    less = np.divide(weight, spread, out=np.zeros(len(spread)), where=spread > 0)
    return np.concatenate([weight[:, None] * chance, -less[:, None] * free]), np.concatenate([chance, free])


def tail_above(n_both: IntArray, expected: FloatArray) -> FloatArray:
    """Return P(N >= n_both) for N Poisson with mean `expected`: small where a pair is together too often.

    The count under the null varies less than a Poisson's (margins are kept), so the value errs on the safe side.
    """
    return np.where(n_both > 0, gammainc(np.maximum(n_both, 1), expected), 1.0)


def tail_below(n_both: IntArray, expected: FloatArray) -> FloatArray:
    """Return P(N <= n_both) for N Poisson with mean `expected`: small where a pair is together too rarely."""
    return np.asarray(gammaincc(n_both + 1, expected), dtype=np.float64)


def false_discovery_rate(p_values: FloatArray, n_tests: int) -> FloatArray:
    """Return the Benjamini-Hochberg q-values of tests of which only some are at hand, shape `(n,)`.

    With p sorted ascending, q_i = min over j >= i of p_j n_tests / j, at most 1.

    Args:
        p_values: of the tests at hand.
        n_tests: size of the whole family; the tests not at hand count as p = 1, so it is at least `len(p_values)`.

    Source: Benjamini, Hochberg 1995.

    Example:
        >>> false_discovery_rate(np.array([0.03, 0.01]), n_tests=4).tolist()
        [0.06, 0.04]
    """
    among_these: FloatArray = fdrcorrection(p_values)[1]
    return np.minimum(among_these * (n_tests / max(len(p_values), 1)), 1.0)


def _merge_sizes(size: IntArray, n_orders: IntArray) -> _Classes:
    label = np.floor(np.log(size) / np.log(SIZE_STEP) + 1e-9)
    _, group = np.unique(label, return_inverse=True)
    orders, lines, ordered_pairs = (
        np.bincount(group, weights=(n_orders * each).astype(np.float64)).astype(np.float64)
        for each in (np.ones_like(size), size, size * (size - 1))
    )
    return _Classes(lines / orders, orders, ordered_pairs / orders)


def _fit_chances(classes: _Classes, n_with: FloatArray) -> FloatArray:
    """Return the chance of each product in an order of each class that keeps both margins, by fixed-point steps."""
    size, n_orders = classes.size, classes.n_orders
    # Products that stand in the same number of orders share their parameter: fit one a distinct number.
    degree, which, n_products = np.unique(n_with, return_inverse=True, return_counts=True)
    root = np.sqrt(size @ n_orders)
    x, y = size / root, degree / root
    for _ in range(MAX_STEPS):
        new_x = size / ((y / (1 + np.outer(x, y))) @ n_products)
        new_y = degree / (n_orders @ (new_x[:, None] / (1 + np.outer(new_x, y))))
        moved = np.abs(new_x / x - 1).max()
        x, y = new_x, new_y
        if moved < TOLERANCE:
            break
    odds = np.outer(x, y)
    return np.asarray((odds / (1 + odds))[:, which])


BLOCK_PAIRS = 20_000
N_HELD = "n_held"
N_LINES = "n_lines"
SQUARES = "squares"


@dataclass(frozen=True)
class RepeatPurchaseNull:
    """The mean and variance of the orders that hold both products of a pair, given each account's habits.

    For an account with T orders of s distinct products, S in all, that bought a in n_a orders and b in n_b, and
    w = sum s^2 / S^2 (1 / T when all orders are of one size)::

        mean      n_a n_b w
        variance  n_a n_b w (1 - n_a / T) (1 - n_b / T) T / (T - 1), 0 where T is 1

    The hypergeometric moments with larger orders likelier to hold either product; accounts add up. An account with
    one order explains all it bought together: it says nothing.

    Attributes:
        held: n_a sqrt(w), `(n_accounts, n_products)`.
        free: n_a (1 - n_a / T) sqrt(w T / (T - 1)), the same shape.
    """

    held: sp.csc_array
    free: sp.csc_array

    def tail_above(self, left: IntArray, right: IntArray, n_both: IntArray) -> FloatArray:
        """Return P(N >= n_both), shape `(n_pairs,)`, N a Poisson shifted to have the null's mean and variance."""
        mean, variance = _dot(self.held, left, right), _dot(self.free, left, right)
        excess = n_both - (mean - variance)
        informed = (variance > 0) & (excess > 0)
        p_value = np.ones(len(left))
        p_value[informed] = gammainc(excess[informed], variance[informed])
        return p_value


def read_habits(baskets: ibis.Table, n_products: int) -> RepeatPurchaseNull:
    """Return the null of numbered baskets that carry the number of their account.

    Args:
        baskets: what `number_baskets` gives for orders with an account.
        n_products: how many products are numbered.
    """
    bought = baskets.group_by([ACCOUNT_CODE, PRODUCT_CODE]).agg(n_held=baskets.count()).to_pyarrow()
    sized = baskets.group_by([ACCOUNT_CODE, BASKET]).agg(size=baskets.count().cast("int64"))
    size = sized["size"]
    totals = sized.group_by(ACCOUNT_CODE).agg(
        n_orders=sized.count(), n_lines=size.sum().cast("int64"), squares=(size * size).sum().cast("int64")
    )
    known = totals.order_by(ACCOUNT_CODE).to_pyarrow()
    n_orders = known[c.N_ORDERS].to_numpy().astype(np.float64)
    weight = known[SQUARES].to_numpy() / known[N_LINES].to_numpy().astype(np.float64) ** 2
    account = np.searchsorted(known[ACCOUNT_CODE].to_numpy(), bought[ACCOUNT_CODE].to_numpy())
    product, held = bought[PRODUCT_CODE].to_numpy(), bought[N_HELD].to_numpy().astype(np.float64)
    scale = np.sqrt(weight * n_orders / np.maximum(n_orders - 1, 1))[account]
    free = held * (1 - held / n_orders[account]) * scale
    shape = (len(n_orders), n_products)
    return RepeatPurchaseNull(
        held=sp.csc_array((held * np.sqrt(weight)[account], (account, product)), shape=shape),
        free=sp.csc_array((free, (account, product)), shape=shape),
    )


def _dot(matrix: sp.csc_array, left: IntArray, right: IntArray) -> FloatArray:
    """Return the inner product of the columns of each pair, shape `(n_pairs,)`."""
    total = np.zeros(len(left))
    for start in range(0, len(left), BLOCK_PAIRS):
        block = slice(start, start + BLOCK_PAIRS)
        total[block] = np.asarray(matrix[:, left[block]].multiply(matrix[:, right[block]]).sum(axis=0)).ravel()
    return total
