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
    bought_share: Float64,
    config: ExposureConfig,
) -> Float32:
    """Return the share of each product's score that is taken off, so that no more accounts are shown it first.

    Products are taken one at a time, the one that is furthest beyond its share first; each gets the largest factor at
    which it stands among the first offers of as many accounts as may see it, given the factors of the others. Factors
    only fall, so that what is pushed up by one is held back in its turn.

    Args:
        candidates: of all accounts.
        ranges: the rows of each account's candidates.
        is_offerable: whether a product may be offered at all, `(n_products,)`.
        bought_share: of the accounts that bought each product within the last horizon, `(n_products,)`.
        config: what is allowed.
    """
    n_products = len(is_offerable)
    factor = np.ones(n_products)
    product, probability = _drawn(candidates, ranges, is_offerable)
    n_accounts = len(product)
    if n_accounts < _LEAST_ACCOUNTS or config.most_share >= 1.0 or product.shape[1] <= config.first:
        return (1.0 - factor).astype(np.float32)
    share = np.maximum(np.maximum(_ROOM * config.most_share, bought_share), 2.0 * config.first / n_products)
    allowed = np.floor(share * n_accounts)
    for _ in range(_MOST_ROUNDS):
        score = probability * factor[product]
        beyond = np.bincount(product[_is_first(score, config.first)], minlength=n_products) - allowed
        worst = int(beyond.argmax())
        if beyond[worst] <= 0:
            break
        account, place = np.nonzero((product == worst) & (probability > 0))
        others = score[account]
        others[product[account] == worst] = 0.0
        to_pass = np.sort(np.partition(others, -config.first, axis=1)[:, -config.first] / probability[account, place])
        factor[worst] = min(factor[worst], to_pass[int(allowed[worst])])
    share_off = (1.0 - factor).astype(np.float32)
    # Rounding must not let the one pass that a factor just stops.
    return np.where(share_off > 0, np.nextafter(share_off, np.float32(1.0)), share_off)


def _drawn(
    candidates: CandidateTable, ranges: Ranges, is_offerable: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], Float64]:
    """Return products and probabilities of candidates, a row an account, evenly drawn; 0 where an account has fewer."""
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
    return product, probability


def _is_first(score: Float64, first: int) -> NDArray[np.bool_]:
    """Return which scores are among the `first` highest of their rows."""
    if score.shape[1] <= first:
        return score > 0
    is_first: NDArray[np.bool_] = (score >= np.partition(score, -first, axis=1)[:, -first][:, None]) & (score > 0)
    return is_first
