"""Pre-period values for CUPED: several joined into the one that explains most, and those that are missing filled."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import numpy as np
from scipy import stats

from recsys.arrays import FloatArray
from recsys.errors import ReadoutError
from recsys.evaluation.statistics.moments import Moments

JOIN = "+"
"""Between the columns of one covariate, as in `revenue_before+visits_before`."""
_SURE = 0.001


def parts_of(column: str) -> tuple[str, ...]:
    """Return the columns of a covariate.

    Example:
        >>> parts_of("revenue_before + visits_before")
        ('revenue_before', 'visits_before')
    """
    return tuple(part.strip() for part in column.split(JOIN))


def joint_weights(total: Moments, value: str, parts: Sequence[str]) -> FloatArray:
    """Return the weights with which the parts explain most of a value: those of a regression on units of all arms.

    With them as one covariate CUPED takes out what all parts together do; its own coefficient is then 1.
    """
    at = [total.at(name) for name in parts]
    found, *_ = np.linalg.lstsq(total.cov[np.ix_(at, at)], total.cov[at, total.at(value)], rcond=None)
    return np.asarray(found, dtype=np.float64)


def fill_missing(table: ibis.Table, names: Sequence[str], arm: str) -> tuple[ibis.Table, tuple[str, ...]]:
    """Return the table with missing pre-period values set to the mean of the known ones, and how many there were.

    The mean is that of all arms and the values are from before the start, so that no effect is biased; a column without
    any value is left as it is.

    Raises:
        ReadoutError: values are missing more often in one arm than chance explains: they are not from before the start.
    """
    notes = []
    for name in names:
        found = table.select(arm, name).to_pyarrow()
        values = found.column(name).to_numpy().astype(np.float64)
        is_missing = np.isnan(values)
        if not is_missing.any() or is_missing.all():
            continue
        arms, code = np.unique(found.column(arm).to_numpy().astype(str), return_inverse=True)
        counts = np.array([[is_missing[code == at].sum(), (~is_missing[code == at]).sum()] for at in range(len(arms))])
        shares = ", ".join(f"{one} {n[0] / n.sum():.1%}" for one, n in zip(arms, counts, strict=True))
        if len(arms) > 1 and stats.chi2_contingency(counts).pvalue < _SURE:
            raise ReadoutError(
                f"covariate {name!r} is missing more often in one arm ({shares}), must be from before the start, when "
                "arms are alike; leave it out"
            )
        known = table[name].isnull() | table[name].isnan()
        table = table.mutate(**{name: known.ifelse(float(np.nanmean(values)), table[name])})
        notes.append(f"{int(is_missing.sum()):,} units have no {name} ({shares}); it is set to the mean of the others")
    return table, tuple(notes)
