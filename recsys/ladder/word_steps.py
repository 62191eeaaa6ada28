"""Steps that the data show: words that take each other's place in names, and prices that always go the same way.

"LL" and "HL" mean nothing to anybody outside of one firm. But wherever one stands in the place of the other, the price
goes up, which prices that have nothing to do with the words would not do; and accounts that buy the one come to buy the
other. A pair of words is a step from the lower to the higher where

1. **prices** go up in most slots in which both stand, in more than a pair of words of this catalogue shows by chance
   (a binomial test, false discoveries among all pairs of words controlled); names without a category show it at several
   prices, because four picnic bags that cost more than the jumbo bags of their prints are another thing at one price;
2. they are **not bought together** in one order much more often than other names that differ in one word: a cup and
   a plate of one pattern go with each other, the one doesn't take the place of the other;
3. they are **bought by the same accounts** not much less often: what nobody moves to is another thing.

A name with the lower word that has no such partner is then led to the likest one with the higher word, if their buyers
are the same and they differ in no other words that take each other's place: another colour is another product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
import scipy.sparse as sp
from scipy.stats import binom, false_discovery_control

from recsys.arrays import BoolArray, FloatArray, IntArray, RowArray
from recsys.data.history import History
from recsys.products.name_slots import NameSlots
from recsys.products.name_words import WordMatrix, alike_names

FEWEST_SLOTS: Final = 3
"""Names in which two words take each other's place, at least: two prices in order happen by chance in any catalogue."""

_FEWEST_PRICES: Final = 5
"""Different pairs of prices, where no category says that two names are of one kind of thing."""

_LEAST_SHARE_UP: Final = 0.8  # an exception in five is a mispriced product, more are another meaning of the words
_MOST_FALSE: Final = 0.05  # share of the steps found that are none
_MOST_TOGETHER: Final = 1.5  # times as often in one order as other names that differ in one word
_LEAST_SHARED: Final = 0.6  # times as many accounts in common; of colours of one thing 19 in 20 have over 0.75
_USUAL_WORTH: Final = 20.0  # orders or accounts that what is usual counts for: a few purchases prove nothing
_LEAST_LIKENESS: Final = 0.5  # of what is left of two names without the words of the step
_LEAST_SHARED_ALIKE: Final = 0.8  # times as many accounts in common, where names differ in more than the step
_BLOCK: Final = 20_000


@dataclass(frozen=True)
class WordSteps:
    """Pairs of names that a step leads from and to, and what became of all pairs of words.

    Attributes:
        lower: title of the lower name, `(n_steps,)`.
        upper: title of the higher name.
        lower_word: position of the word in the slots' words.
        upper_word: likewise.
        n_pairs: pairs of words that take each other's place in three names or more.
        n_unsteady: of these, pairs whose prices do not go one way, or show it at too few prices.
        n_together: pairs that are bought together.
        n_apart: pairs that hardly any account has both of.
    """

    lower: IntArray
    upper: IntArray
    lower_word: IntArray
    upper_word: IntArray
    n_pairs: int
    n_unsteady: int
    n_together: int
    n_apart: int


def find_word_steps(
    slots: NameSlots, price: FloatArray, bought: TitlePurchases, min_price_ratio: float, categorised: BoolArray
) -> WordSteps:
    """Return the steps between names that a catalogue's prices and purchases show.

    Args:
        slots: names that differ in one word.
        price: of each title, NaN where it is not known, `(n_titles,)`.
        bought: who bought which title, and in which order.
        min_price_ratio: least price of the higher over the lower name; what is nearer costs the same.
        categorised: whether a title is of a category, `(n_titles,)`.
    """
    ratio = price[slots.second] / price[slots.first]
    known = np.flatnonzero(ratio > 0)
    if not len(known):
        return _steps(slots, known, np.empty(0), known, np.zeros((4, 0), dtype=bool))
    ratio = ratio[known]
    key = slots.first_word[known] * len(slots.words) + slots.second_word[known]
    _, of_pair, n = np.unique(key, return_inverse=True, return_counts=True)
    dearer, cheaper = ratio >= min_price_ratio, ratio <= 1 / min_price_ratio
    up, down = (np.bincount(of_pair, weights=moved) for moved in (dearer, cheaper))
    often = n >= FEWEST_SLOTS
    steady = often & _steady(n, np.maximum(up, down), often, by_chance=float((up + down).sum() / (2 * len(known))))
    first, second = slots.first[known], slots.second[known]
    bare = np.bincount(of_pair, weights=~categorised[first]) > 0
    steady &= ~bare | (_n_prices(of_pair, price[first], price[second], len(n)) >= _FEWEST_PRICES)
    shared, together = (
        _overlap(matrix, first, second, of_pair, _usual_overlap(matrix, slots))
        for matrix in (bought.accounts, bought.orders)
    )
    together, apart = steady & (together > _MOST_TOGETHER), steady & (shared < _LEAST_SHARED)
    return _steps(slots, known, np.where(up >= down, 1.0, -1.0), of_pair, np.stack([often, steady, together, apart]))


