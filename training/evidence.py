"""What a training run measured: gathered as the evidence that the gate judges, and told as a model card."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from recsys.arrays import unique_sorted
from recsys.backtesting.backtest import RAW
from recsys.contracts.offers import KINDS, OfferKind, OfferRequest
from recsys.data.dataset import Dataset
from recsys.data.history import SECONDS_A_DAY, History, epoch_seconds
from recsys.errors import EmptyDataError
from recsys.evaluation.offline.calibration import Calibration
from recsys.evaluation.offline.ranking_metrics import active_products
from recsys.fitting.pipeline import FittedModels
from recsys.ranking.engine import OfferEngine
from training.gate import (
    BinEvidence,
    Comparison,
    DataFacts,
    GateEvidence,
    KindCalibration,
    TrainConfig,
    ratio_interval,
)
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


def check_learned(fitted: FittedModels) -> None:
    """Check that a fit learned something: a model that did not would serve popularity under the name of one.

    Raises:
        EmptyDataError: neither who buys something new nor who climbs could be learned.
    """
    models = fitted.models
    learned = any(each.ranker is not None for each in models.next_product.ensemble_)
    if learned or models.upgrades.classifier_ is not None:
        return
    known, horizon = fitted.history.known(), fitted.config.horizon_days
    days = (int(known.seconds.max()) - int(known.seconds.min())) / SECONDS_A_DAY
    wanted = horizon + fitted.config.next_product.cutoffs.min_history_days
    remedy = (
        f"give at least {wanted:,.0f} days of orders, or state a shorter next_product.horizon_days and "
        "upgrades.horizon_days"
        if days < wanted
        else "give a longer history, or check that account_id names the customer and not the order"
    )
    raise EmptyDataError(
        f"nothing was learned, and no model was registered: in {days:,.0f} days of orders of "
        f"{len(unique_sorted(known.account)):,} accounts, 0 purchases of something new to an account within {horizon} "
        f"days could be replayed, must be 1 or more; {remedy}"
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


_MOST_RIVALS, _MOST_OF_A_CARD = 3, 5_000  # MLflow's registry keeps no longer description


def model_card(evidence: GateEvidence, data: Dataset, history: History, replay: PastValidation, verdict: str) -> str:
    """Return what people should know of a model before they use it, as Markdown.

    Args:
        evidence: what the run measured for the gate.
        data: what it learned from.
        history: its order lines.
        replay: what it would have said one horizon ago.
        verdict: of the gate, the end of a sentence.
    """
    first, last = (
        datetime.fromtimestamp(int(moment), UTC) for moment in (history.seconds.min(), history.seconds.max())
    )
    days = evidence.horizon_days
    return "\n".join(
        [
            f"# Offers as of {data.as_of:%Y-%m-%d}",
            "Cross-sell (products that an account has not bought) and upsell (higher versions of what it has).",
            f"Each offer has the probability of being bought within {days} days of that date.",
            f"\n**Gate:** {verdict}.",
            "\n## Quality",
            *_quality_lines(evidence, replay),
            "\n## Calibration",
            *_calibration_lines(evidence),
            "\n## Data",
            "| | |\n|---|---|",
            f"| order lines | {len(history):,}, {first:%Y-%m-%d} to {last:%Y-%m-%d} |",
            f"| accounts, products | {len(data.accounts):,}, {len(data.products):,} |",
            f"| of them active | {evidence.data.active_accounts:,}, {evidence.data.products:,} |",
            f"| currency | {data.currency or 'not named by the source'} |",
            *(
                f"| {one.table} | {one.location}: {one.rows_kept:,} of {one.rows_read:,} rows |"
                for one in data.report.tables
            ),
            f"| fingerprint | {data.fingerprint} |",
            "\n## Limits",
            f"- Probabilities speak of the {days} days after {data.as_of:%Y-%m-%d}; train again before they are over.",
            "- They say what accounts would do, not what an offer adds: that needs an experiment with a control group.",
            f"- {evidence.coverage:.0%} of the active catalogue is offered to someone.",
            *(f"- {note}" for note in evidence.notes),
        ]
    )[:_MOST_OF_A_CARD]


def _quality_lines(evidence: GateEvidence, replay: PastValidation) -> list[str]:
    if replay.cross is None or evidence.cutoff is None or evidence.horizon_days is None:
        return ["Not measured: the past was not replayed."]
    end = evidence.cutoff + timedelta(days=evidence.horizon_days)
    own = replay.cross.result.method(RAW).ndcg_interval
    rivals = sorted(evidence.baselines, key=lambda one: one.difference)
    shown = [*rivals[:_MOST_RIVALS], *([] if evidence.champion is None else [evidence.champion])]
    return [
        f"Learned again from what was known on {evidence.cutoff:%Y-%m-%d}, and scored on what",
        f"{evidence.n_accounts:,} accounts bought for the first time until {end:%Y-%m-%d}.",
        "\n| NDCG@10 on novel products | | 95 % interval |\n|---|---|---|",
        f"| this model | {own.estimate:.4f} | {own.low:.4f} to {own.high:.4f} |",
        *(f"| less {one.rival} | {one.difference:+.4f} | {one.low:+.4f} to {one.high:+.4f} |" for one in shown),
        f"\nThe closest {min(len(rivals), _MOST_RIVALS)} of {len(rivals)} baselines are shown.",
    ]


def _calibration_lines(evidence: GateEvidence) -> list[str]:
    if not evidence.calibration:
        return ["Not measured."]
    lines = [
        "| | purchases | observed / expected | 95 % interval by chance | log loss | of the base rate |",
        "|---" * 6 + "|",
    ]
    for one in evidence.calibration:
        observed, expected = (sum(getattr(each, side) for each in one.bins) for side in ("observed", "expected"))
        low, high = ratio_interval(observed, expected)
        ratio = observed / expected if expected > 0 else float("nan")
        lines.append(
            f"| {one.kind} | {observed:,.0f} | {ratio:.2f} | {low:.2f} to {high:.2f} | {one.log_loss:.6f} "
            f"| {one.log_loss_of_base_rate:.6f} |"
        )
    return lines


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
