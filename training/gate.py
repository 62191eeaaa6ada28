"""The gate: may this model become champion?

The evidence is written by the training run (`gate.json` in MLflow) and judged here, by one short function a rule.
What the evidence cannot answer is not passed: it fails with "not measured".

`TrainConfig` is the whole configuration of a training run: what a fit takes, and how the run is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field
from scipy.stats import chi2, norm

from recsys.contracts.config import Config
from recsys.contracts.offers import OfferKind
from recsys.contracts.plugins import installed_plugin
from recsys.evaluation.statistics.bootstrap import BootstrapConfig
from recsys.fitting.pipeline import FitConfig

GATE_CONFIDENCE = 0.95
"""Of the intervals within which a ratio may be outside of the band by chance."""

_Z = float(norm.ppf((1 + GATE_CONFIDENCE) / 2))

NDCG_CHECK = "NDCG@10"
"""How the name of every check on ranking begins."""


RequiredMargin = Literal["surely above", "above", "not below"]
"""What NDCG@10 less a rival's must be: its whole 95 % interval above 0, its mean, or not the whole interval below 0."""

Profile = Literal["small", "medium", "large"]


class GateConfig(Config):
    """How good a model must be before it may serve as champion: the limits of one profile."""

    margin: RequiredMargin = "surely above"
    """How NDCG@10 must compare with every baseline and with the champion."""
    min_coverage: float = Field(default=0.2, ge=0, le=1)
    """Share of the active catalogue that must be offered to someone: below it, the engine is a bestseller list."""
    calibration_low: float = Field(default=0.85, gt=0, le=1)
    """Lowest observed / expected purchases, of all and of a score bin."""
    calibration_high: float = Field(default=1.15, ge=1)
    """Highest observed / expected purchases, of all and of a score bin."""
    min_bin_positives: int = Field(default=100, ge=1)
    """Purchases a score bin must have before its ratio is judged: below, noise alone leaves the band."""
    max_data_drop: float = Field(default=0.3, gt=0, lt=1)
    """How far rows a day, active accounts or products may fall below the champion's: more means a broken feed."""


class GateProfiles(Config):
    """Limits by the size of the firm: what a few accounts bought can't prove what thousands can.

    With eighty accounts the interval of a difference of NDCG is .08 wide on either side: no model would ever pass all
    baselines, nor a better one replace its champion.
    """

    profile: Profile | None = None
    """Whose limits count; None: by the accounts and the purchases of the evaluation."""
    small_accounts: int = Field(default=100, ge=1)
    """A firm is small with fewer scored accounts than that."""
    small_purchases: int = Field(default=300, ge=1)
    """Or with fewer purchases of what was listed."""
    medium_accounts: int = Field(default=400, ge=1)
    """It is of medium size with fewer scored accounts than that."""
    medium_purchases: int = Field(default=2_000, ge=1)
    """Or with fewer purchases of what was listed."""
    small: GateConfig = GateConfig(margin="not below", calibration_low=0.7, calibration_high=1.4, max_data_drop=0.5)
    medium: GateConfig = GateConfig(margin="above", calibration_low=0.8, calibration_high=1.25, max_data_drop=0.4)
    large: GateConfig = GateConfig()

    def profile_of(self, evidence: GateEvidence) -> Profile:
        """Return the profile whose limits count for an evaluation; the strictest where nothing was measured."""
        if self.profile is not None:
            return self.profile
        if evidence.ndcg_at_10 is None or not evidence.n_accounts:
            return "large"
        if evidence.n_accounts < self.small_accounts or evidence.purchases < self.small_purchases:
            return "small"
        if evidence.n_accounts < self.medium_accounts or evidence.purchases < self.medium_purchases:
            return "medium"
        return "large"

    def limits(self, evidence: GateEvidence) -> GateConfig:
        """Return the limits that count for an evaluation."""
        return {"small": self.small, "medium": self.medium, "large": self.large}[self.profile_of(evidence)]


