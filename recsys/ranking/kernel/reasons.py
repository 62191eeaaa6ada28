"""Which mined rule explains a cross-sell."""

from __future__ import annotations

import math
from typing import Final

from recsys.ranking.kernel.layout import (
    NO_ROW,
    TIER_CART,
    TIER_RECENT,
    answer,
    recent,
    request,
    rows,
    rule_consequent,
    rule_n_antecedent,
    rule_n_both,
    rule_n_buyers,
    rules_count,
    rules_start,
    settings,
)
from recsys.ranking.kernel.native import inner

_Z: Final = 1.96


@inner
def best_rule(t: int, product: int, tier: int) -> int:
    """Return which of the cart's products, or of the latest purchases, explains a product best; `NO_ROW` for none.

    It is the position of the antecedent whose orders hold the product most often, by the lower end of the interval;
    ties go to the smaller row.
    """
    n = request(t)[0].n_cart if tier == TIER_CART else answer(t)[0].n_recent if tier == TIER_RECENT else 0
    best, best_share, best_antecedent = NO_ROW, 0.0, NO_ROW
    for position in range(n):
        antecedent = antecedent_at(t, position, tier)
        rule = rule_of(t, product, antecedent)
        if rule != NO_ROW:
            share = least_share(rule_n_both(t)[rule], rule_n_antecedent(t)[rule])
            if best == NO_ROW or share > best_share or (share == best_share and antecedent < best_antecedent):
                best, best_share, best_antecedent = position, share, antecedent
    return best


@inner
def least_share(n: int, n_of: int) -> float:
    """Return the lower end of the Wilson interval of `n / n_of`, at 95 %."""
    total = max(n_of, 1)
    share, spread = n / total, _Z * _Z / total
    margin = _Z * math.sqrt(max(share * (1.0 - share) / total + spread / (4.0 * total), 0.0))
    return (share + spread / 2.0 - margin) / (1.0 + spread)


@inner
def antecedent_at(t: int, position: int, tier: int) -> int:
    """Return the product at a position of the cart, or of the latest purchases."""
    return rows(t)[position] if tier == TIER_CART else recent(t)[position]


@inner
def rule_of(t: int, product: int, antecedent: int) -> int:
    """Return the row of the rule from `antecedent` to `product`.

    `NO_ROW` without one, or where too few buyers stand behind it.
    """
    low = rules_start(t)[antecedent]
    end = low + rules_count(t)[antecedent]
    high = end
    while low < high:
        middle = (low + high) // 2
        if rule_consequent(t)[middle] < product:
            low = middle + 1
        else:
            high = middle
    if low == end or rule_consequent(t)[low] != product or rule_n_buyers(t)[low] < settings(t)[0].least_buyers:
        return NO_ROW
    return low
