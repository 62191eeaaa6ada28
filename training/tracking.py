"""What a training run or a backtest leaves in MLflow, with the time and memory of each step."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from recsys.backtesting.results import Backtest
from recsys.bundle.manifest import model_version
from recsys.fitting.pipeline import Step
from training.registry import BUNDLE_FOLDER, EXPERIMENT, VERSION_TAG, Registry, sqlite_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_PARAM_LIMIT = 500  # MLflow refuses longer parameter values
_PARAMS_A_BATCH, _METRICS_A_BATCH = 100, 500  # and more of them in one call


class TrackedRun:
    """One open MLflow run; everything is written through it."""

    def __init__(self, registry: Registry, run_id: str) -> None:
        self._client = registry.client
        self.run_id = run_id

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log a nested configuration as dotted parameter names."""
        from mlflow.entities import Param

        entries = [Param(name, str(value)[:_PARAM_LIMIT]) for name, value in flatten(params).items()]
        for start in range(0, len(entries), _PARAMS_A_BATCH):
            self._client.log_batch(self.run_id, params=entries[start : start + _PARAMS_A_BATCH])

    def log_metrics(self, metrics: Mapping[str, float], at: datetime | None = None) -> None:
        """Log numbers by name, all of one moment: `at`, or the start of the run."""
        from mlflow.entities import Metric

        # No clock is read here: the same run or backtest logs the same values.
        stamp = int(at.timestamp() * 1000) if at else self._client.get_run(self.run_id).info.start_time
        entries = [Metric(name, float(value), stamp, 0) for name, value in metrics.items()]
        for start in range(0, len(entries), _METRICS_A_BATCH):
            self._client.log_batch(self.run_id, metrics=entries[start : start + _METRICS_A_BATCH])

    def log_json(self, content: Mapping[str, Any], path: str) -> None:
        """Log a JSON document as an artifact."""
        text = json.dumps(content, indent=2, sort_keys=True, default=str)
        self._client.log_text(self.run_id, text, path)

    def log_frame(self, frame: pd.DataFrame, path: str) -> None:
        """Log a frame as a Parquet artifact."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
            frame.to_parquet(file, index=False)
            self._client.log_artifact(self.run_id, str(file), str(Path(path).parent))

    def log_table(self, frame: pd.DataFrame, path: str) -> None:
        """Log a frame as a CSV artifact, for people to read in the browser."""
        self._client.log_text(self.run_id, frame.to_csv(index=False, float_format="%.6g"), path)

    def log_file(self, file: Path, path: str) -> None:
        """Log the content of a text file as an artifact of another name."""
        self._client.log_text(self.run_id, file.read_text("utf-8"), path)

    def log_figure(self, figure: Figure, path: str) -> None:
        """Log a matplotlib figure as an artifact."""
        self._client.log_figure(self.run_id, figure, path)

    def log_bundle(self, folder: Path) -> None:
        """Log a bundle directory as it is, and the version that decisions will name it by as a tag."""
        self._client.set_tag(self.run_id, VERSION_TAG, model_version(folder))
        self._client.log_artifacts(self.run_id, str(folder), BUNDLE_FOLDER)

    def log_folder(self, folder: Path, path: str) -> None:
        """Log every file of a folder below `path`."""
        self._client.log_artifacts(self.run_id, str(folder), path)


@contextmanager
def open_run(registry: Registry, name: str) -> Iterator[TrackedRun]:
    """Open a run under the experiment `offers`; it ends FINISHED, or FAILED where the body raises."""
    run = registry.client.create_run(_experiment_id(registry), run_name=name)
    try:
        yield TrackedRun(registry, run.info.run_id)
    except BaseException:
        registry.client.set_terminated(run.info.run_id, status="FAILED")
        raise
    registry.client.set_terminated(run.info.run_id, status="FINISHED")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one level with dotted names.

    >>> flatten({"rules": {"min_count": 5}, "seed": 0})
    {'rules.min_count': 5, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _experiment_id(registry: Registry) -> str:
    found = registry.client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    return str(
        registry.client.create_experiment(EXPERIMENT, artifact_location=_artifact_location(registry.tracking_uri))
    )


def _artifact_location(tracking_uri: str) -> str | None:
    """Beside a SQLite file; a tracking server decides for itself."""
    file = sqlite_file(tracking_uri)
    return None if file is None else (file.resolve().parent / "mlflow-artifacts").as_uri()


_FOLDER = "backtest"
"""Below which a run's files stand."""


def track_backtest(found: Backtest, options: Mapping[str, Any], written: Iterable[Path], tracking_uri: str) -> str:
    """Log a backtest as a run of its own and return the run's id.

    Args:
        found: what was measured; its metrics are named as `ndcg.raw_ranker.2011-06-01`.
        options: of the training runs behind it.
        written: files that become artifacts.
        tracking_uri: where MLflow keeps runs.
    """
    registry = Registry(tracking_uri)
    first, last = found.cutoffs[0].cutoff, found.cutoffs[-1].cutoff
    with open_run(registry, f"backtest {first:%Y-%m-%d} to {last:%Y-%m-%d}") as run:
        run.log_params({"backtest": found.config, "training": options})
        run.log_metrics(found.metrics(), at=last)
        for path in written:
            registry.client.log_artifact(run.run_id, str(path), _FOLDER)
    return run.run_id


_RSS_UNITS_A_GB = 1024**3 if sys.platform == "darwin" else 1024**2  # bytes there, kilobytes on Linux


class StepTime(NamedTuple):
    """What one step took.

    Attributes:
        name: of the step.
        seconds: of the clock on the wall.
        cpu_seconds: of all cores, those of steps that ran at the same time too.
        peak_gb: most memory of the process until the end of the step.
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak_gb: float


class Stopwatch:
    """A step that measures: announces each step as the given one does, and keeps what it took in `times`."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.times: list[StepTime] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Announce and measure one step; a step that fails is not kept."""
        clock, cpu = time.perf_counter(), time.process_time()
        with self._step(name):
            yield
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_UNITS_A_GB
        self.times.append(StepTime(name, time.perf_counter() - clock, time.process_time() - cpu, peak))

    def metrics(self) -> dict[str, float]:
        """Return the times and peaks of the steps so far, by names that MLflow accepts."""
        found: dict[str, float] = {}
        for one in self.times:
            name = one.name.replace(" ", "_")
            found |= {
                f"seconds.{name}": one.seconds,
                f"cpu_seconds.{name}": one.cpu_seconds,
                f"peak_gb.{name}": one.peak_gb,
            }
        return found
