"""Edges inferred from names: steps that words state, steps that prices and purchases show, and the next rung of each.

Words that state a step, such as SMALL and LARGE or SET OF 3 and SET OF 6, are believed until the prices of the
catalogue contradict them; all other words have to be borne out by them (`recsys.ladder.word_steps`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import FloatArray, IntArray, RowArray
from recsys.contracts import columns as c
from recsys.data.history import History, codes_of
from recsys.ladder.word_steps import TitlePurchases, WordSteps, find_alike_steps, find_word_steps
from recsys.products.name_slots import NO_WORD, NameSlots
from recsys.products.name_words import WordMatrix, alike_in_groups
from recsys.products.names import KNOWN_ASPECTS, higher_version, parse_name

_AND: Final = " and "
_ENOUGH_TO_CONTRADICT: Final = 8
_LEAST_SHARE_UP: Final = 0.6  # of the prices that differ; words that say nothing of the price have a half
_LEAST_SHARE_UP_UNKNOWN: Final = 0.8  # where a number stands beside a word that may be anything


class NamedStep(NamedTuple):
    """A step from one row of a table of products to a higher-value version.

    Attributes:
        lower: row of the lower product.
        upper: row of the higher product.
        likeness: of both names in [0, 1].
        price_ratio: the higher over the lower.
        reason: what makes it a step.
    """

    lower: int
    upper: int
    likeness: float
    price_ratio: float
    reason: str


class PriceBand(NamedTuple):
    """Unit price of the higher rung over the lower's, at least and at most."""

    least: float
    most: float


@dataclass(frozen=True)
class NameSearch:
    """Steps found in names, and what became of all others.

    Attributes:
        steps: those found.
        n_products: products with a name and a price that no family holds.
        n_stated: pairs of alike names of which the words state that one is more.
        n_contradicted: of these, pairs whose words the prices contradict.
        n_outside: pairs that differ by a step, with prices outside of the band.
        words: what became of pairs of words that take each other's place; None without a product.
    """

    steps: list[NamedStep]
    n_products: int = 0
    n_stated: int = 0
    n_contradicted: int = 0
    n_outside: int = 0
    words: WordSteps | None = None


def search_names(
    table: pd.DataFrame, history: History, min_likeness: float, min_likeness_unstated: float, band: PriceBand
) -> NameSearch:
    """Return the steps between products by their names.

    Args:
        table: columns `product_id name category price`, all names and prices known.
        history: who bought what.
        min_likeness: of two names of which words state a step.
        min_likeness_unstated: the same where one name is silent.
        band: of an edge's prices.
    """
    if table.empty:
        return NameSearch([])
    names = [str(name) for name in table[c.NAME]]
    codes, _ = pd.factorize(table[c.CATEGORY].astype(object).where(table[c.CATEGORY].notna(), ""))
    group, price = codes.astype(np.int64), table[c.PRICE].to_numpy(dtype=np.float64)
    stated, n_contradicted = _uncontradicted(_stated_steps(names, group, price, min_likeness, min_likeness_unstated))
    slots = NameSlots.of(names, group)
    rows = codes_of(history.product_ids, table[c.PRODUCT_ID].to_numpy(dtype=object))
    title = np.where(rows >= 0, slots.title[rows], -1)
    bought, of_title = TitlePurchases.of(history, title, slots.n_titles), slots.medians(price)
    bare = codes[table[c.CATEGORY].isna().to_numpy()][:1]
    words = find_word_steps(slots, of_title, bought, band.least, ~np.isin(slots.group, bare))
    alike = find_alike_steps(slots, words, of_title, bought, band)
    last_sold = _last_sold(history, rows, len(table))
    learned = [_learned_steps(slots, found, price, last_sold) for found in (words, alike)]
    steps = stated + learned[0] + learned[1]
    within = [step for step in steps if band.least <= step.price_ratio <= band.most]
    n_outside = len(steps) - len(within)
    return NameSearch(within, len(table), len(stated) + n_contradicted, n_contradicted, n_outside, words)


