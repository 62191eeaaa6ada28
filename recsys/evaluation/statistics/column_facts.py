"""What is known of a column of values before any mean is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis

from recsys.errors import ReadoutError

LARGEST = 1e60
"""Values beyond are refused: the squares of their variances would not be numbers any more."""


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What is known of a column of values.

    Attributes:
        low: smallest value.
        high: largest value.
        n_negative: units below zero.
        is_binary: whether every value is 0 or 1.
        is_constant: whether all units have the same value.
    """

    low: float
    high: float
    n_negative: int
    is_binary: bool
    is_constant: bool


def column_facts(table: ibis.Table, values: Sequence[str]) -> dict[str, ColumnFacts]:
    """Return the facts of each column of `values`."""
    asked: dict[str, ibis.Value] = {}
    for i, name in enumerate(values):
        column = table[name]
        asked |= {
            f"low{i}": column.min(),
            f"high{i}": column.max(),
            f"negative{i}": (column < 0).sum(),
            f"other{i}": ((column != 0) & (column != 1)).sum(),
        }
    found = table.aggregate(**asked).to_pyarrow().to_pylist()[0] if asked else {}
    return {
        name: ColumnFacts(
            low=found[f"low{i}"],
            high=found[f"high{i}"],
            n_negative=int(found[f"negative{i}"]),
            is_binary=found[f"other{i}"] == 0,
            is_constant=found[f"low{i}"] == found[f"high{i}"],
        )
        for i, name in enumerate(values)
    }


def refuse_too_large(facts: Mapping[str, ColumnFacts]) -> None:
    """Check that every value can be squared.

    Raises:
        ReadoutError: a column has values beyond `LARGEST`.
    """
    for name, found in facts.items():
        largest = max(found.low, found.high, key=abs)
        if abs(largest) > LARGEST:
            raise ReadoutError(
                f"{name!r} goes to {largest:.3g}, must lie within ±{LARGEST:g}; is it the right column, in the right "
                "unit?"
            )
