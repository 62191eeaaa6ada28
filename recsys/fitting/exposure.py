"""How far products are held back that too many accounts would be shown first.

A model that is right on average may still put one product before half of all accounts when a thirtieth buys it: it is
a little likelier than anything else for each of them. What holds it back is one factor a product, so that an answer
stays a lookup and its score can be computed again; probabilities stay as they are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.contracts.config import Config
from recsys.fitting.products import Ranges, rank_within, row_of_entries
from recsys.offer_model.tables import CandidateTable, Float32, Float64

_MOST_ACCOUNTS: Final = 20_000
"""That the factors are fitted on: a share of a fifth is then known to within a third of a percent."""
_LEAST_ACCOUNTS: Final = 100
"""Of fewer accounts a share says nothing."""
_ROOM: Final = 0.95
"""Of the share that a product may have in what is fitted: variety in a slate moves some up that stand below."""
_MOST_ROUNDS: Final = 200
_BELOW: Final = 1.0 - 1e-6
"""Times the factor that just lets a product pass: rounding must not let it."""
_DEPTH: Final = 40
"""Candidates of an account that may come among the first where others are held back or are variants of each other."""


class ExposureConfig(Config):
    """How many accounts may be shown one product first.

    Attributes:
        most_share: of the accounts, unless more than that bought the product within the last horizon; 1: any share.
            What more than a fifth of a shop's accounts see first is no offer to one of them.
        first: ranks that count as first; four stand on a page without scrolling.
    """

    most_share: float = Field(default=0.2, gt=0, le=1)
    first: int = Field(default=4, ge=1, le=100)


def shares_held_back(
    candidates: CandidateTable,
    ranges: Ranges,
    is_offerable: NDArray[np.bool_],
    is_active: NDArray[np.bool_],
    n_buyers: NDArray[np.integer],
    variant_group: NDArray[np.integer],
    config: ExposureConfig,
) -> Float32:
    """Return the share of each product's score that is taken off, so that no more accounts are shown it first.

    The share holds among all accounts and among the active ones: these are asked about most, and the model gives most
    of them what is in season. Products are taken one at a time, the one that is furthest beyond its share first; each
    gets the largest factor at which it stands among the first offers of as many accounts as may see it, given the
    factors of the others. Factors only fall, so that what is pushed up by one is held back in its turn.

    Args:
        candidates: of all accounts.
        ranges: the rows of each account's candidates.
        is_offerable: whether a product may be offered at all, `(n_products,)`.
        is_active: whether an account ordered within the last horizon, `(n_accounts,)`.
        n_buyers: accounts that bought each product within the last horizon, `(n_products,)`.
        variant_group: of each product, 0 for none: one of a group at most is among the first offers, which moves up
            what stands below, `(n_products,)`.
        config: what is allowed.
    """
    n_products = len(is_offerable)
    factor = np.ones(n_products)
    chosen, product, probability = _drawn(candidates, ranges, is_offerable)
    wholes = [whole for whole in (np.ones(len(is_active), dtype=bool), is_active) if _is_enough(whole[chosen])]
    if not wholes or config.most_share >= 1.0 or product.shape[1] <= config.first:
        return (1.0 - factor).astype(np.float32)
    usual = max(_ROOM * config.most_share, 2.0 * config.first / n_products)
    share = np.stack([np.maximum(usual, n_buyers / whole.sum()) for whole in wholes])
    members = np.stack([whole[chosen] for whole in wholes])
    size = members.sum(axis=1, keepdims=True)
    allowed = np.floor(share * size)
    group_of = variant_group[product]
    for _ in range(_MOST_ROUNDS):
        score = probability * factor[product]
        account, place = np.nonzero(_is_first(score, group_of, config.first))
        shown = product[account, place]
        beyond = np.stack([np.bincount(shown[among[account]], minlength=n_products) for among in members]) - allowed
        whole, worst = (int(at) for at in np.unravel_index((beyond / size).argmax(), beyond.shape))
        if beyond[whole, worst] <= 0:
            break
        account, place = np.nonzero((product == worst) & (probability > 0) & members[whole][:, None])
        is_worst, own_group = product[account] == worst, int(variant_group[worst])
        least = _least_to_be_first(score[account], group_of[account], is_worst, own_group, config.first)
        to_pass = np.sort(least / probability[account, place])[int(allowed[whole, worst])]
        factor[worst] = min(factor[worst], to_pass * _BELOW)
    return (1.0 - factor).astype(np.float32)


def _drawn(
    candidates: CandidateTable, ranges: Ranges, is_offerable: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.int32], Float64]:
    """Return accounts, evenly drawn, and products and probabilities of their candidates; 0 where one has fewer."""
    with_any = np.flatnonzero(ranges.count)
    chosen = with_any[np.unique(np.linspace(0, len(with_any) - 1, min(len(with_any), _MOST_ACCOUNTS)).astype(np.intp))]
    counts = ranges.count[chosen]
    owner = row_of_entries(counts)
    place = rank_within(owner)
    rows = np.repeat(ranges.start[chosen], counts) + place
    shape = len(chosen), int(counts.max(initial=1))
    product, probability = np.zeros(shape, dtype=np.int32), np.zeros(shape)
    product[owner, place] = candidates.product[rows]
    probability[owner, place] = np.where(is_offerable[candidates.product[rows]], candidates.probability[rows], 0.0)
    best = np.argsort(-probability, axis=1, kind="stable")[:, :_DEPTH]
    return chosen, np.take_along_axis(product, best, axis=1), np.take_along_axis(probability, best, axis=1)


def _is_enough(members: NDArray[np.bool_]) -> bool:
    return int(members.sum()) >= _LEAST_ACCOUNTS


def _is_first(score: Float64, group: NDArray[np.integer], first: int) -> NDArray[np.bool_]:
    """Return which scores are among the `first` highest of their rows, of a group of variants the highest alone."""
    order = np.argsort(-score, axis=1, kind="stable")
    of_group, is_best = np.take_along_axis(group, order, axis=1), np.take_along_axis(score, order, axis=1) > 0
    for rank in range(1, score.shape[1]):
        own = of_group[:, rank, None]
        is_best[:, rank] &= ~((of_group[:, :rank] == own) & (own > 0)).any(axis=1)
    is_first = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(is_first, order, is_best & (np.cumsum(is_best, axis=1) <= first), axis=1)
    return is_first


def _least_to_be_first(
    score: Float64, group: NDArray[np.integer], is_wanted: NDArray[np.bool_], own_group: int, first: int
) -> Float64:
    """Return the score of each row above which one product stands among the `first`, given those of the others."""
    is_variant = (group == own_group) & (group > 0) & ~is_wanted
    others = np.where(is_wanted | is_variant, 0.0, score)
    ahead = _is_first(others, group, first)
    last = np.min(others, axis=1, where=ahead, initial=np.inf)
    best_variant = np.max(score, axis=1, where=is_variant, initial=0.0)
    least: Float64 = np.maximum(np.where(ahead.sum(axis=1) == first, last, 0.0), best_variant)
    return least
