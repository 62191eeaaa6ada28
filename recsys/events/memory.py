"""The event store in memory: the real thing's fake, for tests and trials; nothing survives the process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import pyarrow as pa

from recsys.contracts.decisions import assignments_of
from recsys.contracts.events import PRESENTING, Event, EventQuery, FeedPosition, TableName
from recsys.contracts.offers import LOGGED
from recsys.events.inserts import key_of, merge_row
from recsys.events.queries import arrow_schema, wanted_schema
from recsys.events.schema import EVENT_TABLES, TABLES, TIME_COLUMN, WRITTEN, StoredRow, rows_by_table

_Record = dict[str, Any]

_SHARED = ("decision_id", "decided_at", "account_id", "visitor_id", "shown")


class MemoryStore:
    """Events in dictionaries by id."""

    name = "memory"

    def __init__(self) -> None:
        self._records: dict[TableName, dict[StoredRow, _Record]] = {name: {} for name in WRITTEN}
        self._changes: dict[tuple[TableName, StoredRow], int] = {}
        self._position = 0
        self._lock = Lock()

    def append(self, events: Sequence[Event]) -> None:
        """Keep the events; a row whose key is kept already is merged with it."""
        batch = rows_by_table(events)
        with self._lock:
            for name, rows in batch.items():
                records = self._records[name]
                for row in rows:
                    record, key = _record(name, row), key_of(name, row)
                    if key not in records or EVENT_TABLES[name].merge != "first":
                        self._position += 1
                        self._changes[name, key] = self._position
                    if key in records:
                        values = merge_row(name, tuple(records[key].values()), tuple(record.values()))
                        record = dict(zip(record, values, strict=True))
                    records[key] = record

    def probe(self) -> None:
        """Do nothing: memory keeps whatever it is given."""

    def read(self, query: EventQuery) -> pa.Table:
        """Return the rows that `query` asks for, in order of time and id; JSON columns are text."""
        schema = wanted_schema(query)
        with self._lock:
            records = list(self._offers() if query.table == "decision_offers" else self._wanted(query))
        time = TIME_COLUMN[query.table]
        kept = [record for record in records if _matches(record, query, time)]
        identity = [column.name for column in TABLES[query.table].primary_key.columns] or ["decision_id", "rank"]
        kept.sort(key=lambda record: (record[time], *(record[name] for name in identity)))
        return pa.Table.from_pylist(kept, schema=schema)

    def position(self) -> FeedPosition:
        """Return how far a reader gets who begins to read now."""
        with self._lock:
            return FeedPosition(self._position + 1)

    def size(self, table: TableName) -> int:
        """Return how many rows a table holds."""
        with self._lock:
            return len(self._records[table])

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            for records in self._records.values():
                records.clear()

    def _wanted(self, query: EventQuery) -> Iterator[_Record]:
        since = query.changed_since
        for key, record in self._records[query.table].items():
            if since is None or (self._changes[query.table, key] >= since.following and record.get("presented", True)):
                yield record

    def _offers(self) -> Iterator[_Record]:
        presenting = [record for record in self._records["outcomes"].values() if record["kind"] in PRESENTING]
        for decision in self._records["decisions"].values():
            shared = {name: decision[name] for name in _SHARED}
            for packed in json.loads(decision["offers"]):
                offer = dict(zip(LOGGED, packed, strict=True))
                times = [
                    max(outcome["occurred_at"], decision["decided_at"])
                    for outcome in presenting
                    if outcome["decision_id"] == decision["decision_id"]
                    and outcome["product_id"] in {None, offer["product_id"]}
                ]
                at_once = decision["decided_at"] if decision["presented"] else None
                yield {**shared, **offer, "presented_at": at_once or min(times, default=None)}


def _record(name: TableName, row: StoredRow) -> _Record:
    """A row as its table would give it back, with times as times."""
    record: _Record = {}
    kinds = dict(zip(arrow_schema(name).names, arrow_schema(name).types, strict=True))
    for (column, kind), value in zip(kinds.items(), row, strict=True):
        if pa.types.is_timestamp(kind) and value is not None:
            value = datetime.fromisoformat(value).replace(tzinfo=UTC)
        record[column] = value
    return record


def _matches(record: _Record, query: EventQuery, time: str) -> bool:
    return (
        (query.since is None or record[time] >= query.since)
        and (query.until is None or record[time] < query.until)
        and (query.account_id is None or record["account_id"] == query.account_id)
        and (not query.decision_ids or record["decision_id"] in query.decision_ids)
        and (not query.outcome_ids or record["outcome_id"] in query.outcome_ids)
        and (not query.order_ids or record["order_id"] in query.order_ids)
        and (
            query.experiment_id is None or query.experiment_id in {one.experiment_id for one in assignments_of(record)}
        )
        and (query.presented is None or record["presented"] == query.presented)
        and (query.from_decision_id is None or record["decision_id"] >= query.from_decision_id)
        and (query.recorded_since is None or record["recorded_at"] >= query.recorded_since)
    )
