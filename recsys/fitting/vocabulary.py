"""Joining a table's ids to the vocabulary of the history, and grouping sorted rows by their owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.ranking.model import Int32, Int64


@dataclass(frozen=True)
class Vocabulary:
    """Sorted ids, the union of the history's and a table's.

    Attributes:
        ids: shape `(n,)`, sorted.
        history_rows: row in `ids` of each id of the history's vocabulary.
        table_rows: row in `ids` of each row of the table.
    """

    ids: NDArray[np.object_]
    history_rows: Int32
    table_rows: Int32

    @classmethod
    def of(cls, history_ids: NDArray[np.object_], table_ids: Iterable[str]) -> Vocabulary:
        """Return the union of both, in the order of the bytes of UTF-8 (that of Python's strings)."""
        given = np.array([str(value) for value in table_ids], dtype=object)
        ids = np.array(sorted({*history_ids.tolist(), *given.tolist()}), dtype=object)
        index = pd.Index(ids)
        return cls(
            ids=ids,
            history_rows=index.get_indexer(pd.Index(history_ids)).astype(np.int32),
            table_rows=index.get_indexer(pd.Index(given)).astype(np.int32) if len(given) else np.zeros(0, np.int32),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, frame: pd.DataFrame, name: str, default: object) -> NDArray[np.object_]:
        """Return a column of the table by row of this vocabulary, `default` where it is null or absent."""
        values = np.full(len(self), default, dtype=object)
        if name in frame:
            known = frame[name].notna().to_numpy(dtype=bool)
            values[self.table_rows[known]] = frame[name].to_numpy(dtype=object)[known]
        return values

    def rows_of(self, ids: pd.Series) -> Int32:
        """Return the row of each id, -1 where it is not there."""
        return pd.Index(self.ids).get_indexer(pd.Index(ids.astype(object))).astype(np.int32)


@dataclass(frozen=True)
class Codes:
    """Names as numbers: `names` sorted, `codes` -1 where there is none."""

    names: tuple[str, ...]
    codes: Int32

    @classmethod
    def of(cls, values: NDArray[np.object_]) -> Codes:
        """Return the codes of `values`, where None has none."""
        codes, names = pd.factorize(pd.Series(values, dtype=object), sort=True)
        return cls(tuple(str(name) for name in names), codes.astype(np.int32))


def ranges(owner: NDArray[np.integer], n_owners: int) -> tuple[Int64, Int32]:
    """Return where each owner's rows start and how many there are; `owner` is sorted."""
    counts = np.bincount(owner, minlength=n_owners).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(counts[:-1], dtype=np.int64)]).astype(np.int64)
    return starts[:n_owners], counts


def owners(counts: NDArray[np.integer]) -> Int32:
    """Return the owner of each row, where owner i has `counts[i]` rows; the inverse of `ranges`."""
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def rank_within(owner: NDArray[np.integer]) -> Int64:
    """Return the position of each row among its owner's rows, from 0; `owner` is sorted."""
    if not len(owner):
        return np.zeros(0, dtype=np.int64)
    first = np.concatenate([[True], owner[1:] != owner[:-1]])
    starts = np.flatnonzero(first)
    return np.arange(len(owner), dtype=np.int64) - np.repeat(starts, np.diff(np.append(starts, len(owner))))
