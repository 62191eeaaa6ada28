"""Whether probabilities come true: observed over expected by bin of probability, and log loss, over *all* pairs.

A pair is an eligible account and a product that it may be offered. A model lists only the best few products of an
account; to judge it on those alone, or only on accounts that bought something later, would hide what it says about
the rest. So every pair that is not listed counts too, with one tail probability, known at the cutoff.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.arrays import FloatArray
from recsys.contracts.config import Config
from recsys.errors import DataError, EmptyDataError

# Probabilities are held this far from 0 and 1 in the log loss, as scikit-learn does for float32.
EPSILON = 1e-7


class CalibrationCheckConfig(Config):
    """How calibration is judged."""

    n_bins: int = Field(default=10, ge=1)
    """Bins of about equal expected positives: equal counts of pairs would put nearly all positives in one bin."""
    min_positives: int = Field(default=100, ge=1)
    """A bin with fewer positives is shown and not judged: its ratio is noise (10 % standard error at 100)."""
    lowest_ratio: float = Field(default=0.85, gt=0)
    """Observed over expected may not be below this in a judged bin."""
    highest_ratio: float = Field(default=1.15, gt=0)
    """Observed over expected may not be above this in a judged bin."""


DEFAULT_CALIBRATION = CalibrationCheckConfig()


@dataclass(frozen=True)
class ScoredPairs:
    """All pairs of eligible accounts and products: the listed ones in arrays, the others as counts.

    Attributes:
        probability: of each listed pair, in [0, 1], shape `(n_listed,)`.
        positive: whether each listed pair came true, shape `(n_listed,)`.
        n_unlisted: pairs that are not listed.
        n_unlisted_positive: of those, that came true.
        tail_probability: of each unlisted pair, in [0, 1]; see `tail_probability`.
        weight: how many each listed pair stands for, `(n_listed,)`; None: one each.
        account: row of each listed pair's account, `(n_listed,)`; None: of an account of its own.
    """

    probability: FloatArray
    positive: NDArray[np.bool_]
    n_unlisted: int
    n_unlisted_positive: int
    tail_probability: float
    weight: FloatArray | None = None
    account: NDArray[np.integer] | None = None


@dataclass(frozen=True)
class CalibrationBin:
    """One bin of probability.

    Attributes:
        low: smallest probability in the bin.
        high: largest probability in the bin.
        n: pairs.
        expected: sum of their probabilities.
        observed: how many came true.
        judged: enough positives to judge the ratio by.
        listed: False for the one bin of all pairs that are not listed.
        error: standard error of the ratio where accounts are the units: one that buys fifty things is one event, so
            that it is above a Poisson count's; None for pairs that are not listed. It does not move the band.
    """

    low: float
    high: float
    n: int
    expected: float
    observed: int
    judged: bool
    listed: bool
    error: float | None = None

    @property
    def ratio(self) -> float:
        """Observed over expected; NaN where nothing was expected."""
        return self.observed / self.expected if self.expected > 0 else float("nan")


@dataclass(frozen=True)
class Calibration:
    """How well probabilities came true.

    Attributes:
        bins: listed pairs by ascending probability, then the unlisted pairs.
        log_loss: mean over all pairs of `-y log p - (1 - y) log(1 - p)`, nats.
        base_rate: positives over pairs.
        base_log_loss: log loss of a model that says `base_rate` of every pair; in hindsight, so a hard rival.
        listed_log_loss: log loss over the listed pairs alone.
        listed_base_log_loss: the rival's, over the listed pairs alone, with their own base rate.
        unlisted_share: positives that no list named / positives.
        holds: at least one bin could be judged, every judged bin's ratio is within the band, and the log loss is below
            the constant's. What could not be checked has not passed.
    """

    bins: tuple[CalibrationBin, ...]
    log_loss: float
    base_rate: float
    base_log_loss: float
    listed_log_loss: float
    listed_base_log_loss: float
    unlisted_share: float
    holds: bool


def judge_calibration(pairs: ScoredPairs, config: CalibrationCheckConfig = DEFAULT_CALIBRATION) -> Calibration:
    """Return how well the probabilities of `pairs` came true.

    Raises:
        EmptyDataError: there is no pair.
        DataError: a probability is outside [0, 1].
    """
    _check(pairs)
    bins = (*_listed_bins(pairs, config), *_unlisted_bin(pairs))
    weight = _weights(pairs)
    n_listed, hits = float(weight.sum()), float(weight[pairs.positive].sum())
    n, positives = n_listed + pairs.n_unlisted, hits + pairs.n_unlisted_positive
    listed = _loss(pairs.probability, pairs.positive, weight)
    tail = _constant_loss(pairs.tail_probability, pairs.n_unlisted, pairs.n_unlisted_positive)
    log_loss = (listed + tail) / n
    base_log_loss = _constant_loss(positives / n, n, positives) / n
    judged = [one for one in bins if one.judged]
    in_band = all(config.lowest_ratio <= one.ratio <= config.highest_ratio for one in judged)
    return Calibration(
        bins=bins,
        log_loss=log_loss,
        base_rate=positives / n,
        base_log_loss=base_log_loss,
        listed_log_loss=_over(listed, n_listed),
        listed_base_log_loss=_over(_constant_loss(_over(hits, n_listed), n_listed, hits), n_listed),
        unlisted_share=_over(pairs.n_unlisted_positive, positives),
        holds=bool(judged) and in_band and log_loss < base_log_loss,
    )


def tail_probability(expected_positives: float, listed_expected: float, n_unlisted: int) -> float:
    """Return the probability of each pair that is not listed.

    `max(expected_positives - listed_expected, 0.5) / n_unlisted`: what accounts are expected to do in all, less what
    the lists already expect; half a positive where the lists expect everything, so that no pair is called impossible.

    Args:
        expected_positives: positives expected over all pairs, from what is known at the cutoff (such as the rate of
            the horizon before it).
        listed_expected: sum of the listed probabilities.
        n_unlisted: pairs that are not listed.
    """
    if n_unlisted <= 0:
        return 0.0
    return min(1.0, max(expected_positives - listed_expected, 0.5) / n_unlisted)


def _listed_bins(pairs: ScoredPairs, config: CalibrationCheckConfig) -> list[CalibrationBin]:
    """Bins of equal expected positives whose edges never part equal probabilities."""
    order = np.argsort(pairs.probability, kind="stable")
    probability, expected = pairs.probability[order].astype(np.float64), _weights(pairs)[order]
    if len(probability) == 0:
        return []
    expected = expected * probability
    total = max(expected.sum(), EPSILON)
    number = np.minimum(((np.cumsum(expected) - expected) / total * config.n_bins).astype(np.int64), config.n_bins - 1)
    first_of_equals = np.searchsorted(probability, probability, side="left")
    starts = np.flatnonzero(np.diff(number[first_of_equals], prepend=-1))
    stops = [*starts[1:], len(probability)]
    return [_listed_bin(pairs, order[start:stop], config) for start, stop in zip(starts, stops, strict=True)]


def _listed_bin(pairs: ScoredPairs, rows: NDArray[np.intp], config: CalibrationCheckConfig) -> CalibrationBin:
    probability, positive, weight = pairs.probability[rows], pairs.positive[rows], _weights(pairs)[rows]
    expected, observed = float((probability * weight).sum()), float(weight[positive].sum())
    account = np.arange(len(rows)) if pairs.account is None else pairs.account[rows]
    _, unit = np.unique(account, return_inverse=True)
    ratio = observed / expected if expected > 0 else 0.0
    off = np.bincount(unit, weights=weight * (positive - ratio * probability))
    return CalibrationBin(
        low=float(probability[0]),
        high=float(probability[-1]),
        n=round(float(weight.sum())),
        expected=expected,
        observed=round(observed),
        judged=int(positive.sum()) >= config.min_positives,
        listed=True,
        # Linearised ratio estimator, clusters as units: Cochran (1977), Sampling Techniques, section 9A.
        error=float(np.sqrt((off**2).sum())) / expected if expected > 0 else None,
    )


def _unlisted_bin(pairs: ScoredPairs) -> list[CalibrationBin]:
    if pairs.n_unlisted == 0:
        return []
    return [
        CalibrationBin(
            low=pairs.tail_probability,
            high=pairs.tail_probability,
            n=pairs.n_unlisted,
            expected=pairs.n_unlisted * pairs.tail_probability,
            observed=pairs.n_unlisted_positive,
            judged=False,  # one constant a tail: the judged bins are those that an offer can come from
            listed=False,
        )
    ]


def _weights(pairs: ScoredPairs) -> FloatArray:
    return np.ones(len(pairs.probability)) if pairs.weight is None else pairs.weight.astype(np.float64)


def _loss(probability: FloatArray, positive: NDArray[np.bool_], weight: FloatArray) -> float:
    p = np.clip(probability.astype(np.float64), EPSILON, 1.0 - EPSILON)
    return float(-(weight * np.log(np.where(positive, p, 1.0 - p))).sum())


def _constant_loss(probability: float, n: float, positives: float) -> float:
    if n == 0:
        return 0.0
    p = min(max(probability, EPSILON), 1.0 - EPSILON)
    return float(-positives * np.log(p) - (n - positives) * np.log1p(-p))


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")


def _check(pairs: ScoredPairs) -> None:
    if len(pairs.probability) + pairs.n_unlisted == 0:
        raise EmptyDataError("0 pairs, must be 1 or more; is any account eligible at this cutoff?")
    values = np.append(pairs.probability, pairs.tail_probability)
    if np.isnan(values).any() or values.min() < 0 or values.max() > 1:
        raise DataError(f"probabilities from {values.min()} to {values.max()}, must be in [0, 1]; calibrate the scores")
