"""Rows to learn from, and the folds that they are judged in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from recsys.arrays import FloatArray, IntArray
from recsys.models.propensity.encoding import EncodedTable

Rows = NDArray[np.intp]
Splits = list[tuple[Rows, Rows]]

FEWEST_OF_A_CLASS = 10  # below, folds would hold too few of the rarer class to judge anything


@dataclass(frozen=True)
class Examples:
    """Rows to learn from.

    Attributes:
        table: the encoded columns.
        y: 0 or 1, `(n_rows,)`.
        weight: of each row.
        group: number of each row's group; None where each row is its own.
    """

    table: EncodedTable
    y: IntArray
    weight: FloatArray
    group: IntArray | None

    def take(self, rows: Rows) -> Examples:
        """Return the given rows."""
        group = None if self.group is None else self.group[rows]
        return Examples(self.table.take(rows), self.y[rows], self.weight[rows], group)

    def rarer(self) -> int:
        """Return how many rows, or groups, the rarer class has."""
        if self.group is None:
            return int(np.bincount(self.y, minlength=2).min())
        return min(len(np.unique(self.group[self.y == label])) for label in (0, 1))

    def splits(self, folds: int, seed: int) -> Splits:
        """Return seen and unseen rows of each fold, each class in its share, no group in two folds."""
        folds, rows = min(folds, self.rarer()), np.zeros(len(self.y))
        if self.group is None:
            return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, self.y))
        return list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(rows, self.y, self.group))


def stratified_sample(y: IntArray, n: int, seed: int) -> Rows:
    """Return `n` rows at random, each class in its share, in order."""
    if len(y) <= n:
        return np.arange(len(y))
    rng = np.random.default_rng(seed)
    parts = []
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        take = max(round(n * len(rows) / len(y)), min(len(rows), FEWEST_OF_A_CLASS))
        parts.append(rng.choice(rows, take, replace=False))
    return np.sort(np.concatenate(parts))
