"""The ranking of the usual request in one compiled function: gather, bar, order, pick.

It gives what `OfferEngine` gives, offer by offer, without an array operation for each step: at a few hundred candidates
those spend their time on being called. `OfferEngine` is the reference; tests/serving/test_quick_answers.py compares.

`book` is where all columns stand, by the positions of `COLUMNS`. Candidates are rows of two of them, `ids` by
`ROW_PRODUCT`, `ROW_ORIGIN`, `ROW_EVIDENCE`, `ROW_TIER` and `numbers` by `VALUE_PROBABILITY`, `VALUE_RANK_SCORE`,
`VALUE_QUANTITY`, `VALUE_SCORE`, which mean what they mean in `Pool`. Arrays are not handed from function to function:
numba counts references to them each time.

All of it stands in one file because numba sees a change of the file of `rank` only.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from recsys.offer_model.tables import EVERYONE
from recsys.ranking.compiling import compiled, f4, f8, f8_by_4, i1, i2, i4, i4_by_4, i8, inner, u1

ROW_PRODUCT, ROW_ORIGIN, ROW_EVIDENCE, ROW_TIER, ROW_RULE, ROW_ANTECEDENT = range(6)
VALUE_PROBABILITY, VALUE_RANK_SCORE, VALUE_QUANTITY, VALUE_SCORE = range(4)
TIER_ACCOUNT, TIER_RECENT, TIER_CART, TIER_SEGMENT, TIER_POPULAR = range(5)

ASK_ACCOUNT, ASK_LIMIT, ASK_KINDS, ASK_NEW_ONLY, ASK_SEGMENT, ASK_SILENCE = range(6)
ASK_CART, ASK_EXCLUDED, ASK_WITHHELD, ASK_BLOCKED, ASK_BOUGHT, ASK_ROWS = range(6, 12)
"""Positions in what is asked: plain values, then how many rows each list has, then the rows of all lists."""
KIND_CROSS_SELL, KIND_UPSELL = 1, 2

TOLD_CONSIDERED, TOLD_REFUSED, TOLD_ACCOUNT, TOLD_SEGMENT, TOLD_RECENT, TOLD_BARRED = range(6)
"""Positions in what is told beside the offers."""
FILTERS: Final = (
    "offerable",
    "inactive",
    "do_not_offer",
    "out_of_stock",
    "blocked",
    "in_cart",
    "excluded",
    "withheld",
    "owned",
    "not_credible",
    "near_duplicate",
    "substitute",
)
"""Who says no, in the order of asking; `TOLD_BARRED + position` counts them. The first four are `state.REFUSALS`."""
(
    FILTER_BLOCKED,
    FILTER_IN_CART,
    FILTER_EXCLUDED,
    FILTER_WITHHELD,
    FILTER_OWNED,
    FILTER_NOT_CREDIBLE,
    FILTER_NEAR_DUPLICATE,
    FILTER_SUBSTITUTE,
) = range(4, 12)
N_TOLD: Final = TOLD_BARRED + len(FILTERS)

N_IDS: Final = 6
"""Of an offer: `ROW_PRODUCT` to `ROW_ANTECEDENT`."""
N_NUMBERS: Final = 5
"""Of an offer: price, probability, quantity, value, what ranked."""

WANTS_NONE: Final = -1
"""What `rank` returns for an account that wants no offers."""
TOO_LARGE: Final = -2
"""What it returns for a question that has more candidates than the working memory holds."""

COLUMNS: Final = {
    "price": "f8",
    "refusal": "i1",
    "settings": "f8",
    "products.family": "i4",
    "products.category": "i4",
    "products.usual_quantity": "f4",
    "products.cart_prior": "f4",
    "products.cart_start": "i8",
    "products.cart_count": "i4",
    "products.ladder_start": "i8",
    "products.ladder_count": "i4",
    "products.rules_start": "i8",
    "products.rules_count": "i4",
    "products.substitutes_start": "i8",
    "products.substitutes_count": "i4",
    "accounts.ids.offsets": "i8",
    "accounts.ids.data": "u1",
    "accounts.segment": "i4",
    "accounts.do_not_offer": "u1",
    "accounts.n_orders": "i4",
    "accounts.orders_in_horizon": "f4",
    "accounts.candidates_start": "i8",
    "accounts.candidates_count": "i4",
    "accounts.owned_start": "i8",
    "accounts.owned_count": "i4",
    "candidates.product": "i4",
    "candidates.from_product": "i4",
    "candidates.score": "f4",
    "candidates.probability": "f4",
    "candidates.expected_quantity": "f4",
    "candidates.evidence": "i4",
    "owned.product": "i4",
    "owned.owned": "u1",
    "owned.n_orders": "i4",
    "rules.consequent": "i4",
    "rules.n_both": "i4",
    "rules.n_antecedent": "i4",
    "rules.n_buyers": "i4",
    "substitutes.product": "i4",
    "cart.consequent": "i4",
    "cart.weight": "f4",
    "cart_curve.score": "f8",
    "cart_curve.probability": "f8",
    "ladder.to_product": "i4",
    "ladder.climb_rate": "f4",
    "ladder.evidence": "i4",
    "segments.fallback_start": "i8",
    "segments.fallback_count": "i4",
    "fallback.product": "i4",
    "fallback.probability": "f4",
    "knot_before": "i4",
    "ask": "i8",
    "units": "f8",
    "told": "i8",
    "refused": "i8",
    "offers": "i4",
    "offer_numbers": "f8",
    "marks": "i2",
    "slots": "i4",
    "families": "i1",
    "categories": "i4",
    "ids": "i4",
    "numbers": "f8",
    "keys": "i8",
    "line": "i4",
    "leads": "i4",
    "listed": "i4",
    "gone": "u1",
    "of_lists": "i8",
    "best_faint": "f8",
    "taken": "i4",
    "recent": "i8",
    "of_kind": "i8",
}
"""The columns of a book and their types: the model's by where they stand in it, what is in force, the question and the

