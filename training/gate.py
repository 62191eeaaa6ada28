"""The gate: may this model become champion?

The evidence is written by the training run (`gate.json` in MLflow) and judged here, by one short function a rule.
What the evidence cannot answer is not passed: it fails with "not measured".
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from recsys.contracts.config import Config
from recsys.contracts.offers import OfferKind


class GateConfig(Config):
    """How good a model must be before it may serve as champion."""

    min_coverage: float = Field(default=0.2, ge=0, le=1)
    """Share of the active catalogue that must be offered to someone: below it, the engine is a bestseller list."""
    calibration_low: float = Field(default=0.85, gt=0, le=1)
    """Lowest observed / expected purchases of a score bin."""
    calibration_high: float = Field(default=1.15, ge=1)
    """Highest observed / expected purchases of a score bin."""
    min_bin_positives: int = Field(default=100, ge=1)
    """Purchases a score bin must have before its ratio is judged: below, noise alone leaves the band."""
    max_data_drop: float = Field(default=0.3, gt=0, lt=1)
    """How far rows a day, active accounts or products may fall below the champion's: more means a broken feed."""


class Comparison(Config):
    """NDCG@10 on novel products: this model's minus a rival's, paired over accounts, with its 95 % interval."""

    rival: str
    difference: float
    low: float
    high: float


class CalibrationBin(Config):
    """One score bin over all eligible pairs: how many purchases came, and how many were expected."""

    observed: float
    expected: float


class KindCalibration(Config):
    """Calibration of one kind of offer on the backtest window, log losses in nats a pair."""

    kind: OfferKind
    bins: tuple[CalibrationBin, ...]
    log_loss: float
    log_loss_of_base_rate: float


class DataFacts(Config):
    """How much data a model was trained on."""

    fingerprint: str
    rows_a_day: float
    active_accounts: int
    products: int


class GateEvidence(Config):
    """All that a training run measured for the gate.

    Attributes:
        ndcg_at_10: of the raw ranker on novel products, in [0, 1].
        baselines: against each baseline of the ladder.
        champion: against the present champion; None where there is none.
        calibration: one entry a kind that was measured.
        coverage: share of the active catalogue that is offered to someone, in [0, 1].
        data: what it was trained on.
    """

    ndcg_at_10: float
    baselines: tuple[Comparison, ...]
    champion: Comparison | None
    calibration: tuple[KindCalibration, ...]
    coverage: float
    data: DataFacts


@dataclass(frozen=True)
class Check:
    """One rule of the gate: what was found against what is required."""

    name: str
    passed: bool
    found: str
    required: str


def judge(
    evidence: GateEvidence, champion_data: DataFacts | None, config: GateConfig | None = None
) -> tuple[Check, ...]:
    """Return every rule with what was found; the model may be promoted when all have passed.

    Args:
        evidence: of the model that wants to be champion.
        champion_data: of the present champion; None where there is none.
        config: the limits.
    """
    limits = config or GateConfig()
    return (
        *_against_baselines(evidence),
        *_against_champion(evidence, champion_data),
        *_calibration(evidence, limits),
        _coverage(evidence, limits),
        *_data_is_whole(evidence.data, champion_data, limits),
    )


def _beats(rival: Comparison) -> Check:
    found = f"{rival.difference:+.4f} [{rival.low:+.4f}, {rival.high:+.4f}]"
    return Check(f"NDCG@10 beats {rival.rival}", rival.low > 0, found, "interval above 0")


def _against_baselines(evidence: GateEvidence) -> tuple[Check, ...]:
    if not evidence.baselines:
        return (Check("NDCG@10 beats every baseline", False, "not measured", "a backtest"),)
    return tuple(_beats(rival) for rival in evidence.baselines)


def _against_champion(evidence: GateEvidence, champion_data: DataFacts | None) -> tuple[Check, ...]:
    if evidence.champion is not None:
        return (_beats(evidence.champion),)
    if champion_data is None:
        return ()
    return (Check("NDCG@10 beats the champion", False, "not measured", "a comparison with the champion"),)


def _calibration(evidence: GateEvidence, limits: GateConfig) -> tuple[Check, ...]:
    if not evidence.calibration:
        return (Check("calibration holds", False, "not measured", "a backtest"),)
    return tuple(check for kind in evidence.calibration for check in _kind_calibration(kind, limits))


def _kind_calibration(measured: KindCalibration, limits: GateConfig) -> tuple[Check, Check]:
    ratios = _ratios(measured.bins, limits.min_bin_positives)
    inside = bool(ratios) and all(limits.calibration_low <= ratio <= limits.calibration_high for ratio in ratios)
    found = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} bins" if ratios else "too few purchases to judge"
    gain = measured.log_loss_of_base_rate - measured.log_loss
    return (
        Check(
            f"{measured.kind}: observed / expected",
            inside,
            found,
            f"{limits.calibration_low} to {limits.calibration_high}",
        ),
        Check(
            f"{measured.kind}: log loss below the base rate's",
            gain > 0,
            f"{measured.log_loss:.6f} against {measured.log_loss_of_base_rate:.6f}",
            "below",
        ),
    )


def _ratios(bins: tuple[CalibrationBin, ...], min_positives: int) -> list[float]:
    """Observed over expected of every bin with enough purchases; of all bins as one where none has."""
    enough = [item for item in bins if item.observed >= min_positives]
    if not enough:
        pooled = CalibrationBin(
            observed=sum(item.observed for item in bins), expected=sum(item.expected for item in bins)
        )
        enough = [pooled] if pooled.observed >= min_positives else []
    return [item.observed / item.expected if item.expected > 0 else float("inf") for item in enough]


def _coverage(evidence: GateEvidence, limits: GateConfig) -> Check:
    found, required = f"{evidence.coverage:.1%}", f"at least {limits.min_coverage:.0%}"
    return Check("active catalogue offered to someone", evidence.coverage >= limits.min_coverage, found, required)


def _data_is_whole(data: DataFacts, champion: DataFacts | None, limits: GateConfig) -> tuple[Check, ...]:
    if champion is None:
        return ()
    keep = 1 - limits.max_data_drop
    pairs = (
        ("rows a day", data.rows_a_day, champion.rows_a_day),
        ("active accounts", data.active_accounts, champion.active_accounts),
        ("products", data.products, champion.products),
    )
    return tuple(
        Check(f"data: {name}", ours >= keep * theirs, f"{ours:,.0f}", f"at least {keep * theirs:,.0f}")
        for name, ours, theirs in pairs
    )
