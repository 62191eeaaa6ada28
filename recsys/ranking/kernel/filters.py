"""What a candidate is worth, and the first filter that removes it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recsys.offer_model.tables import EVERYONE
from recsys.ranking.kernel.layout import (
    FAMILY_IN_CART,
    FILTER_BLOCKED,
    FILTER_BOUNDS,
    FILTER_EXCLUDED,
    FILTER_IN_CART,
    FILTER_NOT_CREDIBLE,
    FILTER_OWNED,
    FILTER_SUPPRESSED,
    FILTER_WORTH_LESS,
    MARK_CART,
    MARK_EXCLUDED,
    MARK_OWNED,
    MARK_REPLACED_IN_CART,
    MARK_SUPPRESSED,
    MARKS_OF_FILTERS,
    NO_ROW,
    OBJECTIVE_CONVERSION,
    OBJECTIVE_MARGIN,
    PASSED,
    TIER_ACCOUNT,
    answer,
    blocked,
    boosted,
    candidates,
    category,
    category_counts,
    cost,
    discounted,
    factors,
    family,
    family_marks,
    held_back,
    is_owned,
    listed_least,
    listed_price,
    listed_segment,
    marks,
    owned_count,
    owned_product,
    owned_start,
    pinned,
    price,
    price_count,
    price_start,
    refusal,
    request,
    rows,
    settings,
    shares,
    substitute,
    substitutes_count,
    substitutes_start,
    taken,
    variant_group,
    variant_marks,
)
from recsys.ranking.kernel.native import inner


@inner
def position_in(sorted_rows: Any, row: int) -> int:  # noqa: ANN401 - an array of any integers
    """Return where `row` stands in a sorted array, `NO_ROW` where it does not."""
    low, high = 0, len(sorted_rows)
    while low < high:
        middle = (low + high) // 2
        if sorted_rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low if low < len(sorted_rows) and sorted_rows[low] == row else NO_ROW


@inner
def price_at(t: int, product: int, quantity: float) -> float:
    """The price of a product at a quantity, for the segment that is asked for; NaN where it is not known."""
    value, segment, first = price(t)[product], answer(t)[0].segment, price_start(t)[product]
    for row in range(first, first + price_count(t)[product]):
        is_for = listed_segment(t)[row] == EVERYONE or listed_segment(t)[row] == segment
        if is_for and quantity >= listed_least(t)[row]:
            value = listed_price(t)[row]
    return value


@inner
def money(t: int, i: int) -> float:
    """The money that a candidate brings if it is bought, 0 where a price is not known; by price for `conversion`.

    An upgrade brings the difference to what it displaces. A discount comes off the price.
    """
    candidate, r = candidates(t)[i], request(t)[0].rules
    value = _unit_value(t, candidate.product, candidate.quantity)
    discount = position_in(discounted(r), candidate.product)
    if discount != NO_ROW:
        value -= shares(r)[discount] * price_at(t, candidate.product, candidate.quantity)
    if candidate.from_product != NO_ROW:
        value -= _unit_value(t, candidate.from_product, candidate.quantity)
    value *= candidate.quantity
    return 0.0 if math.isnan(value) else value


@inner
def brings_more(t: int, i: int) -> bool:
    """Whether an upgrade costs more today than what it displaces, and where money counts is worth more.

    By conversion one whose price is not known is not known to cost less.
    """
    candidate, r = candidates(t)[i], request(t)[0].rules
    to_pay = price_at(t, candidate.product, candidate.quantity)
    discount = position_in(discounted(r), candidate.product)
    if discount != NO_ROW:
        to_pay -= shares(r)[discount] * to_pay
    if to_pay - price_at(t, candidate.from_product, candidate.quantity) <= 0.0:
        return False
    return request(t)[0].objective == OBJECTIVE_CONVERSION or money(t, i) > 0.0


@inner
def _unit_value(t: int, product: int, quantity: float) -> float:
    """The price of a product, or its margin.

    A product without a cost is taken at the median margin rate of those that have one: at its full price it would pass
    everything whose cost is known.
    """
    value = price_at(t, product, quantity)
    if request(t)[0].objective == OBJECTIVE_MARGIN:
        margin = value - cost(t)[product]
        return value * settings(t)[0].margin_rate if math.isnan(margin) else margin
    return value


@inner
def set_utility(t: int, i: int) -> None:
    """Set what a candidate is ordered by.

    It is the model's own score where that is wanted, else its rank probability, times its boost and, unless conversions
    are wanted, its money. Beside a cart what goes with none of its lines more often than with any order is held back;
    where the account speaks alone, products that too many accounts would be shown.
    """
    candidate, asked = candidates(t)[i], request(t)[0]
    candidate.rank_probability, candidate.boost = candidate.rank_score, 1.0
    if asked.is_raw:
        candidate.utility = candidate.score
        return
    if asked.has_rules and len(boosted(asked.rules)):
        boost = position_in(boosted(asked.rules), candidate.product)
        if boost != NO_ROW:
            candidate.boost = factors(asked.rules)[boost]
        candidate.score = candidate.rank_score * candidate.boost
    if asked.n_cart:
        candidate.boost *= 1.0 if candidate.from_product != NO_ROW else candidate.relation
    elif candidate.tier == TIER_ACCOUNT and asked.n_unknown == 0:
        candidate.boost *= 1.0 - np.float64(held_back(t)[candidate.product])
    candidate.rank_score *= candidate.boost
    candidate.utility = candidate.rank_score
    if asked.objective != OBJECTIVE_CONVERSION:
        candidate.utility *= money(t, i)


@inner
def first_filter(t: int, i: int) -> int:
    """Return the position in `FILTERS` of the first that removes a candidate, `PASSED` where none does."""
    candidate, asked = candidates(t)[i], request(t)[0]
    product, is_upgrade = candidate.product, candidate.from_product != NO_ROW
    code: Any = np.int64(refusal(t)[product])
    if code:
        return code
    if asked.has_rules and position_in(blocked(asked.rules), product) != NO_ROW:
        return FILTER_BLOCKED
    if asked.has_bounds and _is_outside(t, i):
        return FILTER_BOUNDS
    if marks(t)[product] & MARKS_OF_FILTERS:
        marked: Any = marked_filter(t, product, is_upgrade)
        if marked:
            return marked
    return PASSED if asked.is_raw else _floor(t, i)


@inner
def marked_filter(t: int, product: int, is_upgrade: bool) -> int:
    """Return what of cart, exclusions, suppressions and purchases rules a product out, `PASSED` where nothing does."""
    mark = marks(t)[product]
    if mark & MARK_CART:
        return FILTER_IN_CART
    if mark & MARK_EXCLUDED:
        return FILTER_EXCLUDED
    if mark & MARK_SUPPRESSED:
        return FILTER_SUPPRESSED
    return FILTER_OWNED if mark & MARK_OWNED and (not is_upgrade or request(t)[0].new_only) else PASSED


@inner
def _floor(t: int, i: int) -> int:
    """Return whether a candidate is too improbable, or an upgrade that brings no more than what it displaces."""
    candidate, asked = candidates(t)[i], request(t)[0]
    is_improbable = candidate.probability < settings(t)[0].min_probability
    if is_improbable and position_in(pinned(asked.rules), candidate.product) == NO_ROW:
        return FILTER_NOT_CREDIBLE
    return PASSED if candidate.from_product == NO_ROW or brings_more(t, i) else FILTER_WORTH_LESS


@inner
def _is_outside(t: int, i: int) -> bool:
    """Whether a product is of no category, or at no price, that the request wants; an unknown price is none."""
    asked, product = request(t)[0], candidates(t)[i].product
    if asked.n_categories != NO_ROW:
        first = asked.n_cart + asked.n_excluded + asked.n_suppressed + asked.n_bought
        is_wanted = False
        for i in range(first, first + asked.n_categories):
            is_wanted |= category(t)[product] == rows(t)[i]
        if not is_wanted:
            return True
    paid = price_at(t, product, candidates(t)[i].quantity)
    if not math.isnan(asked.min_price) and not paid >= asked.min_price:
        return True
    return not math.isnan(asked.max_price) and not paid <= asked.max_price


@inner
def mark_products(t: int, account: int) -> None:
    """Mark what the request and its account rule out, and what would replace a product of the cart."""
    asked, first = request(t)[0], 0
    is_ordering = asked.n_cart + asked.n_unknown > 0  # half of what accounts buy with a cart is repeat
    first = _mark(t, first, asked.n_cart, MARK_CART)
    first = _mark(t, first, asked.n_excluded, MARK_EXCLUDED)
    first = _mark(t, first, asked.n_suppressed, MARK_SUPPRESSED)
    if asked.new_only or not is_ordering:
        _mark(t, first, asked.n_bought, MARK_OWNED)
        if account != NO_ROW:
            begin = owned_start(t)[account]
            for row in range(begin, begin + owned_count(t)[account]):
                if asked.new_only or is_owned(t)[row]:
                    marks(t)[owned_product(t)[row]] |= MARK_OWNED
    if not asked.is_raw:
        for i in range(asked.n_cart):
            mark_alike(t, rows(t)[i], FAMILY_IN_CART, MARK_REPLACED_IN_CART)


@inner
def _mark(t: int, first: int, count: int, mark: int) -> int:
    for i in range(first, first + count):
        marks(t)[rows(t)[i]] |= mark
    return first + count


@inner
def mark_alike(t: int, product: int, of_family: int, of_substitutes: int) -> None:
    """Mark a product's family and variants, and its substitutes."""
    if family(t)[product] != NO_ROW:
        family_marks(t)[family(t)[product]] |= of_family
    if variant_group(t)[product] and request(t)[0].leaves_variants_out:
        variant_marks(t)[variant_group(t)[product]] |= of_family
    first = substitutes_start(t)[product]
    for row in range(first, first + substitutes_count(t)[product]):
        marks(t)[substitute(t)[row]] |= of_substitutes


