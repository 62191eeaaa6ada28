"""What the orders and accounts show of pairs of products: counts, what chance would give, and who follows whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import binom

from recsys.arrays import IntArray
from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY, History, binary
from recsys.errors import EmptyDataError
from recsys.mining.alternation import count_alternation
from recsys.mining.follow_ons import FollowOnConfig, follow_ons
from recsys.mining.rules import RuleConfig
from recsys.mining.significance import PairNull, false_discovery_rate

LEFT_ROW: Final = "left"
RIGHT_ROW: Final = "right"
_BLOCK: Final = 20_000


@dataclass(frozen=True)
class PairEvidence:
    """Counts of any pair of the history's products.

    Attributes:
        history: the order lines.
        null: of pairs in orders.
        null_row: the row of each of the history's products among those of the null, -1 where it was never ordered.
        orders: orders x products, 1 where an order holds a product.
        complements: products x products, 1 where a rule makes them complements.
    """

    history: History
    null: PairNull
    null_row: NDArray[np.intp]
    orders: sp.csc_array
    complements: sp.csc_array

    @classmethod
    def of(cls, history: History, rules: pd.DataFrame, null: PairNull, null_ids: NDArray[np.object_]) -> PairEvidence:
        """Return the evidence of a history, its rules and the null over the products `null_ids`."""
        n, ids = history.n_products, pd.Index(history.product_ids)
        is_complement = (rules[c.RELATION] == "complement").to_numpy(dtype=bool)
        one, other = (
            ids.get_indexer(pd.Index(rules[name][is_complement])) for name in (c.ANTECEDENT_ID, c.CONSEQUENT_ID)
        )
        complements = sp.csc_array((np.ones(len(one)), (one, other)), shape=(n, n))
        orders = sp.csc_array(binary(history.order, history.product, (history.n_orders, n)), dtype=np.float64)
        return cls(history, null, pd.Index(null_ids).get_indexer(ids), orders, complements)

    @property
    def n_with(self) -> IntArray:
        """How many orders hold each product, `(n_products,)`."""
        return np.asarray(self.orders.sum(axis=0), dtype=np.int64).ravel()

    def between(self, left: IntArray, right: IntArray) -> pd.DataFrame:
        """Return the counts of pairs of rows, in their order; `p_alternating` is of alternation."""
        n_with = self.n_with
        expected = np.zeros(len(left))
        one, other = self.null_row[left], self.null_row[right]
        known = (one >= 0) & (other >= 0)
        expected[known] = self.null.expected(one[known], other[known])[0]
        alternation = count_alternation(self.history, left, right)
        return pd.DataFrame(
            {
                LEFT_ROW: left,
                RIGHT_ROW: right,
                c.N_PRODUCT: n_with[left],
                c.N_OTHER: n_with[right],
                c.N_BOTH: _shared(self.orders, left, right),
                c.EXPECTED_BOTH: np.maximum(expected, 0.0),
                c.N_ALTERNATING: alternation.n_alternating,
                c.EXPECTED_ALTERNATING: alternation.expected_alternating,
                "p_alternating": alternation.p_value,
                c.N_SHARED_COMPLEMENTS: _shared(self.complements, left, right),
            }
        )


def _shared(matrix: sp.csc_array, left: IntArray, right: IntArray) -> IntArray:
    """Return how many rows two columns of each pair share, `(n_pairs,)`."""
    shared = np.zeros(len(left), dtype=np.int64)
    for start in range(0, len(left), _BLOCK):
        block = slice(start, start + _BLOCK)
        shared[block] = np.asarray(matrix[:, left[block]].multiply(matrix[:, right[block]]).sum(axis=0)).ravel()
    return shared


def follow_on_steps(history: History, config: FollowOnConfig, rules: RuleConfig) -> pd.DataFrame:
    """Return the steps from one product to another that neither chance nor the way back explains.

    More accounts than the base rate gives (binomial, false discoveries held over all ordered pairs of products with an
    account), and more of the steps between the two go this way than a coin would send (.05). A product that came
    later than another follows it in every account: such steps can't be told from those that the first one causes.

    Columns `antecedent_id consequent_id n_followed expected_followed q_step days_until`; days are the median of
    the accounts that made the step.
    """
    try:
        steps = follow_ons(history, config)
    except EmptyDataError:
        steps = pd.DataFrame({name: [] for name in (c.ANTECEDENT_ID, c.CONSEQUENT_ID)}, dtype="str").assign(
            **dict.fromkeys((c.N_ANTECEDENT, c.N_BOTH, c.BASE_RATE, c.LIFT), 0.0)
        )
    made, rate = steps[c.N_BOTH].to_numpy(), steps[c.BASE_RATE].to_numpy(dtype=np.float64)
    n_products = len(np.unique(history.known().product))
    p_value = np.asarray(binom.sf(made - 1, steps[c.N_ANTECEDENT].to_numpy(), rate), dtype=np.float64)
    steps = steps.assign(q_step=false_discovery_rate(p_value, n_products * max(n_products - 1, 0)))
    keys = [c.ANTECEDENT_ID, c.CONSEQUENT_ID]
    back = steps[[*keys, c.N_BOTH]].set_axis([*keys[::-1], "n_back"], axis=1)
    steps = steps.merge(back, on=keys, how="left", validate="one_to_one")
    returned = steps["n_back"].fillna(0.0).to_numpy()
    one_way = binom.sf(made - 1, made + returned, 0.5) <= 0.05
    kept = one_way & (steps["q_step"] <= rules.max_q_value) & (steps[c.LIFT] >= rules.min_excess)
    steps = steps[kept].reset_index(drop=True)
    return pd.DataFrame(
        {
            **{name: steps[name] for name in keys},
            c.N_FOLLOWED: steps[c.N_BOTH],
            c.EXPECTED_FOLLOWED: steps[c.N_ANTECEDENT] * steps[c.BASE_RATE],
            "q_step": steps["q_step"],
            c.DAYS_UNTIL: _days_until(history, steps, config.within_days),
        }
    )


def _days_until(history: History, steps: pd.DataFrame, within_days: int) -> list[float]:
    """Return the median days between the first purchases of accounts that made each step."""
    first, ids = history.first_purchases(), pd.Index(history.product_ids)
    order = np.lexsort((first.account, first.product))
    starts = np.searchsorted(first.product[order], np.arange(history.n_products + 1))
    account, days = first.account[order], first.seconds[order] / SECONDS_A_DAY
    medians = []
    for one, other in zip(
        *(ids.get_indexer(pd.Index(steps[name])) for name in (c.ANTECEDENT_ID, c.CONSEQUENT_ID)), strict=True
    ):
        a, b = (slice(starts[row], starts[row + 1]) for row in (one, other))
        _, of_a, of_b = np.intersect1d(account[a], account[b], assume_unique=True, return_indices=True)
        gap = days[b][of_b] - days[a][of_a]
        medians.append(float(np.median(gap[(gap > 0) & (gap <= within_days)])))
    return medians
