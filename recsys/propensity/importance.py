"""What the order rests on: how much worse it gets when a feature, or a whole group of them, is shuffled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from recsys.arrays import AnyFloatArray, BoolArray

FEATURE = "feature"
IMPORTANCE = "importance"

Score = Callable[[AnyFloatArray], AnyFloatArray]


def permutation_importance(
    score: Score,
    values: AnyFloatArray,
    bought: BoolArray,
    columns: Mapping[str, Sequence[int]],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return, for each entry of `columns`, the fall of the AUC when those columns are shuffled together.

    0 is no use; related features share theirs, so that a group may be worth more than its members together. Breiman,
    Random Forests, 2001, section 10.

    Args:
        score: of features `(n, n_features)`, higher is better.
        values: features `(n, n_features)`.
        bought: labels `(n,)`, of both kinds.
        columns: positions of the columns by name.
        rng: draws one order of the rows, the same for every entry.

    Returns:
        Columns `feature` and `importance`, highest first.
    """
    order = rng.permutation(len(values))
    whole = auc(score(values), bought)
    falls = {}
    for name, positions in columns.items():
        shuffled = values.copy()
        shuffled[:, positions] = values[order][:, positions]
        falls[name] = whole - auc(score(shuffled), bought)
    found = pd.DataFrame({FEATURE: list(falls), IMPORTANCE: list(falls.values())})
    return found.sort_values([IMPORTANCE, FEATURE], ascending=[False, True], ignore_index=True)


def auc(score: AnyFloatArray, bought: BoolArray) -> float:
    """Return the chance that a bought candidate scores above another; ties count half.

    Example:
        >>> auc(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
        0.5
    """
    _, tie, n_equal = np.unique(score, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(n_equal) - (n_equal - 1) / 2.0
    n_bought = int(bought.sum())
    above = mean_rank[tie][bought].sum() - n_bought * (n_bought + 1) / 2.0
    return float(above / (n_bought * (len(bought) - n_bought)))