def find_alike_steps(
    slots: NameSlots, steps: WordSteps, price: FloatArray, bought: TitlePurchases, band: tuple[float, float]
) -> WordSteps:
    """Return one more step for each name with a lower word that no step leads from, to the likest one with the higher.

    Args:
        slots: names that differ in one word.
        steps: what they showed.
        price: of each title, `(n_titles,)`.
        bought: who bought which title.
        band: least and greatest price of the higher over the lower name.
    """
    matrix = WordMatrix.of(slots.titles)
    without = np.isin(np.arange(slots.n_titles), steps.lower, invert=True)
    found = []
    for lower_word, upper_word in sorted(set(zip(steps.lower_word.tolist(), steps.upper_word.tolist(), strict=True))):
        below, above = (matrix.columns.get(str(slots.words[word]), -1) for word in (lower_word, upper_word))
        if below >= 0 and above >= 0:
            lower, upper, likeness = _alike(matrix.weights, below, above, without)
            words = (np.full(len(lower), lower_word), np.full(len(lower), upper_word))
            found.append(np.stack([lower, upper, *words, likeness]))
    rows = np.concatenate(found, axis=1) if found else np.empty((5, 0))
    lower, upper = rows[:2].astype(np.int64)
    ratio = price[upper] / price[lower]
    fits = (slots.group[lower] == slots.group[upper]) & (ratio >= band[0]) & (ratio <= band[1])
    rows, lower, upper = rows[:, fits], lower[fits], upper[fits]
    shared, together = (
        _overlap(matrix, lower, upper, np.arange(len(lower)), _usual_overlap(matrix, slots))
        for matrix in (bought.accounts, bought.orders)
    )
    rows = rows[:, (shared >= _LEAST_SHARED_ALIKE) & (together <= _MOST_TOGETHER)]
    rows = rows[:, [not another for another in _other_variants(slots, rows)]]
    rows = rows[:, np.lexsort((rows[1], -rows[4].round(6), rows[0]))]
    likest = np.unique(rows[0], return_index=True)[1]
    lower, upper, lower_word, upper_word = rows[:4, likest].astype(np.int64)
    return replace(steps, lower=lower, upper=upper, lower_word=lower_word, upper_word=upper_word)


def _other_variants(slots: NameSlots, rows: FloatArray) -> Iterator[bool]:
    """Yield whether two names differ, beside the step, in words that take each other's place, such as two colours."""
    swapped = set(zip(slots.words[slots.first_word], slots.words[slots.second_word], strict=True))
    for lower, upper, below, above in rows[:4].T.astype(np.int64):
        one, other = set(slots.titles[lower]), set(slots.titles[upper])
        left = product(one - other - {slots.words[below]}, other - one - {slots.words[above]})
        yield any((first, second) in swapped or (second, first) in swapped for first, second in left)


