"""Sufficient statistics by arm, from which every effect, interval and test of a readout is computed.

DuckDB reads, filters and caps; the cross products are a matrix product on each batch, in the order of the rows, so
that the same table gives the same bits (DuckDB's own parallel aggregates add up in any order).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.arrays import FloatArray
from recsys.evaluation.statistics.metric import UNITS


@dataclass(frozen=True)
class Moments:
    """Counts, means and covariances of some columns; leading axes (arms, days, simulations) are allowed.

    Attributes:
        columns: names of the k columns.
        n: units, shape `(...)`.
        mean: shape `(..., k)`.
        cov: sample covariances (divisor n - 1), shape `(..., k, k)`.
    """

    columns: tuple[str, ...]
    n: FloatArray
    mean: FloatArray
    cov: FloatArray

    def at(self, name: str) -> int:
        """Return the position of a column."""
        return self.columns.index(name)

    def __getitem__(self, index: int | list[int]) -> Moments:
        """Return the moments at one position of the first leading axis, or at several in their order."""
        return Moments(self.columns, self.n[index], self.mean[index], self.cov[index])

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both samples together (Chan, Golub, LeVeque 1979)."""
        n = self.n + other.n
        gap = other.mean - self.mean
        share = (other.n / n)[..., None]
        between = gap[..., :, None] * gap[..., None, :] * (self.n * other.n / n)[..., None, None]
        within = self.cov * (self.n - 1)[..., None, None] + other.cov * (other.n - 1)[..., None, None]
        return Moments(self.columns, n, self.mean + gap * share, (within + between) / (n - 1)[..., None, None])

    def to_dict(self) -> dict[str, object]:
        """Return JSON values; `cov` is the lower triangle, row by row."""
        lower = np.tril_indices(len(self.columns))
        return {
            "columns": list(self.columns),
            "n": int(self.n),
            "mean": [float(value) for value in self.mean],
            "cov": [float(value) for value in self.cov[lower]],
        }


def moments_of_rows(columns: Sequence[str], rows: FloatArray) -> Moments:
    """Return the moments of an array of units.

    Args:
        columns: names of the k columns.
        rows: shape `(..., n, k)`: one row a unit.

    Example:
        >>> moments_of_rows(["x"], np.array([[1.0], [3.0]])).cov
        array([[2.]])
    """
    n = rows.shape[-2]
    mean = rows.mean(axis=-2)
    centred = rows - mean[..., None, :]
    cov = np.matmul(np.swapaxes(centred, -1, -2), centred) / (n - 1)
    return Moments(tuple(columns), np.full(rows.shape[:-2], float(n)), mean, cov)


def moments_of_groups(columns: Sequence[str], groups: Sequence[Mapping[str, FloatArray]]) -> Moments:
    """Return the moments of several groups of units, each given by its columns: leading axis `(n_groups,)`."""
    parts = [_added(None, columns, np.column_stack([group[name] for name in columns])) for group in groups]
    return _stacked(columns, parts)


def cluster_sums(table: ibis.Table, columns: Sequence[str], cluster: str) -> dict[str, FloatArray]:
    """Return the sum of each column over the units of each cluster; `UNITS` is their number.

    Args:
        table: one row a unit.
        columns: columns of doubles, and `UNITS`.
        cluster: the column of text that names the cluster; clusters stand in the order of their first rows.
    """
    found = table.select(cluster, *(name for name in columns if name != UNITS)).to_pyarrow().combine_chunks()
    code = found.column(cluster).combine_chunks().dictionary_encode().indices.to_numpy()
    n_units = np.bincount(code).astype(np.float64)
    return {
        name: n_units if name == UNITS else np.bincount(code, found.column(name).to_numpy()).astype(np.float64)
        for name in columns
    }


_BATCH_ROWS = 131_072


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
    for batch in whole.to_batches(max_chunksize=_BATCH_ROWS):
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


@dataclass(frozen=True)
class Sums:
    """Sufficient statistics of one slice of the data.

    Attributes:
        slice: `all`, `day=...` or `segment=level`.
        arms: in the order of the moments' leading axis.
        moments: counts, means, covariances by arm.
    """

    slice: str
    arms: tuple[str, ...]
    moments: Moments