answer, and working memory: the last of each product, family or category (all zero between two calls), then of each
candidate.
"""
(_PRICE, _REFUSAL, _SETTINGS) = range(3)
(_FAMILY, _CATEGORY, _USUAL, _PRIOR, _CART_START, _CART_COUNT, _LADDER_START, _LADDER_COUNT) = range(3, 11)
(_RULES_START, _RULES_COUNT, _KIN_START, _KIN_COUNT) = range(11, 15)
(_IDS, _ID_BYTES, _SEGMENT, _WANTS_NONE, _N_ORDERS, _ORDERS_IN_HORIZON) = range(15, 21)
(_OWN_START, _OWN_COUNT, _OWNED_START, _OWNED_COUNT) = range(21, 25)
(_OWN_PRODUCT, _OWN_ORIGIN, _OWN_SCORE, _OWN_PROBABILITY, _OWN_QUANTITY, _OWN_EVIDENCE) = range(25, 31)
(_OWNED_PRODUCT, _OWNED_OWNED, _OWNED_ORDERS) = range(31, 34)
(_CONSEQUENT, _BOTH, _WITH_ANTECEDENT, _BUYERS, _KIN) = range(34, 39)
(_LINKED, _WEIGHT, _KNOT_SCORE, _KNOT_PROBABILITY, _RUNG, _RATE, _RUNG_EVIDENCE) = range(39, 46)
(_POPULAR_START, _POPULAR_COUNT, _POPULAR, _POPULAR_PROBABILITY) = range(46, 50)
(_KNOT_BEFORE, _ASK, _UNITS, _TOLD, _REFUSED, _OFFERS, _OFFER_NUMBERS) = range(50, 57)
(_MARKS, _SLOTS, _FAMILIES, _CATEGORIES, _POOL, _NUMBERS, _KEYS) = range(57, 64)
(_LINE, _LEADS, _LISTED, _GONE, _OF_LISTS, _BEST_FAINT, _TAKEN, _LATELY, _OF_KIND) = range(64, 73)

(
    SET_MIN_PROBABILITY,
    SET_FLOOR,
    SET_REPEAT_WEIGHT,
    SET_REPEAT_PRIOR,
    SET_RECENT,
    SET_LEAST_BUYERS,
    SET_KIND_SHARE,
    SET_CATEGORY_SHARE,
    SET_FREE_RANKS,
    SET_LEAST_WORTH,
    SET_CELLS_A_SCORE,
) = range(11)
"""Positions in the column `settings`."""

_M_BLOCKED, _M_CART, _M_EXCLUDED, _M_WITHHELD, _M_OWNED = 1, 2, 4, 8, 16
_M_BARRED = 31
_M_CHOSEN, _M_REPLACED, _M_BESIDE, _M_DROPPED = 32, 64, 128, 256
_F_CHOSEN, _F_BESIDE = 1, 2
_BLOCK: Final = 16
"""Candidates of a line that one leads: the leads are looked through for each that is listed, then its block."""
_LINE_BEGIN, _LINE_END, _LIST_END, _LIST_FIRST = range(4)
"""Of a list, in `of_lists`: where its line begins and ends, how far it is made, and up to where all are gone."""
_RELEVANT: Final = 1 << 62
"""Above the bits of every number below 2: positive numbers are ordered as their bits are."""


@inner
def find_account(book: int, key: bytes) -> int:
    """Return the row of the account `key`, -1 where the model does not know it."""
    offsets, data = i8(book, _IDS), u1(book, _ID_BYTES)
    low, high, n = 0, len(offsets) - 1, len(key)
    while low < high:
        middle = (low + high) // 2
        begin, length = offsets[middle], offsets[middle + 1] - offsets[middle]
        order: Any = 0
        for at in range(min(n, length)):
            order = np.int64(data[begin + at]) - np.int64(key[at])
            if order != 0:
                break
        if order == 0:
            order = length - n
        if order == 0:
            return middle
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return -1


@inner
def _probability(book: int, score: float) -> float:
    """The calibrated probability of a cart score: the line between its knots, as `numpy.interp` has it."""
    x, y = f8(book, _KNOT_SCORE), f8(book, _KNOT_PROBABILITY)
    last = len(x) - 1
    if score >= x[last]:
        return y[last]
    if score <= x[0]:
        return y[0]
    low = i4(book, _KNOT_BEFORE)[int((score - x[0]) * f8(book, _SETTINGS)[SET_CELLS_A_SCORE])]
    while x[low] > score:  # the cell is a guess, and right within rounding
        low -= 1
    while x[low + 1] <= score:
        low += 1
    return (y[low + 1] - y[low]) / (x[low + 1] - x[low]) * (score - x[low]) + y[low]


@inner
def _put(book: int, at: int, what: tuple[int, int, int, int], chance: float, units: float) -> None:
    ids, numbers = i4_by_4(book, _POOL), f8_by_4(book, _NUMBERS)
    ids[at, ROW_PRODUCT], ids[at, ROW_ORIGIN], ids[at, ROW_EVIDENCE], ids[at, ROW_TIER] = what
    numbers[at, VALUE_PROBABILITY], numbers[at, VALUE_RANK_SCORE] = chance, chance
    numbers[at, VALUE_QUANTITY], numbers[at, VALUE_SCORE] = units, chance


@inner
def _beside(book: int, row: int, tier: int, end: int) -> int:
    """Add the weights of what goes with product `row` to the pool; return where it ends. `slots` is place plus one."""
    linked, weight, slots, usual = i4(book, _LINKED), f4(book, _WEIGHT), i4(book, _SLOTS), f4(book, _USUAL)
    numbers = f8_by_4(book, _NUMBERS)
    first = i8(book, _CART_START)[row]
    for link in range(first, first + i4(book, _CART_COUNT)[row]):
        product = linked[link]
        slot = slots[product]
        if slot == 0:
            slots[product] = end + 1
            _put(book, end, (product, -1, -1, tier), weight[link], usual[product])
            end += 1
        else:
            numbers[slot - 1, VALUE_RANK_SCORE] += weight[link]
    return end


@inner
def _calibrate(book: int, begin: int, end: int) -> None:
    """Turn prior and summed weights into probabilities."""
    ids, numbers, prior = i4_by_4(book, _POOL), f8_by_4(book, _NUMBERS), f4(book, _PRIOR)
    for at in range(begin, end):
        chance = _probability(book, numbers[at, VALUE_RANK_SCORE] + prior[ids[at, ROW_PRODUCT]])
        numbers[at, VALUE_PROBABILITY], numbers[at, VALUE_RANK_SCORE], numbers[at, VALUE_SCORE] = chance, chance, chance


@inner
def _in_cart(book: int, row: int) -> bool:
    return i2(book, _MARKS)[row] & _M_CART != 0


@inner
def _remember(book: int, n: int, row: int) -> int:
    """Add a product to the recent ones, if it is new among them and not in the cart; return how many there are."""
    recent = i8(book, _LATELY)
    if n == len(recent) or _in_cart(book, row):
        return n
    for at in range(n):
        if recent[at] == row:
            return n
    recent[n] = row
    return n + 1


@inner
def _recent(book: int, account: int) -> int:
    """Gather the purchases that speak for an account without candidates; return how many there are.

    Posted ones come first, then what it bought most often, ties to the smaller id.
    """
    ask, n = i8(book, _ASK), 0
    if account >= 0 and i4(book, _OWN_COUNT)[account] > 0 and i4(book, _OWN_ORIGIN)[i8(book, _OWN_START)[account]] < 0:
        return 0
    first = ASK_ROWS + ask[ASK_CART] + ask[ASK_EXCLUDED] + ask[ASK_WITHHELD] + ask[ASK_BLOCKED]
    for at in range(first, first + ask[ASK_BOUGHT]):
        n = _remember(book, n, ask[at])
    if account >= 0:
        begin, count = i8(book, _OWNED_START)[account], i4(book, _OWNED_COUNT)[account]
        orders, products = i4(book, _OWNED_ORDERS), i4(book, _OWNED_PRODUCT)
        most, before = np.int64(2) ** 62, np.int64(-1)  # of the one that was added last
        for _ in range(count):
            best = -1
            for at in range(count):
                is_left = orders[begin + at] < most or (orders[begin + at] == most and at > before)
                if is_left and (best < 0 or orders[begin + at] > orders[begin + best]):
                    best = at
            most, before = np.int64(orders[begin + best]), np.int64(best)
            n = _remember(book, n, products[begin + best])
            if n == len(i8(book, _LATELY)):
                break
    return n


@inner
def _noisy_or(one: float, other: float) -> float:
    return 1.0 - (1.0 - one) * (1.0 - other)


@inner
def _repeat(book: int, account: int) -> None:
    """Let what the account bought before speak for a product of the pool."""
    settings, slots, numbers = f8(book, _SETTINGS), i4(book, _SLOTS), f8_by_4(book, _NUMBERS)
    products, orders = i4(book, _OWNED_PRODUCT), i4(book, _OWNED_ORDERS)
    divisor = np.float64(i4(book, _N_ORDERS)[account]) + settings[SET_REPEAT_PRIOR]
    begin = i8(book, _OWNED_START)[account]
    for row in range(begin, begin + i4(book, _OWNED_COUNT)[account]):
        at = slots[products[row]] - 1
        if at >= 0:
            chance = _noisy_or(numbers[at, VALUE_PROBABILITY], settings[SET_REPEAT_WEIGHT] * (orders[row] / divisor))
            numbers[at, VALUE_PROBABILITY], numbers[at, VALUE_RANK_SCORE], numbers[at, VALUE_SCORE] = (
                chance,
                chance,
                chance,
            )


@inner
def _hear(book: int, end: int, what: tuple[int, int, int, int], says: tuple[float, float, float, float]) -> int:
    """Add what the account says of a product: beside what the cart says of it, or as a candidate of its own."""
    ids, numbers = i4_by_4(book, _POOL), f8_by_4(book, _NUMBERS)
    probability, chance, quantity, score = says
    at = i4(book, _SLOTS)[what[ROW_PRODUCT]] - 1
    if at < 0:
        _put(book, end, what, probability, quantity)
        numbers[end, VALUE_RANK_SCORE], numbers[end, VALUE_SCORE] = chance, score
        return end + 1
    of_cart = numbers[at, VALUE_RANK_SCORE]
    if not of_cart > chance:
        ids[at, ROW_TIER] = what[ROW_TIER]
    ids[at, ROW_EVIDENCE] = what[ROW_EVIDENCE]
    numbers[at, VALUE_QUANTITY] = quantity
    numbers[at, VALUE_RANK_SCORE] = _noisy_or(chance, of_cart)
    numbers[at, VALUE_SCORE] = numbers[at, VALUE_RANK_SCORE]
    numbers[at, VALUE_PROBABILITY] = _noisy_or(probability, numbers[at, VALUE_PROBABILITY])
    return end


@inner
def _use_slots(book: int, begin: int, end: int, used: int) -> None:
    """Let `slots` know, or forget, the places from `begin` to before `end`."""
    ids, slots = i4_by_4(book, _POOL), i4(book, _SLOTS)
    for at in range(begin, end):
        slots[ids[at, ROW_PRODUCT]] = at + 1 if used else 0


@inner
def _gather_crosses(book: int, account: int, begin: int, last: int, n_recent: int, orders: float) -> int:
    """Fill the pool with cross-sells of the cart, and of the account or its latest purchases; return its size."""
    ask, ids, numbers = i8(book, _ASK), i4_by_4(book, _POOL), f8_by_4(book, _NUMBERS)
    n_cart, of_cart = ask[ASK_CART], 0
    for at in range(n_cart):
        of_cart = _beside(book, ask[ASK_ROWS + at], TIER_CART, of_cart)
    _calibrate(book, 0, of_cart)
    if n_cart and account >= 0:
        _repeat(book, account)
    end = of_cart
    if n_recent:
        _use_slots(book, 0, of_cart, 0)  # both lists may name a product
        of_recent = of_cart
        for at in range(n_recent):
            of_recent = _beside(book, i8(book, _LATELY)[at], TIER_RECENT, of_recent)
        _calibrate(book, of_cart, of_recent)
        _use_slots(book, of_cart, of_recent, 0)
        _use_slots(book, 0, of_cart, 1)
        for at in range(of_cart, of_recent):
            chance = numbers[at, VALUE_RANK_SCORE] / orders
            says = (numbers[at, VALUE_PROBABILITY], chance, numbers[at, VALUE_QUANTITY], chance)
            end = _hear(book, end, (ids[at, ROW_PRODUCT], -1, -1, TIER_RECENT), says)
    for row in range(begin, last):
        probability = np.float64(f4(book, _OWN_PROBABILITY)[row])
        chance = probability / orders
        score = chance if n_cart else np.float64(f4(book, _OWN_SCORE)[row])
        says = (probability, chance, np.float64(f4(book, _OWN_QUANTITY)[row]), score)
        what = (i4(book, _OWN_PRODUCT)[row], -1, i4(book, _OWN_EVIDENCE)[row], TIER_ACCOUNT)
        end = _hear(book, end, what, says)
    _use_slots(book, 0, of_cart, 0)
    return end


@inner
def _gather_upgrades(book: int, begin: int, last: int, orders: float, end: int) -> int:
    """Append the rungs above the cart's products and those of the account; return where the pool ends."""
    ask, n_cart, units, numbers = i8(book, _ASK), i8(book, _ASK)[ASK_CART], f8(book, _UNITS), f8_by_4(book, _NUMBERS)
    product, origin, evidence = i4(book, _OWN_PRODUCT), i4(book, _OWN_ORIGIN), i4(book, _OWN_EVIDENCE)
    probability = f4(book, _OWN_PROBABILITY)
    for position in range(n_cart):
        row = ask[ASK_ROWS + position]
        first = i8(book, _LADDER_START)[row]
        for edge in range(first, first + i4(book, _LADDER_COUNT)[row]):
            rung, rate, why = i4(book, _RUNG)[edge], np.float64(f4(book, _RATE)[edge]), i4(book, _RUNG_EVIDENCE)[edge]
            for at in range(begin, last):
                if product[at] == rung and origin[at] == row:
                    rate, why = np.float64(probability[at]), evidence[at]
            _put(book, end, (rung, row, why, TIER_CART), rate, units[position])
            end += 1
    for row in range(begin, last):
        if _in_cart(book, origin[row]):
            continue
        chance = np.float64(probability[row])
        what = (product[row], origin[row], evidence[row], TIER_ACCOUNT)
        _put(book, end, what, chance, f4(book, _OWN_QUANTITY)[row])
        numbers[end, VALUE_RANK_SCORE] = chance / orders
        numbers[end, VALUE_SCORE] = chance / orders if n_cart else f4(book, _OWN_SCORE)[row]
        end += 1
    return end


