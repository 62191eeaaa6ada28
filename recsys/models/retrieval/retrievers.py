"""The sources that are used together, in one configuration."""

from __future__ import annotations

from recsys.contracts.config import Config
from recsys.models.retrieval.associations import Associations, AssociationsConfig
from recsys.models.retrieval.baskets import Baskets, BasketsConfig
from recsys.models.retrieval.content import Content, ContentConfig
from recsys.models.retrieval.ease import Ease, EaseConfig
from recsys.models.retrieval.neighbours import Neighbours, NeighboursConfig
from recsys.models.retrieval.popularity import Popularity, PopularityConfig, Season, SeasonConfig
from recsys.models.retrieval.retriever import Retriever
from recsys.models.retrieval.ridge import Ridge, RidgeConfig

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
    """

    neighbours: tuple[NeighboursConfig, ...] = NEIGHBOURS
    ridge: tuple[RidgeConfig, ...] = (RidgeConfig(),)
    ease: EaseConfig | None = EaseConfig()
    associations: AssociationsConfig | None = AssociationsConfig()
    baskets: BasketsConfig | None = BasketsConfig()
    content: ContentConfig | None = ContentConfig()
    popularity: PopularityConfig | None = PopularityConfig()
    season: SeasonConfig | None = SeasonConfig()


def make_retrievers(config: RetrieversConfig) -> tuple[Retriever, ...]:
    """Return new, unfitted sources."""
    found: list[Retriever] = [Neighbours(each) for each in config.neighbours]
    found += [Ridge(each) for each in config.ridge]
    if config.ease is not None:
        found.append(Ease(config.ease))
    if config.associations is not None:
        found.append(Associations(config.associations))
    if config.baskets is not None:
        found.append(Baskets(config.baskets))
    if config.content is not None:
        found.append(Content(config.content))
    if config.popularity is not None:
        found.append(Popularity(config.popularity))
    if config.season is not None:
        found.append(Season(config.season))
    return tuple(found)
