"""What reading one file gives, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass

import ibis


@dataclass(frozen=True, slots=True)
class MalformedLine:
    """One line of a CSV file that could not be split into its fields.

    Attributes:
        source_row: where it stands; see `TableSource.locate`.
        text: the line.
        why: what is wrong with it.
    """

    source_row: int
    text: str
    why: str


@dataclass(frozen=True)
class FileRows:
    """The rows of one file, or of one sheet of a workbook.

    Attributes:
        table: its columns as they were found, and `source_row`, which is 1 for the first row of data.
        place: the file's name, or that of the sheet.
        malformed: lines that are not in `table`.
        warnings: what should be looked at, a sentence each.
    """

    table: ibis.Table
    place: str
    malformed: tuple[MalformedLine, ...] = ()
    warnings: tuple[str, ...] = ()
