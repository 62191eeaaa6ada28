"""Says why a slate is shorter than what was asked for."""

from __future__ import annotations

from collections import Counter

SPOKEN = {
    "inactive": "inactive",
    "do_not_offer": "flagged do_not_offer",
    "out_of_stock": "out of stock",
    "blocked": "blocked by business rules",
    "filtered": "outside the categories or prices asked for",
    "in_cart": "in the cart",
    "excluded": "excluded by the request",
    "withheld": "withheld for this account now",
    "owned": "owned",
    "not_credible": "below the least probability",
    "worth_less": "worth less than what they displace",
    "near_duplicate": "near-duplicates",
    "substitute": "substitutes",
}
SILENT = "the account wants no offers"


def shortfall_sentence(requested: int, returned: int, n_considered: int, barred: Counter[str]) -> str | None:
    """Return why `returned < requested`, None where all came.

    Example:
        >>> shortfall_sentence(3, 1, 5, Counter(owned=4))
        'asked for 3, found 1 in 5 candidates; left out: 4 owned'
        >>> shortfall_sentence(2, 0, 0, Counter())
        'asked for 2, there is no candidate: nothing goes with this account, cart or product'
    """
    if returned >= requested:
        return None
    if n_considered == 0:
        return f"asked for {requested}, there is no candidate: nothing goes with this account, cart or product"
    found = f"asked for {requested}, found {returned or 'nothing credible'} in {n_considered} candidates"
    parts = [f"{barred[name]} {words}" for name, words in SPOKEN.items() if barred[name]]
    return f"{found}; left out: {', '.join(parts)}" if parts else found
