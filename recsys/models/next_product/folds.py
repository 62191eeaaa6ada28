"""Which of the replayed pasts each classifier learns from, so that it is calibrated on what it was kept from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

import numpy as np
import scipy.sparse as sp

from recsys.arrays import BoolArray, RowArray
from recsys.models.next_product.examples import IncidenceExamples, LabelledCandidates
from recsys.models.next_product.features import FeatureBuilder

_T = TypeVar("_T")


class ReplayedPast(NamedTuple):
    """What one cutoff teaches.

    Attributes:
        candidates: of some later buyers, labelled.
        accounts: buyers or not.
        names: of the features of a candidate.
    """

    candidates: LabelledCandidates
    accounts: IncidenceExamples
    names: tuple[str, ...]


class KeptWindow(NamedTuple):
    """A window of the past that a classifier was kept from.

    Attributes:
        builder: candidates and features of the moment at which it starts.
        novel: what each account buys in it for the first time, `(n_accounts, n_products)`.
        accounts: those with an earlier order, less those whose window the classifier learned from all the same.
        season: what the calendar says of its level.
    """

    builder: FeatureBuilder
    novel: sp.csr_array
    accounts: RowArray
    season: float


def non_overlapping(cutoffs: Sequence[datetime], horizon_days: float) -> list[datetime]:
    """Return the newest cutoff and older ones, each at least a horizon before the last: their windows do not touch."""
    found: list[datetime] = []
    for cutoff in cutoffs:
        if not found or found[-1] - cutoff >= timedelta(days=horizon_days):
            found.append(cutoff)
    return found


def calibrating_windows(cutoffs: Sequence[datetime], horizon_days: float, n_classifiers: int) -> list[datetime]:
    """Return the newest windows that do not touch, each to be kept from one classifier.

    They are one fewer than the classifiers, but two where there are only two: so that one of three or more learns from
    every past, the newest among them. It ranks best, and carries what is bought just now into the mean.
    """
    return non_overlapping(cutoffs, horizon_days)[: max(n_classifiers - 1, 2)]


def excluding_window(
    window: datetime, horizon_days: float, cutoffs: Sequence[datetime], replays: Sequence[_T]
) -> Sequence[_T]:
    """Return the replays whose label windows do not overlap the one that starts at `window`."""
    horizon = timedelta(days=horizon_days)
    return [replay for cutoff, replay in zip(cutoffs, replays, strict=True) if abs(cutoff - window) >= horizon]


def learned_pasts(
    windows: Sequence[datetime],
    cutoffs: Sequence[datetime],
    replays: Sequence[ReplayedPast],
    n_classifiers: int,
    horizon_days: float,
) -> list[Sequence[ReplayedPast]]:
    """Return what each classifier learns from, `n_classifiers` entries.

    The first are kept from one window each, and from all that overlap it; the others learn from all. Of a history that
    is too short for two windows that do not touch, the first is kept from half of the accounts instead: all of the
    windows teach it, which a single one, the oldest, would do badly.
    """
    if len(windows) == 1:
        kept: list[Sequence[ReplayedPast]] = [[_learned_half(replay) for replay in replays]]
    else:
        kept = [excluding_window(window, horizon_days, cutoffs, replays) for window in windows]
    return kept + [replays] * (n_classifiers - len(windows))


def in_learned_half(account: RowArray) -> BoolArray:
    """Return which accounts a classifier learns from that is calibrated on the others, `(n,)`."""
    return np.asarray(account % 2 == 0)


def _learned_half(replay: ReplayedPast) -> ReplayedPast:
    account, values, bought, weight = replay.candidates
    ours = in_learned_half(account)
    candidates = LabelledCandidates(account[ours], values[ours], bought[ours], weight[ours])
    rows, values, active = replay.accounts
    ours = in_learned_half(rows)
    return replay._replace(candidates=candidates, accounts=IncidenceExamples(rows[ours], values[ours], active[ours]))
