"""Do accounts buy one product instead of another: both in time, but never in one order?"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.special import gammainc, gammaln

from recsys.arrays import FloatArray, IntArray, unique_sorted
from recsys.data.history import History

_BLOCK: Final = 20_000


class Alternation(NamedTuple):
    """Accounts that alternate between the products of each pair, arrays `(n_pairs,)`.

    Attributes:
        n_alternating: accounts that bought both, never in one order.
        expected_alternating: the same if an account's products fell into its orders by chance.
        p_value: of as many or more.
    """

    n_alternating: IntArray
    expected_alternating: FloatArray
    p_value: FloatArray


def count_alternation(history: History, left: IntArray, right: IntArray) -> Alternation:
    """Return how many accounts alternate between two products.

    An account with T orders that bought a in n_a and b in n_b of them never has both in one by the chance
    C(T - n_a, n_b) / C(T, n_b), as if its orders were equally large; where they are not, fewer are expected, so that
    the test errs on the safe side. Accounts add up; the tail is that of a Poisson shifted to their mean and variance.

    Args:
        history: lines without an account do not count.
        left: row of one product of each pair.
        right: row of the other.
    """
    known = history.known()
    line = unique_sorted(known.order.astype(np.int64) * known.n_products + known.product)
    order, product = line // known.n_products, line % known.n_products
    account_of = np.zeros(history.n_orders, dtype=np.int64)
    account_of[known.order] = known.account
    shape = known.n_accounts, known.n_products
    ones = np.ones(len(line))
    held = sp.csc_array(sp.coo_array((ones, (account_of[order], product)), shape=shape))
    held.sort_indices()
    ordered = sp.csc_array((ones, (order, product)), shape=(history.n_orders, known.n_products))
    n_orders = np.bincount(account_of[unique_sorted(order)], minlength=known.n_accounts).astype(np.float64)
    n_apart, expected, variance = np.zeros(len(left), dtype=np.int64), np.zeros(len(left)), np.zeros(len(left))
    for start in range(0, len(left), _BLOCK):
        block = slice(start, start + _BLOCK)
        one, other = held[:, left[block]], held[:, right[block]]
        of_one, of_other = (sp.csc_array(a.multiply(b.sign())) for a, b in ((one, other), (other, one)))
        of_one.sort_indices()
        of_other.sort_indices()
        pair = np.repeat(np.arange(one.shape[1]), np.diff(of_one.indptr))
        chance = _chance_apart(n_orders[of_one.indices], of_one.data, of_other.data)
        both = sp.coo_array(ordered[:, left[block]].multiply(ordered[:, right[block]]))
        together = unique_sorted(account_of[both.coords[0]] * one.shape[1] + both.coords[1]) % one.shape[1]
        n_pairs = one.shape[1]
        n_apart[block] = np.bincount(pair, minlength=n_pairs) - np.bincount(together, minlength=n_pairs)
        expected[block] = np.bincount(pair, weights=chance, minlength=n_pairs)
        variance[block] = np.bincount(pair, weights=chance * (1 - chance), minlength=n_pairs)
    excess = n_apart - (expected - variance)
    p_value = np.ones(len(left))
    tested = (variance > 0) & (excess > 0)
    p_value[tested] = gammainc(excess[tested], variance[tested])
    return Alternation(n_apart, expected, p_value)


def _chance_apart(n_orders: FloatArray, n_one: FloatArray, n_other: FloatArray) -> FloatArray:
    free = n_orders - n_one - n_other
    logs = gammaln(n_orders - n_one + 1) + gammaln(n_orders - n_other + 1) - gammaln(n_orders + 1)
    return np.where(free >= 0, np.exp(logs - gammaln(np.maximum(free, 0) + 1)), 0.0)
