"""Why a ladder has no edge, in a sentence for the person who trained: what there was, and which rule left it out."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.ladder.edges import LadderConfig, catalogue_with_prices, name_search, named_products
from recsys.ladder.inferred import NameSearch
from recsys.ladder.word_steps import FEWEST_SLOTS


def why_no_edges(products: pd.DataFrame, history: History, upgrades: pd.DataFrame | None, config: LadderConfig) -> str:
    """Return why `build_ladder` found no edge, with how many products and pairs each rule left out, and a remedy."""
    catalogue = catalogue_with_prices(products, history)
    said = [*_given(catalogue, upgrades)]
    if config.infer == "never":
        said.append("ladder.infer == 'never' keeps names and prices from being looked at")
    else:
        said.extend(_inferred(catalogue, name_search(named_products(catalogue), history, config), config))
    return (
        f"No upgrade edge was found, so there is no upsell: {'; '.join(said)}. Give products a family and a tier, or "
        "a table of upgrades with from_product_id and to_product_id."
    )


def _given(catalogue: pd.DataFrame, upgrades: pd.DataFrame | None) -> Iterator[str]:
    n_links = 0 if upgrades is None else len(upgrades)
    yield f"{n_links:,} curated links are given" + (", none between two known products" if n_links else "")
    family, tier = catalogue[c.FAMILY].notna(), catalogue[c.TIER].notna()
    n_tiers = int((family & tier).sum())
    yield f"{n_tiers:,} of {len(catalogue):,} products have a family and a tier" + (
        ", none with a dearer next tier in its family" if n_tiers else ""
    )


def _inferred(catalogue: pd.DataFrame, found: NameSearch, config: LadderConfig) -> Iterator[str]:
    band = f"{config.min_price_ratio:g} to {config.max_price_ratio:g}"
    n_family = int((catalogue[c.FAMILY].notna() & catalogue[c.TIER].isna()).sum())
    if n_family:
        yield f"{n_family:,} have a family alone, no two of one family with {band} times the other's price"
    yield f"{found.n_products:,} have a name and a price, and no family"
    if found.n_products:
        yield (
            f"of their names {found.n_stated:,} pairs state a size, grade or pack in which one is more, "
            f"{found.n_contradicted:,} of them against the prices of such pairs"
        )
    words = found.words
    if words is not None:
        yield (
            f"{words.n_pairs:,} pairs of words take each other's place in {FEWEST_SLOTS} names or more: with "
            f"{words.n_unsteady:,} the price does not go one way, {words.n_together:,} are bought together in one "
            f"order, {words.n_apart:,} by other accounts"
        )
    if found.n_outside:
        yield f"{found.n_outside:,} steps have a price outside of {band} times the lower one's"