class EvaluationConfig(Config):
    """How a training run measures what the gate judges."""

    replay: bool = True
    """Whether the past is replayed: about half as long again as the training; without it the gate has no evidence."""
    most_lines: int = Field(default=1_000_000, ge=1)
    """Order lines that are replayed at most: of a larger history, those of accounts drawn at random, about so many
    lines together. It bounds the time and memory of the look back, not of reading: that is always of all lines."""
    max_accounts: int = Field(default=2_000, ge=1)
    """Accounts with an earlier order that are scored at most, half of them later buyers where there are as many, the
    others weighted for it: bounds time on a large history, and a thousand buyers tell a bin's ratio to 7 %."""
    active_days: int = Field(default=90, ge=1)
    """A product sold, an account that ordered in this many last days is active; a quarter rides out most seasons."""
    importance_rows: int = Field(default=1_000, ge=100)
    """Candidates on which the importance of each feature is measured; each is scored once a feature."""
    bootstrap: BootstrapConfig = BootstrapConfig()
    """Intervals over accounts."""
    baselines: tuple[Annotated[str, installed_plugin("baselines")], ...] = ()
    """Baselines of other packages that the engine must beat too, by the names of their entry points in
    `offer_engine.baselines`."""


class Comparison(Config):
    """NDCG@10 on novel products: this model's minus a rival's, paired over accounts, with its 95 % interval."""

    rival: str
    difference: float
    low: float
    high: float
    how: str = ""
    """Where the rival's lists come from, where there are several ways."""


class BinEvidence(Config):
    """One score bin over all eligible pairs: how many purchases came, and how many were expected."""

    observed: float
    expected: float
    error: float | None = None
    """Standard error of the ratio where accounts are the units: one that buys fifty things is one event."""


class KindCalibration(Config):
    """Calibration of one kind of offer on the backtest window, log losses in nats a pair."""

    kind: OfferKind
    bins: tuple[BinEvidence, ...]
    log_loss: float
    log_loss_of_base_rate: float


class DataFacts(Config):
    """How much data a model was trained on."""

    fingerprint: str
    """SHA-256 of the cleaned data."""
    rows_a_day: float
    """Order lines a day over the window that makes a product active: a feed that broke lately shows."""
    active_accounts: int
    """Accounts that ordered within that window."""
    products: int
    """Products sold within that window: the active catalogue."""


class GateEvidence(Config):
    """All that a training run measured for the gate.

    Attributes:
        ndcg_at_10: of the raw ranker on novel products, in [0, 1]; None where nobody could be scored.
        baselines: against each baseline of the ladder.
        champion: against the champion of the time; None where there was none.
        champion_version: which version that was.
        calibration: one entry a kind that was measured.
        kinds: the kinds of offer that the bundle makes; each must have been measured.
        coverage: share of the active catalogue that is offered to someone, in [0, 1].
        data: what it was trained on.
        cutoff: where the replayed past ends.
        horizon_days: how long purchases counted after it.
        n_accounts: accounts that the NDCG is a mean over.
        notes: what could not be measured, and why.
    """

    ndcg_at_10: float | None
    baselines: tuple[Comparison, ...]
    champion: Comparison | None
    champion_version: int | None = None
    calibration: tuple[KindCalibration, ...]
    kinds: tuple[OfferKind, ...] = ()
    coverage: float
    data: DataFacts
    cutoff: datetime | None = None
    horizon_days: int | None = None
    n_accounts: int = 0
    notes: tuple[str, ...] = ()

    @property
    def purchases(self) -> float:
        """Cross-sell purchases of what the lists name, in the replayed horizon."""
        return sum(one.observed for kind in self.calibration if kind.kind == "cross_sell" for one in kind.bins)


@dataclass(frozen=True)
class GateCheck:
    """One rule of the gate: what was found against what is required."""

    name: str
    passed: bool
    found: str
    required: str