@inner
def _gather(book: int, account: int, n_recent: int) -> tuple[int, int]:
    """Fill the pool with what the account, its latest purchases and the cart speak for; return where each kind ends."""
    ask, begin, middle, last, orders, of_crosses = i8(book, _ASK), 0, 0, 0, 1.0, 0
    if account >= 0:
        begin = i8(book, _OWN_START)[account]
        last = begin + i4(book, _OWN_COUNT)[account]
        middle = begin  # cross-sells stand first
        while middle < last and i4(book, _OWN_ORIGIN)[middle] < 0:
            middle += 1
        if ask[ASK_CART]:
            orders += np.float64(f4(book, _ORDERS_IN_HORIZON)[account])
    if ask[ASK_KINDS] & KIND_CROSS_SELL:
        of_crosses = _gather_crosses(book, account, begin, middle, n_recent, orders)
    end = of_crosses
    if ask[ASK_KINDS] & KIND_UPSELL:
        end = _gather_upgrades(book, middle, last, orders, end)
    return of_crosses, end


@inner
def _popular(book: int, segment: int, tier: int, end: int) -> int:
    """Append the popular products of a segment; return where the pool ends."""
    first = i8(book, _POPULAR_START)[segment]
    for row in range(first, first + i4(book, _POPULAR_COUNT)[segment]):
        product = i4(book, _POPULAR)[row]
        chance = np.float64(f4(book, _POPULAR_PROBABILITY)[row])
        _put(book, end, (product, -1, row, tier), chance, f4(book, _USUAL)[product])
        end += 1
    return end


