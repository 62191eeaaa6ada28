"""The event store read back for evaluation: as typed decisions, as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from recsys.contracts.decisions import ASSIGNMENT_COLUMNS, SEVERAL, Decision, assignments_of
from recsys.contracts.events import EventQuery, TableName
from recsys.events.store import EventStore

if TYPE_CHECKING:
    import pandas as pd

_ORDER: Final = ("decided_at", "decision_id")


def read_decisions(store: EventStore, query: EventQuery | None = None) -> Iterator[Decision]:
    """Yield the decisions that `query` asks for (all by default), in order of time."""
    table = store.read(query or EventQuery("decisions"))
    for batch in table.to_batches(max_chunksize=1_000):
        yield from map(Decision.from_row, batch.to_pylist())


def read_assigned(store: EventStore, query: EventQuery) -> pa.Table:
    """Return decisions once for each experiment that they were part of, with its `experiment_id` and its `arm`.

    Those outside experiments are left out; where `query` names an experiment, so are the others.
    """
    columns = tuple(dict.fromkeys((*query.columns, *_ORDER, *ASSIGNMENT_COLUMNS)))
    table = store.read(replace(query, columns=columns))
    in_several = pc.fill_null(pc.match_substring(table["context"], SEVERAL), False)
    in_one = table.filter(pc.invert(in_several)).filter(pc.field("experiment_id").is_valid())
    rows = [
        row | {"experiment_id": assigned.experiment_id, "arm": assigned.arm}
        for row in table.filter(in_several).to_pylist()
        for assigned in assignments_of(row)
        if query.experiment_id in {None, assigned.experiment_id}
    ]
    if rows:
        several = pa.Table.from_pylist(rows, schema=table.schema)
        in_one = pa.concat_tables([in_one, several]).sort_by([(name, "ascending") for name in _ORDER])
    return in_one.select(query.columns)


_HAPPENING: Final[Mapping[TableName, tuple[str, ...]]] = {
    "decisions": ("decided_at",),
    "outcomes": ("occurred_at", "recorded_at"),
    "order_lines": ("ordered_at", "recorded_at"),
    "assignments": ("assigned_at",),
}


def last_event_at(store: EventStore) -> datetime | None:
    """Return when the last thing happened that a store knows of; None where nothing did.

    Nothing happens later than it was recorded, so that an order of tomorrow does not make the log reach further.
    """
    found: list[datetime] = []
    for table, columns in _HAPPENING.items():
        rows = store.read(EventQuery(table, columns=columns, newest=True)).to_pylist()
        found += [min(row.values()) for row in rows]
    return max(found, default=None)


def read_frame(store: EventStore, query: EventQuery) -> pd.DataFrame:
    """Return the rows that `query` asks for as a DataFrame."""
    frame: pd.DataFrame = store.read(query).to_pandas()
    return frame
