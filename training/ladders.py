"""Which ladder a run uses: built from its data, or read from a file that a person has edited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recsys.contracts import columns as c
from recsys.data.dataset import CleanData
from recsys.data.history import History
from recsys.ladder.edges import Ladder, LadderConfig, build_ladder, complete_edges
from recsys.ladder.file import read_ladder

LadderOf = Callable[[CleanData, History], Ladder]
"""Returns the ladder as it stood when some data were read."""


def built_ladder(config: LadderConfig) -> LadderOf:
    """Return what builds the ladder from the data themselves."""
    return lambda data, history: build_ladder(data.products, history, data.upgrades, config)


def edited_ladder(path: Path, data: CleanData, config: LadderConfig) -> Ladder:
    """Return the ladder of an edited file; prices and climbs are counted on `data`.

    Raises:
        SourceNotFoundError: no such file.
        DataError: a row is wrong; the message names it.
    """
    return read_ladder(path, data.products, data.history().before(data.as_of), config)


def given_ladder(ladder: Ladder, config: LadderConfig) -> LadderOf:
    """Return what keeps the edges of a ladder and counts prices and climbs on the data of the time.

    An edge whose products the data do not know yet is left out.
    """

    def ladder_of(data: CleanData, history: History) -> Ladder:
        known = set(data.products[c.PRODUCT_ID])
        edges = ladder.edges[[c.FROM_PRODUCT_ID, c.TO_PRODUCT_ID, c.ORIGIN, c.REASON]]
        kept = edges[edges[c.FROM_PRODUCT_ID].isin(known) & edges[c.TO_PRODUCT_ID].isin(known)]
        return complete_edges(kept.reset_index(drop=True), data.products, history, config)

    return ladder_of
