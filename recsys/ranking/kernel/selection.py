"""Orders the candidates of a stage and takes offers from them: no near-duplicates, no substitutes, a mix of kinds.

The candidates of each kind stand in `line` and are moved to `listed`, the best first, as far as they are read. Offers
are taken one rank at a time, and what is taken at a rank depends on the ranks above only: slate(k) is a prefix of
slate(k + 1). Near-duplicates (the same family) and substitutes of what was taken are ruled out for good; the caps on
one kind and one category bend where nothing else is left that is worth `least_worth` times as much.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from recsys.ranking.kernel.filters import first_filter, mark_alike, position_in, set_utility
from recsys.ranking.kernel.layout import (
    CROSS_SELL,
    FAMILY_CHOSEN,
    FAMILY_IN_CART,
    FILTER_BLOCKED,
    FILTER_NEAR_DUPLICATE,
    FILTER_SUBSTITUTE,
    MARK_CHOSEN,
    MARK_COUNTED,
    MARK_REPLACED,
    MARK_REPLACED_IN_CART,
    NO_ROW,
    PASSED,
    UPSELL,
    answer,
    block_best,
    candidates,
    category,
    category_counts,
    family,
    family_marks,
    levels,
    line,
    listed,
    lists,
    marks,
    refused,
    removed,
    request,
    settings,
    slot_products,
    slots,
    taken,
    waiting,
)
from recsys.ranking.kernel.native import inner

_BLOCK: Final = 16
"""Candidates of a line whose best is kept: to list one, the blocks' best are looked through, then its block."""


@inner
def _filter_and_order(t: int, begin: int, end: int) -> int:
    """Filter the candidates from `begin` to before `end` and let the others stand in line.

    Return how many wait for a rank that a business rule gives them.
    """
    answer(t)[0].n_considered += end - begin
    n_cross_sells, best_cross_sell, n_upsells, best_upsell = 0, 0.0, 0, 0.0
    for i in range(begin, end):
        candidate = candidates(t)[i]
        candidate.removed_by = first_filter(t, i)
        candidate.is_open = candidate.removed_by == PASSED
        if candidate.removed_by != PASSED:
            _count_removed(t, i)
            continue
        set_utility(t, i)
        if candidate.from_product == NO_ROW:
            n_cross_sells += 1
            best_cross_sell = max(best_cross_sell, candidate.rank_score)
        else:
            n_upsells += 1
            best_upsell = max(best_upsell, candidate.rank_score)
    n_waiting = _let_wait(t, begin, end, n_cross_sells + n_upsells) if request(t)[0].has_rules else 0
    floor = settings(t)[0].relevance_floor
    middle = begin + n_cross_sells
    _start_list(t, CROSS_SELL, begin, end, begin, floor * best_cross_sell)
    _start_list(t, UPSELL, begin, end, middle, floor * best_upsell)
    return n_waiting


@inner
def _let_wait(t: int, begin: int, end: int, n_passed: int) -> int:
    """Set those aside that business rules pin to a rank; return how many they are."""
    n_waiting = 0
    for i in range(begin, end):
        if candidates(t)[i].is_open and _is_pinned_to_a_rank(t, candidates(t)[i].product):
            waiting(t)[n_waiting] = i
            n_waiting += 1
    if n_waiting == n_passed:  # a list of nobody else ends the waiting
        return 0
    for position in range(n_waiting):
        candidates(t)[waiting(t)[position]].is_open = 0
    return n_waiting


