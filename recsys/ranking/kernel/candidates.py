"""Candidates of a request: what the account, its purchases and the cart speak for, and what is popular.

Every function appends to `candidates(t)` from `end` on and returns where they end then.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from recsys.offer_model.tables import CONFIDENCE_LINES, EVERYONE
from recsys.ranking.kernel.chances import (
    cart_probability,
    curve_of,
    in_this_order,
    noisy_or,
    popular_chance,
    raise_popular,
    tell_purchases,
    tell_upgrades,
    to_probabilities,
    with_this_order,
)
from recsys.ranking.kernel.layout import (
    MARK_CART,
    NO_ROW,
    ONLY_EVIDENCE,
    ONLY_POPULAR,
    TIER_ACCOUNT,
    TIER_CART,
    TIER_POPULAR,
    TIER_RECENT,
    TIER_SEGMENT,
    answer,
    candidates,
    cart_consequent,
    cart_count,
    cart_lift,
    cart_prior,
    cart_relation,
    cart_start,
    cart_weight,
    id_bytes,
    id_offsets,
    ladder_count,
    ladder_start,
    marks,
    orders_in_horizon,
    own_count,
    own_evidence,
    own_from_product,
    own_probability,
    own_product,
    own_quantity,
    own_score,
    own_start,
    owned_count,
    owned_orders,
    owned_product,
    owned_start,
    pinned,
    places,
    popular_count,
    popular_product,
    popular_start,
    recent,
    request,
    rows,
    rung,
    rung_evidence,
    rung_rate,
    settings,
    units,
    usual_units,
)
from recsys.ranking.kernel.native import inner
from recsys.ranking.kernel.reasons import best_rule

STAGE_EVIDENCE, STAGE_SEGMENT, STAGE_POPULAR, STAGE_PINNED = range(4)
"""The stages of an answer: a later one only fills what an earlier one left open."""
N_STAGES: Final = 4


@inner
def find_account(t: int, key: bytes) -> int:
    """Return the row of the account `key`, `NO_ROW` where the model does not know it."""
    offsets, data = id_offsets(t), id_bytes(t)
    low, high, n = 0, len(offsets) - 1, len(key)
    while low < high:
        middle = (low + high) // 2
        begin, length = offsets[middle], offsets[middle + 1] - offsets[middle]
        order: Any = 0
        for i in range(min(n, length)):
            order = np.int64(data[begin + i]) - np.int64(key[i])
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
    return NO_ROW


@inner
def find_recent(t: int, account: int) -> int:
    """Fill `recent` with the purchases that speak for an account without cross-sells; return how many there are.

    Posted ones come first, then what it bought most often, ties to the smaller row.
    """
    asked, n = request(t)[0], 0
    if account != NO_ROW and own_count(t)[account] > 0 and own_from_product(t)[own_start(t)[account]] == NO_ROW:
        return 0
    first = asked.n_cart + asked.n_excluded + asked.n_suppressed
    for i in range(first, first + asked.n_bought):
        n = _add_recent(t, n, rows(t)[i])
    if account != NO_ROW:
        begin, count = owned_start(t)[account], owned_count(t)[account]
        most, before = np.int64(2) ** 62, np.int64(-1)  # of the one that was added last
        for _ in range(count):
            best = NO_ROW
            for i in range(count):
                orders = owned_orders(t)[begin + i]
                is_left = orders < most or (orders == most and i > before)
                if is_left and (best == NO_ROW or orders > owned_orders(t)[begin + best]):
                    best = i
            most, before = np.int64(owned_orders(t)[begin + best]), np.int64(best)
            n = _add_recent(t, n, owned_product(t)[begin + best])
            if n == len(recent(t)):
                break
    return n


@inner
def _add_recent(t: int, n: int, product: int) -> int:
    if n == len(recent(t)) or marks(t)[product] & MARK_CART:
        return n
    for i in range(n):
        if recent(t)[i] == product:
            return n
    recent(t)[n] = product
    return n + 1


@inner
def most_candidates(t: int, account: int, segment: int, n_recent: int) -> int:
    """Return how many candidates a request may have, all stages together."""
    asked = request(t)[0]
    most = popular_count(t)[segment] + popular_count(t)[EVERYONE] + N_STAGES * len(pinned(asked.rules))
    if account != NO_ROW:
        most += own_count(t)[account]
    for i in range(asked.n_cart):
        most += cart_count(t)[rows(t)[i]] + ladder_count(t)[rows(t)[i]]
    for i in range(n_recent):
        most += cart_count(t)[recent(t)[i]]
    return most


@inner
def add_candidates(t: int, stage: int, end: int) -> int:
    """Append the candidates of one stage, and what business rules pin beside them."""
    asked, segment = request(t)[0], answer(t)[0].segment
    begin = end
    if stage == STAGE_EVIDENCE and asked.sources != ONLY_POPULAR:
        end = _add_evidence(t, answer(t)[0].account, answer(t)[0].n_recent, begin)
    elif asked.wants_cross_sell and asked.sources != ONLY_EVIDENCE:
        if stage == STAGE_SEGMENT and segment != EVERYONE and asked.sources != ONLY_POPULAR:
            end = _add_popular(t, segment, TIER_SEGMENT, begin)
        elif stage == STAGE_POPULAR:
            end = _add_popular(t, EVERYONE, TIER_POPULAR, begin)
    if asked.wants_cross_sell and (end > begin or stage == STAGE_PINNED):
        end = _add_pinned(t, begin, end)
    return end


@inner
def _add(t: int, end: int, product: int, tier: int, probability: float, quantity: float) -> int:
    """Append a cross-sell without evidence that is scored by its probability."""
    candidate = candidates(t)[end]
    candidate.product, candidate.from_product, candidate.evidence, candidate.tier = product, NO_ROW, NO_ROW, tier
    candidate.probability, candidate.rank_score = probability, probability
    candidate.quantity, candidate.score = quantity, probability
    candidate.relation = settings(t)[0].unrelated_boost
    return end + 1


@inner
def _add_popular(t: int, segment: int, tier: int, end: int) -> int:
    """Append what is popular in a segment, beside a cart at no less than the chance that carts of its size had.

    What somebody of whom nothing else is known has bought lately says as much as a cart does.
    """
    asked, first = request(t)[0], popular_start(t)[segment]
    n_lines = asked.n_cart + asked.n_unknown
    if n_lines == 0 and answer(t)[0].account == NO_ROW:
        n_lines = asked.n_posted
    for row in range(first, first + popular_count(t)[segment]):
        product = popular_product(t)[row]
        end = _add(t, end, product, tier, popular_chance(t, row, n_lines), usual_units(t)[product])
        candidates(t)[end - 1].evidence = row
    return end


@inner
def _add_pinned(t: int, begin: int, end: int) -> int:
    """Append what business rules pin and nothing proposes, at the chance that any order holds it."""
    _set_places(t, begin, end, 1)
    last = end
    for product in pinned(request(t)[0].rules):
        if places(t)[product] == 0:
            probability = cart_probability(t, 0, np.float64(cart_prior(t)[product]))
            last = _add(t, last, product, TIER_POPULAR, probability, usual_units(t)[product])
    _set_places(t, begin, end, 0)
    return last


@inner
def _add_evidence(t: int, account: int, n_recent: int, end: int) -> int:
    """Append what the account, its latest purchases and the cart speak for: cross-sells, then upgrades."""
    asked, begin, first, middle, last, orders = request(t)[0], end, 0, 0, 0, 0.0
    if account != NO_ROW:
        first = own_start(t)[account]
        last = first + own_count(t)[account]
        middle = first  # cross-sells stand first
        while middle < last and own_from_product(t)[middle] == NO_ROW:
            middle += 1
        if asked.n_cart + asked.n_unknown:  # an order is under way: the cart speaks of it, the account of all to come
            orders = 1.0 + np.float64(orders_in_horizon(t)[account])
    first_upgrade = _add_cross_sells(t, account, first, middle, n_recent, orders, end)
    end = tell_upgrades(t, begin, first_upgrade, _add_upgrades(t, middle, last, orders, first_upgrade))
    return _keep_explained(t, begin, end) if asked.sources == ONLY_EVIDENCE else end


@inner
def _add_cross_sells(t: int, account: int, first: int, last: int, n_recent: int, orders: float, end: int) -> int:
    """Append cross-sells of the cart, and of the account (rows `first` to `last`) or its latest purchases."""
    asked, begin = request(t)[0], end
    for i in range(asked.n_cart):
        end = _add_cart_neighbours(t, rows(t)[i], asked.n_cart, TIER_CART, end)
    to_probabilities(t, asked.n_cart, begin, end)
    if asked.n_cart:
        if account != NO_ROW:
            tell_purchases(t, account, curve_of(t, asked.n_cart), begin, end)
        raise_popular(t, answer(t)[0].segment)
        raise_popular(t, EVERYONE)
    for i in range(begin, end):
        candidates(t)[i].score = candidates(t)[i].rank_score
    end_of_cart = end
    if n_recent:
        _set_places(t, begin, end_of_cart, 0)  # both lists may name a product
        end_of_recent = end_of_cart
        for i in range(n_recent):
            end_of_recent = _add_cart_neighbours(t, recent(t)[i], n_recent, TIER_RECENT, end_of_recent)
        to_probabilities(t, n_recent, end_of_cart, end_of_recent)
        _set_places(t, end_of_cart, end_of_recent, 0)
        _set_places(t, begin, end_of_cart, 1)
        for i in range(end_of_cart, end_of_recent):
            candidate = candidates(t)[i]
            score = in_this_order(candidate.rank_score, orders)
            probability = with_this_order(candidate.probability, orders)
            end = _merge_account_evidence(
                t, end, candidate.product, NO_ROW, TIER_RECENT, probability, score, candidate.quantity, score
            )
    for row in range(first, last):
        probability = np.float64(own_probability(t)[row])
        rank_score = in_this_order(probability, orders)
        probability = with_this_order(probability, orders)
        score = rank_score if orders > 0.0 else np.float64(own_score(t)[row])
        quantity = np.float64(own_quantity(t)[row])
        product, evidence = own_product(t)[row], own_evidence(t)[row]
        end = _merge_account_evidence(t, end, product, evidence, TIER_ACCOUNT, probability, rank_score, quantity, score)
    _set_places(t, begin, end_of_cart, 0)
    return end


@inner
def _add_cart_neighbours(t: int, product: int, n_lines: int, tier: int, end: int) -> int:
    """Add what `product`, one of so many, says of its neighbours, to candidates of this list if `places` knows them."""
    first, share = cart_start(t)[product], 1.0 / (n_lines + CONFIDENCE_LINES)
    for link in range(first, first + cart_count(t)[product]):
        neighbour = cart_consequent(t)[link]
        weight = np.float64(cart_weight(t)[link]) + share * np.float64(cart_lift(t)[link])
        place = places(t)[neighbour]
        if place == 0:
            end = _add(t, end, neighbour, tier, weight, usual_units(t)[neighbour])
            place = end
            places(t)[neighbour] = place
        else:
            candidates(t)[place - 1].rank_score += weight
        if tier == TIER_CART:
            candidates(t)[place - 1].relation = max(candidates(t)[place - 1].relation, cart_relation(t)[link])
    return end


@inner
def _merge_account_evidence(
    t: int,
    end: int,
    product: int,
    evidence: int,
    tier: int,
    probability: float,
    rank_score: float,
    quantity: float,
    score: float,
) -> int:
    """Add what the account says of a product: to the candidate of the cart, or as one of its own.

    Both speak of the same purchases, as the curves of carts count later orders too: the larger chance is told. In the
    order of offers they are two reasons.
    """
    place = places(t)[product]
    if place == 0:
        end = _add(t, end, product, tier, probability, quantity)
        candidate = candidates(t)[end - 1]
        candidate.evidence, candidate.rank_score, candidate.score = evidence, rank_score, score
        return end
    candidate = candidates(t)[place - 1]
    if not candidate.rank_score > rank_score:
        candidate.tier = tier
    candidate.evidence, candidate.quantity = evidence, quantity
    candidate.rank_score = noisy_or(rank_score, candidate.rank_score)
    candidate.score = candidate.rank_score
    candidate.probability = max(probability, candidate.probability)
    return end


@inner
def _set_places(t: int, begin: int, end: int, known: int) -> None:
    """Let `places` know, or forget, the candidates from `begin` to before `end`."""
    for i in range(begin, end):
        places(t)[candidates(t)[i].product] = i + 1 if known else 0


@inner
def _add_upgrades(t: int, first: int, last: int, orders: float, end: int) -> int:
    """Append the rungs above the cart's products and those of the account, its stored rows `first` to `last`."""
    asked = request(t)[0]
    for position in range(asked.n_cart):
        product = rows(t)[position]
        first_edge = ladder_start(t)[product]
        for edge in range(first_edge, first_edge + ladder_count(t)[product]):
            rate, evidence = np.float64(rung_rate(t)[edge]), rung_evidence(t)[edge]
            for row in range(first, last):  # an upgrade that the account's own propensity knows keeps it
                if own_product(t)[row] == rung(t)[edge] and own_from_product(t)[row] == product:
                    rate, evidence = np.float64(own_probability(t)[row]), own_evidence(t)[row]
            end = _add(t, end, rung(t)[edge], TIER_CART, rate, units(t)[position])
            candidates(t)[end - 1].from_product, candidates(t)[end - 1].evidence = product, evidence
    for row in range(first, last):
        if marks(t)[own_from_product(t)[row]] & MARK_CART:
            continue
        probability = np.float64(own_probability(t)[row])
        chance = with_this_order(probability, orders)
        end = _add(t, end, own_product(t)[row], TIER_ACCOUNT, chance, own_quantity(t)[row])
        candidate = candidates(t)[end - 1]
        candidate.from_product, candidate.evidence = own_from_product(t)[row], own_evidence(t)[row]
        candidate.rank_score = in_this_order(probability, orders)
        candidate.score = candidate.rank_score if orders > 0.0 else np.float64(own_score(t)[row])
    return end


@inner
def _keep_explained(t: int, begin: int, end: int) -> int:
    """Leave out cross-sells that too few buyers had in one order with a product of the cart.

    Cart weights rank all products; beside one that sells rarely the best of them are bestsellers that fit nothing.
    """
    kept = begin
    for i in range(begin, end):
        candidate = candidates(t)[i]
        if candidate.from_product != NO_ROW or best_rule(t, candidate.product, TIER_CART) != NO_ROW:
            candidates(t)[kept] = candidate
            kept += 1
    return kept
