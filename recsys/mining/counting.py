"""Orders as baskets and pairs of products counted over them, by the engine that holds the rows.

Everything here is an Ibis expression until the row and column sums or the pairs are fetched. Orders and products
become numbers first: a self join on two integers is several times faster than one on two strings.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.contracts import columns as c
from recsys.errors import EmptyDataError

BASKET = "basket"
PRODUCT_CODE = "product"
PERIOD = "period"
ACCOUNT_CODE = "account"
SIZE = "size"


@dataclass(frozen=True)
class Margins:
    """The row and column sums of the order x product matrix, a period apart.

    Attributes:
        product_ids: shape `(n_products,)`, sorted; a product's number points into it.
        n_with: orders that hold the product, shape `(n_periods, n_products)`.
        period: period of each class of orders, shape `(n_classes,)`.
        size: distinct products in an order of the class, shape `(n_classes,)`.
        n_orders: orders in the class, shape `(n_classes,)`.
    """

    product_ids: NDArray[np.object_]
    n_with: NDArray[np.int64]
    period: NDArray[np.int64]
    size: NDArray[np.int64]
    n_orders: NDArray[np.int64]

    @property
    def n_periods(self) -> int:
        """How many periods there are."""
        return len(self.n_with)


def number_baskets(orders: ibis.Table, *, n_periods: int = 1) -> ibis.Table:
    """Return the expression of the distinct lines of all orders: columns `basket product period account`, integers.

    Orders are split into `n_periods` of equal count by the time of their first line (ties by id), so that the
    boundary between the first and the second half of the periods is the median time of an order. Products and
    accounts are numbered by sorted id; orders without an account are of account "".

    Args:
        orders: contract columns `order_id product_id` and, with several periods, `ordered_at`; `account_id` where it
            is known. Lines without order or product are left out.
        n_periods: how many periods, 1 or more.
    """
    lines = orders.drop_null([c.ORDER_ID, c.PRODUCT_ID])
    held = lines.select(c.ORDER_ID, c.PRODUCT_ID).distinct()
    numbered = held.join(number_products(held), c.PRODUCT_ID).join(_number_orders(lines, n_periods), c.ORDER_ID)
    return numbered.select(BASKET, PRODUCT_CODE, PERIOD, ACCOUNT_CODE)


def _number_orders(lines: ibis.Table, n_periods: int) -> ibis.Table:
    """Return the number, period and account of each order; what the lines do not tell is constant."""
    started = lines.group_by(c.ORDER_ID).agg(
        started=lines[c.ORDERED_AT].min() if n_periods > 1 else ibis.literal(0),
        owner=lines[c.ACCOUNT_ID].min() if c.ACCOUNT_ID in lines.columns else ibis.literal(""),
    )
    by_time = ibis.window(order_by=[started["started"], started[c.ORDER_ID]])
    by_owner = ibis.window(order_by=started["owner"].fill_null(""))
    return started.select(
        c.ORDER_ID,
        ibis.row_number().over(ibis.window(order_by=started[c.ORDER_ID])).cast("int32").name(BASKET),
        ibis.ntile(n_periods).over(by_time).cast("int32").name(PERIOD),
        ibis.dense_rank().over(by_owner).cast("int32").name(ACCOUNT_CODE),
    )


def number_products(held: ibis.Table) -> ibis.Table:
    """Return the expression of each product's number, from 0 by sorted id: columns `product_id product`."""
    products = held.select(c.PRODUCT_ID).distinct()
    number = ibis.row_number().over(ibis.window(order_by=products[c.PRODUCT_ID])).cast("int32")
    return products.mutate(number.name(PRODUCT_CODE))


def read_product_ids(orders: ibis.Table) -> NDArray[np.object_]:
    """Return the sorted ids of all products in orders, shape `(n_products,)`: what `number_baskets` numbers."""
    table = number_products(orders.drop_null([c.ORDER_ID, c.PRODUCT_ID])).to_pyarrow().sort_by(PRODUCT_CODE)
    return np.array(table[c.PRODUCT_ID].to_pylist(), dtype=object)


def read_margins(baskets: ibis.Table, product_ids: NDArray[np.object_]) -> Margins:
    """Return the margins of numbered baskets.

    Args:
        baskets: what `number_baskets` gives.
        product_ids: the sorted ids that its numbers point into.

    Raises:
        EmptyDataError: there is no basket.
    """
    held = baskets.group_by([PERIOD, PRODUCT_CODE]).agg(n=baskets.count()).to_pyarrow()
    if held.num_rows == 0:
        raise EmptyDataError("orders == 0 lines, at least one order with a product is needed; check the input")
    sized = baskets.group_by([PERIOD, BASKET]).agg(baskets.count().name(SIZE))
    classes = sized.group_by([PERIOD, SIZE]).agg(n=sized.count()).order_by([PERIOD, SIZE]).to_pyarrow()
    period, product = held[PERIOD].to_numpy(), held[PRODUCT_CODE].to_numpy()
    n_with = np.zeros((int(period.max()) + 1, len(product_ids)), dtype=np.int64)
    n_with[period, product] = held["n"].to_numpy()
    return Margins(
        product_ids=product_ids,
        n_with=n_with,
        period=classes[PERIOD].to_numpy().astype(np.int64),
        size=classes[SIZE].to_numpy().astype(np.int64),
        n_orders=classes["n"].to_numpy().astype(np.int64),
    )


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
    left = products.select(products[c.PRODUCT_ID].name(c.ANTECEDENT_ID), products[PRODUCT_CODE].name(LEFT))
    right = products.select(products[c.PRODUCT_ID].name(c.CONSEQUENT_ID), products[PRODUCT_CODE].name(RIGHT))
    return counted.join(left, LEFT).join(right, RIGHT).select(c.ANTECEDENT_ID, c.CONSEQUENT_ID, c.N_BOTH)


def pair_counts(baskets: ibis.Table, *, n_periods: int) -> ibis.Table:
    """Return the expression of the pairs of numbered baskets: `left_product right_product n_both n_first_half`.

    Args:
        baskets: what `number_baskets` gives.
        n_periods: how many periods it was given; those below half of it make the first half.
    """
    early = (baskets[PERIOD] * 2 < n_periods).cast("int32")
    left = baskets.select(baskets[BASKET], baskets[PRODUCT_CODE].name(LEFT), early.name("early"))
    right = baskets.select(baskets[BASKET], baskets[PRODUCT_CODE].name(RIGHT))
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
