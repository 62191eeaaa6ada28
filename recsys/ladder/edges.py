"""The ladder: which product is the next higher-value version of which, and how often accounts climb.

Edges come from three origins, in this order of trust: links that a person curated; tiers that the catalogue states
(same family, next higher tier); families inferred from names and prices. Everything is read from the history that is
given and from nothing later, so a ladder built on the history before a cutoff is frozen at that cutoff.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recsys.contracts import columns as c
from recsys.contracts.config import Config, given_config
from recsys.data.dataset import Dataset, as_dataset
from recsys.data.history import SECONDS_A_DAY, History
from recsys.data.sources import DataSource
from recsys.ladder.empirical_bayes import fit_beta_prior
from recsys.ladder.inferred import NameSearch, PriceBand, next_rungs, search_names
from recsys.ladder.tiers import price_edges, tier_edges
from recsys.ladder.upgrade_events import EdgeRows, PurchaseIndex, UpgradeEventConfig, find_upgrade_events, pair_up
from recsys.products.names import parse_name

Origin = Literal["curated", "tier", "inferred"]

EDGE_COLUMNS: Final = (
    c.FROM_PRODUCT_ID,
    c.TO_PRODUCT_ID,
    c.ORIGIN,
    c.REASON,
    c.PRICE_RATIO,
    c.PACK_RATIO,
    c.N_STANDING,
    c.N_CLIMBED,
    c.CLIMB_RATE,
)

_LATELY_DAYS: Final = 90
"""Prices of so many days say whether a step up is one still."""

TEXT_COLUMNS: Final = (c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID, c.ORIGIN, c.REASON)


class LadderConfig(Config):
    """Where edges come from and how alike two versions must be."""

    infer: Literal["auto", "never"] = "auto"
    """Whether edges are inferred: by price in a family without tiers, by names and price without a family."""
    min_likeness: float = Field(0.7, gt=0, le=1)
    """Least likeness of two names in [0, 1] (weighted Jaccard of their words) to be one family."""
    min_likeness_unstated: float = Field(0.75, gt=0, le=1)
    """The same where one name is silent about size or pack: SMALL X and X may be two things."""
    min_price_ratio: float = Field(1.1, gt=1)
    """Least unit price of the higher rung over the lower's: below, it is a variant and no step."""
    max_price_ratio: float = Field(5.0, gt=1)
    """Greatest unit price ratio of an inferred edge: above, it is another kind of product."""
    max_edges: int = Field(3, ge=1)
    """Most edges that leave one product, the likest and then the nearest in price first."""
    climbs: UpgradeEventConfig = UpgradeEventConfig()
    """What counts as a climb."""

    @model_validator(mode="after")
    def _band(self) -> LadderConfig:
        if self.min_price_ratio >= self.max_price_ratio:
            raise ValueError(
                f"min_price_ratio == {self.min_price_ratio}, must be below max_price_ratio == {self.max_price_ratio}"
            )
        return self


@dataclass(frozen=True)
class Ladder:
    """The edges of the ladder.

    Attributes:
        edges: one row an edge, sorted by both ids, columns `EDGE_COLUMNS`: `origin` is curated, tier or inferred;
            `reason` what makes it a step; `price_ratio` and `pack_ratio` are the higher over the lower;
            `n_standing` accounts ever stood on the lower rung, `n_climbed` of them climbed; `climb_rate` is
            `n_climbed / n_standing` shrunk to the ladder's own rates (empirical Bayes).
    """

    edges: pd.DataFrame

    def __len__(self) -> int:
        return len(self.edges)

    @property
    def from_ids(self) -> NDArray[np.object_]:
        """The lower rung of each edge, `(n_edges,)`."""
        return self.edges[c.FROM_PRODUCT_ID].to_numpy(dtype=object)

    @property
    def to_ids(self) -> NDArray[np.object_]:
        """The higher rung of each edge, `(n_edges,)`."""
        return self.edges[c.TO_PRODUCT_ID].to_numpy(dtype=object)

    @classmethod
    def build(cls, data: Dataset | DataSource, config: LadderConfig | None = None) -> Ladder:
        """Return the ladder of cleaned purchase history, or of order lines in contract columns; see `build_ladder`."""
        known = as_dataset(data)
        return build_ladder(known.products, known.history(), known.upgrades, given_config(config, LadderConfig))

    def to_frame(self) -> pd.DataFrame:
        """Return one row an edge, columns `EDGE_COLUMNS`; the caller may change it."""
        return self.edges.copy()

    def rows(self, history: History) -> EdgeRows:
        """Return the edges as rows of a history's products."""
        return EdgeRows.of(history, self.from_ids, self.to_ids)


