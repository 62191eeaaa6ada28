"""Families inferred from names and prices: which product is a higher-value version of which other one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.arrays import FloatArray
from recsys.products.names import NameParts, NameStep, compare_names, parse_name

_COLOURS: Final = frozenset(
    (
        *("red", "blue", "green", "pink", "white", "black", "cream", "ivory", "silver", "gold", "purple", "yellow"),
        *("orange", "brown", "grey", "gray", "mint", "turquoise", "lilac", "lavender", "aqua", "beige", "navy"),
        *("copper", "bronze", "amber", "clear", "natural"),
    )
)


@dataclass(frozen=True)
class NameMatrix:
    """Names of a catalogue as weighted words.

    Attributes:
        parts: what each name says.
        words: inverse document frequency of each word in each name, `(n_products, n_words)`.
        total: sum of each row, `(n_products,)`.
    """

    parts: list[NameParts]
    words: sp.csr_array
    total: FloatArray

    @classmethod
    def of(cls, names: list[str | None]) -> NameMatrix:
        """Return the matrix of a catalogue's names.

        A word of the core weighs `1 + log(n / n_with_it)`, so that a rare word counts for more than a common one.
        """
        parts = [parse_name(name) for name in names]
        row = np.repeat(np.arange(len(parts)), [len(part.core) for part in parts])
        flat = [word for part in parts for word in sorted(part.core)]
        column, vocabulary = pd.factorize(np.array(flat, dtype=object), sort=True)
        frequency = np.bincount(column, minlength=len(vocabulary))
        weight = 1.0 + np.log(max(len(parts), 1) / np.maximum(frequency, 1))
        shape = (len(parts), len(vocabulary))
        words = sp.csr_array((weight[column], (row, column)), shape=shape)
        return cls(parts, words, np.asarray(words.sum(axis=1)).ravel())


@dataclass(frozen=True)
class LikePairs:
    """Pairs of products with alike names, arrays `(n_pairs,)`; `likeness` is a weighted Jaccard in [0, 1]."""

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    likeness: FloatArray


def like_pairs(names: NameMatrix, group: NDArray[np.int64], min_likeness: float, block: int = 2_000) -> LikePairs:
    """Return all ordered pairs of one group whose names are alike.

    Likeness is the weighted Jaccard index of the two cores: weight of the shared words over weight of all words.

    Args:
        names: the catalogue's names.
        group: products are compared within one group only, `(n_products,)`.
        min_likeness: the least likeness to be kept, in (0, 1].
        block: rows that are multiplied at a time; bounds the memory.
    """
    present = names.words.copy()
    present.data = np.ones_like(present.data)
    found = []
    for start in range(0, names.words.shape[0], block):
        shared = (names.words[start : start + block] @ present.T).tocoo()
        lower, upper = shared.row + start, shared.col
        likeness = shared.data / (names.total[lower] + names.total[upper] - shared.data)
        keep = (likeness >= min_likeness) & (lower != upper) & (group[lower] == group[upper])
        found.append((lower[keep], upper[keep], likeness[keep]))
    if not found:
        empty = np.empty(0, dtype=np.int64)
        return LikePairs(empty, empty, np.empty(0))
    lower, upper, likeness = (np.concatenate(part) for part in zip(*found, strict=True))
    return LikePairs(lower.astype(np.int64), upper.astype(np.int64), likeness)


def higher_version(lower: NameParts, upper: NameParts) -> NameStep | None:
    """Return the step by which `upper` is the higher version by its name; None where the name does not say so.

    The step must go up in at least one aspect and down in none; another colour is another product, not a version.
    """
    step = compare_names(lower, upper)
    return step if step.up and not step.down and not _recoloured(lower.core, upper.core) else None


def _recoloured(lower: frozenset[str], upper: frozenset[str]) -> bool:
    first, second = lower & _COLOURS, upper & _COLOURS
    return bool(first and second and not first & second)
