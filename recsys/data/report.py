"""What reading did with every row: kept, rejected or left out, and why, with the first examples.

A row has one outcome, so for every table ``rows read = kept + rejected + left out``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

RowStatus = Literal["rejected", "left_out"]
EXAMPLES_A_REASON = 3


@dataclass(frozen=True, slots=True)
class DropReason:
    """Why a row was not kept.

    Attributes:
        name: the short name that stands in reports and rejects files.
        outcome: rejected: something is wrong with the row; left out: it is fine and not wanted.
        why: the rule, for people.
        columns: contract names of the columns that show it.
    """

    name: str
    outcome: RowStatus
    why: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """One row that was not kept.

    Attributes:
        file: its file, None unless a folder was read.
        row: its number in the file, 1 is the first row of data.
        values: what the columns that show the reason hold, by the source's own names.
    """

    file: str | None
    row: int
    values: Mapping[str, str | None]

    @property
    def place(self) -> str:
        """Where the row stands."""
        return f"row {self.row}" if self.file is None else f"{self.file} row {self.row}"

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={'(empty)' if value is None else value}" for name, value in self.values.items())
        return f"{self.place}: {shown}" if shown else self.place


@dataclass(frozen=True, slots=True)
class Dropped:
    """The rows that were not kept for one reason.

    Attributes:
        reason: why.
        rows: how many.
        examples: the first of them.
    """

    reason: DropReason
    rows: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class TableReport:
    """What became of the rows of one table.

    Attributes:
        table: orders, products, accounts or upgrades.
        location: where it was read from.
        rows_read: rows of the source.
        rows_kept: rows of the cleaned table that come from the source.
        dropped: the others, by reason, most frequent first.
        notes: what else a reader should know, a sentence each.
        warnings: what should be looked at before anything is learned, a sentence each.
    """

    table: str
    location: str
    rows_read: int
    rows_kept: int
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def rows_rejected(self) -> int:
        """Rows with something wrong."""
        return sum(item.rows for item in self.dropped if item.reason.outcome == "rejected")

    @property
    def rows_left_out(self) -> int:
        """Rows that are fine and not wanted."""
        return sum(item.rows for item in self.dropped if item.reason.outcome == "left_out")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return {
            "location": self.location,
            "rows_read": self.rows_read,
            "rows_kept": self.rows_kept,
            "rows_rejected": self.rows_rejected,
            "rows_left_out": self.rows_left_out,
            "reasons": {
                item.reason.name: {
                    "outcome": item.reason.outcome,
                    "rows": item.rows,
                    "why": item.reason.why,
                    "examples": [
                        {"file": example.file, "row": example.row, "values": dict(example.values)}
                        for example in item.examples
                    ],
                }
                for item in self.dropped
            },
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    def __rich__(self) -> RenderableType:
        grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(f"{self.rows_read:,}", "read", "")
        grid.add_row(f"{self.rows_kept:,}", "kept", "")
        for item in self.dropped:
            first, *others = item.examples
            also = f"; also {', '.join(other.place for other in others)}" if others else ""
            grid.add_row(
                f"{item.rows:,}",
                item.reason.outcome.replace("_", " "),
                Text.assemble((item.reason.name, "bold"), f": {item.reason.why}\n", (f"{first}{also}", "dim")),
            )
        head = Text(f"{self.table}: {self.location}", style="bold")
        warnings = (Text.assemble(("  Warning: ", "bold yellow"), sentence) for sentence in self.warnings)
        return Group(head, grid, *warnings, *(Text(f"  {note}") for note in self.notes))


@dataclass(frozen=True, slots=True)
class DataReport:
    """What became of every row of every table.

    Attributes:
        tables: one report a table that was read, orders first.
        as_of: nothing at or after this moment was used, UTC.
        currency: the one currency of all money; None if the source does not say.
        preset: the preset that read the layout, if any.
    """

    tables: tuple[TableReport, ...]
    as_of: datetime
    currency: str | None
    preset: str | None = None

    @property
    def orders(self) -> TableReport:
        """The report on the order lines."""
        return self.tables[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return {
            "as_of": self.as_of.isoformat(),
            "currency": self.currency,
            "preset": self.preset,
            "tables": {report.table: report.to_dict() for report in self.tables},
        }

    def __rich__(self) -> RenderableType:
        money = self.currency or "a currency that the data do not name"
        head = Text(f"Used: everything before {self.as_of:%Y-%m-%d %H:%M} UTC, in {money}.")
        return Group(*self.tables, head)