def build_ladder(
    products: pd.DataFrame, history: History, upgrades: pd.DataFrame | None, config: LadderConfig
) -> Ladder:
    """Return the ladder of a catalogue, with the climbs that a history shows.

    Args:
        products: one row a product: `product_id` and, where known, `name category family tier price`.
        history: the order lines to count climbs and prices on; give `history.before(cutoff)` to freeze it there.
        upgrades: curated links `from_product_id to_product_id`, with `reason` where known; or None.
        config: where edges come from.
    """
    catalogue = catalogue_with_prices(products, history)
    found = [_curated_edges(upgrades, catalogue), tier_edges(catalogue, config.max_edges)]
    if config.infer == "auto":
        inferred = [
            price_edges(catalogue, config.min_price_ratio, config.max_price_ratio),
            _inferred_edges(catalogue, history, config),
        ]
        found += [_still_dearer(edges, history) for edges in inferred]
    edges = pd.concat(found, ignore_index=True).drop_duplicates([c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID])
    return _complete(edges, catalogue, history, config.climbs)


def complete_edges(edges: pd.DataFrame, products: pd.DataFrame, history: History, config: LadderConfig) -> Ladder:
    """Return the ladder of edges `from_product_id to_product_id origin reason`, ratios and climbs counted."""
    return _complete(edges, catalogue_with_prices(products, history), history, config.climbs)


def _complete(edges: pd.DataFrame, catalogue: pd.DataFrame, history: History, config: UpgradeEventConfig) -> Ladder:
    ordered = edges.sort_values([c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID], ignore_index=True)
    return count_upgrades(_with_ratios(ordered, catalogue), history, config)


def count_upgrades(edges: pd.DataFrame, history: History, config: UpgradeEventConfig) -> Ladder:
    """Return the ladder of some edges, with standing and climbed accounts counted on a history.

    An account stood on an edge if it bought the lower rung before its first purchase of the higher one.
    """
    rows = Ladder(edges).rows(history)
    index = PurchaseIndex.of(history)
    pairs = pair_up(index, rows)
    never = pairs.upper < 0
    stood = never.copy()
    stood[~never] = index.first[pairs.lower[~never]] < index.first[pairs.upper[~never]]
    standing = np.bincount(pairs.edge[stood], minlength=len(edges))
    bought = find_upgrade_events(history, rows, config)
    climbed = np.bincount(bought.edge[bought.climbed], minlength=len(edges))
    successes, trials = climbed.astype(np.float64), standing.astype(np.float64)
    rate = fit_beta_prior(successes, trials).rate(successes, trials)
    text = dict.fromkeys(TEXT_COLUMNS, object)
    counted = edges.astype(text).assign(**{c.N_STANDING: standing, c.N_CLIMBED: climbed, c.CLIMB_RATE: rate})
    return Ladder(counted[list(EDGE_COLUMNS)].reset_index(drop=True))


