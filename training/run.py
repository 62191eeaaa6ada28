"""One training run as MLflow keeps it: fit, replay the last horizon, write the bundle, log all, register."""

from __future__ import annotations

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys.arrays import unique_sorted
from recsys.backtesting.baselines import default_baselines
from recsys.bundle.resolve import CHAMPION
from recsys.bundle.save import library_versions
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.data.report import DataReport
from recsys.errors import BundleError, GateError, ModelNotFoundError
from recsys.fitting.pipeline import FittedModels, fit, known_history, part_rng, write_bundle
from recsys.fitting.scoring_models import models_folder, save_models
from recsys.fitting.steps import (
    FRAME_FORM,
    Keep,
    Step,
    document,
    kept_steps,
    locked_steps,
    no_progress,
    steps_found,
    take_over,
)
from recsys.fitting.time_scales import TimeScales, with_time_scales
from recsys.ladder.absence import why_no_edges
from recsys.ladder.edges import Ladder
from recsys.ladder.file import fixed_ladder, ladder_from_data, ladder_from_file, with_names
from recsys.ladder.tier_columns import find_tier_columns
from recsys.reporting.backtest_text import strongest_pairs
from recsys.threads import single_threaded
from training.champion import (
    EVIDENCE_FILE,
    FAULT_FILE,
    OPTIONS_FILE,
    Champion,
    compare_with,
    gate_checks,
    present_champion,
)
from training.evidence import check_learned, gather_evidence, model_card
from training.gate import GateEvidence, TrainConfig, gate_sentence
from training.progress import SECONDS, StepTime, Stopwatch
from training.registry import BUNDLE_FOLDER, EXPERIMENT, MODELS_FOLDER, ModelVersion, Registry, sqlite_file
from training.tracking import NOTE, TrackedRun, compared_params, engine_version, open_run
from training.validation import (
    SIDE_BY_SIDE_LINES,
    PastValidation,
    guarded,
    of_accounts,
    sample_accounts,
    validate_on_past,
)
from training.validation_log import feature_importances, log_parts, log_replay, replay_metrics

COMPARED = (
    "seed",
    "next_product.horizon_days",
    "next_product.n_classifiers",
    "next_product.cutoffs.n_cutoffs",
    "next_product.ranker.kind",
    "next_product.ranker.n_trees",
    "next_product.ranker.learning_rate",
    "next_product.sampling.train_accounts",
    "upgrades.enough_climbs",
    "evaluation.replay",
)
"""Options that every run logs as parameters, beside those that are not at their default; `config.json` has all."""


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
        resumed: the steps that an earlier run, which was ended, had done.
        no_upgrades: why no upgrade edge was found, and which columns may be tiers; empty where nothing is to say.
        fault: that the engine itself failed in the replay, and what to report; None where it did not.
        order: what the order of offers was learned from, and why; empty where nothing but the default was asked for.
    """

    run_id: str
    version: int
    figures: dict[str, float]
    report: DataReport
    evidence: GateEvidence
    times: tuple[StepTime, ...]
    resumed: tuple[str, ...] = ()
    no_upgrades: str = ""
    fault: str | None = None
    order: str = ""


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
    """Train on what `spec` names and register the bundle as `challenger`.

    The MLflow run is open from before the first step; where a step fails it says so. What the steps gave is kept in
    `steps_folder` until the run is registered: the same training, ended before that, goes on from there.

    Args:
        spec: what to read.
        config: every option.
        tracking_uri: where MLflow keeps runs and models.
        out: a folder to write the bundle to as well; the fitted models go beside it, see `models_folder`.
        ladder_file: an edited ladder to use; default: the ladder is built from the data.
        step: told of each step.
    """
    registry, watch = Registry(tracking_uri), Stopwatch(step)
    with open_run(registry, "train") as run, locked_steps(steps_folder(out, tracking_uri)) as kept:
        _end_killed(registry, take_over(kept, run.run_id), by=run)
        step = run.follow(watch)
        with step("reading and checking"):
            data = read_dataset(spec)
            ladder = None if ladder_file is None else ladder_from_file(ladder_file, data, config.ladder)
            scales = TimeScales.of(known_history(data))
            config = with_time_scales(config, scales)  # once, so that the replay learns what the model does
        run.rename(f"train {data.as_of:%Y-%m-%d}")
        run.log_data(data)
        run.log_params(compared_params(config, COMPARED) | {"as_of": data.as_of.isoformat(), "data": data.fingerprint})
        keep = kept_steps(kept, _key(data, config, ladder))
        fitted, replay = _fit_and_replay(data, config, ladder, step, keep)
        check_learned(fitted)
        with step("what the gate judges"):
            evidence = _evidence(registry, fitted, data, config, replay, keep)
        with step("importances of the features"):
            importances = keep("importances", lambda: _importances(replay, config), FRAME_FORM)
        figures = run_figures(data, fitted, scales) | replay_metrics(replay)
        with step("tracking and registry"), tempfile.TemporaryDirectory() as scratch:
            folder, models = Path(scratch) / BUNDLE_FOLDER, Path(scratch) / MODELS_FOLDER
            places = [(folder, models)] if out is None else [(folder, models), (out, models_folder(out))]
            for bundle_at, models_at in places:
                write_bundle(bundle_at, fitted, data, config, figures)
                save_models(models_at, fitted.models)
            _log(run, data, config, fitted, evidence)
            fault = _log_fault(run, replay, Path(scratch))
            log_replay(run, replay, importances)
            resumed = tuple(steps_found(keep))
            run.log_metrics(figures)
            if resumed:
                run.set_tags({"resumed_steps": ", ".join(resumed)})
            if ladder_file is not None:
                run.log_file(ladder_file, "ladder/edited.csv")
            run.log_bundle(folder, _quality(figures, evidence))
            run.log_folder(models, MODELS_FOLDER)
            log_parts(run, config, figures, replay, watch.times)
            card = model_card(evidence, data, fitted.history, replay, _verdict(registry, run))
            asked = config.next_product.ranker.objective
            order = "" if asked == "pointwise" else fitted.models.next_product.order_choice_.sentence
            run.set_tags({NOTE: card} | ({"order_of_offers": order} if order else {}))
        run.log_metrics(watch.metrics(frozenset(resumed)))
        version = registry.register(run.run_id, card)
    times, no_upgrades = tuple(watch.times), _no_upgrades(data, fitted, config, ladder)
    return TrainingRun(
        run.run_id, version.version, figures, data.report, evidence, times, resumed, no_upgrades, fault, order
    )


def steps_folder(out: Path | None, tracking_uri: str) -> Path:
    """Return where the steps of a training are kept until it is done: beside its bundle, else beside MLflow's file."""
    if out is not None:
        return out.with_name(f"{out.name}-steps")
    file = sqlite_file(tracking_uri)
    return (Path("var") if file is None else file.parent) / "training-steps"


