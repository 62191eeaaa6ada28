"""Is a pair in one order more often than the habits of the accounts alone explain?

Accounts that need both products buy both, sooner or later in one order, without the one calling for the other. Such
pairs are significant over all orders and say nothing about a cart. So a second null keeps, for each account, how
often it bought each product, and leaves to chance in which of its orders. Orders without an account are taken as
those of one account.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import numpy as np
import scipy.sparse as sp
from scipy.special import gammainc

from recsys.arrays import FloatArray, IntArray
from recsys.contracts import columns as c
from recsys.mining.counting import ACCOUNT, BASKET, PRODUCT

BLOCK_PAIRS = 20_000
N_HELD = "n_held"
N_LINES = "n_lines"
SQUARES = "squares"


@dataclass(frozen=True)
class HabitNull:
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


def read_habits(baskets: ibis.Table, n_products: int) -> HabitNull:
    """Return the null of numbered baskets that carry the number of their account.

    Args:
        baskets: what `number_baskets` gives for orders with an account.
        n_products: how many products are numbered.
    """
    bought = baskets.group_by([ACCOUNT, PRODUCT]).agg(n_held=baskets.count()).to_pyarrow()
    sized = baskets.group_by([ACCOUNT, BASKET]).agg(size=baskets.count().cast("int64"))
    size = sized["size"]
    totals = sized.group_by(ACCOUNT).agg(
        n_orders=sized.count(), n_lines=size.sum().cast("int64"), squares=(size * size).sum().cast("int64")
    )
    known = totals.order_by(ACCOUNT).to_pyarrow()
    n_orders = known[c.N_ORDERS].to_numpy().astype(np.float64)
    weight = known[SQUARES].to_numpy() / known[N_LINES].to_numpy().astype(np.float64) ** 2
    account = np.searchsorted(known[ACCOUNT].to_numpy(), bought[ACCOUNT].to_numpy())
    product, held = bought[PRODUCT].to_numpy(), bought[N_HELD].to_numpy().astype(np.float64)
    scale = np.sqrt(weight * n_orders / np.maximum(n_orders - 1, 1))[account]
    free = held * (1 - held / n_orders[account]) * scale
    shape = (len(n_orders), n_products)
    return HabitNull(
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
