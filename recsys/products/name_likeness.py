"""How alike two names are, in several ways, by their letters alone: no words are listed, no language is known."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from recsys.arrays import FloatArray

_LONGEST: Final = 4
"""Letters in a row that are compared: four tell a word's stem, and longer ones add nothing to what these tell."""
_MOST_TOPICS: Final = 100
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_WORD: Final = r"[^\W_]+"


def folded(name: str) -> str:
    """Return a name in small letters, with letters of full and half width as one.

    >>> folded("ペン Ａ４ Red")
    'ペン a4 red'
    """
    return unicodedata.normalize("NFKC", name).lower()


@dataclass(frozen=True)
class NameLikeness:
    """What is compared of names: letters in a row, words and topics, weighted by how rare a catalogue has them.

    Attributes:
        runs: TF-IDF of one to four letters in a row.
        by_length: likewise of one, of two and of three, each by itself.
        words: TF-IDF of words.
        topics: what pairs of letters stand in the same names, so that names are alike that share none.
    """

    runs: TfidfVectorizer
    by_length: tuple[TfidfVectorizer, ...]
    words: TfidfVectorizer
    topics: TruncatedSVD

    @classmethod
    def of(cls, names: Iterable[str]) -> NameLikeness:
        """Return the weights of a catalogue; neither the order of its names nor how often one stands in it counts.

        Args:
            names: two at least, with three different letters in all.
        """
        texts = sorted({folded(name) for name in names})
        runs = _letters(1, _LONGEST).fit(texts)
        by_length = tuple(_letters(n, n).fit([text.ljust(n) for text in texts]) for n in (1, 2, 3))
        twos = by_length[1].transform(texts)
        n_topics = min(_MOST_TOPICS, len(texts) - 1, twos.shape[1] - 1)
        words = TfidfVectorizer(token_pattern=r"(?s).+" if not any(map(_has_word, texts)) else _WORD).fit(texts)
        return cls(runs, by_length, words, TruncatedSVD(n_topics, random_state=0).fit(twos))

    def weights(self, names: Sequence[str]) -> sp.csr_array:
        """Return the weights of each name's letters in a row, rows of length 1, `(n_names, n_runs)`."""
        return sp.csr_array(self.runs.transform([folded(name) for name in names]))

    def between(self, first: Sequence[str], second: Sequence[str]) -> FloatArray:
        """Return how alike the names of each pair are, the same whichever stands first, `(n_pairs, 13)`.

        Cosines of one, two and three letters in a row, of words and of topics; the share of the shorter name's pairs of
        letters that the other has; how rare the rarest three shared letters are; shares of the shorter name that
        both begin and end with; their numbers' Jaccard index, how many are shared and how many are not; and the
        logarithm of the ratio of their lengths.
        """
        names, at = np.unique(np.array([[*map(folded, first)], [*map(folded, second)]], dtype=str), return_inverse=True)
        one, other = at.reshape(2, -1)
        texts = names.tolist()
        grams = [sp.csr_array(letters.transform([text.ljust(3) for text in texts])) for letters in self.by_length]
        topics = sp.csr_array(normalize(self.topics.transform(grams[1])))
        cosines = [_dots(rows, one, other) for rows in (*grams, sp.csr_array(self.words.transform(texts)), topics)]
        twos, threes = (_present(rows) for rows in grams[1:])
        fewer = np.minimum(*(np.asarray(twos[rows].sum(axis=1)) for rows in (one, other)))
        rarest = sp.csr_array(threes[one] * (threes[other] * self.by_length[2].idf_)).max(axis=1).toarray().ravel()
        pairs = list(zip(names[one].tolist(), names[other].tolist(), strict=True))
        read = np.array([_read(*pair) for pair in pairs], dtype=np.float64).reshape(-1, 6)
        return np.column_stack([*cosines, _dots(twos, one, other) / np.maximum(fewer, 1), rarest, read])


def _letters(shortest: int, longest: int) -> TfidfVectorizer:
    return TfidfVectorizer(analyzer="char", ngram_range=(shortest, longest), sublinear_tf=True, lowercase=False)


def _has_word(text: str) -> bool:
    return re.search(_WORD, text) is not None


def _present(rows: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((np.ones_like(rows.data), rows.indices, rows.indptr), shape=rows.shape)


def _dots(rows: sp.csr_array, one: NDArray[np.intp], other: NDArray[np.intp]) -> FloatArray:
    return np.asarray(rows[one].multiply(rows[other]).sum(axis=1), dtype=np.float64).ravel()


def _read(one: str, other: str) -> tuple[float, ...]:
    """Return what both begin with, end with, their numbers' Jaccard index, shared and other numbers, and lengths."""
    shorter = max(min(len(one), len(other)), 1)
    first, second = set(_NUMBER.findall(one)), set(_NUMBER.findall(other))
    return (
        _n_alike(one, other) / shorter,
        _n_alike(one[::-1], other[::-1]) / shorter,
        len(first & second) / max(len(first | second), 1),
        len(first & second),
        len(first ^ second),
        abs(float(np.log(max(len(one), 1) / max(len(other), 1)))),
    )


def _n_alike(one: str, other: str) -> int:
    """Return how many letters two texts begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
