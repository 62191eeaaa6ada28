"""What a backtest found: typed values, and their forms for JSON and for experiment tracking."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.backtesting.cart_completion import CartCompletion
from recsys.evaluation.offline.calibration import Calibration
from recsys.evaluation.offline.ranking_metrics import RankingScores
from recsys.evaluation.statistics.bootstrap import Interval

MethodKind = Literal["baseline", "raw", "served"]


@dataclass(frozen=True)
class MethodScores:
    """One method at one cutoff.

    Attributes:
        name: as printed.
        kind: a baseline, the ranker's raw order, or the list that the engine serves.
        scores: one value an account, in the order of the cutoff's accounts.
        ndcg_interval: of the mean NDCG over accounts.
        coverage: share of the active catalogue that stands on somebody's list.
        novelty_bits: mean self-information of the offered products.
        revenue_share: money spent on products that the lists had named / money spent on novel products.
        filled_share: places filled / places asked for.
    """

    name: str
    kind: MethodKind
    scores: RankingScores
    ndcg_interval: Interval
    coverage: float
    novelty_bits: float
    revenue_share: float
    filled_share: float

    @property
    def ndcg(self) -> float:
        """Mean NDCG over accounts."""
        return self.ndcg_interval.estimate

    def figures(self) -> dict[str, float]:
        """Return every mean and share, by name."""
        return {
            **self.scores.means(),
            "coverage": self.coverage,
            "novelty_bits": self.novelty_bits,
            "revenue_share": self.revenue_share,
            "filled_share": self.filled_share,
        }


@dataclass(frozen=True)
class MethodDifference:
    """The paired difference in NDCG of one method against another, with its interval."""

    method: str
    against: str
    interval: Interval


@dataclass(frozen=True)
class UpsellScores:
    """The upgrade model at one cutoff, over every pair of an account and a higher rung that it may climb to.

    Attributes:
        n_edges: edges of the frozen ladder.
        n_pairs: pairs of an account and a higher rung.
        n_climbs: pairs that came true within the horizon.
        n_climbers: accounts behind them.
        base_rate: climbs over pairs: the average precision of a random order.
        average_precision: of the pairs by propensity.
        climb_rate_precision: of the pairs by the frozen climb rate of their edge alone.
        ndcg: mean NDCG at k over the accounts that climbed.
        calibration: of the propensities.
    """

    n_edges: int
    n_pairs: int
    n_climbs: int
    n_climbers: int
    base_rate: float
    average_precision: float
    climb_rate_precision: float
    ndcg: float
    calibration: Calibration


@dataclass(frozen=True)
class CutoffResult:
    """Everything at one cutoff.

    Attributes:
        cutoff: where the past ends.
        accounts: rows of the scored accounts.
        n_novel: novel purchases that they made within the horizon.
        methods: the baselines, then the raw ranker and the served list.
        differences: of the engine's lists against each baseline.
        calibration: of the raw ranker's probabilities; None without a trained engine.
        upsell: None without a trained engine or a ladder.
        carts: cart completion; None where it was not scored, or no later order holds two products.
    """

    cutoff: datetime
    accounts: NDArray[np.int32]
    n_novel: int
    methods: tuple[MethodScores, ...]
    differences: tuple[MethodDifference, ...]
    calibration: Calibration | None
    upsell: UpsellScores | None
    carts: CartCompletion | None = None

    def method(self, name: str) -> MethodScores:
        """Return the method of that name."""
        return next(method for method in self.methods if method.name == name)

    @property
    def best_baseline(self) -> MethodScores:
        """The baseline with the highest mean NDCG; the first one where several have it."""
        return max((method for method in self.methods if method.kind == "baseline"), key=lambda method: method.ndcg)

    def ratio(self, name: str) -> float:
        """Return a method's mean NDCG over the best baseline's."""
        return self.method(name).ndcg / self.best_baseline.ndcg if self.best_baseline.ndcg > 0 else float("inf")


@dataclass(frozen=True)
class Backtest:
    """All cutoffs.

    Attributes:
        config: as it was run, ready for JSON.
        cutoffs: one result a cutoff, ascending.
        pooled: paired differences over all cutoffs, accounts resampled whole.
    """

    config: dict[str, Any]
    cutoffs: tuple[CutoffResult, ...]
    pooled: tuple[MethodDifference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single accounts as plain values for JSON; NaN becomes None."""
        plain: dict[str, Any] = _plain(
            {
                "config": self.config,
                "cutoffs": [_cutoff_dict(result) for result in self.cutoffs],
                "pooled_differences": [asdict(difference) for difference in self.pooled],
            }
        )
        return plain

    def to_json(self) -> str:
        """Return the text of `backtest.json`."""
        return json.dumps(self.to_dict(), indent=1, sort_keys=True, allow_nan=False) + "\n"

    def to_frame(self) -> pd.DataFrame:
        """Return one row a cutoff and method: its figures, the interval of its NDCG, and the engine's calibration."""
        return pd.DataFrame([row for result in self.cutoffs for row in _rows(result)])

    def metrics(self) -> dict[str, float]:
        """Return every figure under a flat name that experiment tracking accepts, as `ndcg.raw_ranker.2011-06-01`."""
        return {name: value for name, value in self._metrics() if np.isfinite(value)}

    def _metrics(self) -> Iterator[tuple[str, float]]:
        for result in self.cutoffs:
            day = f"{result.cutoff:%Y-%m-%d}"
            for method in result.methods:
                for figure, value in method.figures().items():
                    yield f"{figure}.{slug(method.name)}.{day}", value
                if method.kind != "baseline":
                    yield f"ratio_to_best_baseline.{slug(method.name)}.{day}", result.ratio(method.name)
            if result.calibration is not None:
                yield from _calibration_metrics("cross_sell", result.calibration, day)
            if result.upsell is not None:
                yield f"average_precision.upsell.{day}", result.upsell.average_precision
                yield f"base_rate.upsell.{day}", result.upsell.base_rate
                yield from _calibration_metrics("upsell", result.upsell.calibration, day)
            if result.carts is not None:
                yield from _cart_metrics(result.carts, day)
        for difference in self.pooled:
            yield f"ndcg_gain_low.{slug(difference.method)}.{slug(difference.against)}", difference.interval.low


