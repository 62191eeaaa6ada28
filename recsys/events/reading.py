"""The event store read back for evaluation: as typed decisions, as a DataFrame, as an Ibis table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from recsys.contracts.events import Decision, EventQuery
from recsys.events.rows import decision_of
from recsys.events.store import EventStore

if TYPE_CHECKING:
    import ibis
    import pandas as pd

_JSON_COLUMNS = ("unknown_products", "request", "offers", "context")


def read_decisions(store: EventStore, query: EventQuery | None = None) -> Iterator[Decision]:
    """Yield the decisions that `query` asks for (all by default), in order of time."""
    table = store.read(query or EventQuery("decisions"))
    for batch in table.to_batches(max_chunksize=1_000):
        for row in batch.to_pylist():
            yield decision_of(row | {name: _loaded(row[name]) for name in _JSON_COLUMNS})


def read_frame(store: EventStore, query: EventQuery) -> pd.DataFrame:
    """Return the rows that `query` asks for as a DataFrame."""
    frame: pd.DataFrame = store.read(query).to_pandas()
    return frame


def read_ibis(store: EventStore, query: EventQuery) -> ibis.Table:
    """Return the rows that `query` asks for as an Ibis table, to be counted in DuckDB."""
    import ibis  # takes a second to import, and a server that only writes never needs it

    return ibis.memtable(store.read(query))


def _loaded(text: str | None) -> object:
    return None if text is None else json.loads(text)
