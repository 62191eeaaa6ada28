"""A grid of quantiles that turns features into a few hundred steps before they are learned from.

scikit-learn 1.9 looks for weighted quantiles one at a time, which takes longer than the trees; where a feature comes in
no more steps than it has bins, there is nothing to look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier

from recsys.arrays import AnyFloatArray

N_STEPS = 200  # below scikit-learn's 255 bins, so that it takes the steps as they are
MAX_ROWS = 50_000


class QuantileBins(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Replaces each value by the number of its quantile step; missing values stay missing."""

    def fit(self, values: AnyFloatArray) -> Self:
        """Learn the steps of each feature from at most 50,000 evenly spaced rows of `(n, n_features)`."""
        rows = values[:: max(1, len(values) // MAX_ROWS)]
        shares = np.linspace(0.0, 1.0, N_STEPS + 1)[1:-1]
        self.edges_ = [_edges(rows[:, column], shares) for column in range(rows.shape[1])]
        return self

    def transform(self, values: AnyFloatArray) -> AnyFloatArray:
        """Return the number of each value's step, `(n, n_features)`."""
        found = np.empty(values.shape, dtype=np.float32)
        for column, edges in enumerate(self.edges_):
            given = values[:, column]
            found[:, column] = np.searchsorted(edges, given)
            found[np.isnan(given), column] = np.nan
        return found


def _edges(given: AnyFloatArray, shares: AnyFloatArray) -> AnyFloatArray:
    present = given[~np.isnan(given)]
    return np.unique(np.quantile(present, shares).astype(np.float32)) if len(present) else np.zeros(0, np.float32)


def weighted_edges(given: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the edges between scikit-learn's bins of a feature, `(n_edges,)`; None where it has fewer values.

    The averaged inverse of the weighted distribution at each 255th part (Hyndman and Fan 1996, definition 2).
    """
    present = ~np.isnan(given) & (weight > 0)
    order = np.argsort(given[present], kind="stable")
    rising, mass = given[present][order], np.cumsum(weight[present][order])
    if len(rising) == 0 or 1 + np.count_nonzero(rising[1:] != rising[:-1]) <= _BINS:
        return None
    wanted = np.arange(1, _BINS) / _BINS * mass[-1]
    low, high = (np.minimum(np.searchsorted(mass, wanted, side), len(mass) - 1) for side in ("left", "right"))
    return np.unique((rising[low] + rising[high]) / 2)


_BINS = 255  # of scikit-learn, those of missing values apart


def ask_for_values(boosting: HistGradientBoostingClassifier, edges: Sequence[NDArray[Any] | None]) -> None:
    """Make trees that were learned on steps ask for the values themselves, in place.

    A value is on a step at or below t exactly where it is at or below the t-th edge: the answers are the same, and a
    row is no longer looked up in every grid before it is scored, which took longer than the trees.

    Args:
        boosting: learned on `np.searchsorted(edges, values)` of each feature.
        edges: of each feature; None where it was learned on the values.
    """
    for trees in boosting._predictors:  # noqa: SLF001 - scikit-learn has no public door to the thresholds of its trees
        for tree in trees:
            for node in tree.nodes:
                if node["is_leaf"] or edges[node["feature_idx"]] is None:
                    continue
                known, step = np.asarray(edges[node["feature_idx"]]), node["num_threshold"]
                node["num_threshold"] = known[int(step)] if step < len(known) else np.inf
