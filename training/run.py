"""One training run as MLflow keeps it: fit, write the bundle, log everything, register the challenger."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.data.clean_data import CleanData
from recsys.data.reading import ReadSpec, read_data
from recsys.data.report import DataReport
from training.config import TrainConfig
from training.pipeline import Fitted, Step, fit, quietly, write_bundle
from training.registry import BUNDLE_FOLDER, Registry
from training.tracking import Run, open_run


@dataclass(frozen=True)
class TrainingRun:
    """What a training run left behind.

    Attributes:
        run_id: of MLflow.
        version: of the registered model.
        figures: counts and metrics by name.
        report: what became of every row that was read.
    """

    run_id: str
    version: int
    figures: dict[str, float]
    report: DataReport


def train_and_register(
    spec: ReadSpec,
    config: TrainConfig,
    *,
    tracking_uri: str,
    out: Path | None = None,
    step: Step = quietly,
) -> TrainingRun:
    """Train on what `spec` names and register the bundle as `challenger`; nothing is logged where reading fails.

    Args:
        spec: what to read.
        config: every option.
        tracking_uri: where MLflow keeps runs and models.
        out: a folder to write the bundle to as well.
        step: told of each step.
    """
    with step("reading and checking"):
        data = read_data(spec)
    fitted = fit(data, config, step=step)
    figures = figures_of(data, fitted)
    with step("tracking and registry"), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / BUNDLE_FOLDER
        write_bundle(folder, fitted, data, config, figures)
        if out is not None:
            write_bundle(out, fitted, data, config, figures)
        registry = Registry(tracking_uri)
        with open_run(registry, f"train {data.as_of:%Y-%m-%d}") as run:
            _log(run, data, fitted, config, figures)
            run.log_bundle(folder)
        version = registry.register(run.run_id)
    return TrainingRun(run.run_id, version.version, figures, data.report)


def figures_of(data: CleanData, fitted: Fitted) -> dict[str, float]:
    """Return how much was read and learned, by name."""
    relation = fitted.rules["relation"]
    return {
        "order_lines": len(fitted.history),
        "accounts": len(np.unique(fitted.history.known().account)),
        "products": len(data.products),
        "complement_rules": int((relation == "complement").sum()),
        "substitute_rules": int((relation == "substitute").sum()),
        "upgrade_edges": len(fitted.ladder),
        "climbs": int(fitted.ladder.edges["n_climbed"].sum()),
        "cross_sell_candidates": len(fitted.cross),
        "upsell_candidates": len(fitted.up),
        "accounts_with_an_offer": len(np.unique(np.concatenate([fitted.cross.account, fitted.up.account]))),
    }


def _log(run: Run, data: CleanData, fitted: Fitted, config: TrainConfig, figures: dict[str, float]) -> None:
    run.log_params(config.model_dump(mode="json") | {"as_of": data.as_of.isoformat(), "data": data.fingerprint})
    run.log_metrics(figures)
    run.log_json(data.report.to_dict(), "data_report.json")
    run.log_frame(fitted.rules, "rules/rules.parquet")
    run.log_frame(fitted.ladder.edges, "ladder/edges.parquet")
