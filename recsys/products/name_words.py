"""Names as words: what a word is, how much each weighs, and how alike two names are by them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp

from recsys.arrays import FloatArray, IntArray, row_of_entry

_WORD: Final = re.compile(r"[^\W_]+")


def words_of(name: str) -> list[str]:
    """Return the words and numbers of a name as they stand, in small letters.

    >>> words_of("Men's vest - 2XL")
    ['mens', 'vest', '2xl']
    """
    return _WORD.findall(name.lower().replace("'", ""))


def split_name(name: str) -> tuple[str, ...]:
    """Return the words and numbers of a name, singular, in their order.

    >>> split_name("LL Road Frames - Black, 58")
    ('ll', 'road', 'frame', 'black', '58')
    """
    return tuple(singular(word) for word in words_of(name))


def singular(word: str) -> str:
    """Return an English word without its plural ending, good enough to match names of one catalogue.

    >>> [singular(word) for word in ("lanterns", "boxes", "berries", "glass", "bus")]
    ['lantern', 'box', 'berry', 'glass', 'bus']
    """
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "shes", "ches", "sses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


@dataclass(frozen=True)
class WordMatrix:
    """Names as weighted words.

    Attributes:
        weights: of each word in each name, `(n_names, n_words)`: `1 + log(n / n_with_it)`, so that a rare word counts
            for more than a common one.
        columns: the column of each word.
    """

    weights: sp.csr_array
    columns: dict[str, int]

    @classmethod
    def of(cls, names: Sequence[Iterable[str]]) -> WordMatrix:
        """Return the matrix of names, each given as its words; a word that a name has twice counts once."""
        words = [sorted(set(name)) for name in names]
        row = row_of_entry(np.array([len(name) for name in words], dtype=np.int64))
        columns = {word: at for at, word in enumerate(sorted({word for name in words for word in name}))}
        column = np.array([columns[word] for name in words for word in name], dtype=np.int64)
        weight = 1.0 + np.log(max(len(words), 1) / np.maximum(np.bincount(column, minlength=len(columns)), 1))
        weights = sp.csr_array((weight[column], (row, column)), shape=(len(words), len(columns)))
        return cls(weights, columns)


@dataclass(frozen=True)
class AlikeNames:
    """Pairs of rows with alike names, arrays `(n_pairs,)`; `likeness` is a weighted Jaccard index in [0, 1]."""

    first: IntArray
    second: IntArray
    likeness: FloatArray


def alike_names(first: sp.csr_array, second: sp.csr_array, least: float, block: int = 2_000) -> AlikeNames:
    """Return all pairs of a row of `first` and one of `second` that are alike.

    Likeness is the weighted Jaccard index of their words: weight of the shared words over weight of all words.

    Args:
        first: weights of words, `(n_first, n_words)`.
        second: likewise, of the same words.
        least: likeness to be kept, in (0, 1].
        block: rows that are multiplied at a time; bounds the memory.
    """
    present = second.copy()
    present.data = np.ones_like(present.data)
    total, other = (np.asarray(weights.sum(axis=1)).ravel() for weights in (first, second))
    found = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))]
    for start in range(0, first.shape[0], block):
        shared = (first[start : start + block] @ present.T).tocoo()
        row, column = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        likeness = shared.data / (total[row] + other[column] - shared.data)
        keep = likeness >= least
        found.append((row[keep], column[keep], likeness[keep]))
    row, column, likeness = (np.concatenate(part) for part in zip(*found, strict=True))
    return AlikeNames(row, column, likeness)


def alike_in_groups(weights: sp.csr_array, group: IntArray, least: float) -> AlikeNames:
    """Return all ordered pairs of two rows of one group that are alike.

    Args:
        weights: of words, `(n_names, n_words)`.
        group: of each name, `(n_names,)`.
        least: likeness to be kept, in (0, 1].
    """
    pairs = alike_names(weights, weights, least)
    keep = (pairs.first != pairs.second) & (group[pairs.first] == group[pairs.second])
    return AlikeNames(pairs.first[keep], pairs.second[keep], pairs.likeness[keep])
