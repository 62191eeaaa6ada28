"""Edges that the catalogue's families state: the next higher tier, or the next price where there are no tiers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.contracts import columns as c


def tier_edges(catalogue: pd.DataFrame, max_edges: int) -> pd.DataFrame:
    """Return edges `from_product_id to_product_id reason origin` from each tier of a family to its next higher one.

    A higher tier that costs less than the lower is left out: it is no higher-value version.

    Args:
        catalogue: columns `product_id family tier price`.
        max_edges: most edges that leave one product, the nearest in price first.
    """
    table = catalogue[catalogue[c.FAMILY].notna() & catalogue[c.TIER].notna()]
    rank = tier_ranks(table[c.TIER], table[c.PRICE].to_numpy(dtype=np.float64))
    table = pd.DataFrame(
        {
            "family": table[c.FAMILY].to_numpy(dtype=object),
            "id": table[c.PRODUCT_ID].to_numpy(dtype=object),
            "tier": table[c.TIER].astype(str).to_numpy(dtype=object),
            "price": table[c.PRICE].to_numpy(dtype=np.float64),
            "rank": pd.Series(rank).groupby(table[c.FAMILY].to_numpy(dtype=object)).rank(method="dense").to_numpy(),
        }
    )
    pairs = table.merge(table.assign(rank=table["rank"] - 1), on=["family", "rank"], suffixes=("", "_up"))
    step = (pairs["price_up"] / pairs["price"]).to_numpy()
    pairs = pairs.assign(step=step)[~(step <= 1)]  # an unknown price stays: the catalogue's word counts
    pairs = pairs.sort_values(["id", "step", "id_up"]).groupby("id").head(max_edges)
    return pd.DataFrame(
        {
            c.FROM_PRODUCT_ID: pairs["id"].to_numpy(dtype=object),
            c.TO_PRODUCT_ID: pairs["id_up"].to_numpy(dtype=object),
            c.REASON: ("tier " + pairs["tier"] + " to " + pairs["tier_up"]).to_numpy(dtype=object),
            c.ORIGIN: "tier",
        }
    )


def price_edges(catalogue: pd.DataFrame, min_price_ratio: float, max_price_ratio: float) -> pd.DataFrame:
    """Return edges in families without tiers, from each product to the next dearer one within the price band.

    Args:
        catalogue: columns `product_id family tier price`.
        min_price_ratio: least price of the higher rung over the lower's.
        max_price_ratio: greatest one.
    """
    table = catalogue[catalogue[c.FAMILY].notna() & catalogue[c.TIER].isna() & (catalogue[c.PRICE] > 0)]
    table = table[[c.FAMILY, c.PRODUCT_ID, c.PRICE]]
    pairs = table.merge(table, on=c.FAMILY, suffixes=("", "_up"))
    step = (pairs[f"{c.PRICE}_up"] / pairs[c.PRICE]).to_numpy()
    pairs = pairs.assign(step=step)[(step >= min_price_ratio) & (step <= max_price_ratio)]
    pairs = pairs.sort_values([c.PRODUCT_ID, "step", f"{c.PRODUCT_ID}_up"]).groupby(c.PRODUCT_ID).head(1)
    return pd.DataFrame(
        {
            c.FROM_PRODUCT_ID: pairs[c.PRODUCT_ID].to_numpy(dtype=object),
            c.TO_PRODUCT_ID: pairs[f"{c.PRODUCT_ID}_up"].to_numpy(dtype=object),
            c.REASON: "same family, next price",
            c.ORIGIN: "inferred",
        }
    )


def tier_ranks(tiers: pd.Series, price: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a number for each tier that rises with it, `(n,)`.

    Numbers are their own rank; names are ranked by the median price of the products that carry them.

    >>> tier_ranks(pd.Series(["gold", "basic", "gold"]), np.array([9.0, 2.0, 7.0])).tolist()
    [1.0, 0.0, 1.0]
    """
    numbers = pd.to_numeric(tiers, errors="coerce").to_numpy(dtype=np.float64)
    if not np.isnan(numbers).any():
        return np.asarray(numbers, dtype=np.float64)
    labels = tiers.astype(str).to_numpy(dtype=object)
    medians = pd.Series(price).groupby(labels).median()
    order = medians.sort_values(kind="stable").index
    return np.asarray(pd.Index(order).get_indexer(pd.Index(labels)), dtype=np.float64)


def edges_of(products: pd.DataFrame | None, upgrades: pd.DataFrame | None) -> tuple[pd.DataFrame, str]:
    """Return upgrade edges and where they come from: the curated ones, else the tiers of the catalogue, else none."""
    if upgrades is not None and len(upgrades):
        return upgrades, f"{len(upgrades):,} upgrade edges {_origins(upgrades)}"
    if products is not None and {c.FAMILY, c.TIER, c.PRICE} <= set(products.columns):
        catalogue = products.sort_values(c.PRODUCT_ID, ignore_index=True)
        edges = tier_edges(catalogue, max_edges=len(catalogue)) if catalogue[c.TIER].notna().any() else None
        if edges is not None and len(edges):
            return edges, f"{len(edges):,} upgrade edges from the tiers of the products"
    return pd.DataFrame({c.FROM_PRODUCT_ID: [], c.TO_PRODUCT_ID: []}, dtype=object), "no upgrade edges"


def higher_rungs(edges: pd.DataFrame) -> pd.DataFrame:
    """Return every pair of a product and one that stands higher, in one step or more, as `from_ to_product_id`.

    Two products that stand higher than each other (a circle in the edges) are on one rung: neither is an upgrade.

    Example:
        >>> edges = pd.DataFrame({"from_product_id": ["a", "b"], "to_product_id": ["b", "c"]})
        >>> higher_rungs(edges).to_numpy().tolist()
        [['a', 'b'], ['a', 'c'], ['b', 'c']]
    """
    above: dict[str, set[str]] = {}
    for lower, upper in zip(edges[c.FROM_PRODUCT_ID], edges[c.TO_PRODUCT_ID], strict=True):
        above.setdefault(str(lower), set()).add(str(upper))
    reach = {lower: _reachable(lower, above) for lower in above}
    rows = sorted(
        (lower, upper)
        for lower, uppers in reach.items()
        for upper in uppers
        if upper != lower and lower not in reach.get(upper, ())
    )
    return pd.DataFrame(rows, columns=[c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID], dtype=object)


def _origins(edges: pd.DataFrame) -> str:
    """Where edges come from, as the ladder says; a table without that word was given as it is."""
    if c.ORIGIN not in edges:
        return "as given"
    counts = edges[c.ORIGIN].value_counts(sort=False)
    return f"({', '.join(f'{n:,} {origin}' for origin, n in sorted(counts.items()))})"


def _reachable(start: str, above: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for upper in above.get(waiting.pop(), ()):
            if upper not in found:
                found.add(upper)
                waiting.append(upper)
    return found
