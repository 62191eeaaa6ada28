"""Shelves: products of one kind of thing, told by names, where a catalogue has neither categories nor families.

A word that stands at the end of most names that have it says what a thing is (HOLDER), one that stands anywhere says
which (PINK). Languages that begin with the thing are read from the other end: the one by which names tell prices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray

LEAST_PRODUCTS: Final = 5
"""Of a shelf; what fewer share names no kind of thing, and a board of a thousand shelves tells nobody anything."""
_LEAST_SHARE_AT_END: Final = 0.4
"""Of the names with a word that end in it: HOLDER has .8, PINK .2 (Online Retail II)."""
_MOST_SKIPPED: Final = 2
"""Words behind the kind of thing: LANTERN, LIGHT BLUE."""
_TOKEN: Final = re.compile(r"[^\W_]+(?:[-'.&][^\W_]+)*")


class Shelves(NamedTuple):
    """Kinds of thing.

    Attributes:
        names: the words that the names of a shelf's products share, sorted.
        code: of each product's shelf, -1 for none, shape `(n_products,)`.
    """

    names: tuple[str, ...]
    code: NDArray[np.int32]


def shelves_of_names(names: Sequence[str | None], price: FloatArray) -> Shelves:
    """Return the shelf of each product: its kind of thing by one or two words of its name.

    Two words where `LEAST_PRODUCTS` share both, else one; a product whose kind fewer share stands on no shelf.

    Args:
        names: of each product, None or empty where it has none.
        price: money a unit, NaN where it is not known, shape `(n_products,)`.
    """
    words = [_TOKEN.findall((name or "").upper()) for name in names]
    ends = [_codes(_kinds(words)), _codes([kind[::-1] for kind in _kinds([each[::-1] for each in words])])]
    return max(ends, key=lambda found: _told_of_prices(found.code, price))  # the last word, where both tell as much


def _kinds(words: list[list[str]]) -> list[list[str]]:
    """Return the one or two words behind which at most two stand that are no kind; empty where there are none."""
    n_names = Counter(word for each in words for word in set(each))
    n_ends = Counter(each[-1] for each in words if each)
    kinds = {
        word
        for word, n in n_names.items()
        if n >= LEAST_PRODUCTS and n_ends[word] >= _LEAST_SHARE_AT_END * n and any(letter.isalpha() for letter in word)
    }
    pairs = []
    for each in words:
        behind = each[-1 - _MOST_SKIPPED :]
        last = next((place for place in reversed(range(len(behind))) if behind[place] in kinds), None)
        end = 0 if last is None else len(each) - len(behind) + last + 1
        pairs.append(each[max(end - 2, 0) : end])
    shared = Counter(tuple(pair) for pair in pairs)
    return [pair if shared[tuple(pair)] >= LEAST_PRODUCTS else pair[-1:] for pair in pairs]


def _codes(kinds: list[list[str]]) -> Shelves:
    text = [" ".join(kind) for kind in kinds]
    names = tuple(sorted(name for name, n in Counter(text).items() if name and n >= LEAST_PRODUCTS))
    code_of = {name: code for code, name in enumerate(names)}
    return Shelves(names, np.array([code_of.get(name, -1) for name in text], dtype=np.int32))


def _told_of_prices(code: NDArray[np.int32], price: FloatArray) -> float:
    """Return the share of the variance of log prices that lies between shelves, of all products with a price.

    Counted like the adjusted R^2, so that many small shelves are no better by their number.
    """
    is_known = price > 0
    log_price, shelf = np.log(price[is_known]), code[is_known]
    on_shelf = shelf >= 0
    n_shelves = len(np.unique(shelf[on_shelf]))
    if n_shelves == 0 or on_shelf.sum() <= n_shelves or not log_price.var() > 0:
        return 0.0
    counts = np.maximum(np.bincount(shelf[on_shelf]), 1)
    mean = np.bincount(shelf[on_shelf], weights=log_price[on_shelf]) / counts
    within = np.square(log_price[on_shelf] - mean[shelf[on_shelf]]).sum() / (on_shelf.sum() - n_shelves)
    return float((1.0 - within / log_price.var()) * on_shelf.mean())
