"""A grid of quantiles that turns features into a few hundred steps before they are learned from."""

from __future__ import annotations

from typing import Self

import numpy as np

from recsys.propensity.snapshot import FloatArray

N_STEPS = 200  # below scikit-learn's 255 bins, so that it takes the steps as they are
MAX_ROWS = 50_000


class Grid:
    """Replaces each value by the number of its quantile step; missing values stay missing.

    scikit-learn 1.9 looks for weighted quantiles one at a time, which takes minutes for a hundred features; on a
    grid there is nothing to look for, and the model learns the same splits.
    """

    def fit(self, values: FloatArray) -> Self:
        """Learn the steps of each feature from at most 50,000 evenly spaced rows of `(n, n_features)`."""
        rows = values[:: max(1, len(values) // MAX_ROWS)]
        shares = np.linspace(0.0, 1.0, N_STEPS + 1)[1:-1]
        self.edges_ = [_edges(rows[:, column], shares) for column in range(rows.shape[1])]
        return self

    def transform(self, values: FloatArray) -> FloatArray:
        """Return the number of each value's step, `(n, n_features)`."""
        found = np.empty(values.shape, dtype=np.float32)
        for column, edges in enumerate(self.edges_):
            given = values[:, column]
            found[:, column] = np.searchsorted(edges, given)
            found[np.isnan(given), column] = np.nan
        return found


def _edges(given: FloatArray, shares: FloatArray) -> FloatArray:
    present = given[~np.isnan(given)]
    return np.unique(np.quantile(present, shares).astype(np.float32)) if len(present) else np.zeros(0, np.float32)
