"""Rows that equal another in every column: an export that was read twice, or several rows of a unit that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import ibis

from recsys.contracts.columns import SOURCE_ROW
from recsys.errors import ReadoutError

_NEARLY_ALL = 0.99


@dataclass(frozen=True, slots=True)
class Copies:
    """How many rows repeat another.

    Attributes:
        n_rows: of the source.
        n_copies: rows beyond the first of each kind.
        are_certain: they can only be copies: a column tells the rows apart (a number, a time, an exact amount), or
            every row of the source comes at least twice.
    """

    n_rows: int
    n_copies: int
    are_certain: bool


def copies_of(source: ibis.Table, identity: Sequence[str]) -> Copies:
    """Return the rows of `source` that repeat another.

    Args:
        source: as it was read, with every column.
        identity: unit and arm, which are the same on all rows of a unit and so tell none of them apart.
    """
    columns = [name for name in source.columns if name != SOURCE_ROW]
    kinds = source.group_by(columns).agg(__n=ibis._.count())
    others = [name for name in columns if name not in identity]
    asked = {"rows": kinds["__n"].sum(), "kinds": kinds.count(), "least": kinds["__n"].min()}
    asked |= {f"d{i}": kinds[name].nunique() for i, name in enumerate(others)}
    found = kinds.aggregate(**asked).to_pyarrow().to_pylist()[0]
    n_copies = found["rows"] - found["kinds"]
    told_apart = any(found[f"d{i}"] >= _NEARLY_ALL * found["kinds"] for i in range(len(others)))
    return Copies(found["rows"], n_copies, n_copies > 0 and (told_apart or found["least"] > 1))


def refuse_several_rows(copies: Copies, n_rows: int, n_units: int) -> NoReturn:
    """Say why rows of one unit are not read.

    Raises:
        ReadoutError: always; rows that are copies are named as such.
    """
    if copies.n_copies >= n_rows - n_units:
        raise ReadoutError(
            f"{n_rows:,} rows of {n_units:,} units, must be one row a unit: {copies.n_copies:,} rows equal another in "
            "every column, as of an export that was read twice; drop the copies"
        )
    raise ReadoutError(
        f"{n_rows:,} rows of {n_units:,} units, must be one row a unit: the unit of assignment is the unit of "
        "analysis, and a test on orders or sessions errs far too often; set aggregate to "
        "add up the rows of each unit, or give the orders by themselves"
    )