def _alike(matrix: sp.csr_array, below: int, above: int, without: BoolArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Return titles with one word and with another in its place, where the rest of them is alike, and how much."""
    has = matrix[:, [below, above]].toarray() > 0
    lower, upper = np.flatnonzero(has[:, 0] & ~has[:, 1] & without), np.flatnonzero(has[:, 1] & ~has[:, 0])
    rest = matrix[:, np.isin(np.arange(matrix.shape[1]), [below, above], invert=True)]
    pairs = alike_names(rest[lower], rest[upper], _LEAST_LIKENESS)
    return lower[pairs.first], upper[pairs.second], pairs.likeness


def _n_prices(of_pair: IntArray, first: FloatArray, second: FloatArray, n_pairs: int) -> IntArray:
    """Return at how many different pairs of prices the two words of each pair stand."""
    seen = np.unique(np.stack([of_pair, first.round(2), second.round(2)]), axis=1)
    return np.bincount(seen[0].astype(np.int64), minlength=n_pairs)


def _steady(n: IntArray, most: FloatArray, often: BoolArray, by_chance: float) -> BoolArray:
    """Return which pairs of words move the price one way, more than chance lets one of two ways be moved."""
    p = np.ones(len(n))
    p[often] = np.minimum(2 * binom.sf(most[often] - 1, n[often], by_chance), 1.0)
    if often.any():
        p[often] = false_discovery_control(p[often])
    found: BoolArray = (p <= _MOST_FALSE) & (most >= _LEAST_SHARE_UP * n)
    return found


def _steps(slots: NameSlots, known: IntArray, way: FloatArray, of_pair: IntArray, judged: BoolArray) -> WordSteps:
    often, steady, together, apart = judged
    good = steady & ~together & ~apart
    rows, up = known[good[of_pair]], way[of_pair[good[of_pair]]] > 0
    return WordSteps(
        lower=np.where(up, slots.first[rows], slots.second[rows]),
        upper=np.where(up, slots.second[rows], slots.first[rows]),
        lower_word=np.where(up, slots.first_word[rows], slots.second_word[rows]),
        upper_word=np.where(up, slots.second_word[rows], slots.first_word[rows]),
        n_pairs=int(often.sum()),
        n_unsteady=int((often & ~steady).sum()),
        n_together=int(together.sum()),
        n_apart=int((apart & ~together).sum()),
    )


@dataclass(frozen=True)
class TitlePurchases:
    """Which orders and which accounts bought each title.

    Attributes:
        orders: 1 where an order has a title, `(n_titles, n_orders)`.
        accounts: 1 where an account ever bought it, `(n_titles, n_accounts)`.
    """

    orders: sp.csr_array
    accounts: sp.csr_array

    @classmethod
    def of(cls, history: History, title: IntArray, n_titles: int) -> TitlePurchases:
        """Return who bought what.

        Args:
            history: the order lines.
            title: of each product of the history, -1 where it has none, `(history.n_products,)`.
            n_titles: how many titles there are.
        """
        of_line = title[history.product]
        named = of_line >= 0
        known = named & (history.account >= 0)
        return cls(
            _incidence(of_line[named], history.order[named], (n_titles, history.n_orders)),
            _incidence(of_line[known], history.account[known], (n_titles, history.n_accounts)),
        )


def _incidence(rows: IntArray, columns: IntArray | RowArray, shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()
    matrix.data[:] = 1.0
    return matrix


def _usual_overlap(bought: sp.csr_array, slots: NameSlots) -> float:
    """Return what part of the buyers of either of two names that differ in one word buys both; 0 without a purchase."""
    both, either = _buyers(bought, slots.first, slots.second)
    return float(both.sum() / max(either.sum(), 1.0))


def _overlap(bought: sp.csr_array, first: IntArray, second: IntArray, group: IntArray, usual: float) -> FloatArray:
    """Return what part of the buyers of either name buys both, over what is usual, of each group of pairs of names."""
    both, either = (np.bincount(group, weights=count) for count in _buyers(bought, first, second))
    if usual <= 0:
        return np.ones(len(both))
    return np.asarray((both + _USUAL_WORTH * usual) / (either + _USUAL_WORTH) / usual, dtype=np.float64)


def _buyers(bought: sp.csr_array, first: IntArray, second: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return how many bought both titles of each pair, and how many either."""
    both = np.zeros(len(first))
    for start in range(0, len(first), _BLOCK):
        some = slice(start, start + _BLOCK)
        both[some] = np.asarray(bought[first[some]].multiply(bought[second[some]]).sum(axis=1)).ravel()
    each = np.asarray(bought.sum(axis=1)).ravel()
    return both, each[first] + each[second] - both
