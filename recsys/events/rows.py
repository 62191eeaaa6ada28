"""Events as rows of their tables.

Rows are plain tuples in the order of the table's columns, with times as text, so that a batch of them is one JSON
document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from recsys.contracts.decisions import Decision, DecisionRow, record_decision, time_text
from recsys.contracts.events import Event, TableName
from recsys.events.schema import EVENT_TABLES, TABLES

StoredRow = tuple[Any, ...]

_TABLE_OF: Final[dict[type, TableName]] = {kept.event: name for name, kept in EVENT_TABLES.items()}
_VALUES_OF: Final[dict[type, Callable[[Event], StoredRow]]] = {
    kept.event: attrgetter(*TABLES[name].columns.keys()) for name, kept in EVENT_TABLES.items()
}


def rows_by_table(events: Iterable[Event]) -> dict[TableName, list[StoredRow]]:
    """Return the rows of `events` under the table that each belongs to."""
    batch: dict[TableName, list[StoredRow]] = {}
    for event in events:
        kept = record_decision(event) if isinstance(event, Decision) else event
        batch.setdefault(_TABLE_OF[type(kept)], []).append(_row(kept))
    return batch


def _row(event: Event) -> StoredRow:
    if isinstance(event, DecisionRow):  # which has its times as text, and is one of many a second
        return tuple(event)
    values = _VALUES_OF[type(event)](event)
    return tuple([time_text(value) if isinstance(value, datetime) else value for value in values])
