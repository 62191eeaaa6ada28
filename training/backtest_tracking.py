"""A backtest as MLflow keeps it: configuration, every figure as a metric, the table's JSON and the plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recsys.backtesting.results import Backtest
from training.registry import Registry
from training.tracking import open_run

FOLDER = "backtest"
"""Below which a run's files stand."""
BATCH = 500
"""Metrics that are sent at a time; MLflow takes at most a thousand."""


def track_backtest(found: Backtest, options: Mapping[str, Any], written: Iterable[Path], tracking_uri: str) -> str:
    """Log a backtest as a run of its own and return the run's id.

    Args:
        found: what was measured; its metrics are named as `ndcg.raw_ranker.2011-06-01`.
        options: of the training runs behind it.
        written: files that become artifacts.
        tracking_uri: where MLflow keeps runs.
    """
    from mlflow.entities import Metric

    registry = Registry(tracking_uri)
    first, last = found.cutoffs[0].cutoff, found.cutoffs[-1].cutoff
    with open_run(registry, f"backtest {first:%Y-%m-%d} to {last:%Y-%m-%d}") as run:
        run.log_params({"backtest": found.config, "training": options})
        # Stamped with the last cutoff, not with a clock: the same backtest logs the same values.
        stamp = int(last.timestamp() * 1000)
        metrics = [Metric(name, float(value), stamp, 0) for name, value in found.metrics().items()]
        for start in range(0, len(metrics), BATCH):
            registry.client.log_batch(run.run_id, metrics=metrics[start : start + BATCH])
        for path in written:
            registry.client.log_artifact(run.run_id, str(path), FOLDER)
    return run.run_id
