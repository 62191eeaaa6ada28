"""Many tests at once: adjusted p-values of a family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from statsmodels.stats.multitest import multipletests

Correction = Literal["holm", "bh"]


def adjusted_p_values(p_values: Sequence[float], correction: Correction) -> tuple[float, ...]:
    """Return the p-values adjusted over the family; NaN (not testable) stays NaN and does not count.

    `holm` controls the chance of any false claim, `bh` (Benjamini-Hochberg) the share of false claims.

    Example:
        >>> adjusted_p_values([0.01, 0.04, 0.03], "holm")
        (0.03, 0.06, 0.06)
    """
    given = np.asarray(p_values, dtype=np.float64)
    found = np.full(len(given), np.nan)
    testable = ~np.isnan(given)
    if testable.any():
        method = "holm" if correction == "holm" else "fdr_bh"
        found[testable] = multipletests(given[testable], method=method)[1]
    return tuple(float(value) for value in found)
