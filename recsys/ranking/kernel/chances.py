"""Chances beside a cart: a score as a probability by the curves, and what the account's own chances say there."""

from __future__ import annotations

from typing import Any

from recsys.ranking.kernel.layout import (
    LATER_OF_CARTS,
    candidates,
    cart_prior,
    curve_probability,
    curve_score,
    curves,
    knot_before,
)
from recsys.ranking.kernel.native import inner


@inner
def to_probabilities(t: int, n_lines: int, begin: int, end: int) -> None:
    """Turn prior and summed weights into probabilities."""
    curve: Any = 0
    while curve + 1 < len(curves(t)) and curves(t)[curve + 1].lines <= n_lines:
        curve += 1
    for i in range(begin, end):
        candidate = candidates(t)[i]
        probability = cart_probability(t, curve, candidate.rank_score + cart_prior(t)[candidate.product])
        candidate.probability, candidate.rank_score, candidate.score = probability, probability, probability


@inner
def cart_probability(t: int, curve_row: int, score: float) -> float:
    """The calibrated probability of a cart score: the line between its curve's knots, as `numpy.interp` has it."""
    curve, x, y = curves(t)[curve_row], curve_score(t), curve_probability(t)
    last = curve.end - 1
    if score >= x[last]:
        return y[last]
    if score <= x[curve.begin]:
        return y[curve.begin]
    low = knot_before(t)[curve.first_cell + int((score - x[curve.begin]) * curve.cells_per_score)]
    while x[low] > score:  # the cell is a guess, and right within rounding
        low -= 1
    while x[low + 1] <= score:
        low += 1
    return (y[low + 1] - y[low]) / (x[low + 1] - x[low]) * (score - x[low]) + y[low]


@inner
def noisy_or(one: float, other: float) -> float:
    """Probability that one of two independent causes brings the event about (Pearl 1988, section 4.3.2)."""
    return 1.0 - (1.0 - one) * (1.0 - other)


@inner
def in_this_order(probability: float, orders: float) -> float:
    """What an account's probability says of the order of the cart, one of `orders`, to rank beside what the cart says.

    Cart probabilities count later orders too, which a share of the account's does not: `LATER_OF_CARTS`. Without a cart
    (`orders` 0) it stays as it is.
    """
    return min(LATER_OF_CARTS * probability / orders, 1.0) if orders > 0.0 else probability


@inner
def with_this_order(probability: float, orders: float) -> float:
    """An account's probability beside a cart, which is one order more than it was expected to place."""
    return noisy_or(probability, probability / orders) if orders > 0.0 else probability