def judge_evidence(
    evidence: GateEvidence, champion_data: DataFacts | None, config: GateConfig | None = None
) -> tuple[GateCheck, ...]:
    """Return every rule with what was found; the model may be promoted when all have passed.

    Args:
        evidence: of the model that wants to be champion.
        champion_data: of the present champion; None where there is none.
        config: the limits; default: those of the profile, see `GateProfiles`.
    """
    limits = config or GateProfiles().limits(evidence)
    return (
        *_against_baselines(evidence, limits),
        *_against_champion(evidence, champion_data, limits),
        *_calibration(evidence, limits),
        _coverage(evidence, limits),
        *_data_is_whole(evidence.data, champion_data, limits),
    )


def limits_sentence(evidence: GateEvidence, profiles: GateProfiles) -> str:
    """Return whose limits were taken, and why.

    Example:
        >>> evidence = GateEvidence.model_construct(ndcg_at_10=0.5, n_accounts=80, calibration=())
        >>> limits_sentence(evidence, GateProfiles())
        'Limits of a small firm: 80 accounts and 0 purchases were scored.'
    """
    scored = f"{evidence.n_accounts:,} accounts and {evidence.purchases:,.0f} purchases were scored"
    why = "gate.profile says so" if profiles.profile else scored
    return f"Limits of a {profiles.profile_of(evidence)} firm: {why}."


_MOST_NAMED = 4


def gate_sentence(checks: Sequence[GateCheck]) -> str:
    """Return what the gate says as the end of a sentence: `passes all 12 checks of the gate`, or which ones fail."""
    failed = [check.name for check in checks if not check.passed]
    if not failed:
        return f"passes all {len(checks)} checks of the gate"
    more = f" and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
    return f"fails {len(failed)} of {len(checks)} checks of the gate: {'; '.join(failed[:_MOST_NAMED])}{more}"


_REQUIRED: Final[dict[RequiredMargin, str]] = {
    "surely above": "above 0",
    "above": "mean above 0",
    "not below": "not all below 0",
}


def _beats(rival: Comparison, margin: RequiredMargin) -> GateCheck:
    passed = {"surely above": rival.low > 0, "above": rival.difference > 0, "not below": rival.high > 0}[margin]
    found = f"{rival.difference:+.4f} [{rival.low:+.4f}, {rival.high:+.4f}]"
    if rival.how:
        found += f", by {rival.how}"
    return GateCheck(f"{NDCG_CHECK} beats {rival.rival}", passed, found, _REQUIRED[margin])


def _against_baselines(evidence: GateEvidence, limits: GateConfig) -> tuple[GateCheck, ...]:
    if not evidence.baselines:
        return (GateCheck(f"{NDCG_CHECK} beats every baseline", False, "not measured", "a replay"),)
    return tuple(_beats(rival, limits.margin) for rival in evidence.baselines)


def _against_champion(
    evidence: GateEvidence, champion_data: DataFacts | None, limits: GateConfig
) -> tuple[GateCheck, ...]:
    if evidence.champion is not None:
        return (_beats(evidence.champion, limits.margin),)
    if champion_data is None:
        return ()
    return (GateCheck(f"{NDCG_CHECK} beats the champion", False, "not measured", "a comparison with the champion"),)


def _calibration(evidence: GateEvidence, limits: GateConfig) -> tuple[GateCheck, ...]:
    measured = {kind.kind for kind in evidence.calibration}
    missing = [kind for kind in evidence.kinds if kind not in measured]
    if not measured and not missing:
        return (GateCheck("calibration holds", False, "not measured", "a replay"),)
    return (
        *(check for kind in evidence.calibration for check in _kind_calibration(kind, limits)),
        *(GateCheck(f"{kind}: calibration holds", False, "not measured", "a replay") for kind in missing),
    )


def _kind_calibration(measured: KindCalibration, limits: GateConfig) -> tuple[GateCheck, ...]:
    gain = measured.log_loss_of_base_rate - measured.log_loss
    return (
        *_observed_over_expected(measured, limits),
        GateCheck(
            f"{measured.kind}: log loss below the base rate's",
            gain > 0,
            f"{measured.log_loss:.6f} against {measured.log_loss_of_base_rate:.6f}",
            "below",
        ),
    )