@inner
def _bar_of(book: int, at: int) -> int:
    """The first that says no to a candidate, as a position in `FILTERS`; 0 where nobody does."""
    product, origin = i4_by_4(book, _POOL)[at, ROW_PRODUCT], i4_by_4(book, _POOL)[at, ROW_ORIGIN]
    refusal: Any = np.int64(i1(book, _REFUSAL)[product])
    if refusal:
        return refusal
    mark = i2(book, _MARKS)[product]
    if mark & _M_BARRED:
        if mark & _M_BLOCKED:
            return FILTER_BLOCKED
        if mark & _M_CART:
            return FILTER_IN_CART
        if mark & _M_EXCLUDED:
            return FILTER_EXCLUDED
        if mark & _M_WITHHELD:
            return FILTER_WITHHELD
        if origin < 0 or i8(book, _ASK)[ASK_NEW_ONLY]:
            return FILTER_OWNED
    return (
        FILTER_NOT_CREDIBLE
        if f8_by_4(book, _NUMBERS)[at, VALUE_PROBABILITY] < f8(book, _SETTINGS)[SET_MIN_PROBABILITY]
        else 0
    )


@inner
def _before(book: int, one: int, other: int) -> bool:
    """Whether a candidate stands before another: relevance and chance, score, then the smaller ids."""
    keys = i8(book, _KEYS)
    if keys[one] != keys[other]:
        return keys[one] > keys[other]
    ids, numbers = i4_by_4(book, _POOL), f8_by_4(book, _NUMBERS)
    if numbers[one, VALUE_SCORE] != numbers[other, VALUE_SCORE]:
        return numbers[one, VALUE_SCORE] > numbers[other, VALUE_SCORE]
    if ids[one, ROW_PRODUCT] != ids[other, ROW_PRODUCT]:
        return ids[one, ROW_PRODUCT] < ids[other, ROW_PRODUCT]
    return ids[one, ROW_ORIGIN] < ids[other, ROW_ORIGIN]


