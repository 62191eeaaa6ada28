"""Percentile bootstrap over accounts: intervals of a mean, and of the paired difference of two methods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import FloatArray
from recsys.contracts.config import Config
from recsys.errors import DataError, EmptyDataError

# Cells of one block of draws (resamples x accounts): 32 MB of int64.
_BLOCK_CELLS = 4_000_000


class BootstrapConfig(Config):
    """How intervals are made."""

    n_resamples: int = 2_000
    """Draws of accounts with replacement; 2,000 put the Monte Carlo error of a 95 % limit near 2 % of its width."""
    level: float = 0.95
    """Share of the resamples between the two limits."""


DEFAULT_BOOTSTRAP = BootstrapConfig()


@dataclass(frozen=True)
class Interval:
    """A figure with its percentile interval.

    Attributes:
        estimate: the figure on the data as they are.
        low: lower limit.
        high: upper limit.
        level: share of resamples between the limits.
    """

    estimate: float
    low: float
    high: float
    level: float


def bootstrap_mean(
    values: FloatArray,
    rng: np.random.Generator,
    config: BootstrapConfig = DEFAULT_BOOTSTRAP,
    *,
    accounts: NDArray[np.integer] | None = None,
) -> Interval:
    """Return the mean of `values` and its interval over resampled accounts.

    Formula: each resample draws accounts with replacement, `mean* = sum_a n_a s_a / sum_a n_a c_a` with `s_a` the sum
    of the account's values, `c_a` their number and `n_a` how often it was drawn. Source: Efron (1979), percentile form.

    Args:
        values: shape `(n,)`, without NaN.
        rng: where the draws come from.
        config: number of resamples and level.
        accounts: the account of each value, shape `(n,)`: an account that is scored at several cutoffs is drawn with
            all its values. Default: one account a value.

    Raises:
        EmptyDataError: there are no values.
        DataError: a value is NaN.

    Example:
        >>> bootstrap_mean(np.array([1.0, 1.0, 1.0]), np.random.default_rng(0))
        Interval(estimate=1.0, low=1.0, high=1.0, level=0.95)
    """
    _check(values)
    sums, counts = _by_account(values, accounts)
    means = _resampled_means(sums, counts, rng, config.n_resamples)
    tail = (1.0 - config.level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(values.mean()), float(low), float(high), config.level)


def paired_difference(
    values: FloatArray,
    baseline: FloatArray,
    rng: np.random.Generator,
    config: BootstrapConfig = DEFAULT_BOOTSTRAP,
    *,
    accounts: NDArray[np.integer] | None = None,
) -> Interval:
    """Return the mean of `values - baseline` and its interval; both are of the same accounts in the same order.

    Pairing takes out what makes an account easy or hard for every method, so that the interval of the difference is
    narrower than the two intervals suggest.

    Raises:
        EmptyDataError: there are no values.
        DataError: the two differ in number, or a value is NaN.
    """
    if len(values) != len(baseline):
        raise DataError(f"{len(values)} values against {len(baseline)}, must be pairs; score the same accounts")
    return bootstrap_mean(values - baseline, rng, config, accounts=accounts)


def _check(values: FloatArray) -> None:
    if len(values) == 0:
        raise EmptyDataError("0 values to resample, must be 1 or more; is any account scored at this cutoff?")
    if np.isnan(values).any():
        raise DataError(f"{int(np.isnan(values).sum())} values are NaN, must be none; leave those accounts out")


def _by_account(values: FloatArray, accounts: NDArray[np.integer] | None) -> tuple[FloatArray, FloatArray]:
    if accounts is None:
        return values.astype(np.float64), np.ones(len(values))
    _, code = np.unique(accounts, return_inverse=True)
    return np.bincount(code, weights=values).astype(np.float64), np.bincount(code).astype(np.float64)


def _resampled_means(sums: FloatArray, counts: FloatArray, rng: np.random.Generator, n_resamples: int) -> FloatArray:
    n = len(sums)
    means = np.empty(n_resamples)
    size = max(1, _BLOCK_CELLS // n)
    for start in range(0, n_resamples, size):
        stop = min(start + size, n_resamples)
        drawn = rng.integers(0, n, size=(stop - start, n))
        means[start:stop] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
