"""Chances beside a cart: a score as a probability by the curves, and what the account's own chances say there.

A product has one chance, whether it is told as a cross-sell or as an upsell, and is one of the two.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recsys.offer_model.tables import EVERYONE, LEAST_PACE, REPEAT_PRIOR_ORDERS, REPEAT_SCORE
from recsys.ranking.kernel.filters import brings_more
from recsys.ranking.kernel.layout import (
    LATER_OF_CARTS,
    NO_ROW,
    answer,
    candidates,
    cart_prior,
    curve_of_bought,
    curve_of_new,
    curve_of_unlinked,
    curve_probability,
    curve_score,
    curves,
    knot_before,
    n_orders,
    orders_in_horizon,
    owned_count,
    owned_orders,
    owned_product,
    owned_start,
    places,
    popular_count,
    popular_probability,
    popular_product,
    popular_start,
    request,
    settings,
)
from recsys.ranking.kernel.native import inner


@inner
def curve_of(t: int, n_lines: int) -> int:
    """Return the curve of carts of so many lines."""
    curve: Any = 0
    while curve + 1 < len(curves(t)) and curves(t)[curve + 1].lines <= n_lines:
        curve += 1
    return int(curve)


@inner
def to_probabilities(t: int, n_lines: int, begin: int, end: int) -> None:
    """Turn prior and summed weights into probabilities; `score` keeps their sum."""
    curve = curve_of(t, n_lines)
    for i in range(begin, end):
        candidate = candidates(t)[i]
        candidate.score = candidate.rank_score + cart_prior(t)[candidate.product]
        probability = cart_probability(t, curve, candidate.score)
        candidate.probability, candidate.rank_score = probability, probability


@inner
def knows_accounts(t: int, curve_row: int) -> bool:
    """Return whether a curve tells apart what an account bought before."""
    return bool(curve_of_new(t)[curves(t)[curve_row].end - 1] > 0.0)


@inner
def cart_probability(t: int, curve_row: int, score: float) -> float:
    """The calibrated probability of a cart score, where nothing is known of who asks."""
    return _on_curve(t, curve_row, score, curve_probability(t))


@inner
def chance_of_new(t: int, curve_row: int, score: float) -> float:
    """Likewise for a product that the account never bought."""
    return _on_curve(t, curve_row, score, curve_of_new(t))


@inner
def chance_of_bought(t: int, curve_row: int, score: float, share: float) -> float:
    """Likewise for one that a share of the account's orders held."""
    return _on_curve(t, curve_row, score + REPEAT_SCORE * share, curve_of_bought(t))


@inner
def chance_of_unlinked(t: int, curve_row: int, popularity: float) -> float:
    """The probability of a product that no weight of the cart speaks for, by that without a cart."""
    return _on_curve(t, curve_row, popularity, curve_of_unlinked(t))


@inner
def tell_purchases(t: int, account: int, curve: int, begin: int, end: int) -> None:
    """Let what the account bought before, and what it never bought, speak of the candidates of the cart.

    It ranks by `repeat_weight` of the share of its orders; the chance is as often as such products were bought, more
    often where more orders are to come within the horizon.
    """
    is_known = knows_accounts(t, curve)
    if is_known:
        for i in range(begin, end):
            candidates(t)[i].probability = chance_of_new(t, curve, candidates(t)[i].score)
    divisor = np.float64(n_orders(t)[account]) + settings(t)[0].repeat_prior_orders
    odds = repeat_odds(np.float64(orders_in_horizon(t)[account]), settings(t)[0].usual_pace)
    first = owned_start(t)[account]
    for row in range(first, first + owned_count(t)[account]):
        place = places(t)[owned_product(t)[row]]
        if place:
            candidate = candidates(t)[place - 1]
            repeats = settings(t)[0].repeat_weight * (owned_orders(t)[row] / divisor)
            candidate.rank_score = noisy_or(candidate.rank_score, repeats)
            candidate.probability = candidate.rank_score
            if is_known:
                share = owned_orders(t)[row] / (np.float64(n_orders(t)[account]) + REPEAT_PRIOR_ORDERS)
                probability = chance_of_bought(t, curve, candidate.score, share)
                candidate.probability = odds * probability / (1.0 + (odds - 1.0) * probability)


