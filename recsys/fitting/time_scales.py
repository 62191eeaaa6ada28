"""Time scales from the data: windows, half-lives, steps and the horizon follow the gaps between an account's orders.

Two quantiles of the gaps between the days on which an account ordered stand behind all of them: the median `g`, and
`l`, which nine in ten do not exceed. The defaults are those of a wholesaler whose accounts order once a month, and
pause for up to four. Of another history they are multiplied by one factor, of the slower of both readings, so that the
windows hold the usual order and the late one:

    factor = 2^round(log2(max(g / 30, l / 120))), between 1/4 and 4
    horizon = 30 days times round(g / 30), at least 30 and at most 360
    step    = 15 days times max(1, factor), or less, so that all replayed pasts fit into the history

Powers of two, so that a gap that moves by some days moves no window. A horizon shorter than a month would leave less
to learn from. A number that is stated in a configuration stays as it is.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from recsys.arrays import IntArray
from recsys.contracts.config import Config
from recsys.data.history import SECONDS_A_DAY, History
from recsys.fitting.copurchases import EvidenceConfig
from recsys.ladder.upgrade_events import UpgradeEventConfig
from recsys.models.cart import CartConfig
from recsys.models.next_product.cold_start import ColdStartConfig
from recsys.models.next_product.features import FeatureConfig
from recsys.models.next_product.model import NextProductConfig
from recsys.models.retrieval.associations import AssociationsConfig
from recsys.models.retrieval.baskets import BasketsConfig
from recsys.models.retrieval.content import ContentConfig
from recsys.models.retrieval.ease import EaseConfig
from recsys.models.retrieval.neighbours import NeighboursConfig
from recsys.models.retrieval.popularity import PopularityConfig
from recsys.models.retrieval.ridge import RidgeConfig
from recsys.models.snapshot import CutoffConfig
from recsys.models.upgrade.model import UpgradeConfig

_C = TypeVar("_C", bound=Config)

USUAL_GAP_DAYS: Final = 30.0
"""Median gap of a history for which the defaults are right: Online Retail II has 27 to 32."""
LONG_GAP_DAYS: Final = 120.0
"""Its gap that nine in ten do not exceed: Online Retail II has 91 to 135."""

_LEAST_FACTOR, _MOST_FACTOR = 0.25, 4.0
_MONTH_DAYS, _MOST_MONTHS = 30, 12
_LEAST_STEP_DAYS = 1.0
_LEAST_GAPS = 30  # fewer tell no median by

FOLLOWING: Final[dict[type[Config], tuple[str, ...]]] = {
    CutoffConfig: ("min_history_days",),
    FeatureConfig: ("time_scale",),
    NeighboursConfig: ("half_life_days", "fresh_window_days", "fresh_half_life_days", "recent_half_life_days"),
    RidgeConfig: ("window_days", "half_life_days"),
    EaseConfig: ("half_life_days", "recent_half_life_days", "fresh_half_life_days"),
    AssociationsConfig: ("half_life_days", "follow_window_days"),
    BasketsConfig: ("window_days", "half_life_days"),
    ContentConfig: ("half_life_days",),
    PopularityConfig: ("windows_days", "recent_half_life_days"),
    CartConfig: ("half_life_days",),
    ColdStartConfig: ("half_life_days", "fresh_days"),
    UpgradeConfig: ("recent_days",),
    UpgradeEventConfig: ("follow_days",),
    EvidenceConfig: ("window_days",),
}
"""The options of each section that are multiplied by the factor; whole days stay whole.

Prices keep their half-life: it is the seller's pace, not the buyers'. So does the year after which nobody stands on a
rung any more, as goods of a season come back after one, and the quarter that an evaluation calls active, which makes
histories comparable.
"""

HORIZONS: Final[tuple[type[Config], ...]] = (NextProductConfig, UpgradeConfig)


class TimeScales(NamedTuple):
    """How fast accounts order, and what follows from it.

    Attributes:
        gap_days: median gap between two days on which one account ordered; NaN where too few accounts came back.
        factor: by which windows, half-lives and steps are multiplied.
        horizon_days: within which a purchase counts.
        span_days: between the first and the last order.
    """

    gap_days: float
    factor: float
    horizon_days: int
    span_days: float

    @classmethod
    def of(cls, history: History) -> TimeScales:
        """Return the scales of a history; those of the defaults where there are fewer than 30 gaps."""
        gaps = _gaps(history)
        if len(gaps) < _LEAST_GAPS:
            return cls(float("nan"), 1.0, _MONTH_DAYS, float("inf"))
        usual, long = np.quantile(gaps, (0.5, 0.9))
        pace = max(usual / USUAL_GAP_DAYS, long / LONG_GAP_DAYS)
        factor = float(np.clip(2.0 ** np.round(np.log2(pace)), _LEAST_FACTOR, _MOST_FACTOR))
        months = int(np.clip(np.round(usual / _MONTH_DAYS), 1, _MOST_MONTHS))
        span = (int(history.seconds.max()) - int(history.seconds.min())) / SECONDS_A_DAY
        return cls(float(usual), factor, _MONTH_DAYS * months, span)


def _gaps(history: History) -> IntArray:
    """Return the days between an account's successive days with an order, of all accounts."""
    known = history.known()
    day = known.seconds // SECONDS_A_DAY
    order = np.lexsort((day, known.account))
    account, day = known.account[order], day[order]
    gap = np.diff(day)[account[1:] == account[:-1]]
    return np.asarray(gap[gap > 0], dtype=np.int64)


def with_time_scales(config: _C, scales: TimeScales) -> _C:
    """Return a configuration whose time scales are those of the data, but for those that it states.

    What comes back states all of them, so that doing it again changes nothing.
    """
    found: dict[str, Any] = {}
    following = FOLLOWING.get(type(config), ())
    for name in type(config).model_fields:
        value, stated = getattr(config, name), name in config.model_fields_set
        if isinstance(value, Config):
            found[name] = with_time_scales(value, scales)
        elif isinstance(value, tuple) and value and all(isinstance(each, Config) for each in value):
            found[name] = tuple(with_time_scales(each, scales) for each in value)
        elif name in following and not stated and value is not None:
            several = tuple(_times(each, scales.factor) for each in value) if isinstance(value, tuple) else None
            found[name] = _times(value, scales.factor) if several is None else several
        elif name == "horizon_days" and isinstance(config, HORIZONS) and not stated:
            found[name] = scales.horizon_days
    if isinstance(config, NextProductConfig) and "step_days" not in config.cutoffs.model_fields_set:
        horizon_days = float(found.get("horizon_days", config.horizon_days))
        found["cutoffs"] = _spaced(found["cutoffs"], horizon_days, scales)
    return config.model_copy(update=found)


def _times(days: float, factor: float) -> float:
    return max(round(days * factor), 1) if isinstance(days, int) else days * factor


def _spaced(cutoffs: CutoffConfig, horizon_days: float, scales: TimeScales) -> CutoffConfig:
    """Return the cutoffs half a horizon apart, further where accounts order rarely, nearer in a short history."""
    step_days = cutoffs.step_days * max(scales.factor, 1.0)
    room = (scales.span_days - horizon_days - cutoffs.min_history_days) / max(cutoffs.n_cutoffs - 1, 1)
    return cutoffs.model_copy(update={"step_days": min(step_days, max(room, _LEAST_STEP_DAYS))})
