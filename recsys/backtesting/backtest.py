"""The backtest: a global time split at any number of cutoffs, the engine beside the ladder of baselines.

At each cutoff everything is learned from the lines before it and scored on what accounts did in the horizon after it.
Novel products (cross-sell) and rungs climbed (upsell) are reported apart. The ladder of products, and with it what
counts as a climb, is built before the first cutoff and stays frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Protocol

import numpy as np
from pydantic import Field, field_validator

from recsys.arrays import RowArray
from recsys.backtesting.baselines import BacktestModel, default_baselines
from recsys.backtesting.cart_completion import CartCompletion
from recsys.backtesting.results import Backtest, CutoffResult, MethodDifference, MethodKind, MethodScores
from recsys.backtesting.upgrade_scores import first_of_each, score_upsell
from recsys.contracts.config import Config
from recsys.contracts.plugins import check_plugin, fitted_plugin
from recsys.data.history import History
from recsys.errors import ConfigError, EmptyDataError, PluginError
from recsys.evaluation.offline.calibration import CalibrationCheckConfig, ScoredPairs, judge_calibration
from recsys.evaluation.offline.ground_truth import GroundTruth, cross_sell_pairs, ground_truth, known_accounts
from recsys.evaluation.offline.ranking_metrics import (
    active_products,
    coverage,
    hits_at,
    novelty,
    revenue_captured,
    score_ranking,
)
from recsys.evaluation.statistics.bootstrap import BootstrapConfig, bootstrap_mean, paired_difference
from recsys.fitting.steps import Step, no_progress
from recsys.ladder.edges import Ladder
from recsys.ladder.upgrade_events import UpgradeEventConfig
from recsys.models.candidates import Candidates
from recsys.threads import single_threaded

RAW = "raw ranker"
SERVED = "served list"


class Trained(Protocol):
    """What training on the lines before a cutoff hands to the backtest."""

    @property
    def raw(self) -> Candidates | None:
        """The ranker's own cross-sell candidates, over the history's vocabularies; None: lists alone."""
        ...

    @property
    def upgrades(self) -> Candidates | None:
        """The upgrade model's candidates: every pair of an account and a higher rung; None: lists alone."""
        ...

    def served(self, accounts: RowArray, k: int) -> RowArray:
        """Return the cross-sell that the engine answers from the saved bundle, value and diversity on, `(n, k)`."""
        ...


Trainer = Callable[[datetime], Trained]
CartScorer = Callable[[datetime], CartCompletion | None]


class BacktestConfig(Config):
    """What is scored, and how."""

    cutoffs: tuple[datetime, ...] = Field(min_length=1)
    """Where the past ends, ascending, UTC; everything is learned before and scored after."""
    horizon_days: int = Field(default=30, ge=1)
    """Days after a cutoff in which a purchase makes an offer right."""
    k: int = Field(default=10, ge=1)
    """Places of a list that are scored."""
    active_days: int = Field(default=90, ge=1)
    """A product sold in this many days before the cutoff is in the active catalogue that coverage is a share of."""
    max_accounts: int | None = Field(default=None, ge=1)
    """Score a random sample of at most this many accounts a cutoff; None: all. For histories of a million accounts."""
    max_carts: int = Field(default=4_000, ge=1)
    """Later orders whose cart is completed, a random sample of at most this many a cutoff."""
    seed: int = 0
    """Of the bootstrap and of the samples."""
    bootstrap: BootstrapConfig = BootstrapConfig()
    """Intervals over accounts."""
    calibration: CalibrationCheckConfig = CalibrationCheckConfig()
    """How probabilities are judged."""
    climbs: UpgradeEventConfig = UpgradeEventConfig()
    """What counts as standing on a rung and as climbing from it; the ladder's own."""

    @field_validator("cutoffs")
    @classmethod
    def _ascending(cls, cutoffs: tuple[datetime, ...]) -> tuple[datetime, ...]:
        if any(later <= earlier for earlier, later in pairwise(cutoffs)):
            raise ValueError("must be ascending and distinct; sort them")
        return cutoffs


@dataclass(frozen=True)
class Split:
    """One cutoff: what is known, and the truth after it."""

    history: History
    cutoff: datetime
    truth: GroundTruth
    config: BacktestConfig