@inner
def repeat_odds(pace: float, usual_pace: float) -> float:
    """Times the odds by which an account buys again, by its orders in a horizon against those usual: fourth root."""
    return math.sqrt(math.sqrt(max(pace, LEAST_PACE) / usual_pace))


@inner
def raise_popular(t: int, segment: int) -> None:
    """Let what goes with the cart have no lower chance than it has as a popular product, without a cart."""
    first = popular_start(t)[segment]
    for row in range(first, first + popular_count(t)[segment]):
        place = places(t)[popular_product(t)[row]]
        if place and candidates(t)[place - 1].score > cart_prior(t)[popular_product(t)[row]]:
            candidate = candidates(t)[place - 1]
            candidate.probability = max(candidate.probability, np.float64(popular_probability(t)[row]))


@inner
def popular_chance(t: int, row: int, n_lines: int) -> float:
    """The chance of a row of the popular products beside a cart of so many lines, none without a cart."""
    probability = float(popular_probability(t)[row])
    if n_lines == 0:
        return probability
    return max(probability, chance_of_unlinked(t, curve_of(t, n_lines), probability))


@inner
def tell_upgrades(t: int, begin: int, first_upgrade: int, end: int) -> int:
    """Let each product have one chance, the largest of its candidates, and one kind; return where they end then.

    It is an upsell where upsells are wanted and it brings more than what it would displace. Candidates of a kind that
    nobody wants only tell their chance.
    """
    asked = request(t)[0]
    if first_upgrade == end:
        return end if asked.wants_cross_sell else begin
    _tell_largest(t, begin, first_upgrade, end)
    for i in range(first_upgrade, end):
        if asked.wants_upsell and not asked.is_raw and brings_more(t, i):
            places(t)[candidates(t)[i].product] = 0  # its cross-sell is left out
    kept = begin
    for i in range(begin, end):
        candidate = candidates(t)[i]
        is_wanted = asked.wants_upsell
        if candidate.from_product == NO_ROW:
            is_wanted = asked.wants_cross_sell and places(t)[candidate.product] != 0
        places(t)[candidate.product] = 0
        if is_wanted:
            candidates(t)[kept] = candidate
            kept += 1
    return kept


@inner
def _tell_largest(t: int, begin: int, first_upgrade: int, end: int) -> None:
    """Give candidates of one product the largest chance of them; `places` knows the first of each afterwards."""
    for i in range(begin, end):
        candidate = candidates(t)[i]
        place = places(t)[candidate.product]
        if place == 0:
            places(t)[candidate.product] = i + 1
        else:
            one = candidates(t)[place - 1]
            one.probability = max(one.probability, candidate.probability)
            one.rank_score = max(one.rank_score, candidate.rank_score)
    if request(t)[0].n_cart:
        _raise_upgrades(t, answer(t)[0].segment, first_upgrade)
        _raise_upgrades(t, EVERYONE, first_upgrade)
    for i in range(first_upgrade, end):
        one = candidates(t)[places(t)[candidates(t)[i].product] - 1]
        candidates(t)[i].probability, candidates(t)[i].rank_score = one.probability, one.rank_score


@inner
def _raise_upgrades(t: int, segment: int, first_upgrade: int) -> None:
    """Let upgrades that nothing else speaks for have no lower chance than as popular products beside the cart."""
    first, n_lines = popular_start(t)[segment], request(t)[0].n_cart + request(t)[0].n_unknown
    for row in range(first, first + popular_count(t)[segment]):
        place = places(t)[popular_product(t)[row]]
        if place > first_upgrade:
            candidate = candidates(t)[place - 1]
            candidate.probability = max(candidate.probability, popular_chance(t, row, n_lines))


@inner
def _on_curve(t: int, curve_row: int, score: float, y: Any) -> float:  # noqa: ANN401 - an array of the compiled code
    """The line between a curve's knots, as `numpy.interp` has it."""
    curve, x = curves(t)[curve_row], curve_score(t)
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
