"""How the values of a column lie: what a mean hides and where a cap would cut."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import numpy as np

from recsys.evaluation.readout.units import ARM, UnitTable
from recsys.evaluation.readout.views import Histogram

N_BINS = 24


def histogram_of(units: UnitTable, column: str, caps: Mapping[str, float]) -> Histogram | None:
    """Return shares of units by bin (equal widths in logs above zero), or None for a yes or no."""
    facts = units.facts[column]
    if facts.is_binary or facts.high <= 0:
        return None
    edges = _edges(units, column, facts.high)
    value = units.table[column]
    at = ((value.log() - float(np.log(edges[0]))) / float(np.log(edges[1] / edges[0]))).floor().cast("int64")
    bin_ = ibis.cases((value <= 0, -1), else_=ibis.least(ibis.greatest(at, 0), N_BINS - 1))
    rows = units.table.select(ARM, bin=bin_).group_by([ARM, "bin"]).agg(n=ibis._.count()).to_pyarrow().to_pylist()
    counts = {arm: np.zeros(N_BINS + 1) for arm in units.arms}
    for row in rows:
        counts[row[ARM]][row["bin"]] += row["n"]  # bin -1, the zeros, is the last cell
    shares = {arm: found / found.sum() for arm, found in counts.items()}
    return Histogram(
        column=column,
        edges=tuple(float(edge) for edge in edges),
        shares={arm: tuple(float(share) for share in found[:-1]) for arm, found in shares.items()},
        zero_share={arm: float(found[-1]) for arm, found in shares.items()},
        cap=caps.get(column),
    )


def _edges(units: UnitTable, column: str, high: float) -> np.ndarray:
    value = units.table[column]
    low = float(value.min(where=value > 0).to_pyarrow().as_py())
    return np.geomspace(low, high, N_BINS + 1) if high > low else np.geomspace(low / 2, low * 2, N_BINS + 1)