@inner
def clear_marks(t: int, account: int, n_candidates: int, n_taken: int) -> None:
    """Leave the working memory of products, families, variants and categories as it was found."""
    asked = request(t)[0]
    for rank in range(n_taken):
        _clear_alike(t, candidates(t)[taken(t)[rank]].product)
    for i in range(asked.n_cart):
        _clear_alike(t, rows(t)[i])
    for i in range(asked.n_cart + asked.n_excluded + asked.n_suppressed + asked.n_bought):
        marks(t)[rows(t)[i]] = 0
    for i in range(n_candidates):
        marks(t)[candidates(t)[i].product] = 0
    if account != NO_ROW:
        begin = owned_start(t)[account]
        for row in range(begin, begin + owned_count(t)[account]):
            marks(t)[owned_product(t)[row]] = 0


@inner
def _clear_alike(t: int, product: int) -> None:
    if family(t)[product] != NO_ROW:
        family_marks(t)[family(t)[product]] = 0
    variant_marks(t)[variant_group(t)[product]] = 0
    if category(t)[product] != NO_ROW:
        category_counts(t)[category(t)[product]] = 0
    first = substitutes_start(t)[product]
    for row in range(first, first + substitutes_count(t)[product]):
        marks(t)[substitute(t)[row]] = 0
    marks(t)[product] = 0
