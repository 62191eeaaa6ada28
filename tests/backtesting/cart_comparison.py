"""What the tests of cart completion compare: the learned weights alone, and one method against another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.arrays import RowArray
from recsys.backtesting.cart_completion import CartCompletion, CartScores
from recsys.backtesting.cart_task import CartTask, in_blocks
from recsys.evaluation.statistics.bootstrap import Interval, paired_difference
from recsys.models.cart import CartModel


class CartWeightsMethod:
    """Products by the learned cart weights: prior and the sum of the rows of the cart's products."""

    name = "cart weights"

    def __init__(self, model: CartModel) -> None:
        self.model = model

    def recommend(self, task: CartTask, k: int) -> RowArray:
        return in_blocks(task.carts, k, self.model.score)


def best_of(found: CartCompletion, names: Sequence[str]) -> CartScores:
    """The method with the highest hit rate among `names`."""
    return max((found.method(name) for name in names), key=lambda method: method.hit_rate.estimate)


def hit_rate_gain(found: CartCompletion, name: str, against: str, rng: np.random.Generator) -> Interval:
    """The paired difference in hit rate of two methods over the same carts."""
    ours, rival = found.method(name).hits, found.method(against).hits
    return paired_difference(ours.astype(np.float64), rival.astype(np.float64), rng)
