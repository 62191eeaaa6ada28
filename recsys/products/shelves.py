"""Shelves: products of one kind of thing, told by names, where a catalogue has neither categories nor families.

A word that stands at the end of most names that have it says what a thing is (HOLDER), one that stands anywhere says
which (PINK). A word at the end that stands behind many kinds of thing, other words between, is a pattern (LUNCH BAG
SPACEBOY DESIGN), and what follows IN or WITH is no part of the thing. Singular and plural are one. Languages that begin
with the thing are read from the other end: the one by which names tell prices.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray
from recsys.products.name_words import singular
from recsys.products.names import FILLER_WORDS, SIZE_WORDS

LEAST_PRODUCTS: Final = 5
"""Of a shelf; what fewer share names no kind of thing, and a board of a thousand shelves tells nobody anything."""
_LEAST_SHARE_AT_END: Final = 0.4
"""Of the names with a word that end in it: HOLDER has .8, PINK .2 (Online Retail II)."""
_LEAST_OF_FORM: Final = 0.55
"""Likewise of a singular or a plural alone: T-LIGHTS has .7, though T-LIGHT HOLDER ends otherwise; ROSES has .5."""
_MOST_BEHIND_OTHERS: Final = 0.4
"""Of the names that end in a word, those with another kind of thing farther ahead: DESIGN has .66, MUG .2."""
_ADDITIONS: Final = frozenset({"in", "on", "with", "w", "for"})
"""What follows is beside the thing: SOAP IN TIN, JAR WITH LID."""
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
    words = [_words_of_thing(_TOKEN.findall((name or "").upper())) for name in names]
    ends = [_codes(_kinds(words)), _codes([kind[::-1] for kind in _kinds([each[::-1] for each in words])])]
    return max(ends, key=lambda found: _told_of_prices(found.code, price))  # the last word, where both tell as much


def _words_of_thing(words: list[str]) -> list[str]:
    """The words before those of an addition."""
    end = next((place for place, word in enumerate(words) if place and word.lower() in _ADDITIONS), len(words))
    return words[:end]


def _kinds(names: list[list[str]]) -> list[list[str]]:
    """Return the one or two words behind which at most two stand that are no kind; empty where there are none."""
    stems = [[singular(word.lower()) for word in words] for words in names]
    kinds, patterns = _kinds_and_patterns(names, stems)
    found = []
    for words, stem in zip(names, stems, strict=True):
        last = next((at for at in reversed(range(len(stem))) if stem[at] in kinds), None)
        is_far = last is None or last < len(stem) - 1 - _MOST_SKIPPED
        end = 0 if is_far or last is None else last + 1
        begin = end - 2 if end > 1 and _may_stand_before(stem[end - 2], patterns) else end - 1
        found.append(words[max(begin, 0) : end])
    shared = Counter(_stem(pair) for pair in found)
    return [pair if shared[_stem(pair)] >= LEAST_PRODUCTS else pair[-1:] for pair in found]


def _kinds_and_patterns(names: list[list[str]], stems: list[list[str]]) -> tuple[set[str], set[str]]:
    """The words that say what a thing is, and those that stand behind such a word, others between, in many names."""
    usual = {stem for stem in _at_ends(stems, _LEAST_SHARE_AT_END) if _may_be_kind(stem)}
    forms = {singular(word.lower()) for word in _at_ends(names, _LEAST_OF_FORM)}
    kinds = usual | {stem for stem in forms if _may_be_kind(stem)}
    n_ends = Counter(stem[-1] for stem in stems if stem)
    n_behind = Counter(stem[-1] for stem in stems if stem and not usual.isdisjoint({*stem[:-2]} - {stem[-1]}))
    patterns = {word for word in kinds if n_behind[word] >= _MOST_BEHIND_OTHERS * n_ends[word]}
    return kinds - patterns, patterns


def _at_ends(names: list[list[str]], least: float) -> set[str]:
    """The words that stand at the end of a share of the names that have them."""
    n_names = Counter(word for words in names for word in set(words))
    n_ends = Counter(words[-1] for words in names if words)
    return {word for word, n in n_names.items() if n >= LEAST_PRODUCTS and n_ends[word] >= least * n}


def _may_be_kind(stem: str) -> bool:
    return stem[0].isalpha() and stem not in SIZE_WORDS and stem not in FILLER_WORDS


def _may_stand_before(stem: str, patterns: set[str]) -> bool:
    return stem[0].isalpha() and len(stem) > 1 and stem not in FILLER_WORDS and stem not in patterns


def _stem(words: list[str]) -> tuple[str, ...]:
    return tuple(singular(word.lower()) for word in words)


def _codes(kinds: list[list[str]]) -> Shelves:
    """Return shelves by the words' singulars, each called as most of its products call it."""
    called: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for kind in kinds:
        called[_stem(kind)][" ".join(kind)] += 1
    large = {stem: n_called for stem, n_called in called.items() if stem and n_called.total() >= LEAST_PRODUCTS}
    name_of = {stem: min(n_called, key=lambda name: (-n_called[name], name)) for stem, n_called in large.items()}
    names = tuple(sorted(name_of.values()))
    code_of = {name: code for code, name in enumerate(names)}
    codes = [code_of.get(name_of.get(_stem(kind), ""), -1) for kind in kinds]
    return Shelves(names, np.array(codes, dtype=np.int32))


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