def seconds_before(registry: Registry) -> dict[str, float]:
    """Return what each step took in the latest runs that measured it, by the names of metrics."""
    experiment = registry.client.get_experiment_by_name(EXPERIMENT)
    found: dict[str, float] = {}
    if experiment is not None:
        latest = registry.client.search_runs(
            [experiment.experiment_id],
            "attributes.status = 'FINISHED'",
            max_results=_LATEST,
            order_by=["start_time DESC"],
        )
        for run in reversed(latest):
            seconds = {name: value for name, value in run.data.metrics.items() if name.startswith(SECONDS)}
            found |= {name.removeprefix(SECONDS): value for name, value in seconds.items()}
    return found


_LATEST = 50
"""Runs that are looked at for the times of steps; those of parts are among them."""


def run_figures(data: Dataset, fitted: FittedModels, scales: TimeScales) -> dict[str, float]:
    """Return how much was read and learned, and at which pace, by name."""
    relation = fitted.rules["relation"]
    gap = {} if isnan(scales.gap_days) else {"median_days_between_orders": scales.gap_days}
    return gap | {
        "windows_times_their_defaults": fitted.config.next_product.features.time_scale,
        "horizon_days": fitted.config.horizon_days,
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


def _no_upgrades(data: Dataset, fitted: FittedModels, config: TrainConfig, ladder: Ladder | None) -> str:
    """Return why no edge was found, and which columns may be tiers that nobody has stated; empty for neither."""
    if ladder is not None:
        return ""
    why = "" if len(fitted.ladder) else why_no_edges(data.products, fitted.history, data.upgrades, config.ladder)
    tiers = find_tier_columns(data.products, fitted.history)
    return " ".join(part for part in (why, "" if tiers is None else tiers.sentence()) if part)


def _end_killed(registry: Registry, run_id: str | None, *, by: TrackedRun) -> None:
    """Say of a run whose process was killed, which could not say it itself, that it is over and which one goes on."""
    from mlflow.exceptions import MlflowException

    try:
        if run_id is not None and registry.client.get_run(run_id).info.status == "RUNNING":
            registry.client.set_tag(run_id, "resumed_by", by.run_id)
            registry.client.set_terminated(run_id, status="KILLED")
    except MlflowException:
        return  # it was deleted, or stands in another registry


def _key(data: Dataset, config: TrainConfig, ladder: Ladder | None) -> str:
    """Name all that the results of the steps rest on."""
    edges = "" if ladder is None else ladder.edges.to_json()
    engine = [engine_version(), *(f"{name} {version}" for name, version in library_versions().items())]
    parts = [data.fingerprint, data.as_of.isoformat(), config.model_dump_json(), edges, *engine]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _fit_and_replay(
    data: Dataset, config: TrainConfig, ladder: Ladder | None, step: Step, keep: Keep
) -> tuple[FittedModels, PastValidation]:
    """Learn and look back; side by side where two pasts fit into memory, because much of each is work of one core."""
    learn = partial(fit, data, config, step=step, keep=keep, ladder=ladder)
    if not config.evaluation.replay:
        why_not = "evaluation.replay == false: the past was not replayed"
        return learn(), PastValidation(None, None, (why_not,))
    n_lines, most_lines = int(data.orders.count().to_pyarrow().as_py()), config.evaluation.most_lines
    with step("accounts of the replay"):  # before anything runs side by side: one DuckDB serves one thread
        chosen = sample_accounts(data, n_lines, most_lines, part_rng(config, "replayed market"))
        history = known_history(data if chosen is None else of_accounts(data, chosen))
    ladder_of = ladder_from_data(config.ladder) if ladder is None else fixed_ladder(ladder, config.ladder)
    read = partial(_read_at, data, chosen)
    rivals = partial(default_baselines, config.evaluation.baselines)
    rivals()  # what keeps one from being made is said before anything is learned
    replayed = partial(
        validate_on_past, read, history, data.as_of, config, ladder_of, baselines=rivals, step=step, keep=keep
    )
    look_back = partial(guarded, replayed)
    if n_lines > SIDE_BY_SIDE_LINES:
        fitted, replay = learn(), look_back()
    else:
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(look_back)
            fitted, replay = learn(), late.result()
    if chosen is None:
        return fitted, replay
    note = (
        f"{n_lines:,} order lines, more than evaluation.most_lines == {most_lines:,}: the past of "
        f"{len(chosen):,} of {len(data.accounts):,} accounts was replayed, drawn at random"
    )
    return fitted, replace(replay, notes=(*replay.notes, note))


def _read_at(data: Dataset, account_ids: NDArray[np.object_] | None, cutoff: datetime) -> Dataset:
    """The sources with nothing at or after the cutoff; what is rejected was reported by the run itself."""
    early = data.at(cutoff)
    return early if account_ids is None else of_accounts(early, account_ids)


def _evidence(
    registry: Registry, fitted: FittedModels, data: Dataset, config: TrainConfig, replay: PastValidation, keep: Keep
) -> GateEvidence:
    rng = part_rng(config, "evidence")
    champion = _champion(registry) if replay.cross is not None else None
    if champion is None:
        gather = partial(gather_evidence, fitted, data, config, replay, rng)
    else:
        rival = partial(compare_with, champion, config=config, rng=rng)
        gather = partial(
            gather_evidence, fitted, data, config, replay, rng, champion=rival, champion_version=champion.version
        )
    against = "no champion" if champion is None else f"champion {champion.version}"
    return keep(f"what the gate judges beside {against}", gather, document(GateEvidence))


def _champion(registry: Registry) -> Champion | None:
    """The present champion; None too where its bundle can't be read, which must not keep a better model away."""
    try:
        return present_champion(registry)
    except (BundleError, ModelNotFoundError):
        return None


def _log_fault(run: TrackedRun, replay: PastValidation, scratch: Path) -> str | None:
    """Keep where the engine failed in the replay, and return what to do about it."""
    if replay.fault is None:
        return None
    sentence = (
        f"{replay.notes[0]}. This is a fault of the engine, not of your data or options. Please report {FAULT_FILE} of "
        f"run {run.run_id}, which says where it happened. Nothing of the model was measured: promote it with "
        '--override "reason", or train again without the replay: --set evaluation.replay=false'
    )
    file = scratch / Path(FAULT_FILE).name
    file.write_text(f"{sentence}\n\noffer-engine {engine_version()}\n{replay.fault}", "utf-8")
    run.log_file(file, FAULT_FILE)
    return sentence


def _importances(replay: PastValidation, config: TrainConfig) -> pd.DataFrame:
    return feature_importances(replay, config, part_rng(config, "importances"))


def _verdict(registry: Registry, run: TrackedRun) -> str:
    """What the gate would say if it were asked to promote the run's model now."""
    try:
        return gate_sentence(gate_checks(registry, ModelVersion(0, run.run_id, {}), registry.find(CHAMPION)))
    except GateError as error:
        return f"not judged: {error}"


def _quality(figures: dict[str, float], evidence: GateEvidence) -> dict[str, float]:
    """The few figures that models are compared by."""
    return {"coverage": evidence.coverage} | {
        name: value for name, value in figures.items() if name.startswith("replay.") and "raw_ranker" in name
    }


def _log(
    run: TrackedRun,
    data: Dataset,
    config: TrainConfig,
    fitted: FittedModels,
    evidence: GateEvidence,
) -> None:
    run.log_json(config.model_dump(mode="json"), OPTIONS_FILE)
    facts = evidence.data.model_dump(exclude={"fingerprint"})
    run.log_metrics({"coverage": evidence.coverage} | {f"data.{name}": value for name, value in facts.items()})
    run.log_json(evidence.model_dump(mode="json"), EVIDENCE_FILE)
    run.log_json(data.report.to_dict(), "data_report.json")
    run.log_frame(fitted.rules, "rules/rules.parquet")
    run.log_table(strongest_pairs(fitted.rules, data.products), "rules/strongest.csv")
    run.log_frame(fitted.ladder.edges, "ladder/edges.parquet")
    run.log_table(with_names(fitted.ladder, data.products), "ladder/edges.csv")