def next_rungs(steps: Sequence[NamedStep], ids: NDArray[np.object_], max_edges: int) -> list[tuple[str, str, str]]:
    """Return ids and reason of the steps to the next rung only, of each product the likest few.

    A -> C goes where A -> B and B -> C stand.
    """
    above: dict[int, set[int]] = {}
    for lower, upper, *_ in steps:
        above.setdefault(lower, set()).add(upper)
    direct = [step for step in steps if not any(step[1] in above.get(b, ()) for b in above[step[0]] - {step[1]})]
    direct.sort(key=lambda step: (step.lower, -round(step.likeness, 6), step.price_ratio, ids[step.upper]))
    taken: dict[int, set[int]] = {}
    kept = []
    for lower, upper, _, _, reason in direct:
        uppers = taken.setdefault(lower, set())
        if upper not in uppers and len(uppers) < max_edges:
            uppers.add(upper)
            kept.append((ids[lower], ids[upper], reason))
    return kept


def _stated_steps(
    names: list[str], group: IntArray, price: FloatArray, min_likeness: float, min_likeness_unstated: float
) -> list[NamedStep]:
    """Return the steps that words state, at whatever price."""
    parts = [parse_name(name) for name in names]
    pairs = alike_in_groups(WordMatrix.of([part.core for part in parts]).weights, group, min_likeness)
    ratio = price[pairs.second] / price[pairs.first]
    steps = []
    for lower, upper, likeness, dearer in zip(pairs.first, pairs.second, pairs.likeness, ratio, strict=True):
        step = higher_version(parts[lower], parts[upper])
        if step is not None and (step.stated or likeness >= min_likeness_unstated):
            steps.append(NamedStep(int(lower), int(upper), float(likeness), float(dearer), _AND.join(step.up)))
    return steps


def _uncontradicted(steps: list[NamedStep]) -> tuple[list[NamedStep], int]:
    """Return the steps whose kind raises prices more often than it lowers them, and how many are left out."""
    ratios: defaultdict[str, list[float]] = defaultdict(list)
    for step in steps:
        if step.price_ratio != 1.0:
            ratios[step.reason].append(step.price_ratio)
    believed = {reason for reason, moved in ratios.items() if _believed(reason, np.array(moved))}
    kept = [step for step in steps if step.reason in believed]
    return kept, len(steps) - len(kept)


def _believed(reason: str, ratio: FloatArray) -> bool:
    known = not KNOWN_ASPECTS.isdisjoint(reason.split(_AND))
    if len(ratio) < _ENOUGH_TO_CONTRADICT:
        return known
    return bool(np.mean(ratio > 1.0) >= (_LEAST_SHARE_UP if known else _LEAST_SHARE_UP_UNKNOWN))


def _learned_steps(slots: NameSlots, words: WordSteps, price: FloatArray, last_sold: IntArray) -> list[NamedStep]:
    """Return the steps between the products of titles; of products with one name it leads to the one sold last."""
    rows_of: defaultdict[int, list[int]] = defaultdict(list)
    for row, title in enumerate(slots.title):
        rows_of[int(title)].append(row)
    steps = []
    for lower, upper, below, above in zip(words.lower, words.upper, words.lower_word, words.upper_word, strict=True):
        reason = _reason(str(slots.words[below]), str(slots.words[above]))
        newest = max(rows_of[int(upper)], key=lambda row: (last_sold[row], row))
        steps += [NamedStep(row, newest, 1.0, float(price[newest] / price[row]), reason) for row in rows_of[int(lower)]]
    return steps


def _reason(lower: str, upper: str) -> str:
    if NO_WORD in (lower, upper):
        return f"with {upper}" if lower == NO_WORD else f"without {lower}"
    return f"{upper} over {lower}"


def _last_sold(history: History, rows: RowArray, n_rows: int) -> IntArray:
    """Return when each row of the table was last sold, 0 where it never was, `(n_rows,)`."""
    last = np.zeros(n_rows, dtype=np.int64)
    of_line = rows[history.product]
    known = of_line >= 0
    np.maximum.at(last, of_line[known], history.seconds[known])
    return last
