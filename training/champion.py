"""The present champion as a rival: how its lists would have fared on the window that a new model is judged on.

Three ways, the first that is honest:

1. The champion was trained before the window: what its bundle would have served, with the purchases since.
2. It has seen some of the window, but its own run replayed the same one: the NDCG that it kept, account by account.
3. Else its configuration is trained again on what was known at the cutoff. With the configuration of the new model
   this would be the new model itself: then nothing tells the two apart before the window has passed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from recsys.arrays import FloatArray
from recsys.backtesting.backtest import Split
from recsys.backtesting.upgrade_scores import first_of_each
from recsys.bundle.load import Bundle, load_bundle
from recsys.bundle.resolve import CHAMPION, resolve_model
from recsys.contracts import columns as c
from recsys.contracts.offers import AccountState, OfferRequest
from recsys.data.history import SECONDS_A_DAY, History
from recsys.data.times import as_utc
from recsys.errors import ConfigError, GateError
from recsys.evaluation.offline.ranking_metrics import score_ranking
from recsys.evaluation.statistics.bootstrap import BootstrapConfig, Interval, paired_difference
from training.gate import (
    Comparison,
    DataFacts,
    GateCheck,
    GateEvidence,
    GateProfiles,
    TrainConfig,
    judge_evidence,
)
from training.registry import MODEL_NAME, ModelVersion, Registry
from training.validation import CrossReplay, learn_cross_sell

EVIDENCE_FILE = "gate.json"
"""The artifact of a training run that the gate judges."""
OPTIONS_FILE = "config.json"
FAULT_FILE = "replay/fault.txt"
"""Every option of a training run."""
ACCOUNTS_FILE = "replay/accounts.parquet"
"""NDCG of each account that the run's replay scored."""


@dataclass(frozen=True)
class Champion:
    """The model that serves at present.

    Attributes:
        version: in the registry.
        bundle: what it serves from.
        evidence: of its own run; None where it measured nothing.
        ndcg: of its own replay, columns `account_id ndcg`; None where it has none.
    """

    version: int
    bundle: Bundle
    evidence: GateEvidence | None
    ndcg: pd.DataFrame | None

    @property
    def as_of(self) -> datetime:
        """The moment that it was trained up to."""
        return as_utc(datetime.fromisoformat(self.bundle.manifest.as_of))

    @property
    def rival(self) -> str:
        """What tables call it."""
        return f"{CHAMPION} (version {self.version})"


def present_champion(registry: Registry) -> Champion | None:
    """Return the champion of a registry, or None where there is none."""
    version = registry.find(CHAMPION)
    if version is None:
        return None
    bundle = load_bundle(resolve_model(f"models:/{MODEL_NAME}/{version.version}", tracking_uri=registry.tracking_uri))
    return Champion(version.version, bundle, read_evidence(registry, version), read_ndcg(registry, version))


def read_evidence(registry: Registry, version: ModelVersion) -> GateEvidence | None:
    """Return what a version's training run measured for the gate, or None where it measured nothing."""
    file = artifact_file(registry, version, EVIDENCE_FILE)
    return None if file is None else GateEvidence.model_validate(json.loads(file.read_text("utf-8")))


def read_ndcg(registry: Registry, version: ModelVersion) -> pd.DataFrame | None:
    """Return the NDCG of each account that a version's run replayed, columns `account_id ndcg`; None without one."""
    file = artifact_file(registry, version, ACCOUNTS_FILE)
    return None if file is None else pd.read_parquet(file)


def compare_with(
    champion: Champion, replay: CrossReplay, config: TrainConfig, rng: np.random.Generator
) -> Comparison | None:
    """Return NDCG of the replayed ranker less the champion's, or None where its configuration can't be read any more.

    Args:
        champion: the rival.
        replay: of the new model.
        config: of the new model.
        rng: of the bootstrap.
    """
    cutoff, bootstrap = replay.split.cutoff, config.evaluation.bootstrap
    if champion.as_of <= cutoff:
        theirs = _served(champion, replay.split)
        return _comparison(champion.rival, "its bundle", paired_difference(replay.ndcg, theirs, rng, bootstrap))
    kept = champion.evidence
    replayed = None if kept is None else (kept.cutoff, kept.horizon_days)
    if replayed == (cutoff, config.horizon_days) and champion.ndcg is not None:
        return compare_kept(champion.rival, ndcg_table(replay), champion.ndcg, rng, bootstrap)
    again = _trained_again(champion, replay, config)
    if again is None:
        return None
    return _comparison(
        champion.rival, "its configuration trained again", paired_difference(replay.ndcg, again, rng, bootstrap)
    )


def compare_kept(
    rival: str,
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    rng: np.random.Generator,
    bootstrap: BootstrapConfig | None = None,
) -> Comparison | None:
    """Return the paired difference over the accounts that both replays of one window scored; None without any."""
    both = ours.merge(theirs, on=c.ACCOUNT_ID, suffixes=("", "_rival"), validate="one_to_one")
    if both.empty:
        return None
    columns = both[c.NDCG].to_numpy(), both[f"{c.NDCG}_rival"].to_numpy()
    return _comparison(rival, "its own replay", paired_difference(*columns, rng, bootstrap or BootstrapConfig()))


def same_window(ours: GateEvidence, theirs: GateEvidence | None) -> bool:
    """Return whether two runs replayed the same days."""
    return (
        ours.cutoff is not None
        and theirs is not None
        and (theirs.cutoff, theirs.horizon_days) == (ours.cutoff, ours.horizon_days)
    )


def ndcg_table(replay: CrossReplay) -> pd.DataFrame:
    """Return the NDCG of each account, columns `account_id ndcg`."""
    split = replay.split
    return pd.DataFrame({c.ACCOUNT_ID: split.history.account_ids[split.truth.accounts], c.NDCG: replay.ndcg})


