"""Rates of many small groups, shrunk towards what the groups have in common."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln

from recsys.arrays import FloatArray


class BetaPrior(NamedTuple):
    """A Beta(a, b) distribution of rates: mean `a / (a + b)`, worth `a + b` observations."""

    a: float
    b: float

    def rate(self, successes: FloatArray, trials: FloatArray) -> FloatArray:
        """Return the posterior mean `(successes + a) / (trials + a + b)` of each group.

        >>> BetaPrior(1.0, 9.0).rate(np.array([0.0, 90.0]), np.array([0.0, 90.0])).round(2).tolist()
        [0.1, 0.91]
        """
        return (successes + self.a) / (trials + self.a + self.b)


_FEWEST_GROUPS = 5
_WEAKEST, _STRONGEST = 1.0, 1e5


def fit_beta_prior(successes: FloatArray, trials: FloatArray) -> BetaPrior:
    """Return the Beta prior that makes the observed counts most likely (beta-binomial marginal likelihood).

    With fewer than five groups, or none with a success, the spread can't be learned: the prior then has the pooled
    rate (half a success is added) and the weight of ten observations.

    Source: Casella (1985), An introduction to empirical Bayes data analysis, The American Statistician 39(2).
    """
    seen = trials > 0
    k, n = successes[seen].astype(np.float64), trials[seen].astype(np.float64)
    pooled = float((k.sum() + 0.5) / (n.sum() + 1.0)) if len(n) else 0.01
    if len(n) < _FEWEST_GROUPS or k.sum() == 0:
        return BetaPrior(10.0 * pooled, 10.0 * (1.0 - pooled))

    def loss(parameters: FloatArray) -> float:
        mean, weight = 1.0 / (1.0 + np.exp(-parameters[0])), np.exp(parameters[1])
        a, b = mean * weight, (1.0 - mean) * weight
        return -float(np.sum(betaln(k + a, n - k + b) - betaln(a, b)))

    start = np.array([np.log(pooled / (1.0 - pooled)), np.log(20.0)])
    bounds = [(-15.0, 15.0), (np.log(_WEAKEST), np.log(_STRONGEST))]
    best = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    mean, weight = float(1.0 / (1.0 + np.exp(-best[0]))), float(np.exp(best[1]))
    return BetaPrior(mean * weight, (1.0 - mean) * weight)


def fit_beta_weight(successes: FloatArray, trials: FloatArray, means: FloatArray) -> float:
    """Return the weight `a + b` of Beta priors with given means under which the counts are most likely.

    Without a trial it is that of ten observations.

    Args:
        successes: of each group.
        trials: of each group.
        means: prior mean of each group, in (0, 1).
    """
    seen = trials > 0
    k, n, mean = successes[seen], trials[seen], means[seen]
    if len(n) < _FEWEST_GROUPS:
        return 10.0

    def loss(parameters: FloatArray) -> float:
        a, b = mean * np.exp(parameters[0]), (1.0 - mean) * np.exp(parameters[0])
        return -float(np.sum(betaln(k + a, n - k + b) - betaln(a, b)))

    bounds = [(np.log(_WEAKEST), np.log(_STRONGEST))]
    return float(np.exp(minimize(loss, np.log([20.0]), method="L-BFGS-B", bounds=bounds).x[0]))


def shrink_means(counts: FloatArray, total: FloatArray, squares: FloatArray) -> FloatArray:
    """Return the posterior mean of each group of a normal law whose group means are normal too, `(n_groups,)`.

    With `s2` the variance within groups, pooled, and `t2` that of the group means beyond chance (method of moments),
    a group of n values has `m + n t2 / (n t2 + s2) (mean - m)`; a group without a value has `m`, the mean of all.

    Args:
        counts: values of each group.
        total: sum of the values of each group.
        squares: sum of their squares.

    Source: Efron, Morris (1973), Stein's estimation rule and its competitors, JASA 68.

    >>> shrink_means(np.array([1e6, 1e6, 0]), np.array([1e6, 3e6, 0]), np.array([2e6, 10e6, 0])).round(2).tolist()
    [1.0, 3.0, 2.0]
    """
    seen = counts > 0
    if not seen.any():
        return np.zeros_like(counts)
    n, everything = counts[seen], counts.sum()
    mean, centre = total[seen] / n, total.sum() / everything
    within = max(float((squares[seen] - n * mean**2).sum()) / max(everything - len(n), 1.0), 1e-12)
    spread = float((n * (mean - centre) ** 2).sum()) - within * (len(n) - 1)
    between = max(spread / max(everything - float((n**2).sum()) / everything, 1e-12), 0.0)
    shrunk = np.full(len(counts), centre)
    shrunk[seen] += n * between / (n * between + within) * (mean - centre)
    return shrunk
