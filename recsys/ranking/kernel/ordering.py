"""Filters the candidates of a stage and orders them by kind, as far as they are read.

The candidates of each kind stand in `line`, a binary heap, and are moved to `listed`, the best first, when somebody
asks for the next.
"""

from __future__ import annotations

import numpy as np

from recsys.ranking.kernel.filters import first_filter, position_in, set_utility
from recsys.ranking.kernel.layout import (
    CROSS_SELL,
    FILTER_BLOCKED,
    NO_ROW,
    NOT_MOVED,
    OBJECTIVE_CONVERSION,
    PASSED,
    UPSELL,
    answer,
    candidates,
    levels,
    line,
    listed,
    lists,
    refused,
    refused_by,
    removed,
    request,
    settings,
    slot_products,
    slots,
    waiting,
)
from recsys.ranking.kernel.native import inner


@inner
def filter_and_order(t: int, begin: int, end: int) -> int:
    """Filter the candidates from `begin` to before `end` and let the others stand in line.

    Return how many wait for a rank that a business rule gives them.
    """
    answer(t)[0].n_considered += end - begin
    n_cross_sells, best_cross_sell, n_upsells, best_upsell = 0, 0.0, 0, 0.0
    for i in range(begin, end):
        candidate = candidates(t)[i]
        candidate.removed_by = first_filter(t, i)
        candidate.is_open, candidate.moved_by = candidate.removed_by == PASSED, NOT_MOVED
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

    Where money counts those whose rank score is below `floor` come after all that reach it: a high price alone never
    leads a slate.
    """
    asked, last, best_irrelevant = request(t)[0], first, -np.inf
    has_no_floor = asked.is_raw or asked.objective == OBJECTIVE_CONVERSION
    for i in range(begin, end):
        candidate = candidates(t)[i]
        if candidate.removed_by == PASSED and (candidate.from_product != NO_ROW) == kind:
            candidate.is_relevant = has_no_floor or candidate.rank_score >= floor
            if not candidate.is_relevant:
                best_irrelevant = max(best_irrelevant, candidate.utility)
            if candidate.is_open:
                line(t)[last] = i
                last += 1
    of_kind = lists(t)[kind]
    of_kind.begin, of_kind.end, of_kind.listed_end, of_kind.first = first, last, first, first
    of_kind.best_irrelevant = best_irrelevant
    n = last - first
    for place in range(n // 2 - 1, -1, -1):
        _sink(t, first, n, place)


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
        refused_by(t)[answered.n_refused] = candidate.removed_by
        answered.n_refused += 1


@inner
def _sink(t: int, begin: int, n: int, place: int) -> None:
    """Let the candidate at a place of the heap, `n` in `line` from `begin` on, sink below those that go before it."""
    i = line(t)[begin + place]
    while 2 * place + 1 < n:
        child = 2 * place + 1
        if child + 1 < n and goes_before(t, line(t)[begin + child + 1], line(t)[begin + child]):
            child += 1
        if goes_before(t, i, line(t)[begin + child]):
            break
        line(t)[begin + place] = line(t)[begin + child]
        place = child
    line(t)[begin + place] = i


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
def candidate_at(t: int, kind: int, position: int) -> int:
    """Return the candidate at a position of the list of one kind, `NO_ROW` behind its end."""
    of_kind = lists(t)[kind]
    if position >= of_kind.end:
        return NO_ROW
    if position == of_kind.listed_end:
        i, n = line(t)[of_kind.begin], of_kind.end - position - 1  # that stay in line
        line(t)[of_kind.begin] = line(t)[of_kind.begin + n]
        _sink(t, of_kind.begin, n, 0)
        listed(t)[position] = i
        levels(t)[position] = candidates(t)[i].rank_score
        if position > of_kind.begin:
            levels(t)[position] = min(levels(t)[position], levels(t)[position - 1])
        of_kind.listed_end = position + 1
    return listed(t)[position]


@inner
def next_available(t: int, kind: int, position: int, least: float) -> int:
    """The first position from `position` on whose candidate is open and worth `least`; the list's end for none."""
    of_kind = lists(t)[kind]
    while True:
        i = candidate_at(t, kind, position)
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
def better_kind(t: int, cross_sell: int, upsell: int) -> int:
    """Which of two positions, one of each list, has the candidate that goes first: its kind; `NO_ROW` without any.

    In the model's own order scores compare within one kind only: the kinds are merged by rank score, made
    non-increasing down each list (`levels`), so that no kind's own order changes.
    """
    one, other = candidate_at(t, CROSS_SELL, cross_sell), candidate_at(t, UPSELL, upsell)
    if one == NO_ROW:
        return NO_ROW if other == NO_ROW else UPSELL
    if other == NO_ROW:
        return CROSS_SELL
    if request(t)[0].is_raw:
        return CROSS_SELL if levels(t)[cross_sell] >= levels(t)[upsell] else UPSELL
    return CROSS_SELL if goes_before(t, one, other) else UPSELL


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
        kind = better_kind(t, cross_sell, upsell)
        position = cross_sell if kind == CROSS_SELL else upsell
        place += 1
        if candidate_at(t, kind, position) == watched:
            return place
        if kind == CROSS_SELL:
            cross_sell += 1
        else:
            upsell += 1
