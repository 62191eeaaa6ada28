"""Takes offers from the candidates of a stage: no near-duplicates, no substitutes, a mix of kinds and categories.

What is taken at a rank depends on the ranks above only: slate(k) is a prefix of slate(k + 1). Near-duplicates (the same
family) and substitutes of what was taken or lies in the cart are ruled out for good, variants until the first ranks are
full; the caps on one kind and one category bend where nothing else is left that is worth `least_worth` times as much.
Every offer says what moved it, if anything.
"""

from __future__ import annotations

import math

import numpy as np

from recsys.ranking.kernel.filters import mark_alike, position_in
from recsys.ranking.kernel.layout import (
    BY_CATEGORIES,
    BY_KINDS,
    BY_RELEVANCE,
    BY_RULE,
    BY_VARIANTS,
    CROSS_SELL,
    FAMILY_CHOSEN,
    FAMILY_IN_CART,
    FILTER_NEAR_DUPLICATE,
    FILTER_SUBSTITUTE,
    MARK_CHOSEN,
    MARK_COUNTED,
    MARK_REPLACED,
    MARK_REPLACED_IN_CART,
    NO_ROW,
    NOT_MOVED,
    PASSED,
    TIER_POPULAR,
    UPSELL,
    answer,
    candidates,
    category,
    category_counts,
    family,
    family_marks,
    lists,
    marks,
    removed,
    request,
    settings,
    slot_products,
    slots,
    taken,
    variant_group,
    variant_marks,
    waiting,
)
from recsys.ranking.kernel.native import inner
from recsys.ranking.kernel.ordering import better_kind, candidate_at, filter_and_order, goes_before, next_available


@inner
def _rules_out(t: int, i: int, n: int) -> bool:
    """Whether the `n` offers so far, or the cart, rule a candidate out: it is closed then, each product counted once.

    A variant of one of them is closed until the first ranks are full. What an upgrade displaces may be in the cart.
    """
    candidate = candidates(t)[i]
    product, is_cross_sell = candidate.product, candidate.from_product == NO_ROW
    mark = marks(t)[product]
    of_family = np.int64(family_marks(t)[family(t)[product]]) if family(t)[product] != NO_ROW else 0
    of_variants = np.int64(variant_marks(t)[variant_group(t)[product]])  # group 0, of those without, is never marked
    counting = FAMILY_CHOSEN | FAMILY_IN_CART if is_cross_sell else FAMILY_CHOSEN
    if mark & MARK_CHOSEN:
        reason = PASSED
    elif of_family & counting:
        reason = FILTER_NEAR_DUPLICATE
    elif mark & MARK_REPLACED or (is_cross_sell and mark & MARK_REPLACED_IN_CART):
        reason = FILTER_SUBSTITUTE
    elif of_variants & counting and n < settings(t)[0].variant_ranks:
        candidate.is_open, candidate.moved_by = 0, BY_VARIANTS
        return True
    else:
        return False
    candidate.is_open = 0
    _count_once(t, product, reason)
    return True


@inner
def _count_once(t: int, product: int, reason: int) -> None:
    if not marks(t)[product] & MARK_COUNTED:
        marks(t)[product] |= MARK_COUNTED
        if reason != PASSED:
            removed(t)[reason] += 1
            if product == request(t)[0].watched:
                answer(t)[0].watched_filter = reason


@inner
def _let_variants_in(t: int, begin: int, end: int) -> None:
    """Open those again that waited for the first ranks to be full."""
    for i in range(begin, end):
        candidate = candidates(t)[i]
        if candidate.removed_by == PASSED and candidate.moved_by == BY_VARIANTS:
            candidate.is_open = 1
    for kind in (CROSS_SELL, UPSELL):
        lists(t)[kind].first = lists(t)[kind].begin


@inner
def _count_variants(t: int, begin: int, end: int) -> None:
    """Count those that waited in vain."""
    for i in range(begin, end):
        candidate = candidates(t)[i]
        if candidate.removed_by == PASSED and candidate.moved_by == BY_VARIANTS:
            _count_once(t, candidate.product, FILTER_NEAR_DUPLICATE)


@inner
def _is_category_full(t: int, i: int, n: int) -> bool:
    of = category(t)[candidates(t)[i].product]
    most = max(settings(t)[0].free_ranks, math.ceil(settings(t)[0].max_category_share * (n + 1)))
    return of != NO_ROW and request(t)[0].mixes_categories and category_counts(t)[of] >= most


@inner
def _is_kind_full(t: int, kind: int, n: int) -> bool:
    asked = request(t)[0]
    if not (asked.mixes_kinds and asked.wants_cross_sell and asked.wants_upsell):
        return False
    most = max(settings(t)[0].free_ranks, math.ceil(settings(t)[0].max_kind_share * (n + 1)))
    return lists(t)[kind].n_taken >= most


