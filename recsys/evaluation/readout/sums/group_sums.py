"""Sums of each arm as a table says them: units, means and variances, or sums and sums of squares, to date by day."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from recsys.data.sources import DataSource, connect, open_source
from recsys.errors import ReadoutError
from recsys.evaluation.readout.design import refuse_missing
from recsys.evaluation.readout.units import NOTHING_MIXED, Mixed
from recsys.evaluation.statistics.column_facts import ColumnFacts
from recsys.evaluation.statistics.metric import UNITS, Metric
from recsys.evaluation.statistics.moments import Moments

N = "n"
"""Column of the number of units."""


@dataclass(frozen=True)
class GroupSums:
    """What is known of an experiment's units by their sums.

    Attributes:
        arms: sorted, the moments' leading axis.
        moments: of the units until the last day.
        looks: moments to date by day, the last too; empty where no days are known.
        levels: moments by segment and level.
    """

    arms: tuple[str, ...]
    moments: Moments
    looks: Mapping[str, Moments] = field(default_factory=dict)
    levels: Mapping[str, Mapping[str, Moments]] = field(default_factory=dict)
    mixed: Mixed = NOTHING_MIXED
    has_ids: bool = False
    has_exposed: bool = False

    def counts(self) -> dict[str, int]:
        """Return the number of assigned units by arm."""
        return _counts(self.arms, self.moments)

    def unit_counts(self) -> dict[str, int]:
        """Return the number of units by arm; the sums of clusters say how many units they hold."""
        if UNITS not in self.moments.columns:
            return self.counts()
        units = self.moments.n * self.moments.mean[:, self.moments.at(UNITS)]
        return {arm: round(float(units[at])) for at, arm in enumerate(self.arms)}

    def exposed_counts(self) -> dict[str, int]:
        """Return nothing: sums do not say who was exposed."""
        return {}

    def segment_counts(self, segment: str) -> dict[str, dict[str, int]]:
        """Return the number of units by level and arm."""
        return {level: _counts(self.arms, moments) for level, moments in self.levels.get(segment, {}).items()}

    def daily_counts(self) -> np.ndarray | None:
        """Return units to date by day and arm, shape `(n_days, n_arms)`; None where no days are known."""
        return np.stack([moments.n for moments in self.looks.values()]) if self.looks else None

    def facts(self) -> dict[str, ColumnFacts]:
        """Return what sums tell of each column: of ones and zeros the squares add up to what they themselves do."""
        found = {}
        for at, name in enumerate(self.moments.columns):
            mean, variance = self.moments.mean[:, at], self.moments.cov[:, at, at]
            squares = variance * (self.moments.n - 1) / self.moments.n + mean**2
            found[name] = ColumnFacts(
                low=float(mean.min()),
                high=float(mean.max()),
                n_negative=0,
                is_binary=bool(np.allclose(squares, mean, rtol=1e-9, atol=0) and (mean <= 1).all()),
                is_constant=bool((variance == 0).all() and (mean == mean[0]).all()),
            )
        return found


def _counts(arms: tuple[str, ...], moments: Moments) -> dict[str, int]:
    return {arm: int(moments.n[at]) for at, arm in enumerate(arms)}


def read_group_sums(table: DataSource, *, arm: str, metrics: Sequence[Metric], day: str | None) -> GroupSums:
    """Return the sums of a table with one row an arm, or an arm and day.

    For each column `x` that a metric uses the table has `x_mean` and `x_variance`, or `x_sum` and `x_squares` (the sum
    of the squares); for each two columns `x`, `y` of one metric `x_y_covariance`, or `x_y_products` (the sum of `x y`).

    Args:
        table: the rows.
        arm: column of the arm.
        metrics: what is measured.
        day: column by which the rows are in order, each with the sums of all units to date; None: one row an arm.

    Raises:
        DataError: the table can't be read or lacks a column.
        ReadoutError: it has several rows an arm or day, a value is missing, or units grow fewer from day to day.
    """
    source = open_source(connect(), table, name="sums").table
    refuse_missing(source, [arm, N, *([day] if day else [])])
    frame: pd.DataFrame = source.to_pandas()
    columns = tuple(dict.fromkeys(name for metric in metrics for name in metric.columns))
    pairs = {frozenset(pair) for metric in metrics for pair in itertools.combinations(metric.columns, 2)}
    arms = tuple(sorted(frame[arm].astype(str).unique()))
    days = sorted(frame[day].unique()) if day else [None]
    looks = {}
    for label in days:
        rows = frame if day is None else frame[frame[day] == label]
        looks[str(label)] = _look(rows, arm, arms, columns, pairs, label)
    found = list(looks.values())
    for earlier, later in itertools.pairwise(found):
        if (later.n < earlier.n).any():
            raise ReadoutError(f"units grow fewer along {day!r}, must be to date: each row holds all units so far")
    return GroupSums(arms, found[-1], looks if day else {})


def _look(
    frame: pd.DataFrame,
    arm: str,
    arms: tuple[str, ...],
    columns: tuple[str, ...],
    pairs: set[frozenset[str]],
    day: object,
) -> Moments:
    names = frame[arm].astype(str)
    where = "" if day is None else f" on {day}"
    if names.nunique() < len(names) or set(names) != set(arms):
        raise ReadoutError(
            f"{len(names)} rows of {names.nunique()} arms{where}, must be one row for each of {', '.join(arms)}; give "
            "the column of the days as day where each has its own"
        )
    rows = frame.set_index(names).loc[list(arms)]
    n = _numbers(rows, N)
    if (n < 2).any() or (n != np.floor(n)).any():
        raise ReadoutError(f"{N!r} is {n.tolist()}{where}, must be whole numbers of units, 2 or more in each arm")
    mean, cov = np.zeros((len(arms), len(columns))), np.zeros((len(arms), len(columns), len(columns)))
    for at, name in enumerate(columns):
        mean[:, at], cov[:, at, at] = _of_column(rows, name, n)
    for first, second in (sorted(columns.index(name) for name in pair) for pair in pairs):
        value = _of_pair(rows, columns[first], columns[second], n, mean[:, first] * mean[:, second])
        cov[:, first, second] = cov[:, second, first] = value
    _refuse_impossible(columns, mean, cov, where)
    return Moments(columns, n, mean, cov)


def _refuse_impossible(columns: tuple[str, ...], mean: np.ndarray, cov: np.ndarray, where: str) -> None:
    """No values have a variance below zero, or a covariance above the product of their spreads."""
    variance = np.diagonal(cov, axis1=1, axis2=2)
    rounding = 1e-9 * (1 + mean**2)
    for at, name in enumerate(columns):
        if (variance[:, at] < -rounding[:, at]).any():
            raise ReadoutError(
                f"{name!r} has the variance {variance[:, at].min():g}{where}, must be 0 or more: is {name}_squares the "
                "sum of the squares of single units, and the variance one of units and not of means?"
            )
    spread = np.sqrt(np.maximum(variance, 0.0))
    most = spread[:, :, None] * spread[:, None, :] * (1 + 1e-6) + np.sqrt(rounding[:, :, None] * rounding[:, None, :])
    for _, first, second in np.argwhere(np.abs(cov) > most):
        if first < second:
            raise ReadoutError(
                f"{columns[first]!r} and {columns[second]!r} have a covariance{where} beyond the product of their "
                "standard deviations, must be at most that; is it the sum of products of single units?"
            )


def _of_column(rows: pd.DataFrame, name: str, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if f"{name}_mean" in rows:
        return _numbers(rows, f"{name}_mean"), _numbers(rows, f"{name}_variance")
    if f"{name}_sum" not in rows:
        have = ", ".join(rows.columns)
        raise ReadoutError(
            f"{name!r} has neither {name}_mean and {name}_variance nor {name}_sum and {name}_squares, must have one "
            f"pair; the table has {have}"
        )
    mean = _numbers(rows, f"{name}_sum") / n
    return mean, (_numbers(rows, f"{name}_squares") - n * mean**2) / (n - 1)


def _of_pair(rows: pd.DataFrame, first: str, second: str, n: np.ndarray, product: np.ndarray) -> np.ndarray:
    for one, other in ((first, second), (second, first)):
        if f"{one}_{other}_covariance" in rows:
            return _numbers(rows, f"{one}_{other}_covariance")
        if f"{one}_{other}_products" in rows:
            return np.asarray((_numbers(rows, f"{one}_{other}_products") - n * product) / (n - 1))
    raise ReadoutError(
        f"{first!r} and {second!r} stand in one metric, must have {first}_{second}_covariance or "
        f"{first}_{second}_products (the sum of the products): a ratio and CUPED need it"
    )


def _numbers(rows: pd.DataFrame, name: str) -> np.ndarray:
    if name not in rows:
        raise ReadoutError(f"column {name!r} is not in the table, must be there; it has {', '.join(rows.columns)}")
    found = pd.to_numeric(rows[name], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(found).all():
        raise ReadoutError(f"{name!r} has rows without a number, must have one for every arm and day")
    return found
