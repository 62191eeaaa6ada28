"""The evidence that the gate judges, gathered from a training run and its replay."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np

from recsys.arrays import unique_sorted
from recsys.backtesting.backtest import RAW
from recsys.contracts.offers import KINDS, OfferKind, OfferRequest
from recsys.data.dataset import Dataset
from recsys.data.history import SECONDS_A_DAY, History, epoch_seconds
from recsys.evaluation.offline.calibration import Calibration
from recsys.evaluation.offline.ranking_metrics import active_products
from recsys.fitting.pipeline import FittedModels
from recsys.ranking.engine import OfferEngine
from training.gate import BinEvidence, Comparison, DataFacts, GateEvidence, KindCalibration, TrainConfig
from training.validation import CrossReplay, PastValidation

Rival = Callable[[CrossReplay], Comparison | None]

SLATE = 10
"""Offers an account, as many as NDCG@10 looks at."""


def gather_evidence(
    fitted: FittedModels,
    data: Dataset,
    config: TrainConfig,
    replay: PastValidation,
    rng: np.random.Generator,
    *,
    champion: Rival | None = None,
    champion_version: int | None = None,
) -> GateEvidence:
    """Return all that the gate wants to know of a training run.

    Args:
        fitted: what was learned.
        data: what it was learned from.
        config: of the run.
        replay: what it would have said one horizon ago.
        rng: draws the accounts that coverage is looked at.
        champion: compares the replay with the present champion; None where there is none.
        champion_version: which version that is.
    """
    cross, notes = replay.cross, list(replay.notes)
    compared = None if champion is None or cross is None else champion(cross)
    if champion is not None and compared is None:
        notes.append(f"nothing of the champion, version {champion_version}, can be compared on the replayed window")
    return GateEvidence(
        ndcg_at_10=None if cross is None else float(cross.ndcg.mean()),
        baselines=() if cross is None else _against_baselines(cross),
        champion=compared,
        champion_version=champion_version,
        calibration=_calibrations(replay),
        kinds=tuple(kind for kind, made in zip(KINDS, (fitted.cross, fitted.up), strict=True) if len(made)),
        coverage=offered_share(fitted, data.as_of, config, rng),
        data=data_facts(fitted.history, data, config.evaluation.active_days),
        cutoff=None if cross is None else cross.split.cutoff,
        horizon_days=config.horizon_days,
        n_accounts=0 if cross is None else len(cross.split.truth),
        notes=tuple(notes),
    )


def offered_share(fitted: FittedModels, as_of: datetime, config: TrainConfig, rng: np.random.Generator) -> float:
    """Return the share of the active catalogue that the engine offers to someone, in [0, 1].

    The served slates of ten, value and diversity on, both kinds, without a cart; over a sample of the accounts where
    there are more than `max_accounts` and more than active products: fewer could not show all of a large catalogue. A
    sample can only make the share smaller.
    """
    engine = OfferEngine(fitted.model, config.ranking)
    active = active_products(fitted.history, as_of, config.evaluation.active_days)
    catalogue = set(fitted.history.product_ids[active].tolist())
    ids = engine.model.accounts.ids
    chosen, most = np.arange(len(ids)), max(config.evaluation.max_accounts, len(catalogue))
    if len(ids) > most:
        chosen = np.sort(rng.choice(len(ids), most, replace=False))
    offered = {
        offer.product_id
        for row in chosen.tolist()
        for offer in engine.recommend(OfferRequest(account_id=ids[row], limit=SLATE, explain="none")).offers
    }
    return len(offered & catalogue) / len(catalogue) if catalogue else 0.0


def data_facts(history: History, data: Dataset, active_days: int) -> DataFacts:
    """Return how much data came in the last days before `as_of`."""
    recent = history.between(data.as_of - timedelta(days=active_days), active_days)
    first = int(history.seconds.min())
    days = min(float(active_days), (epoch_seconds(data.as_of) - first) / SECONDS_A_DAY)
    return DataFacts(
        fingerprint=data.fingerprint,
        rows_a_day=len(recent) / max(days, 1.0),
        active_accounts=len(unique_sorted(recent.known().account)),
        products=len(unique_sorted(recent.product)),
    )


def kind_calibration(kind: OfferKind, found: Calibration) -> KindCalibration:
    """Return what the gate judges of a calibration: the bins that an offer can come from, and both log losses.

    The pairs that no list names are one bin without an order in it: they count in the log losses alone.
    """
    bins = tuple(
        BinEvidence(observed=one.observed, expected=one.expected, error=one.error) for one in found.bins if one.listed
    )
    return KindCalibration(kind=kind, bins=bins, log_loss=found.log_loss, log_loss_of_base_rate=found.base_log_loss)


def _against_baselines(replay: CrossReplay) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(rival=one.against, difference=one.interval.estimate, low=one.interval.low, high=one.interval.high)
        for one in replay.result.differences
        if one.method == RAW
    )


def _calibrations(replay: PastValidation) -> tuple[KindCalibration, ...]:
    found = []
    if replay.cross is not None and replay.cross.result.calibration is not None:
        found.append(kind_calibration("cross_sell", replay.cross.result.calibration))
    if replay.up is not None:
        found.append(kind_calibration("upsell", replay.up.scores.calibration))
    return tuple(found)
