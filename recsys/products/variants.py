"""Variants: products that are the same thing in another colour, pattern or scent, told by names and prices alone.

What a thing is makes its price, and what it looks like does not. So two products at near prices are variants

1. if the words that both names have make the price: nearly all JUMBO BAGs cost the same, whatever stands beside these
   words, while what is called RED RETROSPOT may cost anything;
2. or, of a thing of which there are few, if what stands in one place of otherwise equal names stands for a variety:
   wherever BLUE and PINK take each other's place the price stays, where BOWL and PLATE do it does not; CARD and WRAP
   do at one price, but each makes a price and is a thing.

No list of words is needed, and no language.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from recsys.arrays import BoolArray, FloatArray, IntArray
from recsys.products.name_slots import NameSlots, Words
from recsys.products.name_words import WordMatrix

NEAR: Final = 1.15
"""Prices of variants differ by no larger factor."""
_LOG_NEAR: Final = float(np.log(NEAR)) + 1e-9  # a hair more, as logarithms of prices are rounded
_PRIOR: Final = 2.0
"""Names that what is usual in the catalogue counts for beside what is seen of some words."""
_FEWEST_NAMES: Final = 4
"""With words that make a price: three near prices happen by chance."""
_LEAST_OF_WORDS: Final = 0.5
"""Of near prices among the names that share two words or more: LUGGAGE TAG has .6, HOT WATER BOTTLE, several things,
.3, RED RETROSPOT .1 (Online Retail II)."""
_LEAST_OF_WORD: Final = 0.6
"""Likewise of one word: TILE, of numbers and of hooks, has .5."""
_LEAST_OF_KIND: Final = 0.4
"""Likewise of a word that may be what a thing is, so that its exchange for another such word makes another thing."""
_LEAST_SWAPPED: Final = 0.55
"""Of near prices where two words are exchanged: colours come to .7, sizes and kinds of thing to .1 to .3; two names
that agree by chance, and of which nothing else is known, stay below."""
_MOST_WORDS: Final = 2
"""Of a variety in a place: BLUE, RED RETROSPOT."""
_MOST_WITH_A_WORD: Final = 300
"""Names that are compared for the sake of one word alone: one that more have says little of what they are."""
_BLOCK: Final = 2_000
"""Names that are compared with all others at a time; bounds the memory."""

_Pair: TypeAlias = tuple[int, int]


def variant_groups(names: Sequence[str | None], price: FloatArray, family: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the group of variants of each product, numbered from 1; 0 for a product without any.

    One of two names must have a word that also stands where their shared words do not: ARTICLE 17 is no variant of
    ARTICLE 18. Variants of variants are variants.

    Args:
        names: of each product, None where it has none.
        price: money a unit, NaN where it is not known; such a product is no variant.
        family: code of each product's family, -1 where it has none; products of two families are no variants.
    """
    priced = [name if known else None for name, known in zip(names, price > 0, strict=True)]
    slots = NameSlots.of(priced, np.zeros(len(names), dtype=np.int64), _MOST_WORDS)
    shares = _PriceShares(slots.titles, np.log(slots.medians(price)))
    pairs = sorted({*_sharing(shares), *_swapping(slots, shares)})
    rows: defaultdict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(slots.title >= 0).tolist():
        title = int(slots.title[row])
        if abs(np.log(price[row]) - shares.log_price[title]) <= _LOG_NEAR:
            rows[title].append(row)
    alike = [(a, b) for one, other in pairs for a in rows[one] for b in rows[other] if _may_vary(family[a], family[b])]
    return _numbered(alike, len(names))


def _may_vary(family: int, other: int) -> bool:
    return family == other or family < 0 or other < 0


