"""Did the arms get the shares that were planned? Fixed-horizon and sequential tests over all arms jointly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import gammaln

from recsys.arrays import FloatArray

MIN_EXPECTED = 5.0
"""Expected units of an arm below which Pearson's chi-square is no approximation any more."""
PRIOR_UNITS = 1_000.0
"""Weight of the planned shares in the sequential test's prior, in units; fixed in advance, any value is valid."""


def sample_ratio_p_value(counts: ArrayLike, shares: ArrayLike) -> FloatArray:
    """Return the p-value of Pearson's chi-square over all arms.

    Where an arm expects fewer than `MIN_EXPECTED` units, the p-value is that of the sequential test at one look: it
    is valid at any number of units, while chi-square calls one unit in an arm of 2 % a fault.

    Args:
        counts: units by arm, shape `(..., k)`.
        shares: planned probabilities, shape `(k,)`.

    Example:
        >>> round(float(sample_ratio_p_value([5_100, 4_900], [0.5, 0.5])), 4)
        0.0455
    """
    observed = np.asarray(counts, dtype=np.float64)
    expected = observed.sum(axis=-1, keepdims=True) * np.asarray(shares, dtype=np.float64)
    statistic = ((observed - expected) ** 2 / np.maximum(expected, np.finfo(np.float64).tiny)).sum(axis=-1)
    pearson = stats.chi2.sf(statistic, observed.shape[-1] - 1)
    at_any_size = sequential_sample_ratio_p_value(observed[..., None, :], np.asarray(shares, dtype=np.float64))[..., 0]
    result: FloatArray = np.where(expected.min(axis=-1) < MIN_EXPECTED, at_any_size, pearson)
    return result


def sequential_sample_ratio_p_value(counts: ArrayLike, shares: Sequence[float] | FloatArray) -> FloatArray:
    """Return the anytime-valid p-value after each look.

    Formula: Bayes factor of a Dirichlet(`c * shares`) alternative to the planned multinomial,
    `BF = B(a + n) / B(a) / prod shares^n`; `p = 1 / max over looks of BF`, at most 1. Source: Lindon and Malek
    (arXiv 2011.01808), equations 6 and 10.

    Args:
        counts: cumulative units by look and arm, shape `(..., n_looks, k)`.
        shares: planned probabilities, shape `(k,)`.

    Example:
        >>> sequential_sample_ratio_p_value([[50, 50], [1_000, 600]], [0.5, 0.5]) < 0.001
        array([False,  True])
    """
    n = np.asarray(counts, dtype=np.float64)
    planned = np.asarray(shares, dtype=np.float64)
    prior = PRIOR_UNITS * planned
    log_factor = (
        gammaln(prior.sum())
        - gammaln(prior.sum() + n.sum(axis=-1))
        + (gammaln(prior + n) - gammaln(prior) - n * np.log(planned)).sum(axis=-1)
    )
    best = np.maximum.accumulate(log_factor, axis=-1)
    result: FloatArray = np.exp(-np.maximum(best, 0.0))
    return result
