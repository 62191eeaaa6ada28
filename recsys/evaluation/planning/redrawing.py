"""Accounts of the past assigned anew, thousands of times: the moments of every arm, and effects planted in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from recsys.arrays import FloatArray, IntArray
from recsys.evaluation.statistics.metric import Metric
from recsys.evaluation.statistics.moments import Moments
from recsys.experiments.plan import ExperimentPlan

_CELLS: Final = 8_000_000
"""Units x draws that are held in memory at once."""


def redrawn(
    values: Mapping[str, FloatArray], plan: ExperimentPlan, draws: int, groups: IntArray | None
) -> list[Moments]:
    """Return the moments of each arm, control first, with the draws as leading axis."""
    columns = tuple(values)
    rows = np.column_stack([values[name] for name in columns])
    centre = rows.mean(axis=0)
    rows = rows - centre
    low = np.tril_indices(len(columns))
    products = np.column_stack([np.ones(len(rows)), rows, rows[:, low[0]] * rows[:, low[1]]])
    n_arms = len(plan.arms)
    sums = np.concatenate(
        [
            np.stack([(arm == at).astype(np.float64) @ products for at in range(n_arms)], axis=1)
            for arm in drawn_assignments(plan, draws, len(rows), groups)
        ]
    )
    return [_of_sums(columns, centre, sums[:, at]) for at in range(n_arms)]


def drawn_assignments(plan: ExperimentPlan, draws: int, n_units: int, groups: IntArray | None) -> Iterator[IntArray]:
    """Yield the arm of every unit, control 0, for some draws at a time: shape `(n_some, n_units)`."""
    rng = np.random.default_rng(list(hashlib.blake2b(plan.salt.encode(), digest_size=16).digest()))
    edges = np.cumsum(plan.shares_from_control)[:-1]
    n_drawn = n_units if groups is None else int(groups.max()) + 1
    some = max(1, _CELLS // n_units)
    for start in range(0, draws, some):
        arms = np.searchsorted(edges, rng.random((min(some, draws - start), n_drawn)), side="right")
        yield arms if groups is None else arms[:, groups]


def _of_sums(columns: tuple[str, ...], centre: FloatArray, sums: FloatArray) -> Moments:
    """Moments from the number of units, the sums and the sums of products of centred values."""
    k = len(columns)
    n = sums[:, 0]
    low = np.tril_indices(k)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums[:, 1 : k + 1] / n[:, None]
        cov = np.empty((len(n), k, k))
        cov[:, low[0], low[1]] = cov[:, low[1], low[0]] = sums[:, k + 1 :]
        cov = (cov - n[:, None, None] * mean[:, :, None] * mean[:, None, :]) / (n - 1)[:, None, None]
    return Moments(columns, n, mean + centre, cov)


def with_planted(arm: Moments, metric: Metric, relative: float, yes_or_no: frozenset[str]) -> Moments:
    """Every unit's value times `1 + relative`; of yes and no the rate, with its own variance."""
    at = arm.at(metric.value.numerator)
    factor = 1 + relative
    scale = np.ones(len(arm.columns))
    scale[at] = factor
    mean, cov = arm.mean * scale, arm.cov * np.outer(scale, scale)
    if metric.value.numerator in yes_or_no:
        rate = np.minimum(mean[:, at], 1.0)
        cov[:, at, at] = rate * (1 - rate) * arm.n / (arm.n - 1)
    return replace(arm, mean=mean, cov=cov)
