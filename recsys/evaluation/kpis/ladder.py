"""Which products stand higher on a ladder than which, over any number of rungs."""

from __future__ import annotations

import pandas as pd

from recsys.contracts import columns as c
from recsys.ladder.tiers import tier_edges


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
