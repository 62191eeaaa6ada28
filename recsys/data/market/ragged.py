"""Rows of unequal length in flat arrays: the owner of each entry and its position within the owner's row."""

from __future__ import annotations

import numpy as np

from recsys.data.market.draws import Floats, Ints


def owners(counts: Ints) -> Ints:
    """Return the row of each entry, shape `(sum(counts),)`.

    >>> owners(np.array([2, 0, 3])).tolist()
    [0, 0, 2, 2, 2]
    """
    return np.repeat(np.arange(len(counts)), counts)


def starts(counts: Ints) -> Ints:
    """Return where each row begins in the flat array.

    >>> starts(np.array([2, 0, 3])).tolist()
    [0, 2, 2]
    """
    return np.cumsum(counts) - counts


def positions(counts: Ints) -> Ints:
    """Return the position of each entry within its row.

    >>> positions(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(int(counts.sum())) - np.repeat(starts(counts), counts)


def running_sums(values: Floats, counts: Ints) -> Floats:
    """Return the cumulative sum within each row.

    Summed row by row position, so that a row's result does not depend on the rows before it.

    >>> running_sums(np.array([1.0, 2.0, 5.0]), np.array([2, 1])).tolist()
    [1.0, 3.0, 5.0]
    """
    sums = values.copy()
    first = starts(counts)
    for position in range(1, int(counts.max(initial=0))):
        index = first[counts > position] + position
        sums[index] += sums[index - 1]
    return sums
