"""Sufficient statistics: what every effect, interval and test of a readout is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.arrays import FloatArray


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

    def __getitem__(self, index: int) -> Moments:
        """Return the moments at one position of the first leading axis."""
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
