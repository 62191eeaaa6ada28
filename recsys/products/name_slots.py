"""Names that differ in one word, and which word stands in the place of which.

"LL Road Pedal", "ML Road Pedal" and "HL Road Pedal" are one *slot*, what is left of each name without its first word;
the words that stand in it are its *fillers*. Which words take each other's place, and what prices do when they do, says
what a catalogue's words mean without a list of words: sizes and grades move the price one way, colours don't move it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.products.name_words import split_name

Words: TypeAlias = tuple[str, ...]

NO_WORD: Final = ""
"""The filler of a name that has no word in the slot: "Lantern" beside "Large lantern"."""

# A place where anything may stand, such as the number in "Product 4711", says nothing; and pairs grow as its square.
_MOST_FILLERS: Final = 30


@dataclass(frozen=True)
class NameSlots:
    """Pairs of titles that differ in one word; a title is what all products of one group with the same words share.

    Attributes:
        title: of each product, -1 where it has no name, `(n_products,)`.
        titles: the words of each title, sorted, `(n_titles,)`.
        group: of each title.
        words: the words that differ, sorted; the first may be `NO_WORD`. Where a filler may have several words, each is
            one entry with single blanks.
        slot: of each pair, `(n_pairs,)`.
        first: title of each pair that has `first_word`.
        second: the other title.
        first_word: position in `words`, always before `second_word`.
        second_word: likewise.
    """

    title: IntArray
    titles: tuple[Words, ...]
    group: IntArray
    words: NDArray[np.object_]
    slot: IntArray
    first: IntArray
    second: IntArray
    first_word: IntArray
    second_word: IntArray

    @classmethod
    def of(cls, names: Sequence[str | None], group: IntArray, most_words: int = 1) -> NameSlots:
        """Return the pairs of a catalogue.

        Args:
            names: of each product, None where it has none.
            group: products are compared within one group only, such as a category, `(n_products,)`.
            most_words: of one filler, side by side in the name: RED RETROSPOT are two.
        """
        titles: dict[tuple[int, Words], int] = {}
        in_order: list[Words] = []
        title = np.full(len(names), -1, dtype=np.int64)
        for row, name in enumerate(names):
            split = split_name(name) if name else ()
            if split:
                title[row] = titles.setdefault((int(group[row]), tuple(sorted(split))), len(titles))
                in_order += [split] * (len(titles) - len(in_order))
        rows = [
            (number, first, second, first_word, second_word)
            for number, fillers in enumerate(_slots(titles, in_order, most_words))
            for (first_word, first), (second_word, second) in combinations(sorted(fillers.items()), 2)
        ]
        slot, first, second = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(3))
        both = np.array([row[3] for row in rows] + [row[4] for row in rows], dtype=object)
        codes, words = pd.factorize(both, sort=True)
        first_word, second_word = codes.reshape(2, -1).astype(np.int64)
        group_of = np.array([number for number, _ in titles], dtype=np.int64)
        of_title = tuple(sorted_words for _, sorted_words in titles)
        return cls(
            title, of_title, group_of, np.asarray(words, dtype=object), slot, first, second, first_word, second_word
        )

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def n_titles(self) -> int:
        """How many titles there are."""
        return len(self.titles)

    def medians(self, values: FloatArray) -> FloatArray:
        """Return the median of a value of products for each title, NaN where none is known, `(n_titles,)`."""
        known = self.title >= 0
        median = pd.Series(values[known]).groupby(self.title[known]).median()
        return np.asarray(median.reindex(np.arange(self.n_titles)), dtype=np.float64)


def _slots(titles: dict[tuple[int, Words], int], in_order: list[Words], most_words: int) -> Iterator[dict[str, int]]:
    """Yield the fillers of each slot with the titles that have them, where there are two at least."""
    found: defaultdict[tuple[int, Words], dict[str, int]] = defaultdict(dict)
    for (group, _), number in titles.items():
        for filler, rest in _cut(in_order[number], most_words):
            found[group, rest][" ".join(filler)] = number
    for place, fillers in found.items():
        if place in titles:
            fillers[NO_WORD] = titles[place]
        if 2 <= len(fillers) <= _MOST_FILLERS:
            yield fillers


def _cut(words: Words, most: int) -> Iterator[tuple[Words, Words]]:
    """Yield what is taken from a name, and what is left of it, sorted."""
    for n in range(1, min(most, len(words) - 1) + 1):
        for begin in range(len(words) - n + 1):
            yield words[begin : begin + n], tuple(sorted(words[:begin] + words[begin + n :]))