@inner
def _next_allowed(t: int, n: int) -> tuple[int, int]:
    """Return the candidate for rank `n + 1` and what moved it there.

    It is the best that may be taken, or one that goes before it for the mix's sake; `NO_ROW` for none.
    """
    while True:
        cross_sell = next_available(t, CROSS_SELL, lists(t)[CROSS_SELL].first, -np.inf)
        upsell = next_available(t, UPSELL, lists(t)[UPSELL].first, -np.inf)
        lists(t)[CROSS_SELL].first, lists(t)[UPSELL].first = cross_sell, upsell
        kind = better_kind(t, cross_sell, upsell)
        if kind == NO_ROW:
            return NO_ROW, NOT_MOVED
        best = candidate_at(t, kind, cross_sell if kind == CROSS_SELL else upsell)
        if not _rules_out(t, best, n):
            break
    by = BY_KINDS if _is_kind_full(t, kind, n) else BY_CATEGORIES if _is_category_full(t, best, n) else NOT_MOVED
    chosen = best if by == NOT_MOVED else _varied(t, best, n)
    return chosen, NOT_MOVED if chosen == best else by


@inner
def _varied(t: int, best: int, n: int) -> int:
    """The candidate that goes before `best` for the mix's sake; `best` itself where none is worth enough."""
    least = settings(t)[0].least_worth * candidates(t)[best].utility
    cross_sell = lists(t)[CROSS_SELL].end if _is_kind_full(t, CROSS_SELL, n) else lists(t)[CROSS_SELL].first
    upsell = lists(t)[UPSELL].end if _is_kind_full(t, UPSELL, n) else lists(t)[UPSELL].first
    while True:
        cross_sell = next_available(t, CROSS_SELL, cross_sell, least)
        upsell = next_available(t, UPSELL, upsell, least)
        kind = better_kind(t, cross_sell, upsell)
        if kind == NO_ROW:
            return best
        i = candidate_at(t, kind, cross_sell if kind == CROSS_SELL else upsell)
        if not _is_category_full(t, i, n) and not _rules_out(t, i, n):
            return i
        if kind == CROSS_SELL:
            cross_sell += 1
        else:
            upsell += 1


@inner
def _forced_at(t: int, n: int, n_waiting: int) -> int:
    """Return the candidate that a business rule wants at rank `n + 1`, `NO_ROW` where it wants nobody there."""
    r = request(t)[0].rules
    for position in range(len(slots(r))):
        slot = slots(r)[position]
        if slot.rank == n + 1:
            if slot.or_before:
                return _required(t, slot.begin, slot.end, n)
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
def _required(t: int, first: int, last: int, n: int) -> int:
    """The best open candidate of those that a rule requires, `NO_ROW` where one of them was taken before or none is."""
    products = slot_products(request(t)[0].rules)[first:last]
    for product in products:
        if marks(t)[product] & MARK_CHOSEN:
            return NO_ROW
    cross_sell, upsell = lists(t)[CROSS_SELL].first, lists(t)[UPSELL].first
    while True:
        cross_sell = next_available(t, CROSS_SELL, cross_sell, -np.inf)
        upsell = next_available(t, UPSELL, upsell, -np.inf)
        kind = better_kind(t, cross_sell, upsell)
        if kind == NO_ROW:
            return NO_ROW
        i = candidate_at(t, kind, cross_sell if kind == CROSS_SELL else upsell)
        if position_in(products, candidates(t)[i].product) != NO_ROW and not _rules_out(t, i, n):
            return i
        if kind == CROSS_SELL:
            cross_sell += 1
        else:
            upsell += 1


@inner
def _take(t: int, i: int, n: int, moved_by: int) -> None:
    """Make a candidate the offer of rank `n + 1`; `moved_by` says what put it before others of a higher score."""
    candidate = candidates(t)[i]
    if moved_by == NOT_MOVED and candidate.moved_by != BY_VARIANTS:
        if candidate.tier == TIER_POPULAR and candidate.evidence == NO_ROW:  # nothing proposes it but a rule
            moved_by = BY_RULE
        elif not candidate.is_relevant:
            moved_by = BY_RELEVANCE
    if moved_by != NOT_MOVED:
        candidate.moved_by = moved_by
    product, kind = candidate.product, CROSS_SELL if candidate.from_product == NO_ROW else UPSELL
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
    n_waiting = filter_and_order(t, begin, end)
    while n < asked.limit:
        if n == settings(t)[0].variant_ranks:
            _let_variants_in(t, begin, end)
        i, moved_by = _forced_at(t, n, n_waiting) if asked.has_rules else NO_ROW, BY_RULE
        if i == NO_ROW:
            i, moved_by = _next_allowed(t, n)
        if i == NO_ROW:
            break
        _take(t, i, n, moved_by)
        n += 1
    if n <= settings(t)[0].variant_ranks:
        _count_variants(t, begin, end)
    return n
