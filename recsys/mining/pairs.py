"""Product pairs over orders, counted by the engine that holds the rows."""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.contracts import columns as c
from recsys.mining.counting import BASKET, PERIOD, PRODUCT, number_baskets, number_products

LEFT = "left_product"
RIGHT = "right_product"
N_FIRST_HALF = "n_first_half"
PLACE = "place"


@dataclass(frozen=True)
class PairCounts:
    """How many orders hold both products of a pair; parallel arrays of shape `(n_pairs,)`, sorted by pair.

    Attributes:
        left: number of the product with the smaller id.
        right: number of the product with the greater id.
        n_both: orders that hold both.
        n_first_half: those of them in the first half of the orders by time.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    n_both: NDArray[np.int64]
    n_first_half: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.left)

    def take(self, keep: NDArray[np.bool_]) -> PairCounts:
        """Return the pairs where `keep` is true, shape `(n_pairs,)`."""
        return PairCounts(self.left[keep], self.right[keep], self.n_both[keep], self.n_first_half[keep])


def count_pairs(orders: ibis.Table) -> ibis.Table:
    """Return one expression that counts all pairs of products that stand together in an order.

    Columns `antecedent_id consequent_id n_both`, one row an unordered pair with `antecedent_id < consequent_id`;
    pairs that never stand together have no row. A product counts once an order. Nothing runs until it is fetched,
    and a filter on `n_both` reaches the aggregation.

    Args:
        orders: contract columns `order_id product_id`.

    Example:
        >>> import ibis, pandas as pd
        >>> lines = pd.DataFrame({"order_id": ["1", "1", "2", "2"], "product_id": ["a", "b", "b", "a"]})
        >>> count_pairs(ibis.memtable(lines)).to_pyarrow().to_pylist()
        [{'antecedent_id': 'a', 'consequent_id': 'b', 'n_both': 2}]
    """
    counted = pair_counts(number_baskets(orders), n_periods=1)
    products = number_products(orders.drop_null([c.ORDER_ID, c.PRODUCT_ID]))
    left = products.select(products[c.PRODUCT_ID].name(c.ANTECEDENT_ID), products[PRODUCT].name(LEFT))
    right = products.select(products[c.PRODUCT_ID].name(c.CONSEQUENT_ID), products[PRODUCT].name(RIGHT))
    return counted.join(left, LEFT).join(right, RIGHT).select(c.ANTECEDENT_ID, c.CONSEQUENT_ID, c.N_BOTH)


def pair_counts(baskets: ibis.Table, *, n_periods: int) -> ibis.Table:
    """Return the expression of the pairs of numbered baskets: `left_product right_product n_both n_first_half`.

    Args:
        baskets: what `number_baskets` gives.
        n_periods: how many periods it was given; those below half of it make the first half.
    """
    early = (baskets[PERIOD] * 2 < n_periods).cast("int32")
    left = baskets.select(baskets[BASKET], baskets[PRODUCT].name(LEFT), early.name("early"))
    right = baskets.select(baskets[BASKET], baskets[PRODUCT].name(RIGHT))
    together = left.join(right, [left[BASKET] == right[BASKET], left[LEFT] < right[RIGHT]])
    return together.group_by([LEFT, RIGHT]).agg(
        together.count().name(c.N_BOTH), together["early"].sum().cast("int64").name(N_FIRST_HALF)
    )


def read_pairs(counted: ibis.Table, *, min_both: int) -> PairCounts:
    """Return the counts of the pairs that stand together in at least `min_both` baskets.

    Args:
        counted: what `pair_counts` gives.
        min_both: 1 or more.
    """
    found = counted.filter(counted[c.N_BOTH] >= min_both).to_pyarrow()
    columns = [found[name].to_numpy().astype(np.int64) for name in (LEFT, RIGHT, c.N_BOTH, N_FIRST_HALF)]
    rank = np.lexsort((columns[1], columns[0]))
    return PairCounts(*(column[rank] for column in columns))


def read_given_pairs(counted: ibis.Table, left: NDArray[np.int64], right: NDArray[np.int64]) -> PairCounts:
    """Return the counts of given pairs (left < right), in their order; 0 where a pair is never together.

    Args:
        counted: what `pair_counts` gives.
        left: numbers of products, shape `(n_pairs,)`.
        right: the same.
    """
    both, first = np.zeros((2, len(left)), dtype=np.int64)
    if len(left):
        asked = ibis.memtable(pd.DataFrame({LEFT: left, RIGHT: right, PLACE: np.arange(len(left))}))
        found = counted.inner_join(asked, [LEFT, RIGHT]).select(PLACE, c.N_BOTH, N_FIRST_HALF).to_pyarrow()
        place = found[PLACE].to_numpy()
        both[place], first[place] = found[c.N_BOTH].to_numpy(), found[N_FIRST_HALF].to_numpy()
    return PairCounts(left, right, both, first)
