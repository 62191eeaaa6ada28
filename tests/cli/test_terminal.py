"""A table in a file or a pipe is as wide as it needs to be; in a terminal as wide as that."""

from __future__ import annotations

import pytest
from rich.table import Table

from recsys.cli.terminal import output_console

WIDE = "a name of an experiment that is a good deal longer than the eighty columns of a terminal that nobody has"


@pytest.mark.parametrize(("columns", "is_whole"), [(None, True), ("40", False)])
def test_a_cell_is_cut_by_a_terminal_alone(
    columns: str | None, is_whole: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    table = Table("experiment", "units")
    table.add_row(WIDE, "12,345")
    output_console().print(table)
    printed = capsys.readouterr().out
    assert (f"{WIDE} │ 12,345" in printed) == is_whole
    assert max(map(len, printed.splitlines())) == (len(WIDE) + len("│  │ 12,345 │") if is_whole else 40)
