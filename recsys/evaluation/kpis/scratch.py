"""Intermediate tables on a caller's connection, gone when the work is done."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import ibis
import pandas as pd
import pyarrow as pa
from ibis.backends.duckdb import Backend

from recsys.data.times import as_time


class Scratch:
    """Keeps expressions as temporary tables; leaving the block drops them."""

    def __init__(self, connection: Backend) -> None:
        self.connection = connection
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(self._names):
            self.connection.drop_table(name, force=True)
        self._names.clear()

    def keep(self, table: ibis.Table, name: str) -> ibis.Table:
        """Return an expression computed once."""
        unique = ibis.util.gen_name(f"kpi_{name}")
        kept = self.connection.create_table(unique, table, temp=True)
        self._names.append(unique)
        return kept

    def load(self, table: ibis.Table | pa.Table | pd.DataFrame, name: str) -> ibis.Table:
        """Return a frame, an Arrow table or an expression as a table here; times become UTC without a zone mark."""
        given = table if isinstance(table, ibis.Table) else ibis.memtable(_arrow(table))
        here = given if isinstance(table, ibis.Table) else self.keep(given, name)
        times = {item: as_time(here[item]) for item, kind in here.schema().items() if kind.is_timestamp()}
        return here.mutate(**times) if times else here


def _arrow(table: pa.Table | pd.DataFrame) -> pa.Table:
    """The table in Arrow; a column without any value is text."""
    if isinstance(table, pd.DataFrame):  # pyarrow reads `.values` of zoned times, which pandas deprecates
        zoned = {str(name): table[name].dt.tz_convert(None) for name in table.select_dtypes("datetimetz")}
        table = pa.Table.from_pandas(table.assign(**zoned), preserve_index=False)
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))
