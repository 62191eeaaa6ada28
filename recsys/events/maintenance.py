"""Any table of an event store as Parquet, one folder a day: for the lake."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.contracts.events import EventQuery, TableName
from recsys.events.schema import TIME_COLUMN
from recsys.events.store import SqlStore, arrow_schema

FILE: Final = "part.parquet"


def export_days(
    store: SqlStore, table: TableName, out: Path, since: datetime | None = None, until: datetime | None = None
) -> dict[date, int]:
    """Write a table to `out/TABLE/day=YYYY-MM-DD/part.parquet` (UTC days); return the rows of each day.

    A day that stands there already is replaced in one step: export a day again when it is over. JSON columns are text.
    """
    counts: dict[date, int] = {}
    schema = arrow_schema(table)
    writer: pq.ParquetWriter | None = None
    place = beside = out
    try:
        for day, batch in _by_day(store.stream(EventQuery(table, since=since, until=until)), TIME_COLUMN[table]):
            if day not in counts:
                _finish(writer, beside, place)
                place = out / table / f"day={day.isoformat()}" / FILE
                beside = place.with_name(f".{FILE}")
                place.parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(beside, schema, compression="zstd")
                counts[day] = 0
            assert writer is not None
            writer.write_batch(batch)
            counts[day] += batch.num_rows
        _finish(writer, beside, place)
    except BaseException:
        if writer is not None:
            writer.close()
            beside.unlink(missing_ok=True)
        raise
    return counts


def _finish(writer: pq.ParquetWriter | None, beside: Path, place: Path) -> None:
    if writer is not None:
        writer.close()
        beside.replace(place)


def _by_day(batches: Iterator[pa.RecordBatch], column: str) -> Iterator[tuple[date, pa.RecordBatch]]:
    """Cut batches, which come in order of time, at midnight UTC."""
    for batch in batches:
        times = batch.column(column)
        begun = 0
        while begun < batch.num_rows:
            day = times[begun].as_py().date()
            midnight = datetime.combine(day + timedelta(days=1), datetime.min.time(), times[begun].as_py().tzinfo)
            rest = times.slice(begun)
            n_rows = int(pc.sum(pc.less(rest, pa.scalar(midnight, rest.type))).as_py())
            yield day, batch.slice(begun, n_rows)
            begun += n_rows
