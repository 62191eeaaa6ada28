"""Sixteen files that are wrong, what is wrong with them, and what `offers check` says.

python -m tests.data.malformed_files --write    writes the table in docs/guides/malformed_files.md anew
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from recsys.cli import main
from tests.data.test_file_formats import write_workbook
from tests.data.test_suspicions import shop

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "malformed_files.md"
_TABLE = re.compile(r"(?<=<!-- malformed -->\n).*?(?=<!-- /malformed -->)", re.DOTALL)


class Malformed(NamedTuple):
    """One file: what is wrong, as people say it, how it is written, and what else the command is told."""

    wrong: str
    write: Callable[[Path], object]
    options: tuple[str, ...] = ()


def _csv(
    change: Callable[[pd.DataFrame], pd.DataFrame], separator: str = ",", encoding: str = "utf-8"
) -> Callable[[Path], object]:
    return lambda path: change(shop()).to_csv(path, index=False, sep=separator, encoding=encoding)


def _lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], object]:
    return lambda path: path.write_text("\n".join(change(shop().to_csv(index=False).splitlines())) + "\n", "utf-8")


def _put(column: str, rows: slice, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame.astype({column: object})
        changed.loc[rows, column] = value
        return changed

    return change


def _decimal_commas(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(unit_price=frame["unit_price"].map("{:.3f}".format).str.replace(".", ","))


def _ragged(lines: list[str]) -> list[str]:
    return [*lines[:5], lines[5].rpartition(",")[0], f"{lines[6]},x", *lines[7:]]


def _two_orders_of_days(frame: pd.DataFrame) -> pd.DataFrame:
    days = frame["ordered_at"].dt
    american = frame.index % 3 == 0
    return frame.assign(ordered_at=days.strftime("%d/%m/%Y").where(~american, days.strftime("%m/%d/%Y")))


FILES: Mapping[str, Malformed] = {
    "far_future.csv": Malformed(
        "fifty rows are of the year 2087", _csv(_put("ordered_at", slice(100, 149), "2087-05-01"))
    ),
    "decimal_comma.csv": Malformed(
        "all prices have a comma and three digits after it",
        _csv(_decimal_commas, ";"),
    ),
    "line_totals.csv": Malformed(
        "the price is that of the line, and `--map unit_price=unit_price` says it is that of the unit",
        _csv(lambda frame: frame.assign(unit_price=frame["unit_price"] * frame["quantity"])),
        ("--map", "unit_price=unit_price"),
    ),
    "exported_twice.csv": Malformed(
        "the last orders stand there twice", _csv(lambda frame: pd.concat([frame, frame[-90:]]))
    ),
    "billion.csv": Malformed("a quantity of a billion", _csv(_put("quantity", slice(3, 4), 10**9))),
    "free.csv": Malformed("all prices are zero", _csv(lambda frame: frame.assign(unit_price=0))),
    "no_price.csv": Malformed("a required column is missing", _csv(lambda frame: frame.drop(columns="unit_price"))),
    "empty.csv": Malformed("nothing is in the file", lambda path: path.touch()),
    "header_alone.csv": Malformed("a header and no row", _lines(lambda lines: lines[:1])),
    "latin_1.csv": Malformed(
        "the text is latin-1", _csv(_put("account_id", slice(5, 9), "Müller & Söhne"), encoding="latin-1")
    ),
    "mixed_dates.csv": Malformed("in some rows the day stands first, in others the month", _csv(_two_orders_of_days)),
    "two_currencies.csv": Malformed(
        "prices are in two currencies",
        _csv(lambda frame: _put("currency", slice(0, 99), "USD")(frame.assign(currency="EUR"))),
    ),
    "lost_zeros.csv": Malformed(
        "some account ids lost their leading zeros",
        _csv(lambda frame: _put("account_id", slice(50, 59), "42")(_put("account_id", slice(20, 29), "0042")(frame))),
    ),
    "ragged.csv": Malformed("a row with a field too few, one with a field too many", _lines(_ragged)),
    "separators.csv": Malformed(
        "the header has commas, the rows have semicolons",
        _lines(lambda lines: [lines[0], *(line.replace(",", ";") for line in lines[1:])]),
    ),
    "title_row.xlsx": Malformed(
        "a title stands above the header of a workbook",
        lambda path: write_workbook(path, {"Sales": shop()}, above=("Sales report 2024",)),
    ),
}  # fmt: skip


def said_of(name: str, folder: Path) -> str:
    """Return what `offers check` says of a file beyond how many rows it read and what it proposes.

    Args:
        name: of the file.
        folder: an empty one to write it to.
    """
    FILES[name].write(folder / name)
    out, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
        contextlib.suppress(SystemExit),
    ):
        main(["check", "--orders", name, *FILES[name].options])
    error = " ".join(errors.getvalue().split())
    if error:
        return error
    found = re.search(r"[\d,]+ read [\d,]+ kept (.*?) ?Used: everything", " ".join(out.getvalue().split()))
    return found[1] if found else ""


def table() -> str:
    """Return the table of the guide."""
    rows = ["| file | what is wrong | what is said |", "|---|---|---|"]
    for name, file in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(f"| `{name}` | {file.wrong} | {said_of(name, Path(folder))} |")
    return "\n".join(rows) + "\n"


def rows_of_guide() -> dict[str, tuple[str, str]]:
    """Return file -> what is wrong and what is said, as the guide has it."""
    found = _TABLE.search(GUIDE.read_text("utf-8"))
    assert found is not None
    cells = [row.strip("| ").split(" | ") for row in found[0].splitlines()[2:]]
    return {name.strip("`"): (wrong, said) for name, wrong, said in cells}


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    os.environ["COLUMNS"] = "200"
    GUIDE.write_text(_TABLE.sub(lambda _: table(), GUIDE.read_text("utf-8")), "utf-8")