@single_threaded()
def score_cutoffs(
    history: History,
    config: BacktestConfig,
    *,
    trainers: Mapping[str, Trainer] | None = None,
    ladder: Ladder | None = None,
    carts: CartScorer | None = None,
    baselines: Callable[[], Sequence[BacktestModel]] = default_baselines,
    step: Step = no_progress,
) -> Backtest:
    """Return how what is trained and the baselines would have done at each cutoff.

    Args:
        history: the whole history, before and after the cutoffs.
        config: what is scored.
        trainers: what trains on the lines before a cutoff, by the name of the list that it serves; None: the baselines
            alone are scored.
        ladder: the upgrade edges, frozen before the first cutoff; None: upsell is not scored.
        carts: scores cart completion at a cutoff, once its engine is trained; None: it is not scored.
        baselines: makes the baselines of one cutoff, not fitted.
        step: told of each step.

    Raises:
        EmptyDataError: nobody bought anything new after a cutoff.
        ConfigError: the history ends before the horizon of the last cutoff does.
        PluginError: a baseline is not what it must be.
    """
    _check_reach(history, config)
    rng = np.random.default_rng(config.seed)
    results = []
    for cutoff in config.cutoffs:
        split = _split(history, cutoff, config, rng)
        methods = [_score_baseline(split, baseline, rng, step) for baseline in baselines()]
        trained = []
        for name, trainer in (trainers or {}).items():
            with step(f"{cutoff:%Y-%m-%d}: training"):
                trained.append(trainer(cutoff))
            with step(f"{cutoff:%Y-%m-%d}: {name}"):
                methods += _score_trained(split, name, trained[-1], rng)
        engine = next((one for one in trained if one.raw is not None), None)
        result = _cutoff_result(split, methods, engine, ladder, rng)
        if carts is not None:
            with step(f"{cutoff:%Y-%m-%d}: carts"):
                result = replace(result, carts=carts(cutoff))
        results.append(result)
    return Backtest(config=config.model_dump(mode="json"), cutoffs=tuple(results), pooled=_pooled(results, config, rng))


def _check_reach(history: History, config: BacktestConfig) -> None:
    if len(history) == 0:
        raise EmptyDataError("0 order lines, must be 1 or more; is the source empty?")
    last, first = config.cutoffs[-1], config.cutoffs[0]
    if len(history.before(first)) == 0:
        raise ConfigError(f"cutoff {first:%Y-%m-%d}: 0 order lines before it; choose a later cutoff")
    if len(history.between(last, config.horizon_days)) == 0:
        raise ConfigError(
            f"cutoff {last:%Y-%m-%d}: 0 order lines in the {config.horizon_days} days after it; choose an earlier one"
        )


def _split(history: History, cutoff: datetime, config: BacktestConfig, rng: np.random.Generator) -> Split:
    truth = ground_truth(history, cutoff, config.horizon_days)
    if len(truth) == 0:
        raise EmptyDataError(
            f"cutoff {cutoff:%Y-%m-%d}: 0 accounts with an earlier order bought anything new in "
            f"{config.horizon_days} days, must be 1 or more; choose another cutoff or a longer horizon"
        )
    if config.max_accounts is not None and len(truth) > config.max_accounts:
        chosen = np.sort(rng.choice(len(truth), config.max_accounts, replace=False))
        truth = GroundTruth(truth.accounts[chosen], truth.relevant[chosen], truth.revenue[chosen])
    return Split(history, cutoff, truth, config)


def _score_baseline(split: Split, model: BacktestModel, rng: np.random.Generator, step: Step) -> MethodScores:
    with step(f"{split.cutoff:%Y-%m-%d}: {model.name}"):
        return score_lists(split, model.name, "baseline", baseline_lists(split, model), rng)


def baseline_lists(split: Split, model: BacktestModel) -> RowArray:
    """Return the lists of a baseline, fitted before the cutoff, `(n, k)` in the order of the truth's accounts.

    Raises:
        PluginError: it is not what a baseline must be, or returned something else than rows of products.
    """
    return fitted_lists(model, split.history, split.cutoff)(split.truth.accounts, split.config.k)


def fitted_lists(model: BacktestModel, history: History, cutoff: datetime) -> Callable[[RowArray, int], RowArray]:
    """Return what gives the lists of a model, fitted before the cutoff and checked.

    Raises:
        PluginError: it is not what a baseline must be; its lists, when asked for, are no rows of products.
    """
    check_plugin("baselines", model, "baseline")
    past = history.before(cutoff)  # whatever it does with the cutoff, it never sees a later line
    fitted = fitted_plugin(f"baseline {model.name!r}", model.fit(past, cutoff))
    return partial(_checked_lists, fitted, past.n_products)


