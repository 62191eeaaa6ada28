"""Is a pair together more, or less, often than the order sizes and popularities alone explain?

Large orders put everything together: under independence given both margins of the order x product matrix plain lift
is far above 1. So the null keeps the margins: each order keeps its number of products, each product its number of
orders, a period apart, and everything else is chance.

Two forms of it:

- `proportional`: an order of s products holds product a with chance s n_a / S (S = all lines), which makes the mean
  of a pair n_a n_b sum s(s-1) / S^2. Simple, but a popular product's chance exceeds 1 in a large order: the mean is
  then too high for popular pairs and too low for rare ones, and null pairs pass the test both ways.
- `saturating`: the chance is x_s y_a / (1 + x_s y_a), with x and y fitted so that both margins hold (the bipartite
  configuration model). The default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc

from recsys.mining.baskets import Margins

NullModel = Literal["saturating", "proportional"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SIZE_STEP = 1.1  # orders whose sizes differ by less share a class: the mean of a pair moves by less than 0.1 %
MAX_STEPS = 500
TOLERANCE = 1e-8
BLOCK_CELLS = 20_000_000


@dataclass(frozen=True)
class PairNull:
    """The expected number of orders that hold both products of a pair when only the margins matter.

    Attributes:
        weighted: n_orders x factor x chance of each product in each class of orders, `(n_classes, n_products)`.
        chance: the chance itself, `(n_classes, n_products)`.
        in_first_half: which classes are of the first half of the periods, `(n_classes,)`.
    """

    weighted: NDArray[np.float32]
    chance: NDArray[np.float32]
    in_first_half: NDArray[np.bool_]

    def expected(self, left: IntArray, right: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the mean of each pair over all orders and over the first half, each of shape `(n_pairs,)`."""
        first = self._sum_over(left, right, self.in_first_half)
        return first + self._sum_over(left, right, ~self.in_first_half), first

    def _sum_over(self, left: IntArray, right: IntArray, classes: NDArray[np.bool_]) -> FloatArray:
        """Return sum over classes of weighted[left] * chance[right], a block of left products at a time."""
        mean = np.zeros(len(left))
        if len(left) == 0 or not classes.any():
            return mean
        rows, chance = np.ascontiguousarray(self.weighted[classes].T), self.chance[classes]
        rank = np.argsort(left, kind="stable")
        step = max(1, BLOCK_CELLS // chance.shape[1])
        for start in range(0, int(left.max()) + 1, step):
            low, high = np.searchsorted(left[rank], (start, start + step))
            here = rank[low:high]
            mean[here] = (rows[start : start + step] @ chance)[left[here] - start, right[here]]
        return mean


def fit_null(margins: Margins, model: NullModel) -> PairNull:
    """Return the null of the pairs for these margins.

    The mean of the pair (a, b) is the sum, over classes of m orders with s products, of m p_a p_b f with p the chance
    of each and f = s(s-1) / (s^2 - sum of p^2) (s^2 alone for the proportional form), which makes the number of all
    ordered pairs of an order exactly s(s-1).

    Source: Saracco, Di Clemente, Gabrielli, Squartini 2015 (bipartite configuration model, equations 3 and 6).
    """
    chances, weights, halves = [], [], []
    for period in range(margins.n_periods):
        inside = margins.period == period
        if not inside.any():
            continue
        size, n_orders, ordered_pairs = _merge_sizes(margins.size[inside], margins.n_orders[inside])
        chance = _chances(size, n_orders, margins.n_with[period].astype(np.float64), model)
        taken = (chance**2).sum(axis=1) if model == "saturating" else np.zeros(len(size))
        factor = _safe_divide(ordered_pairs, size**2 - taken)
        chances.append(chance.astype(np.float32))
        weights.append(((n_orders * factor)[:, None] * chance).astype(np.float32))
        halves.append(np.full(len(size), 2 * period < margins.n_periods))
    return PairNull(np.concatenate(weights), np.concatenate(chances), np.concatenate(halves))


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
    rank = np.argsort(p_values, kind="stable")
    scaled = p_values[rank] * n_tests / np.arange(1, len(p_values) + 1)
    q_values = np.empty(len(p_values))
    q_values[rank] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q_values


def _merge_sizes(size: IntArray, n_orders: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return, a class of about equal sizes: mean size, orders, mean of s(s-1)."""
    label = np.floor(np.log(size) / np.log(SIZE_STEP) + 1e-9)
    _, group = np.unique(label, return_inverse=True)
    orders = np.bincount(group, weights=n_orders.astype(np.float64)).astype(np.float64)
    lines = np.bincount(group, weights=(n_orders * size).astype(np.float64))
    ordered_pairs = np.bincount(group, weights=n_orders * size * (size - 1.0))
    return lines / orders, orders, ordered_pairs / orders


def _chances(size: FloatArray, n_orders: FloatArray, n_with: FloatArray, model: NullModel) -> FloatArray:
    """Return the chance of each product in an order of each class, `(n_classes, n_products)`."""
    n_lines = float(size @ n_orders)
    if model == "proportional":
        return np.outer(size, n_with) / n_lines
    # Products that stand in the same number of orders share their parameter: fit one a distinct number.
    degree, which, n_products = np.unique(n_with, return_inverse=True, return_counts=True)
    x, y = size / np.sqrt(n_lines), degree / np.sqrt(n_lines)
    for _ in range(MAX_STEPS):
        new_x = size / ((y / (1 + np.outer(x, y))) @ n_products)
        new_y = degree / (n_orders @ (new_x[:, None] / (1 + np.outer(new_x, y))))
        moved = np.abs(new_x / x - 1).max()
        x, y = new_x, new_y
        if moved < TOLERANCE:
            break
    odds = np.outer(x, y)
    return np.asarray((odds / (1 + odds))[:, which])


def _safe_divide(top: FloatArray, bottom: FloatArray) -> FloatArray:
    return np.divide(top, bottom, out=np.zeros(len(top)), where=(top > 0) & (bottom > 0))
