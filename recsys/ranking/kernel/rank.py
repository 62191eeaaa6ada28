"""The ranking of one request in one compiled function: gather, filter, order, take; a lookup and a merge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recsys.offer_model.tables import EVERYONE
from recsys.ranking.kernel.candidates import (
    N_STAGES,
    add_candidates,
    find_account,
    find_recent,
    most_candidates,
)
from recsys.ranking.kernel.filters import clear_marks, first_filter, mark_products, marked_filter, money, price_at
from recsys.ranking.kernel.layout import (
    CROSS_SELL,
    FILTER_NEAR_DUPLICATE,
    FILTER_NOT_CREDIBLE,
    MARK_CHOSEN,
    NO_ROW,
    NOT_A_CANDIDATE,
    OPTED_OUT,
    PASSED,
    TOO_LARGE,
    UPSELL,
    WAS_FILTERED,
    WAS_NOT_REACHED,
    WAS_OFFERED,
    WAS_OUTRANKED,
    WAS_PASSED_OVER,
    answer,
    candidates,
    line,
    lists,
    marks,
    offers,
    opted_out,
    removed,
    request,
    segment_of,
    taken,
)
from recsys.ranking.kernel.native import compiled, inner
from recsys.ranking.kernel.ordering import goes_before, place_of
from recsys.ranking.kernel.reasons import antecedent_at, best_rule, rule_of
from recsys.ranking.kernel.selection import take_offers


@inner
def _begin(t: int, account_key: bytes) -> int:
    """Set who asks and what is ruled out; return `OPTED_OUT`, `TOO_LARGE`, or 0 where the request can be ranked."""
    asked, answered = request(t)[0], answer(t)[0]
    account = find_account(t, account_key) if asked.has_account else NO_ROW
    segment = asked.segment
    if segment == NO_ROW:
        segment = np.int64(segment_of(t)[account]) if account != NO_ROW else EVERYONE
    removed(t)[:] = 0
    lists(t)[CROSS_SELL].n_taken, lists(t)[UPSELL].n_taken = 0, 0
    mark_products(t, account)
    n_recent = find_recent(t, account)
    answered.account, answered.segment, answered.n_recent = account, segment, n_recent
    answered.n_considered, answered.n_refused, answered.watched_state, answered.watched_filter = 0, 0, 0, 0
    answered.watched_probability = 0.0
    answered.n_needed = most_candidates(t, account, segment, n_recent)
    status = 0
    if asked.wants_none or (asked.obeys_opt_out and account != NO_ROW and opted_out(t)[account]):
        status = OPTED_OUT
    elif answered.n_needed > len(line(t)):
        status = TOO_LARGE
    if status < 0:
        clear_marks(t, account, 0, 0)
    return status


@inner
def _watch(t: int, begin: int, end: int, is_reached: bool) -> None:
    """Note what became of the watched product in a stage.

    Of its forms (cross-sell, upgrades, in this stage or an earlier one) the one that went farthest counts.
    """
    answered, best, n_forms = answer(t)[0], NO_ROW, 0
    last_filter: Any = np.int64(answered.watched_filter)
    for i in range(begin, end):
        candidate = candidates(t)[i]
        if candidate.product == request(t)[0].watched:
            n_forms += 1
            removed_by = candidate.removed_by if is_reached else first_filter(t, i)
            last_filter = max(last_filter, removed_by)
            if removed_by >= FILTER_NOT_CREDIBLE:
                answered.watched_probability = max(answered.watched_probability, candidate.probability)
            if removed_by == PASSED and (best == NO_ROW or (is_reached and goes_before(t, i, best))):
                best = i
    if n_forms == 0:
        return
    if best == NO_ROW:
        answered.watched_state, answered.watched_filter = WAS_FILTERED, last_filter
    elif not is_reached:
        answered.watched_state = WAS_NOT_REACHED
    elif answered.watched_filter >= FILTER_NEAR_DUPLICATE:  # by what was taken
        answered.watched_state = WAS_PASSED_OVER
    else:
        answered.watched_state, answered.watched_utility = WAS_OUTRANKED, candidates(t)[best].utility
        answered.watched_place, answered.n_eligible = place_of(t, best, begin, end), 0
        for i in range(begin, end):
            answered.n_eligible += candidates(t)[i].removed_by == PASSED


@inner
def _write_offers(t: int, n: int) -> None:
    """Write the offers out, each with the mined rule that explains it."""
    for rank in range(n):
        i = taken(t)[rank]
        candidate, offer = candidates(t)[i], offers(t)[rank]
        offer.product, offer.from_product = candidate.product, candidate.from_product
        offer.evidence, offer.tier = candidate.evidence, candidate.tier
        offer.rule, offer.antecedent = NO_ROW, NO_ROW
        if candidate.from_product == NO_ROW:
            position = best_rule(t, candidate.product, candidate.tier)
            if position != NO_ROW:
                offer.antecedent = antecedent_at(t, position, candidate.tier)
                offer.rule = rule_of(t, candidate.product, offer.antecedent)
        offer.price = price_at(t, candidate.product, candidate.quantity)
        offer.probability = candidate.probability
        offer.quantity, offer.utility = candidate.quantity, candidate.utility
        offer.expected_value = candidate.probability * money(t, i)
        offer.rank_probability, offer.boost = candidate.rank_probability, candidate.boost
        offer.moved_by = candidate.moved_by


def _closed_over(sources: str) -> Callable[[int, bytes], int]:
    """Return `rank`. Numba looks for a change in the file of `rank` only, and in what it closes over."""

    @compiled
    def rank(t: int, account_key: bytes) -> int:
        sources  # noqa: B018 - makes it part of the key that numba keeps the machine code under
        status = _begin(t, account_key)
        if status < 0:
            return status
        asked, answered, n, end = request(t)[0], answer(t)[0], 0, 0
        for stage in range(N_STAGES):
            is_reached = n < asked.limit
            if not is_reached and (asked.watched == NO_ROW or answered.watched_state):
                break
            begin, end = end, add_candidates(t, stage, end)
            if is_reached:
                n = take_offers(t, n, begin, end)
            is_open = not answered.watched_state or (is_reached and answered.watched_state == WAS_FILTERED)
            if asked.watched != NO_ROW and is_open:
                _watch(t, begin, end, is_reached)
        if asked.watched != NO_ROW:
            if marks(t)[asked.watched] & MARK_CHOSEN:
                answered.watched_state = WAS_OFFERED
            elif not answered.watched_state:  # nothing proposes it, and something may rule it out besides
                answered.watched_filter = marked_filter(t, asked.watched, False)
                answered.watched_state = WAS_FILTERED if answered.watched_filter else NOT_A_CANDIDATE
        _write_offers(t, n)
        clear_marks(t, answered.account, end, n)
        return n

    return rank


def sources_digest(folder: Path) -> str:
    """Return the SHA-256 of all source files in a folder, in the order of their names."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.glob("*.py")))).hexdigest()


rank = _closed_over(sources_digest(Path(__file__).parent))
"""Rank the request in `request`; return how many offers there are, or `OPTED_OUT`, or `TOO_LARGE`.

No two threads may use a table at once.

Args:
    t: the address of a table of `MODEL_TABLE`.
    account_key: the account's id, where `request` says that there is one.
"""
