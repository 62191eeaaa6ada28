"""The sources that are used together, in one configuration."""

from __future__ import annotations

from typing import Annotated

from recsys.contracts.config import Config
from recsys.contracts.plugins import installed_plugin, load_plugin
from recsys.models.retrieval.associations import AssociationRetriever, AssociationsConfig
from recsys.models.retrieval.baskets import BasketRetriever, BasketsConfig
from recsys.models.retrieval.content import ContentConfig, ContentRetriever
from recsys.models.retrieval.ease import EaseConfig, EaseRetriever
from recsys.models.retrieval.neighbours import NeighbourRetriever, NeighboursConfig
from recsys.models.retrieval.popularity import PopularityConfig, PopularityRetriever, SeasonConfig, SeasonRetriever
from recsys.models.retrieval.retriever import Retriever
from recsys.models.retrieval.ridge import RidgeConfig, RidgeRetriever

NEIGHBOURS = (
    NeighboursConfig(name="nearest"),
    NeighboursConfig(name="all_alike", n_neighbours=None, power=3.0, idf_power=1.0),
    NeighboursConfig(
        name="long_alike", n_neighbours=300, idf_power=1.0, half_life_days=None, votes=("fresh", "recent", "ever")
    ),
)


class RetrieversConfig(Config):
    """Which sources propose candidates; None leaves a source out.

    Attributes:
        neighbours: user kNN, one for each entry, each with its own name.
        ridge: regression of what was added lately on what was owned before, one for each window.
        ease: item-to-item regression on the head.
        associations: account cosine and follow-ons.
        baskets: confidence from the last orders.
        content: likeness of names.
        popularity: what is bought for the first time lately.
        season: what sold a year ago in the season to come.
        plugins: retrievers of other packages, by the names of their entry points in `offer_engine.retrievers`.
    """

    neighbours: tuple[NeighboursConfig, ...] = NEIGHBOURS
    ridge: tuple[RidgeConfig, ...] = (RidgeConfig(),)
    ease: EaseConfig | None = EaseConfig()
    associations: AssociationsConfig | None = AssociationsConfig()
    baskets: BasketsConfig | None = BasketsConfig()
    content: ContentConfig | None = ContentConfig()
    popularity: PopularityConfig | None = PopularityConfig()
    season: SeasonConfig | None = SeasonConfig()
    plugins: tuple[Annotated[str, installed_plugin("retrievers")], ...] = ()


def default_retrievers(config: RetrieversConfig | None = None) -> tuple[Retriever, ...]:
    """Return new retrievers, not fitted: those that a configuration names, by default all that come with the engine."""
    config = config or RetrieversConfig()
    found: list[Retriever] = [NeighbourRetriever(each) for each in config.neighbours]
    found += [RidgeRetriever(each) for each in config.ridge]
    if config.ease is not None:
        found.append(EaseRetriever(config.ease))
    if config.associations is not None:
        found.append(AssociationRetriever(config.associations))
    if config.baskets is not None:
        found.append(BasketRetriever(config.baskets))
    if config.content is not None:
        found.append(ContentRetriever(config.content))
    if config.popularity is not None:
        found.append(PopularityRetriever(config.popularity))
    if config.season is not None:
        found.append(SeasonRetriever(config.season))
    found += [load_plugin("retrievers", name) for name in config.plugins]
    return tuple(found)
