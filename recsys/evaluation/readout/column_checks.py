"""Are the columns that a readout is asked for in the data, and are they fit for what they are asked for?"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import ibis

from recsys.contracts.columns import SOURCE_ROW
from recsys.errors import MissingColumnError, ReadoutError
from recsys.evaluation.statistics.metric import Metric


def refuse_missing(source: ibis.Table, needed: Sequence[str]) -> None:
    """Check that a table has the columns that are needed.

    Raises:
        MissingColumnError: one is not there; names the nearest.
    """
    for name in needed:
        if name not in source.columns:
            near = difflib.get_close_matches(name, source.columns, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            have = ", ".join(column for column in source.columns if column != SOURCE_ROW)
            raise MissingColumnError(f"column {name!r} is not in the data; {hint}it has {have}")


def refuse_blanks(n_blank: int | None, name: str) -> None:
    """Check that every row has its unit, or its arm.

    Raises:
        ReadoutError: `n_blank` rows have none.
    """
    if n_blank:
        raise ReadoutError(f"{n_blank:,} rows have no {name!r}, all must have one; leave out who was in no arm")


def refuse_unknown_values(metrics: Sequence[Metric], known: Sequence[str]) -> None:
    """Check that metrics over orders use only what is read off orders.

    Raises:
        ReadoutError: one uses something else.
    """
    for metric in metrics:
        unknown = [name for name in metric.columns if name not in known]
        if unknown:
            raise ReadoutError(
                f"metric {metric.name!r} uses {unknown[0]!r}, must use what is read off orders: {', '.join(known)}"
            )


def refuse_values_as_segments(values: Sequence[str], segments: Sequence[str]) -> None:
    """Check that no segment is a value: a split by an outcome compares unlike units.

    Raises:
        ReadoutError: one is.
    """
    for name in segments:
        if name in values:
            raise ReadoutError(
                f"segment {name!r} is a value of a metric too, must be another column: a split by an outcome compares "
                "unlike units; copy what was known before the start under a name of its own"
            )


def is_constant_within(table: ibis.Table, by: str, column: str) -> bool:
    """Return whether all rows of each group have the same value."""
    ranges = table.group_by(by).agg(low=table[column].min(), high=table[column].max()).to_pyarrow().to_pylist()
    return all(row["low"] == row["high"] for row in ranges)