def _observed_over_expected(measured: KindCalibration, limits: GateConfig) -> tuple[GateCheck, ...]:
    """All purchases together must be within the band; each bin with enough of them, as far as its accounts can tell.

    A bin of 370 purchases has a standard error of 0.09, since accounts buy many products at a time: of ten such bins
    of a model without fault, one or more leaves 0.85 to 1.15 in six months of ten. So a bin fails where its 95 %
    interval lies outside of the band altogether. Below `min_bin_positives` in all, so it is for the sum.
    """
    name, required = f"{measured.kind}: observed / expected", f"{limits.calibration_low} to {limits.calibration_high}"
    observed, expected = (sum(getattr(one, side) for one in measured.bins) for side in ("observed", "expected"))
    whole = _over(observed, expected)
    if observed < limits.min_bin_positives:
        low, high = ratio_interval(observed, expected)
        found = f"{whole:.2f} of {observed:.0f} purchases, {low:.2f} to {high:.2f} by chance"
        return (GateCheck(name, _meets(low, high, limits), found, f"{required} within chance"),)
    together = GateCheck(name, _meets(whole, whole, limits), f"{whole:.2f} of {observed:.0f} purchases", required)
    bins = [one for one in measured.bins if one.observed >= limits.min_bin_positives]
    if not bins:
        return (together,)
    ratios = [_over(one.observed, one.expected) for one in bins]
    chance = [_Z * (one.error or 0.0) for one in bins]
    inside = [_meets(ratio - by, ratio + by, limits) for ratio, by in zip(ratios, chance, strict=True)]
    found = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(bins)} bins, {inside.count(False)} outside beyond chance"
    return (together, GateCheck(f"{name} in each bin", all(inside), found, f"{required} within chance"))


def _meets(low: float, high: float, limits: GateConfig) -> bool:
    return low <= limits.calibration_high and high >= limits.calibration_low


def ratio_interval(observed: float, expected: float) -> tuple[float, float]:
    """Return the exact 95 % interval of observed / expected where purchases are a Poisson count.

    Source: Garwood (1936): `chi2(0.025, 2 n) / 2` to `chi2(0.975, 2 n + 2) / 2`, over what was expected.
    """
    tail = (1 - GATE_CONFIDENCE) / 2
    low = chi2.ppf(tail, 2 * observed) / 2 if observed > 0 else 0.0
    high = chi2.ppf(1 - tail, 2 * observed + 2) / 2
    return _over(float(low), expected), _over(float(high), expected)


def _over(observed: float, expected: float) -> float:
    return observed / expected if expected > 0 else float("inf")


def _coverage(evidence: GateEvidence, limits: GateConfig) -> GateCheck:
    found, required = f"{evidence.coverage:.1%}", f"at least {limits.min_coverage:.0%}"
    return GateCheck("active catalogue offered to someone", evidence.coverage >= limits.min_coverage, found, required)


def _data_is_whole(data: DataFacts, champion: DataFacts | None, limits: GateConfig) -> tuple[GateCheck, ...]:
    if champion is None:
        return ()
    keep = 1 - limits.max_data_drop
    pairs = (
        ("rows a day", data.rows_a_day, champion.rows_a_day),
        ("active accounts", data.active_accounts, champion.active_accounts),
        ("products", data.products, champion.products),
    )
    return tuple(
        GateCheck(f"data: {name}", ours >= keep * theirs, f"{ours:,.0f}", f"at least {keep * theirs:,.0f}")
        for name, ours, theirs in pairs
    )


class TrainConfig(FitConfig):
    """What `offers train --config FILE` reads (TOML); every section may be left out.

    Attributes:
        evaluation: how the run measures what the gate judges; changes nothing in the bundle.
        gate: what a model must reach to be promoted, by the size of the firm; it stands in the run's `config.json`.
    """

    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateProfiles = GateProfiles()
