"""Random numbers by address: the same (seed, stream, account, index) gives the same number, whatever the block.

SplitMix64 in counter mode (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", figure 17):
a key is hashed from seed, stream and account, and the i-th number is the finaliser of `key + (i + 1) x gamma`.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from recsys.arrays import FloatArray, IntArray

Keys = NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


class Stream(IntEnum):
    """What a number decides; two streams never share a number."""

    SEGMENT = 1
    REGION = 2
    KEY_ACCOUNT = 3
    OWNER = 4
    ARRIVAL = 5
    ORDER_RATE = 6
    LAPSE_RATE = 7
    LIFETIME = 8
    ORDER_SIZE_ACCOUNT = 9
    QUANTITY_ACCOUNT = 10
    NEED_CATEGORY = 11
    NEED_WEIGHT = 12
    GAP = 13
    ORDER_SIZE = 14
    CHANNEL = 15
    REPEAT = 16
    REPEAT_WHICH = 17
    BROWSE = 18
    SLOT = 19
    PRODUCT = 20
    SEASON = 21
    BRAND = 22
    QUANTITY = 23
    COMPLEMENT = 24
    SUBSTITUTE = 25
    DISCOUNT = 26
    LADDER_FAMILY = 27
    LADDER_CATEGORY = 28
    LADDER_ONSET = 29
    LADDER_RUNG = 30
    LADDER_QUANTITY = 31
    LADDER_GROWTH = 32
    LADDER_INCLUDED = 33
    LADDER_CLIMB = 34
    LADDER_OLD_HABIT = 35
    LADDER_LINE_QUANTITY = 36
    CONSEQUENT_QUANTITY = 37
    USUAL_CHANNEL = 38
    AGE = 39
    ONE_OFF = 40
    SINGLE_LINE = 41


def account_keys(seed: int, stream: Stream, accounts: IntArray) -> Keys:
    """Return one key for each account number, shape `(n_accounts,)`."""
    root = _finalise(np.array([seed % 2**64], dtype=np.uint64) * _GAMMA + np.uint64(stream))
    return _finalise(root + accounts.astype(np.uint64) * _GAMMA)


def uniform(keys: Keys, index: IntArray | int = 0) -> FloatArray:
    """Return numbers in (0, 1), never an end, for keys and indices of the same shape.

    >>> keys = account_keys(7, Stream.GAP, np.arange(2))
    >>> bool(np.all(uniform(keys, 3) == uniform(keys, np.array([3, 3]))))
    True
    """
    counter = (np.atleast_1d(np.asarray(index, dtype=np.int64)) + 1).astype(np.uint64)
    bits = _finalise(keys + counter * _GAMMA) >> np.uint64(11)
    return (bits.astype(np.float64) + 0.5) * 2.0**-53


def normal(keys: Keys, index: IntArray | int = 0) -> FloatArray:
    """Return standard normal numbers for keys and indices of the same shape."""
    return np.asarray(ndtri(uniform(keys, index)), dtype=np.float64)


def _finalise(state: Keys) -> Keys:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