def gate_checks(registry: Registry, version: ModelVersion, champion: ModelVersion | None) -> tuple[GateCheck, ...]:
    """Return the gate's checks of a version against the present champion.

    Raises:
        GateError: the run of the version wrote no evidence.
    """
    evidence, profiles = gate_evidence(registry, version), gate_profiles(registry, version)
    rival = champion if champion is not None and champion.version != version.version else None
    return judge_evidence(
        _against(registry, version, evidence, rival), _data_of(registry, rival), profiles.limits(evidence)
    )


def gate_profiles(registry: Registry, version: ModelVersion) -> GateProfiles:
    """Return the limits that the configuration of a version's run states; the defaults where it is older than they."""
    file = artifact_file(registry, version, OPTIONS_FILE)
    options = {} if file is None else json.loads(file.read_text("utf-8"))
    return GateProfiles.model_validate(options.get("gate", {}))


def replay_fault(registry: Registry, version: ModelVersion) -> str | None:
    """Return what kept the engine itself from replaying the past of a version's run; None where nothing did."""
    file = artifact_file(registry, version, FAULT_FILE)
    return None if file is None else file.read_text("utf-8").splitlines()[0]


def gate_evidence(registry: Registry, version: ModelVersion) -> GateEvidence:
    """Return what a version's training run measured for the gate.

    Raises:
        GateError: it measured nothing.
    """
    evidence = read_evidence(registry, version)
    if evidence is None:
        raise GateError(
            f"{MODEL_NAME} version {version.version} has no {EVIDENCE_FILE}, must have what its run measured; train it "
            'again with `offers train`, or give --override "reason"'
        )
    return evidence


def _against(
    registry: Registry, version: ModelVersion, evidence: GateEvidence, rival: ModelVersion | None
) -> GateEvidence:
    """Return the evidence with the comparison that counts now: the champion may have changed since the training.

    A champion that the run has not met can be compared where both replayed the same days; else nothing was measured.
    """
    if rival is None:
        return evidence.model_copy(update={"champion": None})
    if rival.version == evidence.champion_version:
        return evidence
    compared = None
    if same_window(evidence, read_evidence(registry, rival)):
        ours, theirs = read_ndcg(registry, version), read_ndcg(registry, rival)
        if ours is not None and theirs is not None:
            name = f"{CHAMPION} (version {rival.version})"
            compared = compare_kept(name, ours, theirs, np.random.default_rng(0))
    return evidence.model_copy(update={"champion": compared})


def _data_of(registry: Registry, champion: ModelVersion | None) -> DataFacts | None:
    if champion is None:
        return None
    evidence = read_evidence(registry, champion)
    if evidence is None:
        raise GateError(
            f"the champion, {MODEL_NAME} version {champion.version}, has no {EVIDENCE_FILE} to compare with; "
            'promote with --override "reason"'
        )
    return evidence.data


def _comparison(rival: str, how: str, interval: Interval) -> Comparison:
    return Comparison(rival=rival, difference=interval.estimate, low=interval.low, high=interval.high, how=how)


def _served(champion: Champion, split: Split) -> FloatArray:
    """NDCG of the lists that the champion would have served at the cutoff, in the ranker's own order."""
    engine, history, k = champion.bundle.engine(), split.history, split.config.k
    row_of = {product_id: row for row, product_id in enumerate(history.product_ids.tolist())}
    bought = _bought_since(history, champion.as_of, split.cutoff)
    lists = np.full((len(split.truth), k), -1, dtype=np.int32)
    for place, account in enumerate(split.truth.accounts.tolist()):
        request = OfferRequest(
            account_id=str(history.account_ids[account]), kinds=("cross_sell",), limit=k, raw=True, explain="none"
        )
        offers = engine.recommend(request, AccountState(bought=bought.get(account, ()))).offers
        rows = [row_of.get(offer.product_id, -1) for offer in offers]
        lists[place, : len(rows)] = rows
    return score_ranking(lists, split.truth.relevant, k).ndcg


def _bought_since(history: History, start: datetime, end: datetime) -> dict[int, tuple[str, ...]]:
    """Product ids that each account bought in `[start, end)`, latest first."""
    lines = history.between(start, (end - start).total_seconds() / SECONDS_A_DAY).known()
    found: dict[int, dict[str, None]] = {}
    for account, product in zip(lines.account[::-1].tolist(), lines.product[::-1].tolist(), strict=True):
        found.setdefault(account, {})[str(history.product_ids[product])] = None
    return {account: tuple(products) for account, products in found.items()}


def _trained_again(champion: Champion, replay: CrossReplay, config: TrainConfig) -> FloatArray | None:
    try:
        theirs = TrainConfig(**champion.bundle.manifest.config)
    except ConfigError:
        return None
    if (theirs.next_product, theirs.seed) == (config.next_product, config.seed):
        return replay.ndcg
    split = replay.split
    scored = learn_cross_sell(replay.past, split.history, theirs, split.truth.accounts).scored
    lists = first_of_each(scored, split.truth.accounts, split.history.n_accounts, split.config.k)
    return score_ranking(lists, split.truth.relevant, split.config.k).ndcg


def artifact_file(registry: Registry, version: ModelVersion, path: str) -> Path | None:
    """Return the local file of an artifact of a version's run, None where the run has none."""
    import mlflow

    folder = str(Path(path).parent)
    listed = registry.client.list_artifacts(version.run_id, None if folder == "." else folder)
    if path not in {item.path for item in listed}:
        return None
    uri = f"{registry.client.get_run(version.run_id).info.artifact_uri}/{path}"
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=registry.tracking_uri))
