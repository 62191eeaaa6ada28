"""Names that differ in one word, and which word stands in the place of which.

"LL Road Pedal", "ML Road Pedal" and "HL Road Pedal" are one *slot*, what is left of each name without its first word;
the words that stand in it are its *fillers*. Which words take each other's place, and what prices do when they do, says
what a catalogue's words mean without a list of words: sizes and grades move the price one way, colours don't move it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray
from recsys.products.names import singular

NO_WORD: Final = ""
"""The filler of a name that has no word in the slot: "Lantern" beside "Large lantern"."""

_WORD: Final = re.compile(r"[^\W_]+")
# A place where anything may stand, such as the number in "Product 4711", says nothing; and pairs grow as its square.
_MOST_FILLERS: Final = 30


def split_name(name: str) -> tuple[str, ...]:
    """Return the words and numbers of a name, singular, sorted, as order and punctuation vary within a catalogue.

    >>> split_name("LL Road Frame - Black, 58")
    ('58', 'black', 'frame', 'll', 'road')
    """
    return tuple(sorted(singular(word) for word in _WORD.findall(name.lower().replace("'", ""))))


@dataclass(frozen=True)
class NameSlots:
    """Pairs of titles that differ in one word; a title is what all products of one group with the same words share.

    Attributes:
        title: of each product, -1 where it has no name, `(n_products,)`.
        titles: the words of each title, sorted, `(n_titles,)`.
        group: of each title.
        words: the words that differ, sorted; the first may be `NO_WORD`.
        slot: of each pair, `(n_pairs,)`.
        first: title of each pair that has `first_word`.
        second: the other title.
        first_word: position in `words`, always before `second_word`.
        second_word: likewise.
    """

    title: IntArray
    titles: tuple[tuple[str, ...], ...]
    group: IntArray
    words: NDArray[np.object_]
    slot: IntArray
    first: IntArray
    second: IntArray
    first_word: IntArray
    second_word: IntArray

    @classmethod
    def of(cls, names: Sequence[str | None], group: IntArray) -> NameSlots:
        """Return the pairs of a catalogue.

        Args:
            names: of each product, None where it has none.
            group: products are compared within one group only, such as a category, `(n_products,)`.
        """
        titles: dict[tuple[int, tuple[str, ...]], int] = {}
        title = np.full(len(names), -1, dtype=np.int64)
        for row, name in enumerate(names):
            split = split_name(name) if name else ()
            if split:
                title[row] = titles.setdefault((int(group[row]), split), len(titles))
        rows = [
            (number, first, second, first_word, second_word)
            for number, fillers in enumerate(_slots(titles))
            for (first_word, first), (second_word, second) in combinations(sorted(fillers.items()), 2)
        ]
        slot, first, second = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(3))
        both = np.array([row[3] for row in rows] + [row[4] for row in rows], dtype=object)
        codes, words = pd.factorize(both, sort=True)
        first_word, second_word = codes.reshape(2, -1).astype(np.int64)
        group_of = np.array([number for number, _ in titles], dtype=np.int64)
        of_title = tuple(split for _, split in titles)
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


def _slots(titles: dict[tuple[int, tuple[str, ...]], int]) -> Iterator[dict[str, int]]:
    """Yield the fillers of each slot with the titles that have them, where there are two at least."""
    found: dict[tuple[int, tuple[str, ...]], dict[str, int]] = {}
    for (group, words), number in titles.items():
        for at, word in enumerate(words):
            if len(words) > 1 and words[at - 1 : at] != (word,):  # of a word that is there twice, one is taken
                found.setdefault((group, words[:at] + words[at + 1 :]), {})[word] = number
    for rest, fillers in found.items():
        if rest in titles:
            fillers[NO_WORD] = titles[rest]
        if 2 <= len(fillers) <= _MOST_FILLERS:
            yield fillers
