"""A column of the products table that looks like a tier, for the person who trained: found by prices and purchases."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.ladder.edges import catalogue_with_prices

_MOST_TIERS: Final = 6
_LEAST_FAMILIES: Final = 10
"""That have both of two values: fewer tell no order of prices."""
_LEAST_SHARE_UP: Final = 0.75
_LEVEL: Final = 0.001
"""Of the binomial test against an order by chance, over all pairs of columns that are looked at."""
_LEAST_CLIMBS: Final = 30
_NEVER: Final = frozenset(
    {c.PRODUCT_ID, c.NAME, c.TIER, c.PRICE, c.COST, c.ACTIVE, c.STOCK, c.DO_NOT_OFFER, c.URL, c.IMAGE_URL}
)
"""Columns with a meaning of their own."""


class TierColumns(NamedTuple):
    """Two columns that may be family and tier.

    Attributes:
        family: the column whose values are kinds of thing.
        tier: the column whose values are versions of one.
        order: the values of `tier`, the cheapest first.
        n_families: in which two values next to each other could be compared.
        share_up: of these comparisons, where the later one costs more.
        n_climbs: accounts that bought a lower value first and a higher one of the family later, a family at a time.
    """

    family: str
    tier: str
    order: tuple[str, ...]
    n_families: int
    share_up: float
    n_climbs: int

    def sentence(self) -> str:
        """Return what was found, and the map that states it."""
        return (
            f"Column {self.tier!r} may be a tier within {self.family!r}: {' to '.join(self.order)} raises the price in "
            f"{self.share_up:.0%} of {self.n_families:,} of its values, and {self.n_climbs:,} times an account bought "
            "the lower one first and the higher one later. If these are versions of one thing, map the columns so: "
            f"products.family={self.family},products.tier={self.tier}"
        )


def find_tier_columns(products: pd.DataFrame, history: History) -> TierColumns | None:
    """Return the columns that most likely are family and tier; None where a tier is given, or no column looks like one.

    A tier has two to six values; in three families of four that have two of them, the later one costs more, which is
    no chance by a binomial test; and accounts went from the one to the other. Of several, the columns with most climbs.
    """
    if c.TIER in products and products[c.TIER].notna().any():
        return None
    price = catalogue_with_prices(products, history)[[c.PRODUCT_ID, c.PRICE]]
    table = products.drop(columns=c.PRICE, errors="ignore").merge(price, on=c.PRODUCT_ID, validate="one_to_one")
    table = table[table[c.PRICE] > 0]
    levels = {name: table[name].nunique() for name in table.columns if name not in _NEVER and _is_text(table[name])}
    tiers = [name for name, n in levels.items() if 2 <= n <= _MOST_TIERS]
    families = [name for name, n in levels.items() if _LEAST_FAMILIES <= n < len(table)]
    n_tried = max(len(tiers) * len(families), 1)
    found = [_judged(table, history, family, tier, n_tried) for family in families for tier in tiers]
    return max((one for one in found if one is not None), key=lambda one: one.n_climbs, default=None)


def _is_text(column: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column))


def _judged(table: pd.DataFrame, history: History, family: str, tier: str, n_tried: int) -> TierColumns | None:
    known = table[table[family].notna() & table[tier].notna()]
    known = known.assign(**{tier: known[tier].astype(str), "log_price": np.log(known[c.PRICE])})
    paid = known.pivot_table(index=family, columns=tier, values="log_price", aggfunc="median", observed=True)
    order = paid.sub(paid.mean(axis=1), axis=0)[paid.notna().sum(axis=1) > 1].mean().dropna().sort_values().index
    ranked = paid[order].to_numpy(dtype=np.float64)
    compared = [np.diff(row[~np.isnan(row)]) for row in ranked]
    steps = np.concatenate([*compared, np.zeros(0)])
    steps = steps[steps != 0]
    n_families = sum(len(each) > 0 for each in compared)
    if n_families < _LEAST_FAMILIES or np.mean(steps > 0) < _LEAST_SHARE_UP:
        return None
    if binomtest(int((steps > 0).sum()), len(steps)).pvalue > _LEVEL / n_tried:
        return None
    n_climbs = _climbs(known, history, family, tier, list(order))
    if n_climbs < _LEAST_CLIMBS:
        return None
    return TierColumns(family, tier, tuple(order), n_families, float(np.mean(steps > 0)), n_climbs)


def _climbs(table: pd.DataFrame, history: History, family: str, tier: str, order: list[str]) -> int:
    """How often an account bought a value of a family first and the next one, or a later one, afterwards."""
    first = history.first_purchases()
    bought = pd.DataFrame(
        {c.ACCOUNT_ID: first.account, c.PRODUCT_ID: history.product_ids[first.product], "seconds": first.seconds}
    ).merge(table[[c.PRODUCT_ID, family, tier]], on=c.PRODUCT_ID, validate="many_to_one")
    keys = [c.ACCOUNT_ID, family]
    moment = bought.pivot_table(index=keys, columns=tier, values="seconds", aggfunc="min", observed=True)
    return sum(int((moment[lower] < moment[upper]).sum()) for lower, upper in pairwise(order))
