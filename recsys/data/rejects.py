"""From the rows that were not kept to the report on a table, and to the rejects file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis

from recsys.contracts import columns as c
from recsys.data.report import EXAMPLES_A_REASON, Dropped, DropReason, Example, TableReport
from recsys.data.sources import FILE_STRIDE, TableSource, reading
from recsys.errors import ConfigError

MALFORMED = DropReason("malformed_line", "rejected", "the line does not have the fields that the header has")
_PLACE = (c.SOURCE_TABLE, c.SOURCE_FILE, c.SOURCE_ROW, c.DROP_REASON)


@dataclass(frozen=True)
class ReadResult:
    """What became of the rows of one source.

    Attributes:
        table: orders, products, accounts or upgrades.
        source: where they come from.
        mapping: contract name -> column of the source.
        rows_kept: how many stay.
        dropped: `source_row` and `drop_reason` of the others that could be split into fields.
        reasons: all that `dropped` may name.
        notes: what else a reader should know.
        warnings: what should be looked at before anything is learned.
    """

    table: str
    source: TableSource
    mapping: Mapping[str, str]
    rows_kept: int
    dropped: ibis.Table
    reasons: tuple[DropReason, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def report(self) -> TableReport:
        """Return the counts by reason with the first examples."""
        rows = self.dropped
        position = ibis.row_number().over(ibis.window(group_by=c.DROP_REASON, order_by=c.SOURCE_ROW))
        total = rows[c.SOURCE_ROW].count().over(ibis.window(group_by=c.DROP_REASON))
        numbered = rows.mutate(position=position, total=total)
        firsts = numbered.filter(numbered["position"] < EXAMPLES_A_REASON).order_by([c.DROP_REASON, c.SOURCE_ROW])
        found = firsts.to_pyarrow().to_pylist()
        values = self._values([item[c.SOURCE_ROW] for item in found])
        known = {reason.name: reason for reason in self.reasons}
        totals = {item[c.DROP_REASON]: item["total"] for item in found}
        dropped = [
            Dropped(
                known[name],
                count,
                tuple(
                    self._example(item[c.SOURCE_ROW], known[name], values)
                    for item in found
                    if item[c.DROP_REASON] == name
                ),
            )
            for name, count in totals.items()
        ]
        dropped += self._malformed()
        dropped.sort(key=lambda item: (-item.rows, item.reason.name))
        rows_read = self.rows_kept + sum(item.rows for item in dropped)
        warnings = (*self.source.warnings, *self.warnings)
        return TableReport(
            self.table, self.source.location, rows_read, self.rows_kept, tuple(dropped), self.notes, warnings
        )

    def rejected_rows(self) -> ibis.Table:
        """Return the rejected rows as text: table, file, row in it, reason, and their columns as they were found."""
        names = [reason.name for reason in self.reasons if reason.outcome == "rejected"]
        rejected = self.dropped.filter(self.dropped[c.DROP_REASON].isin(names))
        found = [name for name in self.source.columns if name not in _PLACE]
        joined = rejected.inner_join(self.source.table.select(c.SOURCE_ROW, *found), c.SOURCE_ROW)
        return self._placed(joined, {name: joined[name].cast("string") for name in found})

    def malformed_rows(self) -> ibis.Table | None:
        """Return the lines that could not be split, as `malformed_line`; None if there are none."""
        lines = self.source.malformed
        if not lines:
            return None
        table = ibis.memtable(
            {
                c.SOURCE_ROW: [line.source_row for line in lines],
                c.DROP_REASON: [MALFORMED.name] * len(lines),
                MALFORMED.name: [line.text for line in lines],
            }
        )
        return self._placed(table, {MALFORMED.name: table[MALFORMED.name]})

    def _placed(self, rows: ibis.Table, values: Mapping[str, ibis.Value]) -> ibis.Table:
        number = rows[c.SOURCE_ROW]
        file = ibis.array(list(self.source.files))[number // FILE_STRIDE] if self.source.files else ibis.null("string")
        return rows.select(
            **{
                c.SOURCE_TABLE: ibis.literal(self.table),
                c.SOURCE_FILE: file,
                c.SOURCE_ROW: number % FILE_STRIDE,
                c.DROP_REASON: rows[c.DROP_REASON],
            },
            **values,
        )

    def _values(self, rows: Sequence[int]) -> dict[int, dict[str, str | None]]:
        if not rows:
            return {}
        shown = sorted(
            {self.mapping[name] for reason in self.reasons for name in reason.columns if name in self.mapping}
        )
        table = self.source.table
        with reading(self.source.location):
            found = table.filter(table[c.SOURCE_ROW].isin(rows)).select(
                c.SOURCE_ROW, **{name: table[name].cast("string") for name in shown}
            )
            return {item.pop(c.SOURCE_ROW): item for item in found.to_pyarrow().to_pylist()}

    def _example(self, row: int, reason: DropReason, values: Mapping[int, Mapping[str, str | None]]) -> Example:
        file, number = self.source.locate(row)
        theirs = [self.mapping[name] for name in reason.columns if name in self.mapping]
        return Example(file, number, {name: values[row][name] for name in theirs})

    def _malformed(self) -> list[Dropped]:
        lines = self.source.malformed
        examples = tuple(
            Example(*self.source.locate(line.source_row), {"line": line.text, "found": line.why})
            for line in lines[:EXAMPLES_A_REASON]
        )
        return [Dropped(MALFORMED, len(lines), examples)] if lines else []


def write_rejects(outcomes: Sequence[ReadResult], path: Path) -> None:
    """Write the rejected rows of all tables to one CSV or Parquet file, whole or not at all.

    Raises:
        ConfigError: the file is neither CSV nor Parquet, or its folder does not exist.
    """
    check_rejects_path(path)
    tables = [outcome.rejected_rows() for outcome in outcomes]
    tables += [rows for outcome in outcomes if (rows := outcome.malformed_rows()) is not None]
    together = _union_by_name(tables).order_by([c.SOURCE_TABLE, c.SOURCE_FILE, c.SOURCE_ROW])
    beside = path.with_name(f".{path.name}.partial")
    connection = outcomes[0].dropped.get_backend()
    try:
        if path.suffix.lower() == ".parquet":
            connection.to_parquet(together, beside)
        else:
            connection.to_csv(together, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def check_rejects_path(path: Path) -> None:
    """Refuse a rejects file that could not be written, before anything is read.

    Raises:
        ConfigError: the file is neither CSV nor Parquet, or its folder does not exist.
    """
    if path.suffix.lower() not in {".csv", ".parquet"}:
        raise ConfigError(f"rejects file {path}: unknown format {path.suffix!r}, must be .csv or .parquet")
    if not path.parent.is_dir():
        raise ConfigError(f"rejects file {path}: no folder {path.parent}; make it first")


def _union_by_name(tables: Sequence[ibis.Table]) -> ibis.Table:
    """All rows; a column that a table lacks is null. DuckDB does not tell names apart by case."""
    names: dict[str, str] = {}
    for table in tables:
        for name in table.columns:
            names.setdefault(name.lower(), name)
    return ibis.union(*(_widened(table, names) for table in tables)) if len(tables) > 1 else tables[0]


def _widened(table: ibis.Table, names: Mapping[str, str]) -> ibis.Table:
    have = {name.lower(): name for name in table.columns}
    absent = ibis.null("string")
    return table.select(**{name: table[have[low]] if low in have else absent for low, name in names.items()})