@inner
def _lead(book: int, begin: int, end: int) -> int:
    """The position of the line, from `begin` to before `end`, whose candidate stands before the others; -1 for none."""
    line, lead = i4(book, _LINE), -1
    for position in range(begin, end):
        if line[position] >= 0 and (lead < 0 or _before(book, line[position], line[lead])):
            lead = position
    return lead


@inner
def _start_list(book: int, kind: int, begin: int, end: int) -> None:
    """Let the candidates of one kind stand in line, from `begin` to before `end`; nobody is listed yet."""
    lists, leads = i8(book, _OF_LISTS), i4(book, _LEADS)
    own = 4 * kind
    lists[own + _LINE_BEGIN], lists[own + _LINE_END] = begin, end
    lists[own + _LIST_END], lists[own + _LIST_FIRST] = begin, begin
    for first in range(begin, end, _BLOCK):
        leads[begin + (first - begin) // _BLOCK] = _lead(book, first, min(first + _BLOCK, end))


@inner
def _listed(book: int, kind: int, position: int) -> int:
    """The candidate at a position of the list of one kind, -1 behind its end. The list is made as far as it is read."""
    lists, listed = i8(book, _OF_LISTS), i4(book, _LISTED)
    own = 4 * kind
    begin, end = lists[own + _LINE_BEGIN], lists[own + _LINE_END]
    if position >= end:
        return -1
    if position == lists[own + _LIST_END]:
        line, leads = i4(book, _LINE), i4(book, _LEADS)
        best, of_best = -1, 0
        for block in range(begin, begin + (end - begin + _BLOCK - 1) // _BLOCK):
            lead = leads[block]
            if lead >= 0 and (best < 0 or _before(book, line[lead], line[best])):
                best, of_best = lead, block
        listed[position] = line[best]
        u1(book, _GONE)[position] = 0
        line[best] = -1
        first = begin + (of_best - begin) * _BLOCK
        leads[of_best] = _lead(book, first, min(first + _BLOCK, end))
        lists[own + _LIST_END] = position + 1
    return listed[position]


@inner
def _left(book: int, kind: int, position: int, least: float) -> int:
    """The first position from `position` on whose candidate is not gone and worth `least`; the list's end for none."""
    lists, gone, numbers = i8(book, _OF_LISTS), u1(book, _GONE), f8_by_4(book, _NUMBERS)
    own = 4 * kind
    while True:
        at = _listed(book, kind, position)
        if at < 0:
            return position
        if numbers[at, VALUE_RANK_SCORE] < least:
            faint = i8(book, _KEYS)[at] < _RELEVANT
            if faint or f8(book, _BEST_FAINT)[kind] < least:
                return lists[own + _LINE_END]
        elif not gone[position]:
            return position
        position += 1


@inner
def _ahead(book: int, of_cross: int, of_climb: int) -> int:
    """Which of two listed candidates, -1 for none, stands before the other: 0 or 1; -1 where both are none."""
    if of_cross < 0:
        return -1 if of_climb < 0 else 1
    return 0 if of_climb < 0 or _before(book, of_cross, of_climb) else 1


@inner
def _refuses(book: int, at: int) -> bool:
    """Whether the slate so far, or the cart, rules a candidate out for good; counts each product once."""
    product, crosses = i4_by_4(book, _POOL)[at, ROW_PRODUCT], i4_by_4(book, _POOL)[at, ROW_ORIGIN] < 0
    marks, family = i2(book, _MARKS), i4(book, _FAMILY)[product]
    mark = marks[product]
    of_family = np.int64(i1(book, _FAMILIES)[family]) if family >= 0 else 0
    if mark & _M_CHOSEN:
        reason = 0
    elif of_family & _F_CHOSEN or (crosses and of_family & _F_BESIDE):
        reason = FILTER_NEAR_DUPLICATE
    elif mark & _M_REPLACED or (crosses and mark & _M_BESIDE):
        reason = FILTER_SUBSTITUTE
    else:
        return False
    if not mark & _M_DROPPED:
        marks[product] |= _M_DROPPED
        if reason:
            i8(book, _TOLD)[TOLD_BARRED + reason] += 1
    return True


@inner
def _mark_kin(book: int, product: int, of_family: int, of_substitutes: int) -> None:
    """Note that a product is taken, or lies in the cart: its family, and what replaces it."""
    family, marks = i4(book, _FAMILY)[product], i2(book, _MARKS)
    if family >= 0:
        i1(book, _FAMILIES)[family] |= of_family
    first = i8(book, _KIN_START)[product]
    for row in range(first, first + i4(book, _KIN_COUNT)[product]):
        marks[i4(book, _KIN)[row]] |= of_substitutes


@inner
def _clear_kin(book: int, product: int) -> None:
    family, category, marks = i4(book, _FAMILY)[product], i4(book, _CATEGORY)[product], i2(book, _MARKS)
    if family >= 0:
        i1(book, _FAMILIES)[family] = 0
    if category >= 0:
        i4(book, _CATEGORIES)[category] = 0
    first = i8(book, _KIN_START)[product]
    for row in range(first, first + i4(book, _KIN_COUNT)[product]):
        marks[i4(book, _KIN)[row]] = 0
    marks[product] = 0


@inner
def _category_is_full(book: int, at: int, n_taken: int) -> bool:
    settings, category = f8(book, _SETTINGS), i4(book, _CATEGORY)[i4_by_4(book, _POOL)[at, ROW_PRODUCT]]
    most = max(settings[SET_FREE_RANKS], math.ceil(settings[SET_CATEGORY_SHARE] * (n_taken + 1)))
    return category >= 0 and i4(book, _CATEGORIES)[category] >= most


@inner
def _kind_is_full(book: int, kind: int, n_taken: int) -> bool:
    settings = f8(book, _SETTINGS)
    most = max(settings[SET_FREE_RANKS], math.ceil(settings[SET_KIND_SHARE] * (n_taken + 1)))
    return i8(book, _ASK)[ASK_KINDS] == KIND_CROSS_SELL | KIND_UPSELL and i8(book, _OF_KIND)[kind] >= most


@inner
def _take(book: int, at: int, n_taken: int) -> None:
    product, kind = i4_by_4(book, _POOL)[at, ROW_PRODUCT], 0 if i4_by_4(book, _POOL)[at, ROW_ORIGIN] < 0 else 1
    category = i4(book, _CATEGORY)[product]
    i4(book, _TAKEN)[n_taken] = at
    i2(book, _MARKS)[product] |= _M_CHOSEN
    i8(book, _OF_KIND)[kind] += 1
    if category >= 0:
        i4(book, _CATEGORIES)[category] += 1
    _mark_kin(book, product, _F_CHOSEN, _M_REPLACED)


@inner
def _first_allowed(book: int) -> tuple[int, int]:
    """Kind and position of the first candidate that may be taken, kind -1 for none; who may not is gone for good."""
    lists, gone = i8(book, _OF_LISTS), u1(book, _GONE)
    while True:
        cross, climb = _left(book, 0, lists[_LIST_FIRST], -1.0), _left(book, 1, lists[4 + _LIST_FIRST], -1.0)
        lists[_LIST_FIRST], lists[4 + _LIST_FIRST] = cross, climb
        kind = _ahead(book, _listed(book, 0, cross), _listed(book, 1, climb))
        if kind < 0:
            return -1, 0
        position = cross if kind == 0 else climb
        if not _refuses(book, _listed(book, kind, position)):
            return kind, position
        gone[position] = 1


@inner
def _first_fitting(book: int, kind: int, position: int, n_taken: int) -> tuple[int, int]:
    """Kind and position of who goes before the candidate at `position` for the mix's sake: itself where nobody does."""
    lists, gone = i8(book, _OF_LISTS), u1(book, _GONE)
    at = _listed(book, kind, position)
    if not _kind_is_full(book, kind, n_taken) and not _category_is_full(book, at, n_taken):
        return kind, position
    least = f8(book, _SETTINGS)[SET_LEAST_WORTH] * f8_by_4(book, _NUMBERS)[at, VALUE_RANK_SCORE]
    cross = lists[_LINE_END] if _kind_is_full(book, 0, n_taken) else lists[_LIST_FIRST]
    climb = lists[4 + _LINE_END] if _kind_is_full(book, 1, n_taken) else lists[4 + _LIST_FIRST]
    while True:
        cross, climb = _left(book, 0, cross, least), _left(book, 1, climb, least)
        other = _ahead(book, _listed(book, 0, cross), _listed(book, 1, climb))
        if other < 0:
            return kind, position
        place = cross if other == 0 else climb
        at = _listed(book, other, place)
        if not _category_is_full(book, at, n_taken):
            if not _refuses(book, at):
                return other, place
            gone[place] = 1
        if other == 0:
            cross += 1
        else:
            climb += 1


@inner
def _pick(book: int, n_taken: int) -> int:
    """Take offers from both lists until there are enough, return how many there are; see `diversity.Picker`."""
    while n_taken < i8(book, _ASK)[ASK_LIMIT]:
        kind, position = _first_allowed(book)
        if kind < 0:
            break
        kind, position = _first_fitting(book, kind, position, n_taken)
        u1(book, _GONE)[position] = 1
        _take(book, _listed(book, kind, position), n_taken)
        n_taken += 1
    return n_taken


@inner
def _note_refused(book: int, at: int) -> None:
    """Note a candidate that stock, flags or a business rule remove."""
    product, told, refused = i4_by_4(book, _POOL)[at, ROW_PRODUCT], i8(book, _TOLD), i8(book, _REFUSED)
    if i1(book, _REFUSAL)[product] or i2(book, _MARKS)[product] & _M_BLOCKED:
        if told[TOLD_REFUSED] < len(refused):
            refused[told[TOLD_REFUSED]] = product
        told[TOLD_REFUSED] += 1


@inner
def _line_up(book: int, kind: int, begin: int, end: int) -> None:
    """Bar and order the candidates from `begin` to before `end`, all of one kind."""
    numbers, bits = f8_by_4(book, _NUMBERS), i8(book, _NUMBERS)
    line, keys, told = i4(book, _LINE), i8(book, _KEYS), i8(book, _TOLD)
    last, best = begin, 0.0
    for at in range(begin, end):
        bar = _bar_of(book, at)
        if bar:
            _note_refused(book, at)
            told[TOLD_BARRED + bar] += 1
            continue
        line[last] = at
        last += 1
        best = max(best, numbers[at, VALUE_RANK_SCORE])
    floor, best_faint = f8(book, _SETTINGS)[SET_FLOOR] * best, -1.0
    for position in range(begin, last):
        at = line[position]
        keys[at] = bits[4 * at + VALUE_RANK_SCORE]
        if numbers[at, VALUE_RANK_SCORE] >= floor:
            keys[at] |= _RELEVANT
        else:
            best_faint = max(best_faint, numbers[at, VALUE_RANK_SCORE])
    f8(book, _BEST_FAINT)[kind] = best_faint
    _start_list(book, kind, begin, last)


@inner
def _stage(book: int, begin: int, middle: int, end: int, n_taken: int) -> int:
    """Bar, order and pick cross-sells from `begin`, upgrades from `middle` on; return how many offers there are now."""
    _line_up(book, 0, begin, middle)
    _line_up(book, 1, middle, end)
    i8(book, _TOLD)[TOLD_CONSIDERED] += end - begin
    return _pick(book, n_taken)


@inner
def _better_rule(book: int, product: int, antecedent: int, best: int, best_antecedent: int) -> int:
    """The row of the rule by which `antecedent` explains a product, -1 where it does not, or not better than `best`."""
    consequent, both, with_antecedent = i4(book, _CONSEQUENT), i4(book, _BOTH), i4(book, _WITH_ANTECEDENT)
    low = i8(book, _RULES_START)[antecedent]
    end = low + i4(book, _RULES_COUNT)[antecedent]
    high = end
    while low < high:
        middle = (low + high) // 2
        if consequent[middle] < product:
            low = middle + 1
        else:
            high = middle
    if low == end or consequent[low] != product or i4(book, _BUYERS)[low] < f8(book, _SETTINGS)[SET_LEAST_BUYERS]:
        return -1
    if best >= 0:
        share, best_share = both[low] / max(with_antecedent[low], 1), both[best] / max(with_antecedent[best], 1)
        if share < best_share or (share == best_share and antecedent > best_antecedent):
            return -1
    return low


@inner
def _write_numbers(book: int, rank: int, at: int) -> None:
    """Price, probability, quantity, value and what ranked; a value whose price is not known is 0."""
    ids, numbers, price, out = i4_by_4(book, _POOL), f8_by_4(book, _NUMBERS), f8(book, _PRICE), f8(book, _OFFER_NUMBERS)
    worth = price[ids[at, ROW_PRODUCT]]
    if ids[at, ROW_ORIGIN] >= 0:
        worth -= price[ids[at, ROW_ORIGIN]]
    worth *= numbers[at, VALUE_QUANTITY]
    if math.isnan(worth):
        worth = 0.0
    first = N_NUMBERS * rank
    out[first], out[first + 1] = price[ids[at, ROW_PRODUCT]], numbers[at, VALUE_PROBABILITY]
    out[first + 2], out[first + 3] = numbers[at, VALUE_QUANTITY], numbers[at, VALUE_PROBABILITY] * worth
    out[first + 4] = numbers[at, VALUE_RANK_SCORE]


@inner
def _tell(book: int, n: int, n_recent: int) -> None:
    """Write the offers out, each with the rule that explains it: whose orders hold its product most often."""
    ask, ids = i8(book, _ASK), i4_by_4(book, _POOL)
    offers = i4(book, _OFFERS)
    for rank in range(n):
        at = i4(book, _TAKEN)[rank]
        rule, because = -1, -1
        if ids[at, ROW_ORIGIN] < 0:
            n_rows = (
                ask[ASK_CART] if ids[at, ROW_TIER] == TIER_CART else n_recent if ids[at, ROW_TIER] == TIER_RECENT else 0
            )
            for position in range(n_rows):
                row = ask[ASK_ROWS + position] if ids[at, ROW_TIER] == TIER_CART else i8(book, _LATELY)[position]
                better = _better_rule(book, ids[at, ROW_PRODUCT], row, rule, because)
                if better >= 0:
                    rule, because = better, row
        for column in range(4):
            offers[6 * rank + column] = ids[at, column]
        offers[6 * rank + ROW_RULE], offers[6 * rank + ROW_ANTECEDENT] = rule, because
        _write_numbers(book, rank, at)


@inner
def most_candidates(book: int, account: int, segment: int, n_recent: int) -> int:
    """Return how many candidates a question may have."""
    ask = i8(book, _ASK)
    most = i4(book, _POPULAR_COUNT)[segment] + i4(book, _POPULAR_COUNT)[EVERYONE]
    if account >= 0:
        most += i4(book, _OWN_COUNT)[account]
    for at in range(ASK_ROWS, ASK_ROWS + ask[ASK_CART]):
        most += i4(book, _CART_COUNT)[ask[at]] + i4(book, _LADDER_COUNT)[ask[at]]
    for at in range(n_recent):
        most += i4(book, _CART_COUNT)[i8(book, _LATELY)[at]]
    return most


@inner
def _mark_owned(book: int, account: int, mark: int) -> None:
    """Mark what the account owns, or ever bought where only new products are wanted; 0 clears."""
    marks, products, owned = i2(book, _MARKS), i4(book, _OWNED_PRODUCT), u1(book, _OWNED_OWNED)
    ever = i8(book, _ASK)[ASK_NEW_ONLY] != 0
    first = i8(book, _OWNED_START)[account]
    for row in range(first, first + i4(book, _OWNED_COUNT)[account]):
        if not mark:
            marks[products[row]] = 0
        elif ever or owned[row]:
            marks[products[row]] |= mark


@inner
def _mark_asked(book: int, account: int) -> None:
    """Mark what the question and its account bar, and what stands beside the cart."""
    ask, marks = i8(book, _ASK), i2(book, _MARKS)
    bars_owned = ask[ASK_CART] == 0 or ask[ASK_NEW_ONLY]
    at = ASK_ROWS
    for position in range(5):
        mark = (_M_CART, _M_EXCLUDED, _M_WITHHELD, _M_BLOCKED, _M_OWNED if bars_owned else 0)[position]
        for _ in range(ask[ASK_CART + position]):
            marks[ask[at]] |= mark
            at += 1
    if bars_owned and account >= 0:
        _mark_owned(book, account, _M_OWNED)
    for at in range(ASK_ROWS, ASK_ROWS + ask[ASK_CART]):
        _mark_kin(book, ask[at], _F_BESIDE, _M_BESIDE)


@inner
def _clear(book: int, account: int, end: int, n: int) -> None:
    """Leave the working memory as it was found."""
    ask, marks = i8(book, _ASK), i2(book, _MARKS)
    for at in range(n):
        _clear_kin(book, i4_by_4(book, _POOL)[i4(book, _TAKEN)[at], ROW_PRODUCT])
    at = ASK_ROWS
    for position in range(5):
        for _ in range(ask[ASK_CART + position]):
            if position == 0:
                _clear_kin(book, ask[at])
            marks[ask[at]] = 0
            at += 1
    for at in range(end):
        marks[i4_by_4(book, _POOL)[at, ROW_PRODUCT]] = 0
    if account >= 0:
        _mark_owned(book, account, 0)


@compiled
def rank(book: int, account_key: bytes) -> int:
    """Answer the question in `ask`; return how many offers there are, or `WANTS_NONE`, or `TOO_LARGE`.

    No two threads may use a book at once.

    Args:
        book: the address of all columns, by the positions of `COLUMNS`.
        account_key: the account's id, where `ask` says that there is one.
    """
    ask, told = i8(book, _ASK), i8(book, _TOLD)
    account = find_account(book, account_key) if ask[ASK_ACCOUNT] else -1
    if account >= 0 and ask[ASK_SILENCE] and u1(book, _WANTS_NONE)[account]:
        return WANTS_NONE
    segment = ask[ASK_SEGMENT]
    if segment < 0:
        segment = np.int64(i4(book, _SEGMENT)[account]) if account >= 0 else EVERYONE
    for at in range(N_TOLD):
        told[at] = 0
    i8(book, _OF_KIND)[0], i8(book, _OF_KIND)[1] = 0, 0
    _mark_asked(book, account)
    n_recent = _recent(book, account)
    told[TOLD_ACCOUNT], told[TOLD_SEGMENT], told[TOLD_RECENT] = account, segment, n_recent
    if most_candidates(book, account, segment, n_recent) > len(i4(book, _LINE)):
        _clear(book, account, 0, 0)
        return TOO_LARGE
    middle, end = _gather(book, account, n_recent)
    n = _stage(book, 0, middle, end, 0)
    for tier in (TIER_SEGMENT, TIER_POPULAR):
        who = segment if tier == TIER_SEGMENT else EVERYONE
        if n < ask[ASK_LIMIT] and ask[ASK_KINDS] & KIND_CROSS_SELL and (tier == TIER_POPULAR or segment != EVERYONE):
            begin = end
            end = _popular(book, who, tier, begin)
            n = _stage(book, begin, end, end, n)
    _tell(book, n, n_recent)
    _clear(book, account, end, n)
    return n
