"""Sufficient statistics by arm.

DuckDB reads, filters and caps; the cross products are a matrix product on each batch, in the order of the rows, so
that the same table gives the same bits (DuckDB's own parallel aggregates add up in any order).
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.arrays import FloatArray
from recsys.evaluation.statistics.moments import Moments, moments_of_rows

BATCH_ROWS = 131_072


def summed(table: ibis.Table, columns: Sequence[str], groups: tuple[str, Sequence[str]]) -> Moments:
    """Return the moments of `columns` by group: leading axis in the order of the group's levels.

    Args:
        table: one row a unit.
        columns: k columns of doubles.
        groups: a column of text and its levels; a level without units has `n` 0 and zeros.
    """
    name, levels = groups
    value_set = pa.array(list(levels), type=pa.string())
    parts: list[Moments | None] = [None] * len(levels)
    whole = table.select(name, *columns).to_pyarrow().combine_chunks()
    for batch in whole.to_batches(max_chunksize=BATCH_ROWS):
        code = pc.index_in(batch.column(name).cast(pa.string()), value_set=value_set).to_numpy(zero_copy_only=False)
        rows = np.column_stack([batch.column(column).to_numpy(zero_copy_only=False) for column in columns])
        for at in range(len(levels)):
            parts[at] = _added(parts[at], columns, rows[code == at])
    return _stacked(columns, parts)


def _added(so_far: Moments | None, columns: Sequence[str], rows: FloatArray) -> Moments | None:
    if len(rows) == 0:
        return so_far
    found = _of_any_number(columns, rows)
    return found if so_far is None else so_far + found


def _of_any_number(columns: Sequence[str], rows: FloatArray) -> Moments:
    if len(rows) > 1:
        return moments_of_rows(columns, rows)
    k = len(columns)
    return Moments(tuple(columns), np.array(1.0), rows[0].astype(np.float64), np.zeros((k, k)))


def _stacked(columns: Sequence[str], parts: Sequence[Moments | None]) -> Moments:
    k = len(columns)
    nothing = Moments(tuple(columns), np.array(0.0), np.zeros(k), np.zeros((k, k)))
    found = [part or nothing for part in parts]
    return Moments(
        tuple(columns),
        np.stack([part.n for part in found]),
        np.stack([part.mean for part in found]),
        np.stack([part.cov for part in found]),
    )
