"""Running sums with one row an experiment, variant, metric and time, control beside it: the layout of ASOS' data.

Source: Liu et al., Datasets for Online Controlled Experiments (arXiv 2111.10198), the ASOS Digital Experiments Dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import ibis
import numpy as np
import pandas as pd

from recsys.data.numbers import as_text
from recsys.errors import ReadoutError
from recsys.evaluation.readout.sums.group_sums import N

TIME = "time_since_start"
"""Column of the days since the experiment's start; sums are to date."""
_EXPERIMENT, _VARIANT, _METRIC = _IDS = ("experiment_id", "variant_id", "metric_id")
_OF_CONTROL: Final = ("count_c", "mean_c", "variance_c")
_OF_VARIANT: Final = ("count_t", "mean_t", "variance_t")
_MOST_NAMED = 10


@dataclass(frozen=True)
class LongSums:
    """One experiment of a table in the long layout.

    Attributes:
        experiment: its id.
        table: one row an arm and time, as `read_group_sums` takes it.
        notes: sentences about what was left out.
    """

    experiment: str
    table: pd.DataFrame
    notes: tuple[str, ...]


def is_long(columns: Sequence[str]) -> bool:
    """Return whether a table has the columns of the long layout."""
    return {*_IDS, TIME, *_OF_CONTROL, *_OF_VARIANT} <= set(columns)


def read_long(
    source: ibis.Table, metrics: Sequence[str], experiment: str | None, *, arm: str, control: str
) -> LongSums:
    """Return the sums of one experiment, one row an arm and time.

    Args:
        source: a table in the long layout.
        metrics: the ids of the metrics that are measured.
        experiment: its id; None where the table has one alone.
        arm: name of the column of the arm in what is returned; variants are named by their ids.
        control: name of the control in it.

    Raises:
        ReadoutError: an experiment or a metric is unknown or not named, rows stand twice, or units differ between
            metrics or the control between variants.
    """
    named = {name: as_text(source[name]) for name in _IDS}
    figures = {name: source[name].cast("float64") for name in (TIME, *_OF_CONTROL, *_OF_VARIANT)}
    frame: pd.DataFrame = source.select(**named, **figures).to_pandas()
    chosen = _chosen(frame, experiment)
    frame = frame[frame[_EXPERIMENT] == chosen]
    known = sorted(frame[_METRIC].unique())
    unknown = [name for name in metrics if name not in known]
    if unknown or not metrics:
        what = f"metric {unknown[0]!r} is not" if unknown else "no metric is named of those"
        raise ReadoutError(
            f"{what} in experiment {chosen}, must be one of {_listed(known)}; give it as the column of a metric"
        )
    frame = frame[frame[_METRIC].isin(list(metrics))]
    _refuse_repeated(frame)
    whole, notes = _whole_times(frame, len(set(metrics)) * frame[_VARIANT].nunique())
    _refuse_unequal(
        whole, [TIME, _VARIANT], ("count_c", "count_t"), "units of the metrics", "judge one metric at a time"
    )
    _refuse_unequal(whole, [TIME, _METRIC], _OF_CONTROL, "control of the variants", "keep the rows of one variant")
    sides = [_side(whole, _OF_VARIANT, whole[_VARIANT], arm)]
    first = whole[whole[_VARIANT] == whole[_VARIANT].min()]
    sides.append(_side(first, _OF_CONTROL, pd.Series(control, index=first.index), arm))
    return LongSums(chosen, pd.concat(sides, ignore_index=True), notes)


def _chosen(frame: pd.DataFrame, experiment: str | None) -> str:
    known = sorted(frame[_EXPERIMENT].dropna().unique())
    if experiment is None and len(known) == 1:
        return str(known[0])
    if experiment is None or experiment not in known:
        what = f"{len(known):,} experiments in the table" if experiment is None else f"experiment {experiment!r}"
        raise ReadoutError(f"{what}, must be one of {_listed(known)}; name it as experiment")
    return experiment


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _refuse_repeated(frame: pd.DataFrame) -> None:
    repeated = frame[frame.duplicated([_VARIANT, _METRIC, TIME])]
    if len(repeated):
        row = repeated.iloc[0]
        raise ReadoutError(
            f"variant {row[_VARIANT]}, metric {row[_METRIC]} and {TIME} {row[TIME]:g} stand twice, must stand once; "
            "was the file joined to itself?"
        )


def _whole_times(frame: pd.DataFrame, n_series: int) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The times at which all variants and metrics have all their figures, and how many were left out."""
    told = frame.dropna(subset=[TIME, *_OF_CONTROL, *_OF_VARIANT])
    per_time = told.groupby(TIME).size()
    times = per_time.index[per_time == n_series]
    n_times = frame[TIME].nunique()
    if len(times) == 0:
        raise ReadoutError(
            f"none of {n_times:,} times has every figure of every variant and metric, must be one or more; judge fewer "
            "metrics at once"
        )
    n_left_out = n_times - len(times)
    said = f"{n_left_out:,} of {n_times:,} times lack a figure of a variant or metric; they are left out"
    return told[told[TIME].isin(times)], (said,) if n_left_out else ()


def _refuse_unequal(frame: pd.DataFrame, by: list[str], names: Sequence[str], what: str, remedy: str) -> None:
    ranges = frame.groupby(by)[list(names)].agg(["min", "max"])
    for name in names:
        low, high = ranges[name, "min"].to_numpy(), ranges[name, "max"].to_numpy()
        apart = ~np.isclose(low, high, rtol=1e-9, atol=0)
        if apart.any():
            at = int(np.argmax(apart))
            raise ReadoutError(
                f"{what} differ at {TIME} {ranges.index[at][0]:g} ({name} is {low[at]:,.10g} and {high[at]:,.10g}), "
                f"must be the same; {remedy}"
            )


def _side(frame: pd.DataFrame, names: Sequence[str], arms: pd.Series, arm: str) -> pd.DataFrame:
    """One row a time and arm, with mean and variance of each metric."""
    count, mean, variance = names
    wide = frame.assign(**{arm: arms}).pivot_table(list(names), [TIME, arm], _METRIC, aggfunc="first")
    columns = {f"{metric}_mean": wide[mean, metric] for metric in frame[_METRIC].unique()}
    columns |= {f"{metric}_variance": wide[variance, metric] for metric in frame[_METRIC].unique()}
    return pd.DataFrame({N: wide[count].to_numpy()[:, 0], **columns}).reset_index()