def _rows(result: CutoffResult) -> Iterator[dict[str, object]]:
    calibration = result.calibration
    for method in result.methods:
        if method.kind != "raw" or calibration is None:
            judged = {}
        else:
            judged = {name: getattr(calibration, name) for name in ("log_loss", "base_log_loss", "holds")}
            calibration = None  # of the first engine alone
        yield {
            "cutoff": result.cutoff,
            "method": method.name,
            "kind": method.kind,
            **method.figures(),
            "ndcg_low": method.ndcg_interval.low,
            "ndcg_high": method.ndcg_interval.high,
            **judged,
        }


def slug(name: str) -> str:
    """Return a method's name with letters, digits, points and underscores only."""
    return re.sub(r"[^a-z0-9.]+", "_", name.lower()).strip("_")


def _calibration_metrics(kind: str, calibration: Calibration, day: str) -> Iterator[tuple[str, float]]:
    yield f"log_loss.{kind}.{day}", calibration.log_loss
    yield f"base_log_loss.{kind}.{day}", calibration.base_log_loss
    yield f"calibration_holds.{kind}.{day}", float(calibration.holds)


def _cart_metrics(carts: CartCompletion, day: str) -> Iterator[tuple[str, float]]:
    for method in carts.methods:
        yield f"cart_hit_rate.{slug(method.name)}.{day}", method.hit_rate.estimate
        for kind, rate in method.by_kind.items():
            yield f"cart_hit_rate_{kind}.{slug(method.name)}.{day}", rate


def _cutoff_dict(result: CutoffResult) -> dict[str, Any]:
    best = result.best_baseline.name if any(method.kind == "baseline" for method in result.methods) else None
    return {
        "cutoff": result.cutoff.isoformat(),
        "n_accounts": len(result.accounts),
        "n_novel_purchases": result.n_novel,
        "best_baseline": best,
        "methods": [
            {
                "name": method.name,
                "kind": method.kind,
                **method.figures(),
                "ndcg_interval": asdict(method.ndcg_interval),
                "ratio_to_best_baseline": result.ratio(method.name),
            }
            for method in result.methods
        ],
        "differences": [asdict(difference) for difference in result.differences],
        "calibration": None if result.calibration is None else _calibration_dict(result.calibration),
        "upsell": None
        if result.upsell is None
        else {**asdict(result.upsell), "calibration": _calibration_dict(result.upsell.calibration)},
        "carts": None if result.carts is None else result.carts.to_dict(),
    }


def _calibration_dict(calibration: Calibration) -> dict[str, Any]:
    bins = [{**asdict(one), "ratio": one.ratio} for one in calibration.bins]
    return {**asdict(calibration), "bins": bins}


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
