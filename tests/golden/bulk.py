"""Offers for every account of a bundle, as `offers recommend` writes them."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.golden.comparison import Case
from tests.golden.system import must


def recommendations(bundle: Path, folder: Path) -> list[Case]:
    """Return the rows of the file, by account."""
    out = folder / "offers.csv"
    must("recommend", "--model", bundle, "--out", out, "--limit", "3")
    cases: dict[str, Case] = {}
    with out.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            account = row["account_id"]
            cases.setdefault(account, {"case": account, "rows": []})["rows"].append(
                {name: _read(value) for name, value in row.items()}
            )
    return list(cases.values())


def _read(text: str) -> float | str:
    """A number with a point is a float, so that it has the tolerance of floats."""
    try:
        return float(text) if "." in text else text
    except ValueError:
        return text
