"""Rolling cutoffs: the moments before `as_of` at which the past is replayed to learn from."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from recsys.contracts.config import Config
from recsys.data.history import SECONDS_A_DAY, History, epoch_seconds


class CutoffConfig(Config):
    """When to replay the past.

    Attributes:
        n_cutoffs: how many, the newest first; each costs one pass over the history.
        step_days: days between two cutoffs; below the horizon, so that windows overlap and none is wasted.
        min_history_days: days of history that a cutoff must have behind it.
    """

    n_cutoffs: int = Field(default=10, ge=1)
    step_days: float = Field(default=10.0, gt=0)
    min_history_days: float = Field(default=30.0, ge=0)


def rolling_cutoffs(
    history: History, as_of: datetime, horizon_days: float, config: CutoffConfig
) -> tuple[datetime, ...]:
    """Return the cutoffs, newest first: `as_of - horizon_days - i * step_days` for i = 0, 1, ...

    Every label window `[cutoff, cutoff + horizon_days)` ends at or before `as_of`, so that no label is from the
    future, and every cutoff has `min_history_days` of history behind it. A history that is too short gives none.
    """
    before = history.before(as_of)
    if len(before) == 0:
        return ()
    oldest = int(before.seconds.min()) + config.min_history_days * SECONDS_A_DAY
    newest = as_of - timedelta(days=horizon_days)
    found = (newest - timedelta(days=i * config.step_days) for i in range(config.n_cutoffs))
    return tuple(cutoff for cutoff in found if epoch_seconds(cutoff) >= oldest)