def catalogue_with_prices(products: pd.DataFrame, history: History) -> pd.DataFrame:
    """Return one row a product with all columns that edges are made from, sorted by id, prices from the history."""
    wanted = [c.PRODUCT_ID, c.NAME, c.CATEGORY, c.FAMILY, c.TIER, c.PRICE]
    catalogue = products.reindex(columns=wanted).sort_values(c.PRODUCT_ID, ignore_index=True)
    paid = pd.Series(history.unit_price).groupby(history.product_ids[history.product]).median()
    usual = catalogue[c.PRODUCT_ID].map(paid).to_numpy(dtype=np.float64)
    stated = pd.to_numeric(catalogue[c.PRICE], errors="coerce").to_numpy(dtype=np.float64)
    # What was usually paid: a last price may be one buyer's bulk price, and a stated one may be of a later day.
    catalogue[c.PRICE] = np.where(np.isnan(usual), stated, usual)
    return catalogue


def _curated_edges(upgrades: pd.DataFrame | None, catalogue: pd.DataFrame) -> pd.DataFrame:
    columns = [c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID, c.REASON]
    if upgrades is None:
        return _edge_frame([], "curated")
    links = upgrades.reindex(columns=columns).astype({c.FROM_PRODUCT_ID: str, c.TO_PRODUCT_ID: str})
    known = set(catalogue[c.PRODUCT_ID])
    keep = links[c.FROM_PRODUCT_ID].isin(known) & links[c.TO_PRODUCT_ID].isin(known)
    links = links[keep & (links[c.FROM_PRODUCT_ID] != links[c.TO_PRODUCT_ID])].copy()
    links[c.REASON] = links[c.REASON].astype(object).where(links[c.REASON].notna(), "curated")
    links[c.ORIGIN] = "curated"
    return links


def named_products(catalogue: pd.DataFrame) -> pd.DataFrame:
    """Return the products of a catalogue with a name and a price that no family holds."""
    named = catalogue[c.FAMILY].isna() & catalogue[c.NAME].notna() & (catalogue[c.PRICE] > 0)
    return catalogue[named].reset_index(drop=True)


def name_search(table: pd.DataFrame, history: History, config: LadderConfig) -> NameSearch:
    """Return the steps between named products, and what became of all others."""
    band = PriceBand(config.min_price_ratio, config.max_price_ratio)
    return search_names(table, history, config.min_likeness, config.min_likeness_unstated, band)


def _inferred_edges(catalogue: pd.DataFrame, history: History, config: LadderConfig) -> pd.DataFrame:
    table = named_products(catalogue)
    steps = name_search(table, history, config).steps
    return _edge_frame(next_rungs(steps, table[c.PRODUCT_ID].to_numpy(dtype=object), config.max_edges), "inferred")


def _still_dearer(edges: pd.DataFrame, history: History) -> pd.DataFrame:
    """Return the edges whose higher rung is not known to cost as much or less lately: prices of old need not hold."""
    if edges.empty or not len(history):
        return edges
    lately = history.seconds >= history.seconds.max() - _LATELY_DAYS * SECONDS_A_DAY
    paid = pd.Series(history.unit_price[lately]).groupby(history.product_ids[history.product[lately]]).median()
    cheaper = edges[c.TO_PRODUCT_ID].map(paid) <= edges[c.FROM_PRODUCT_ID].map(paid)
    return edges[~cheaper]


def _edge_frame(rows: list[tuple[str, str, str]], origin: Origin) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID, c.REASON], dtype=object)
    return frame.assign(**{c.ORIGIN: origin})


def _with_ratios(edges: pd.DataFrame, catalogue: pd.DataFrame) -> pd.DataFrame:
    price = catalogue.set_index(c.PRODUCT_ID)[c.PRICE]
    pieces = pd.Series([parse_name(name).pieces for name in catalogue[c.NAME]], index=catalogue[c.PRODUCT_ID])

    def ratio(values: pd.Series) -> NDArray[np.float64]:
        lower = edges[c.FROM_PRODUCT_ID].map(values).to_numpy(dtype=np.float64)
        upper = edges[c.TO_PRODUCT_ID].map(values).to_numpy(dtype=np.float64)
        values_up: NDArray[np.float64] = np.divide(upper, lower, out=np.full(len(edges), np.nan), where=lower > 0)
        return values_up

    return edges.assign(**{c.PRICE_RATIO: ratio(price), c.PACK_RATIO: ratio(pieces)})
