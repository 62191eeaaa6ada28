"""One training run as MLflow keeps it: fit, replay the last horizon, write the bundle, log all, register."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import unique_sorted
from recsys.backtesting.baselines import default_baselines
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.data.report import DataReport
from recsys.errors import BundleError, ModelNotFoundError
from recsys.fitting.pipeline import FittedModels, Step, fit, known_history, no_progress, part_rng, write_bundle
from recsys.fitting.scoring_models import models_folder, save_models
from recsys.ladder.edges import Ladder
from recsys.ladder.file import fixed_ladder, ladder_from_data, ladder_from_file, with_names
from recsys.reporting.backtest_text import strongest_pairs
from recsys.threads import single_threaded
from training.champion import EVIDENCE_FILE, Champion, compare_with, present_champion
from training.evidence import gather_evidence
from training.gate import GateEvidence, TrainConfig
from training.registry import BUNDLE_FOLDER, MODELS_FOLDER, Registry
from training.tracking import StepTime, Stopwatch, TrackedRun, open_run
from training.validation import SIDE_BY_SIDE_LINES, PastValidation, of_accounts, sample_accounts, validate_on_past
from training.validation_log import feature_importances, log_replay, replay_metrics


@dataclass(frozen=True)
class TrainingRun:
    """What a training run left behind.

    Attributes:
        run_id: of MLflow.
        version: of the registered model.
        figures: counts and metrics by name.
        report: what became of every row that was read.
        evidence: what the gate judges.
        times: what each step took.
    """

    run_id: str
    version: int
    figures: dict[str, float]
    report: DataReport
    evidence: GateEvidence
    times: tuple[StepTime, ...]


@single_threaded()
def train_and_register(
    spec: ReadSpec,
    config: TrainConfig,
    *,
    tracking_uri: str,
    out: Path | None = None,
    ladder_file: Path | None = None,
    step: Step = no_progress,
) -> TrainingRun:
    """Train on what `spec` names and register the bundle as `challenger`; nothing is logged where reading fails.

    Args:
        spec: what to read.
        config: every option.
        tracking_uri: where MLflow keeps runs and models.
        out: a folder to write the bundle to as well; the fitted models go beside it, see `models_folder`.
        ladder_file: an edited ladder to use; default: the ladder is built from the data.
        step: told of each step.
    """
    registry, step = Registry(tracking_uri), Stopwatch(step)
    with step("reading and checking"):
        data = read_dataset(spec)
        ladder = None if ladder_file is None else ladder_from_file(ladder_file, data, config.ladder)
    fitted, replay = _fit_and_replay(spec, data, config, ladder, step)
    with step("what the gate judges"):
        evidence = _evidence(registry, fitted, data, config, replay)
    figures = run_figures(data, fitted) | replay_metrics(replay)
    with step("tracking and registry"), tempfile.TemporaryDirectory() as scratch:
        folder, models = Path(scratch) / BUNDLE_FOLDER, Path(scratch) / MODELS_FOLDER
        places = [(folder, models)] if out is None else [(folder, models), (out, models_folder(out))]
        for bundle_at, models_at in places:
            write_bundle(bundle_at, fitted, data, config, figures)
            save_models(models_at, fitted.models)
        with open_run(registry, f"train {data.as_of:%Y-%m-%d}") as run:
            _log(run, data, config, fitted, replay, evidence)
            run.log_metrics(figures | step.metrics())
            if ladder_file is not None:
                run.log_file(ladder_file, "ladder/edited.csv")
            run.log_bundle(folder)
            run.log_folder(models, MODELS_FOLDER)
        version = registry.register(run.run_id)
    return TrainingRun(run.run_id, version.version, figures, data.report, evidence, tuple(step.times))


def run_figures(data: Dataset, fitted: FittedModels) -> dict[str, float]:
    """Return how much was read and learned, by name."""
    relation = fitted.rules["relation"]
    return {
        "order_lines": len(fitted.history),
        "accounts": len(unique_sorted(fitted.history.known().account)),
        "products": len(data.products),
        "complement_rules": int((relation == "complement").sum()),
        "substitute_rules": int((relation == "substitute").sum()),
        "upgrade_edges": len(fitted.ladder),
        "climbs": int(fitted.ladder.edges["n_climbed"].sum()),
        "cross_sell_candidates": len(fitted.cross),
        "upsell_candidates": len(fitted.up),
        "accounts_with_an_offer": len(unique_sorted(np.concatenate([fitted.cross.account, fitted.up.account]))),
    }


def _fit_and_replay(
    spec: ReadSpec, data: Dataset, config: TrainConfig, ladder: Ladder | None, step: Step
) -> tuple[FittedModels, PastValidation]:
    """Learn and look back; side by side where two pasts fit into memory, because much of each is work of one core."""
    if not config.evaluation.replay:
        why_not = "evaluation.replay == false: the past was not replayed"
        return fit(data, config, step=step, ladder=ladder), PastValidation(None, None, (why_not,))
    n_lines, most_lines = int(data.orders.count().to_pyarrow().as_py()), config.evaluation.most_lines
    with step("accounts of the replay"):  # before anything runs side by side: one DuckDB serves one thread
        chosen = sample_accounts(data, n_lines, most_lines, part_rng(config, "replayed market"))
        history = known_history(data if chosen is None else of_accounts(data, chosen))
    ladder_of = ladder_from_data(config.ladder) if ladder is None else fixed_ladder(ladder, config.ladder)
    read = partial(_read_at, spec, chosen)
    rivals = partial(default_baselines, config.evaluation.baselines)
    rivals()  # what keeps one from being made is said before anything is learned
    look_back = partial(validate_on_past, read, history, data.as_of, config, ladder_of, baselines=rivals, step=step)
    if n_lines > SIDE_BY_SIDE_LINES:
        fitted, replay = fit(data, config, step=step, ladder=ladder), look_back()
    else:
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(look_back)
            fitted, replay = fit(data, config, step=step, ladder=ladder), late.result()
    if chosen is None:
        return fitted, replay
    note = (
        f"{n_lines:,} order lines, more than evaluation.most_lines == {most_lines:,}: the past of "
        f"{len(chosen):,} of {len(data.accounts):,} accounts was replayed, drawn at random"
    )
    return fitted, replace(replay, notes=(*replay.notes, note))


def _read_at(spec: ReadSpec, account_ids: NDArray[np.object_] | None, cutoff: datetime) -> Dataset:
    """The sources with nothing at or after the cutoff; what is rejected was reported by the run itself."""
    data = read_dataset(spec.model_copy(update={"as_of": cutoff, "rejects": None}))
    return data if account_ids is None else of_accounts(data, account_ids)


def _evidence(
    registry: Registry, fitted: FittedModels, data: Dataset, config: TrainConfig, replay: PastValidation
) -> GateEvidence:
    rng = part_rng(config, "evidence")
    champion = _champion(registry) if replay.cross is not None else None
    if champion is None:
        return gather_evidence(fitted, data, config, replay, rng)
    rival = partial(compare_with, champion, config=config, rng=rng)
    return gather_evidence(fitted, data, config, replay, rng, champion=rival, champion_version=champion.version)


def _champion(registry: Registry) -> Champion | None:
    """The present champion; None too where its bundle can't be read, which must not keep a better model away."""
    try:
        return present_champion(registry)
    except (BundleError, ModelNotFoundError):
        return None


def _log(
    run: TrackedRun,
    data: Dataset,
    config: TrainConfig,
    fitted: FittedModels,
    replay: PastValidation,
    evidence: GateEvidence,
) -> None:
    options = config.model_dump(mode="json")
    run.log_params(options | {"as_of": data.as_of.isoformat(), "data": data.fingerprint})
    run.log_json(options, "config.json")
    facts = evidence.data.model_dump(exclude={"fingerprint"})
    gate = {"coverage": evidence.coverage} | {f"data.{name}": value for name, value in facts.items()}
    run.log_metrics(gate)
    run.log_json(evidence.model_dump(mode="json"), EVIDENCE_FILE)
    run.log_json(data.report.to_dict(), "data_report.json")
    run.log_frame(fitted.rules, "rules/rules.parquet")
    run.log_table(strongest_pairs(fitted.rules, data.products), "rules/strongest.csv")
    run.log_frame(fitted.ladder.edges, "ladder/edges.parquet")
    run.log_table(with_names(fitted.ladder, data.products), "ladder/edges.csv")
    importances = feature_importances(replay, config, part_rng(config, "importances"))
    log_replay(run, replay, importances)
