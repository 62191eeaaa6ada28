"""Variants: products that are the same thing in another colour, pattern or scent, told by names and prices alone.

What fills the same place of otherwise equal names may be a variety (BLUE and PINK, before SPOTTY BOWL) or what the
thing is (BOWL and PLATE, behind BLUE SPOTTY). Prices tell which: words of varieties leave the price as it is
wherever they are exchanged, sizes and kinds of thing do not. No list of words is needed, and no language.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from recsys.arrays import FloatArray

_TOKEN: Final = re.compile(r"[^\W_]+(?:['.][^\W_]+)*")
_MOST_TOKENS: Final = 2
"""Of a variety: BLUE, RED RETROSPOT."""
_MOST_FILLERS: Final = 200
"""Of one place: where more stand, the rest of the name is hardly one."""
NEAR: Final = 1.15
"""Prices of variants differ by no larger factor."""
_PRIOR_PLACES: Final = 2.0
"""Places that the catalogue's own share of near prices counts for beside what is seen of one text or place."""
_LEAST_SHARE: Final = 0.55
"""Of near prices where two texts are exchanged: colours come to .7, sizes and kinds of thing to .1 to .3 (Online Retail
II); two names that agree by chance, and of which nothing else is known, stay below."""

_Tokens: TypeAlias = tuple[str, ...]
_Frame: TypeAlias = tuple[_Tokens, _Tokens]
"""What stands before and behind a place."""


@dataclass(frozen=True)
class _Place:
    """A place in otherwise equal names: what fills it, and which of these have prices that are near."""

    fillers: dict[_Tokens, list[int]]
    near: NDArray[np.bool_]

    @classmethod
    def of(cls, fillers: dict[_Tokens, list[int]], price: FloatArray) -> _Place:
        typical = np.array([float(np.median(price[rows])) for rows in fillers.values()])
        near = np.maximum.outer(typical, typical) <= NEAR * np.minimum.outer(typical, typical)
        np.fill_diagonal(near, val=False)
        return cls(fillers, near)

    def shares(self) -> FloatArray:
        """The share of the others that each filler's price is near to."""
        share: FloatArray = self.near.sum(axis=1) / (len(self.fillers) - 1)
        return share


def variant_groups(names: Sequence[str | None], price: FloatArray, family: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the group of variants of each product, numbered from 1; 0 for a product without any.

    Two products are variants if their names differ in one place by one or two words, their prices are near, and these
    words, and this place, are exchanged at near prices elsewhere in the catalogue. Words that stand in one place only
    are variants of others, not of each other: ARTICLE 17 is none of ARTICLE 18. Variants of variants are variants.

    Args:
        names: of each product, None where it has none.
        price: money a unit, NaN where it is not known; such a product is no variant.
        family: code of each product's family, -1 where it has none; products of two families are no variants.
    """
    places = _places(names, price)
    shares = [place.shares() for place in places]
    usual = float(np.mean([share.mean() for share in shares])) if shares else 0.0
    n_places: defaultdict[_Tokens, int] = defaultdict(int)
    n_near: defaultdict[_Tokens, float] = defaultdict(float)
    for place, share in zip(places, shares, strict=True):
        for filler, of_filler in zip(place.fillers, share.tolist(), strict=True):
            n_places[filler] += 1
            n_near[filler] += of_filler
    pairs: list[tuple[int, int]] = []
    for place, share in zip(places, shares, strict=True):
        fillers = list(place.fillers.values())
        of_place = _shrunk(float(share.mean()) * (len(share) - 1), len(share) - 1, usual)
        elsewhere = [  # of each filler: what this place says counts as the place's
            _shrunk(n_near[filler] - here, n_places[filler] - 1, usual)
            for filler, here in zip(place.fillers, share.tolist(), strict=True)
        ]
        is_word = [n_places[filler] > 1 for filler in place.fillers]  # else perhaps a number of the product
        for one, other in combinations(range(len(fillers)), 2):
            if not (place.near[one, other] and (is_word[one] or is_word[other])):
                continue
            if elsewhere[one] + elsewhere[other] + of_place >= 3 * _LEAST_SHARE:
                pairs += [(a, b) for a in fillers[one] for b in fillers[other] if _may_vary(family[a], family[b])]
    return _numbered(pairs, len(names))


def _may_vary(family: int, other: int) -> bool:
    return family == other or family < 0 or other < 0


def _places(names: Sequence[str | None], price: FloatArray) -> list[_Place]:
    """Return the places that two texts or more fill, in the order of the products."""
    found: defaultdict[_Frame, defaultdict[_Tokens, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in np.flatnonzero(price > 0).tolist():
        for frame, filler in _cut(tuple(_TOKEN.findall((names[row] or "").lower()))):
            found[frame][filler].append(row)
    return [_Place.of(dict(fillers), price) for fillers in found.values() if 2 <= len(fillers) <= _MOST_FILLERS]


def _cut(tokens: _Tokens) -> Iterator[tuple[_Frame, _Tokens]]:
    """Yield what is left of a name and what is taken from it, for one and two words at each place."""
    for begin in range(len(tokens)):
        for end in range(begin + 1, min(begin + _MOST_TOKENS, len(tokens)) + 1):
            if end - begin < len(tokens):
                yield (tokens[:begin], tokens[end:]), tokens[begin:end]


def _shrunk(n_near: float, n: int, usual: float) -> float:
    return (n_near + usual * _PRIOR_PLACES) / (n + _PRIOR_PLACES)


def _numbered(pairs: list[tuple[int, int]], n_products: int) -> NDArray[np.int32]:
    """Return the number of each product's group, by the first product of each: who is paired is in one."""
    one, other = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    graph = sp.coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(n_products, n_products))
    _, component = connected_components(graph, directed=False)
    group = np.zeros(n_products, dtype=np.int32)
    paired = np.union1d(one, other)
    _, first, number = np.unique(component[paired], return_index=True, return_inverse=True)
    group[paired] = (np.argsort(np.argsort(first)) + 1)[number]
    return group