class _PriceShares:
    """How near the prices of names with some words in common are."""

    def __init__(self, titles: Sequence[Words], log_price: FloatArray) -> None:
        self.log_price = log_price
        self.words = [frozenset(title) for title in titles]
        self._with: defaultdict[str, set[int]] = defaultdict(set)
        for title, words in enumerate(self.words):
            for word in words:
                self._with[word].add(title)
        self._usual = _near_share(log_price)
        self._known: dict[frozenset[str], float] = {}

    def titles(self, words: Iterable[str]) -> set[int]:
        """The titles that have all of some words."""
        return set.intersection(*(self._with[word] for word in words))

    def of(self, words: frozenset[str]) -> float:
        """The share of near prices among the other titles with the same words; 0 where these are few."""
        if words not in self._known:
            rows = sorted(self.titles(words))
            n = len(rows) - 1
            share = (_near_share(self.log_price[rows]) * n + self._usual * _PRIOR) / (n + _PRIOR)
            self._known[words] = share if len(rows) >= _FEWEST_NAMES else 0.0
        return self._known[words]

    def is_near(self, one: IntArray, other: IntArray) -> BoolArray:
        """Whether two titles have near prices."""
        near: BoolArray = np.abs(self.log_price[one] - self.log_price[other]) <= _LOG_NEAR
        return near

    def stands_elsewhere(self, one: int, other: int, shared: frozenset[str]) -> bool:
        """Whether one of two titles has a word that also stands in a title without their shared words."""
        here = self.titles(shared)
        return any(not self._with[word] <= here for word in self.words[one] ^ self.words[other])

    def make_things(self, words: Iterable[str]) -> bool:
        """Whether one of some words makes a price by itself."""
        return any(self.of(frozenset({word})) >= _LEAST_OF_KIND for word in words)


def _near_share(log_price: FloatArray) -> float:
    """Return which part of the pairs of prices are near."""
    rising, n = np.sort(log_price), len(log_price)
    within = np.searchsorted(rising, rising + _LOG_NEAR, "right") - np.searchsorted(rising, rising - _LOG_NEAR, "left")
    return float((within - 1).sum() / (n * (n - 1))) if n > 1 else 0.0


def _sharing(shares: _PriceShares) -> Iterator[_Pair]:
    """Yield the titles of which the shared words make the price."""
    weights = WordMatrix.of(shares.words).weights
    weights = weights[:, np.bincount(weights.indices, minlength=weights.shape[1]) <= _MOST_WITH_A_WORD]
    for start in range(0, weights.shape[0], _BLOCK):
        pairs = (weights[start : start + _BLOCK] @ weights.T).tocoo()
        first, second = pairs.row.astype(np.int64) + start, pairs.col.astype(np.int64)
        near = (first < second) & shares.is_near(first, second)
        for one, other in zip(first[near].tolist(), second[near].tolist(), strict=True):
            shared = shares.words[one] & shares.words[other]
            least = _LEAST_OF_WORDS if len(shared) > 1 else _LEAST_OF_WORD
            if shares.of(shared) >= least and shares.stands_elsewhere(one, other, shared):
                yield one, other


def _swapping(slots: NameSlots, shares: _PriceShares) -> Iterator[_Pair]:
    """Yield the titles that differ in what leaves the price where it is, in this place and wherever it stands."""
    if not len(slots):
        return
    near = shares.is_near(slots.first, slots.second)
    at = np.concatenate([slots.slot, slots.slot]) * len(slots.words)
    filler, of_pair = np.unique(at + np.concatenate([slots.first_word, slots.second_word]), return_inverse=True)
    share = np.bincount(of_pair, weights=np.tile(near, 2)) / np.bincount(of_pair)
    slot, word = filler // len(slots.words), filler % len(slots.words)
    n_fillers, n_places = np.bincount(slot), np.bincount(word)
    of_slot, n_near = np.bincount(slot, weights=share) / n_fillers, np.bincount(word, weights=share)
    usual = float(of_slot.mean())

    def shrunk(n: FloatArray, of: IntArray) -> FloatArray:
        return (n + usual * _PRIOR) / (of + _PRIOR)

    elsewhere = shrunk(n_near[word] - share, n_places[word] - 1)  # what this place says counts as the place's
    first, second = of_pair.reshape(2, -1)
    others = n_fillers[slots.slot] - 1
    evidence = elsewhere[first] + elsewhere[second] + shrunk(of_slot[slots.slot] * others, others)
    is_word = np.maximum(n_places[slots.first_word], n_places[slots.second_word]) > 1  # else perhaps a product's number
    for row in np.flatnonzero(near & is_word & (evidence >= 3 * _LEAST_SWAPPED)).tolist():
        words = (str(slots.words[at[row]]).split() for at in (slots.first_word, slots.second_word))
        if not all(shares.make_things(filler) for filler in words):
            yield int(slots.first[row]), int(slots.second[row])


def _numbered(pairs: list[_Pair], n_products: int) -> NDArray[np.int32]:
    """Return the number of each product's group, by the first product of each: who is paired is in one."""
    one, other = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    graph = sp.coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(n_products, n_products))
    _, component = connected_components(graph, directed=False)
    group = np.zeros(n_products, dtype=np.int32)
    paired = np.union1d(one, other)
    _, first, number = np.unique(component[paired], return_index=True, return_inverse=True)
    group[paired] = (np.argsort(np.argsort(first)) + 1)[number]
    return group