@inner
def _start_list(t: int, kind: int, begin: int, end: int, first: int, floor: float) -> None:
    """Let the open candidates of one kind stand in line from `first` on; none is listed yet.

    Those whose rank score is below `floor` come after all that reach it: a high price alone never leads a slate.
    """
    is_raw, last, best_irrelevant = request(t)[0].is_raw, first, -np.inf
    for i in range(begin, end):
        candidate = candidates(t)[i]
        if candidate.removed_by == PASSED and (candidate.from_product != NO_ROW) == kind:
            candidate.is_relevant = is_raw or candidate.rank_score >= floor
            if not candidate.is_relevant:
                best_irrelevant = max(best_irrelevant, candidate.utility)
            if candidate.is_open:
                line(t)[last] = i
                last += 1
    of_kind = lists(t)[kind]
    of_kind.begin, of_kind.end, of_kind.listed_end, of_kind.first = first, last, first, first
    of_kind.best_irrelevant = best_irrelevant
    for block in range(first, last, _BLOCK):
        block_best(t)[first + (block - first) // _BLOCK] = _best_in_line(t, block, min(block + _BLOCK, last))


@inner
def _is_pinned_to_a_rank(t: int, product: int) -> bool:
    r = request(t)[0].rules
    for i in range(len(slots(r))):
        slot = slots(r)[i]
        if not slot.or_before and position_in(slot_products(r)[slot.begin : slot.end], product) != NO_ROW:
            return True
    return False


@inner
def _count_removed(t: int, i: int) -> None:
    candidate, answered = candidates(t)[i], answer(t)[0]
    removed(t)[candidate.removed_by] += 1
    if candidate.removed_by <= FILTER_BLOCKED:  # for a reason that changes from moment to moment
        refused(t)[answered.n_refused] = candidate.product
        answered.n_refused += 1


@inner
def _kind_of(t: int, i: int) -> int:
    """Return `CROSS_SELL` or `UPSELL`."""
    return CROSS_SELL if candidates(t)[i].from_product == NO_ROW else UPSELL


@inner
def _best_in_line(t: int, begin: int, end: int) -> int:
    """The position in line, `begin` to before `end`, whose candidate goes before the others; `NO_ROW` for none."""
    best = NO_ROW
    for position in range(begin, end):
        i = line(t)[position]
        if i != NO_ROW and (best == NO_ROW or goes_before(t, i, line(t)[best])):
            best = position
    return best


@inner
def goes_before(t: int, one: int, other: int) -> bool:
    """Whether a candidate stands before another: by relevance, utility, score, then the smaller rows."""
    a, b = candidates(t)[one], candidates(t)[other]
    if a.is_relevant != b.is_relevant:
        return a.is_relevant > b.is_relevant
    if a.utility != b.utility:
        return a.utility > b.utility
    if a.score != b.score:
        return a.score > b.score
    if a.product != b.product:
        return a.product < b.product
    return a.from_product < b.from_product


@inner
def _candidate_at(t: int, kind: int, position: int) -> int:
    """Return the candidate at a position of the list of one kind, `NO_ROW` behind its end."""
    of_kind = lists(t)[kind]
    if position >= of_kind.end:
        return NO_ROW
    if position == of_kind.listed_end:
        best, best_block = NO_ROW, 0
        for block in range(of_kind.begin, of_kind.begin + (of_kind.end - of_kind.begin + _BLOCK - 1) // _BLOCK):
            place = block_best(t)[block]
            if place != NO_ROW and (best == NO_ROW or goes_before(t, line(t)[place], line(t)[best])):
                best, best_block = place, block
        i = line(t)[best]
        listed(t)[position], line(t)[best] = i, NO_ROW
        first = of_kind.begin + (best_block - of_kind.begin) * _BLOCK
        block_best(t)[best_block] = _best_in_line(t, first, min(first + _BLOCK, of_kind.end))
        levels(t)[position] = candidates(t)[i].rank_score
        if position > of_kind.begin:
            levels(t)[position] = min(levels(t)[position], levels(t)[position - 1])
        of_kind.listed_end = position + 1
    return listed(t)[position]


@inner
def _next_available(t: int, kind: int, position: int, least: float) -> int:
    """The first position from `position` on whose candidate is open and worth `least`; the list's end for none."""
    of_kind = lists(t)[kind]
    while True:
        i = _candidate_at(t, kind, position)
        if i == NO_ROW:
            return position
        candidate = candidates(t)[i]
        if candidate.utility < least:
            if not candidate.is_relevant or of_kind.best_irrelevant < least:
                return of_kind.end
        elif candidate.is_open:
            return position
        position += 1


@inner
def _better_kind(t: int, cross_sell: int, upsell: int) -> int:
    """Which of two positions, one of each list, has the candidate that goes first: its kind; `NO_ROW` without any.

    In the model's own order scores compare within one kind only: the kinds are merged by rank score, made
    non-increasing down each list (`levels`), so that no kind's own order changes.
    """
    one, other = _candidate_at(t, CROSS_SELL, cross_sell), _candidate_at(t, UPSELL, upsell)
    if one == NO_ROW:
        return NO_ROW if other == NO_ROW else UPSELL
    if other == NO_ROW:
        return CROSS_SELL
    if request(t)[0].is_raw:
        return CROSS_SELL if levels(t)[cross_sell] >= levels(t)[upsell] else UPSELL
    return CROSS_SELL if goes_before(t, one, other) else UPSELL


@inner
def _rules_out(t: int, i: int) -> bool:
    """Whether the slate so far, or the cart, rules a candidate out: it is closed then, each product counted once."""
    candidate = candidates(t)[i]
    product, is_cross_sell = candidate.product, candidate.from_product == NO_ROW
    mark = marks(t)[product]
    of_family = np.int64(family_marks(t)[family(t)[product]]) if family(t)[product] != NO_ROW else 0
    if mark & MARK_CHOSEN:
        reason = PASSED
    elif of_family & FAMILY_CHOSEN or (is_cross_sell and of_family & FAMILY_IN_CART):
        reason = FILTER_NEAR_DUPLICATE
    elif mark & MARK_REPLACED or (is_cross_sell and mark & MARK_REPLACED_IN_CART):
        reason = FILTER_SUBSTITUTE
    else:
        return False
    candidate.is_open = 0
    if not mark & MARK_COUNTED:
        marks(t)[product] |= MARK_COUNTED
        if reason != PASSED:
            removed(t)[reason] += 1
            if product == request(t)[0].watched:
                answer(t)[0].watched_filter = reason
    return True


@inner
def _is_category_full(t: int, i: int, n: int) -> bool:
    of = category(t)[candidates(t)[i].product]
    most = max(settings(t)[0].free_ranks, math.ceil(settings(t)[0].max_category_share * (n + 1)))
    return of != NO_ROW and not request(t)[0].is_raw and category_counts(t)[of] >= most


@inner
def _is_kind_full(t: int, kind: int, n: int) -> bool:
    asked = request(t)[0]
    if asked.is_raw or not (asked.wants_cross_sell and asked.wants_upsell):
        return False
    most = max(settings(t)[0].free_ranks, math.ceil(settings(t)[0].max_kind_share * (n + 1)))
    return lists(t)[kind].n_taken >= most


@inner
def _next_allowed(t: int, n: int) -> int:
    """Return the candidate for rank `n + 1`: the best that may be taken, or a varied one; `NO_ROW` for none."""
    while True:
        cross_sell = _next_available(t, CROSS_SELL, lists(t)[CROSS_SELL].first, -np.inf)
        upsell = _next_available(t, UPSELL, lists(t)[UPSELL].first, -np.inf)
        lists(t)[CROSS_SELL].first, lists(t)[UPSELL].first = cross_sell, upsell
        kind = _better_kind(t, cross_sell, upsell)
        if kind == NO_ROW:
            return NO_ROW
        best = _candidate_at(t, kind, cross_sell if kind == CROSS_SELL else upsell)
        if not _rules_out(t, best):
            break
    if _is_kind_full(t, kind, n) or _is_category_full(t, best, n):
        return _varied(t, best, n)
    return best


@inner
def _varied(t: int, best: int, n: int) -> int:
    """The candidate that goes before `best` for the mix's sake; `best` itself where none is worth enough."""
    least = settings(t)[0].least_worth * candidates(t)[best].utility
    cross_sell = lists(t)[CROSS_SELL].end if _is_kind_full(t, CROSS_SELL, n) else lists(t)[CROSS_SELL].first
    upsell = lists(t)[UPSELL].end if _is_kind_full(t, UPSELL, n) else lists(t)[UPSELL].first
    while True:
        cross_sell = _next_available(t, CROSS_SELL, cross_sell, least)
        upsell = _next_available(t, UPSELL, upsell, least)
        kind = _better_kind(t, cross_sell, upsell)
        if kind == NO_ROW:
            return best
        i = _candidate_at(t, kind, cross_sell if kind == CROSS_SELL else upsell)
        if not _is_category_full(t, i, n) and not _rules_out(t, i):
            return i
        if kind == CROSS_SELL:
            cross_sell += 1
        else:
            upsell += 1


@inner
def _forced_at(t: int, n: int, begin: int, end: int, n_waiting: int) -> int:
    """Return the candidate that a business rule wants at rank `n + 1`, `NO_ROW` where it wants nobody there."""
    r = request(t)[0].rules
    for position in range(len(slots(r))):
        slot = slots(r)[position]
        if slot.rank == n + 1:
            if slot.or_before:
                return _required(t, slot.begin, slot.end, begin, end)
            return _pinned_best(t, slot.begin, slot.end, n_waiting)
    return NO_ROW


@inner
def _pinned_best(t: int, first: int, last: int, n_waiting: int) -> int:
    """The best that waits and is pinned by a rule; it stands beside its near-duplicates too, as somebody wants it."""
    best = NO_ROW
    for position in range(n_waiting):
        i = waiting(t)[position]
        product = candidates(t)[i].product
        is_wanted = position_in(slot_products(request(t)[0].rules)[first:last], product) != NO_ROW
        if is_wanted and not marks(t)[product] & MARK_CHOSEN and (best == NO_ROW or goes_before(t, i, best)):
            best = i
    return best


@inner
def _required(t: int, first: int, last: int, begin: int, end: int) -> int:
    """The best open candidate of those that a rule requires, `NO_ROW` where one of them was taken before or none is."""
    products = slot_products(request(t)[0].rules)
    for position in range(first, last):
        if marks(t)[products[position]] & MARK_CHOSEN:
            return NO_ROW
    while True:
        best = NO_ROW
        for i in range(begin, end):
            candidate = candidates(t)[i]
            is_wanted = candidate.is_open and position_in(products[first:last], candidate.product) != NO_ROW
            if is_wanted and (best == NO_ROW or goes_before(t, i, best)):
                best = i
        if best == NO_ROW or not _rules_out(t, best):
            return best


@inner
def _take(t: int, i: int, n: int) -> None:
    """Make a candidate the offer of rank `n + 1`."""
    candidate = candidates(t)[i]
    product, kind = candidate.product, _kind_of(t, i)
    taken(t)[n] = i
    candidate.is_open = 0
    marks(t)[product] |= MARK_CHOSEN
    lists(t)[kind].n_taken += 1
    if not request(t)[0].is_raw:
        if category(t)[product] != NO_ROW:
            category_counts(t)[category(t)[product]] += 1
        mark_alike(t, product, FAMILY_CHOSEN, MARK_REPLACED)


@inner
def take_offers(t: int, n: int, begin: int, end: int) -> int:
    """Filter and order the candidates of a stage and take offers from them; return how many there are now."""
    asked = request(t)[0]
    n_waiting = _filter_and_order(t, begin, end)
    while n < asked.limit:
        i = _forced_at(t, n, begin, end, n_waiting) if asked.has_rules else NO_ROW
        if i == NO_ROW:
            i = _next_allowed(t, n)
        if i == NO_ROW:
            break
        _take(t, i, n)
        n += 1
    return n


@inner
def place_of(t: int, watched: int, begin: int, end: int) -> int:
    """Return the place, from 1, of a candidate in the order of its stage."""
    if not request(t)[0].is_raw:
        place = 1
        for i in range(begin, end):
            if candidates(t)[i].removed_by == PASSED and goes_before(t, i, watched):
                place += 1
        return place
    cross_sell, upsell, place = lists(t)[CROSS_SELL].begin, lists(t)[UPSELL].begin, 0
    while True:
        kind = _better_kind(t, cross_sell, upsell)
        position = cross_sell if kind == CROSS_SELL else upsell
        place += 1
        if _candidate_at(t, kind, position) == watched:
            return place
        if kind == CROSS_SELL:
            cross_sell += 1
        else:
            upsell += 1
