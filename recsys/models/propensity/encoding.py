"""Any account table as numbers: kinds of columns, levels of categories, missing values.

The encoding never looks at the target, so that a rare level can't carry its own answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types
from sklearn.base import BaseEstimator

from recsys.arrays import FloatArray
from recsys.errors import MissingColumnError

ColumnKind = Literal["number", "code", "category", "dropped"]

MISSING: Final = -1
_SECONDS_A_DAY: Final = 86_400.0
_NANOSECONDS_A_DAY: Final = _SECONDS_A_DAY * 1e9
_MOST_CODE_LEVELS: Final = 255  # of whole numbers that may be codes; boosting has no more bins
_FEWEST_CODE_LEVELS: Final = 3  # two are a flag: as a number and as a category they say the same
# Rows that a level needs to stand for itself, or that share of a large table; rarer ones share a level, too few to
# estimate an effect of each.
_RARE_COUNT: Final = 20
_RARE_SHARE: Final = 0.0005
_MOST_LEVELS: Final = 200  # of a category that stand for themselves, the most frequent first; bounds the width


@dataclass(frozen=True)
class EncodedTable:
    """A table as two blocks of arrays.

    Attributes:
        numbers: `(n_rows, n_numbers)`, NaN where missing; codes stand here too.
        levels: `(n_rows, n_categories)`, level numbers, `MISSING` where missing; codes stand here too.
    """

    numbers: FloatArray
    levels: NDArray[np.int32]

    def take(self, rows: NDArray[np.intp]) -> EncodedTable:
        """Return the given rows."""
        return EncodedTable(self.numbers[rows], self.levels[rows])

    def __len__(self) -> int:
        return len(self.numbers)


class TableEncoder(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Learns which columns are numbers, codes and categories, and the levels of the latter two.

    A *code* is a column of whole numbers with few levels: it may count something or name something. It is encoded as
    both, and the learner chooses.

    Attributes:
        columns_: names of the columns that were fitted, in order.
        kinds_: what each column is.
        levels_: for each category and code, the labels that stand for themselves, sorted; the level number of a label
            is its position, `len(levels)` is any other label.
    """

    def __init__(self, numbers: tuple[str, ...] = ()) -> None:
        self.numbers = numbers

    def fit(self, X: pd.DataFrame) -> Self:  # noqa: N803
        """Learn kinds and levels from a table."""
        self.columns_ = [str(name) for name in X.columns]
        self.kinds_: list[str] = []
        self.levels_: dict[str, list[str]] = {}
        for name, position in zip(self.columns_, range(X.shape[1]), strict=True):
            column = X.iloc[:, position]
            kind = _kind(column)
            if kind == "code" and name in self.numbers:
                kind = "number"
            if kind in ("code", "category"):
                self.levels_[name] = _frequent_levels(_labels(column))
            self.kinds_.append(kind)
        return self

    def transform(self, X: pd.DataFrame) -> EncodedTable:  # noqa: N803
        """Return a table's columns as numbers and levels; columns that were not fitted are ignored.

        Raises:
            MissingColumnError: a fitted column is not there.
        """
        named = {str(name): position for position, name in enumerate(X.columns)}
        missing = [name for name in self.columns_ if name not in named]
        if missing:
            raise MissingColumnError(
                f"columns {missing} are missing, found {sorted(named)}; give the columns that were fitted"
            )
        numbers, levels = [np.empty((len(X), 0))], [np.empty((len(X), 0), dtype=np.int32)]
        for name, kind in zip(self.columns_, self.kinds_, strict=True):
            column = X.iloc[:, named[name]]
            if kind in ("number", "code"):
                numbers.append(_numbers(column)[:, None])
            if kind in ("code", "category"):
                levels.append(_level_numbers(_labels(column), self.levels_[name])[:, None])
        return EncodedTable(np.hstack(numbers), np.hstack(levels))

    @property
    def number_names(self) -> list[str]:
        """Columns of the numbers block."""
        return [name for name, kind in zip(self.columns_, self.kinds_, strict=True) if kind in ("number", "code")]

    @property
    def level_names(self) -> list[str]:
        """Columns of the levels block."""
        return [name for name, kind in zip(self.columns_, self.kinds_, strict=True) if kind in ("code", "category")]

    @property
    def code_numbers(self) -> NDArray[np.bool_]:
        """Which columns of the numbers block are codes."""
        kinds = dict(zip(self.columns_, self.kinds_, strict=True))
        return np.array([kinds[name] == "code" for name in self.number_names], dtype=bool)

    @property
    def code_levels(self) -> NDArray[np.bool_]:
        """Which columns of the levels block are codes."""
        kinds = dict(zip(self.columns_, self.kinds_, strict=True))
        return np.array([kinds[name] == "code" for name in self.level_names], dtype=bool)

    @property
    def n_levels(self) -> list[int]:
        """Level numbers of each column of the levels block, the one for all other labels included."""
        return [len(self.levels_[name]) + 1 for name in self.level_names]


def _kind(column: pd.Series) -> ColumnKind:
    if not _is_numeric(column):
        labels = _labels(column)
        counts = labels.value_counts()
        varies = len(_frequent_levels(labels)) > 0 and len(counts) + labels.isna().any() > 1
        return "category" if varies else "dropped"
    values = _numbers(column)
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    if len(distinct) + (len(known) < len(values)) <= 1:
        return "dropped"
    whole = bool(np.all(distinct == np.round(distinct)))
    few = _FEWEST_CODE_LEVELS <= len(distinct) <= min(_MOST_CODE_LEVELS, len(known) // 5)
    return "code" if whole and few else "number"


def _is_numeric(column: pd.Series) -> bool:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return False
    if types.is_numeric_dtype(column) or types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
        return not types.is_complex_dtype(column)
    known = column.dropna()
    return (
        types.is_object_dtype(column) and len(known) > 0 and all(isinstance(v, (int, float, np.number)) for v in known)
    )


def _numbers(column: pd.Series) -> FloatArray:
    """Return a column as floats: times as days since 1970, anything that is no finite number as NaN."""
    if types.is_datetime64_any_dtype(column):
        utc = pd.to_datetime(column, utc=True).dt.tz_localize(None).astype("datetime64[ns]")
        values = np.where(utc.isna(), np.nan, utc.to_numpy().astype(np.int64) / _NANOSECONDS_A_DAY)
    elif types.is_timedelta64_dtype(column):
        values = column.dt.total_seconds().to_numpy(dtype=np.float64) / _SECONDS_A_DAY
    else:
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _labels(column: pd.Series) -> pd.Series:
    """Return a column as text labels, null where missing; 3 and 3.0 are one label."""
    if _is_numeric(column):
        column = pd.Series(_numbers(column))
    return column.astype(object).reset_index(drop=True).map(str, na_action="ignore")


def _frequent_levels(labels: pd.Series) -> list[str]:
    counts = labels.value_counts()
    least = min(max(_RARE_COUNT, _RARE_SHARE * len(labels)), max(len(labels) / 20, 2))
    frequent = counts[counts >= least].sort_index().sort_values(ascending=False, kind="stable")
    return sorted(str(label) for label in frequent.index[:_MOST_LEVELS])


def _level_numbers(labels: pd.Series, levels: list[str]) -> NDArray[np.int32]:
    position = pd.Index(levels, dtype=object).get_indexer(pd.Index(labels, dtype=object))
    return np.where(labels.isna(), MISSING, np.where(position < 0, len(levels), position)).astype(np.int32)