def _checked_lists(model: BacktestModel, n_products: int, accounts: RowArray, k: int) -> RowArray:
    lists = np.asarray(model.recommend(accounts, k))
    rows = lists.shape == (len(accounts), k) and lists.dtype.kind == "i"
    if not rows or lists.min(initial=-1) < -1 or lists.max(initial=-1) >= n_products:
        raise PluginError(
            f"baseline {model.name!r}: recommend returned {lists.dtype} of shape {lists.shape}, must be rows of "
            f"products, -1 where there are fewer, of shape {len(accounts), k}; see recsys.testing.BacktestModelChecks"
        )
    return lists.astype(np.int32, copy=False)


def _score_trained(split: Split, name: str, trained: Trained, rng: np.random.Generator) -> list[MethodScores]:
    accounts, k = split.truth.accounts, split.config.k
    scores = []
    if trained.raw is not None:
        raw = first_of_each(trained.raw, accounts, split.history.n_accounts, k)
        scores.append(score_lists(split, RAW if name == SERVED else f"{name}: {RAW}", "raw", raw, rng))
    return [*scores, score_lists(split, name, "served", trained.served(accounts, k), rng)]


def score_lists(split: Split, name: str, kind: MethodKind, lists: RowArray, rng: np.random.Generator) -> MethodScores:
    """Return all figures of one method at one cutoff from its lists, `(n, k)` in the order of the truth's accounts."""
    truth, k, past = split.truth, split.config.k, split.history.before(split.cutoff)
    scores = score_ranking(lists, truth.relevant, k)
    hits = hits_at(lists, truth.relevant, k)
    buyers = np.bincount(past.owned().indices, minlength=past.n_products)
    total = float(truth.revenue.sum())
    captured = float(revenue_captured(hits, lists, truth.revenue).sum())
    return MethodScores(
        name=name,
        kind=kind,
        scores=scores,
        ndcg_interval=bootstrap_mean(scores.ndcg, rng, split.config.bootstrap),
        coverage=coverage(lists, active_products(split.history, split.cutoff, split.config.active_days)),
        novelty_bits=novelty(lists, buyers, int(known_accounts(past, split.cutoff).sum())),
        revenue_share=captured / total if total > 0 else float("nan"),
        filled_share=float((lists >= 0).mean()),
    )


def _cutoff_result(
    split: Split,
    methods: list[MethodScores],
    engine: Trained | None,
    ladder: Ladder | None,
    rng: np.random.Generator,
) -> CutoffResult:
    upsell, calibration = None, None
    if engine is not None and engine.raw is not None:
        calibration = judge_calibration(_pairs(split, engine.raw), split.config.calibration)
    if engine is not None and engine.upgrades is not None and ladder is not None:
        upsell = score_upsell(
            split.history,
            split.cutoff,
            split.config.horizon_days,
            ladder,
            engine.upgrades,
            climbs=split.config.climbs,
            calibration=split.config.calibration,
        )
    return CutoffResult(
        cutoff=split.cutoff,
        accounts=split.truth.accounts,
        n_novel=split.truth.relevant.nnz,
        methods=tuple(methods),
        differences=_differences(methods, split.config, rng),
        calibration=calibration,
        upsell=upsell,
    )


def _pairs(split: Split, raw: Candidates) -> ScoredPairs:
    return cross_sell_pairs(
        split.history, split.cutoff, split.config.horizon_days, raw.account, raw.product, raw.probability
    )


def _differences(
    methods: list[MethodScores], config: BacktestConfig, rng: np.random.Generator
) -> tuple[MethodDifference, ...]:
    """NDCG of the engine's lists less each baseline's, account by account."""
    return tuple(
        MethodDifference(
            ours.name, rival.name, paired_difference(ours.scores.ndcg, rival.scores.ndcg, rng, config.bootstrap)
        )
        for ours in methods
        if ours.kind != "baseline"
        for rival in methods
        if rival.kind == "baseline"
    )


def _pooled(
    results: list[CutoffResult], config: BacktestConfig, rng: np.random.Generator
) -> tuple[MethodDifference, ...]:
    """The same over all cutoffs; an account that is scored at several is resampled as one."""
    accounts = np.concatenate([result.accounts for result in results])
    found = []
    for difference in results[0].differences:
        ours = np.concatenate([result.method(difference.method).scores.ndcg for result in results])
        rival = np.concatenate([result.method(difference.against).scores.ndcg for result in results])
        interval = paired_difference(ours, rival, rng, config.bootstrap, accounts=accounts)
        found.append(MethodDifference(difference.method, difference.against, interval))
    return tuple(found)
