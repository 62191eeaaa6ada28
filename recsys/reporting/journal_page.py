"""The decision journal as one HTML page: what every experiment was for, what came of it, who signed, and the sum."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

from recsys.errors import ReadoutError
from recsys.evaluation.journal.entries import Journal
from recsys.reporting.formatting import interval, number, page_template, percent


def journal_page(journal: Journal, now: datetime) -> str:
    """Return the page, the latest start first; equal journals give equal bytes."""
    template = page_template("journal", number=number, signed=partial(number, signed=True), percent=percent)
    return template.render(
        entries=journal.entries[::-1],
        programme=journal.programme,
        now=now,
        interval=interval,
    )


def write_journal(journal: Journal, file: Path, now: datetime) -> None:
    """Write the page.

    Raises:
        ReadoutError: the file's place is a folder, or in none.
    """
    if file.is_dir() or not file.parent.is_dir():
        raise ReadoutError(f"{file}, must be a file in a folder that is there; name another")
    beside = file.with_name(f".{file.name}")
    beside.write_text(journal_page(journal, now), encoding="utf-8")
    beside.replace(file)
