"""What a training run or a backtest leaves in MLflow, from before its first step on."""

from __future__ import annotations

import getpass
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from recsys.backtesting.results import Backtest
from recsys.bundle.manifest import model_version
from recsys.bundle.resolve import without_password
from recsys.contracts.config import Config, flatten
from recsys.data.dataset import Dataset
from recsys.errors import OfferEngineError
from recsys.fitting.steps import Step
from training.registry import EXPERIMENT, MODEL_NAME, VERSION_TAG, Registry, sqlite_file, write_model_description

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput


NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a description."""
_PARENT = "mlflow.parentRunId"
_PARAM_LIMIT = 500  # MLflow refuses longer parameter values
_PARAMS_A_BATCH, _METRICS_A_BATCH = 100, 500  # and more of them in one call
_DIGEST_LIMIT, _TAG_LIMIT = 36, 5_000  # nor longer digests of data and values of tags


class TrackedRun:
    """One open MLflow run; everything is written through it."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str) -> None:
        self._client, self._experiment_id = client, experiment_id
        self.run_id = run_id

    def follow(self, step: Step) -> Step:
        """Return the step that also says in MLflow which one runs, and which one failed."""

        @contextmanager
        def followed(name: str) -> Iterator[None]:
            self.set_tags({"step": name})
            try:
                with step(name):
                    yield
            except BaseException:
                self.set_tags({"failed_step": name})
                raise

        return followed

    def rename(self, name: str) -> None:
        """Give the run its name once it is known."""
        self._client.update_run(self.run_id, name=name)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags by name."""
        for name, value in tags.items():
            self._client.set_tag(self.run_id, name, value)

    def log_data(self, data: Dataset) -> None:
        """Log each table that was read as a data set: where it lies, its columns and rows, and the data's digest."""
        self._client.log_inputs(self.run_id, _inputs(data))

    @contextmanager
    def nested(self, name: str, began: float | None = None, ended: float | None = None) -> Iterator[TrackedRun]:
        """Open a run below this one, for a part of it; moments in seconds of the epoch, default: now."""
        start, end = (None if moment is None else int(moment * 1000) for moment in (began, ended))
        tags = {_PARENT: self.run_id, **_user()}
        run = self._client.create_run(self._experiment_id, start_time=start, tags=tags, run_name=name)
        yield TrackedRun(self._client, run.info.run_id, self._experiment_id)
        self._client.set_terminated(run.info.run_id, status="FINISHED", end_time=end)

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
        """Log a file as the artifact `path`."""
        with TemporaryDirectory() as folder:
            copy = Path(shutil.copy(file, Path(folder) / Path(path).name))
            self._client.log_artifact(self.run_id, str(copy), str(Path(path).parent))

    def log_figure(self, figure: Figure, path: str) -> None:
        """Log a matplotlib figure as an artifact."""
        self._client.log_figure(self.run_id, figure, path)

    def log_bundle(self, folder: Path, metrics: Mapping[str, float] | None = None) -> None:
        """Log a bundle directory as the model of the run, with the version that decisions will name it by as a tag.

        Args:
            folder: the bundle; its files are kept as they are, MLflow's description of a model beside them.
            metrics: figures that belong to the model.
        """
        from mlflow.entities import LoggedModelOutput, Metric

        client, tags = self._client, {VERSION_TAG: model_version(folder)}
        self.set_tags(tags)
        model = client.create_logged_model(
            self._experiment_id, MODEL_NAME, source_run_id=self.run_id, tags=tags, model_type="offer-model"
        )
        client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, 0)])
        with TemporaryDirectory() as description:
            write_model_description(Path(description), model.model_id, self.run_id)
            for part in (str(folder), description):
                client.log_model_artifacts(model.model_id, part)
        stamp = client.get_run(self.run_id).info.start_time
        of_model = [Metric(name, float(value), stamp, 0, model.model_id) for name, value in (metrics or {}).items()]
        client.log_batch(self.run_id, metrics=of_model)
        client.finalize_logged_model(model.model_id, "READY")

    def log_folder(self, folder: Path, path: str) -> None:
        """Log every file of a folder below `path`."""
        self._client.log_artifacts(self.run_id, str(folder), path)


@contextmanager
def open_run(registry: Registry, name: str) -> Iterator[TrackedRun]:
    """Open a run under the experiment `offers`; it says who started what.

    It ends FINISHED; FAILED where the body raises, with the error as tag and description; KILLED where it is stopped.
    """
    experiment_id = _experiment_id(registry)
    run = registry.client.create_run(experiment_id, run_name=name, tags=_origin())
    tracked = TrackedRun(registry.client, run.info.run_id, experiment_id)
    try:
        yield tracked
    except BaseException as error:
        stopped = not isinstance(error, Exception)
        sentence = str(error) if isinstance(error, OfferEngineError) else f"{type(error).__name__}: {error}"
        verb = "Stopped" if stopped else "Failed"
        with suppress(Exception):  # the error itself counts more than that MLflow can't be told of it
            tracked.set_tags({"error": sentence[:_TAG_LIMIT], NOTE: f"**{verb}.** {sentence}"[:_TAG_LIMIT]})
            registry.client.set_terminated(run.info.run_id, status="KILLED" if stopped else "FAILED")
        raise
    tracked.set_tags({"step": "done"})
    registry.client.set_terminated(run.info.run_id, status="FINISHED")


def run_page(registry: Registry, run_id: str) -> str:
    """Return where the tracking server, or `mlflow ui`, shows a run.

    The mode stands in the address: MLflow's page opens in the one that the browser used last, at first that of traces
    of language models, whatever kind the experiment says it has.
    """
    experiment_id = registry.client.get_run(run_id).info.experiment_id
    server = registry.tracking_uri if registry.tracking_uri.startswith("http") else "http://127.0.0.1:5000"
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


@cache
def engine_version() -> str:
    """Return the version of the engine, with a digest of its sources: an edited source is another engine."""
    root, found = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for package in ("recsys", "training"):
        for file in sorted((root / package).rglob("*.py")):
            found.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return f"{version('offer-engine')}+{found.hexdigest()[:12]}"


def compared_params(config: Config, always: Iterable[str]) -> dict[str, Any]:
    """Return the few options that runs are compared by: those of `always`, and whatever is not at its default."""
    options, default = (flatten(one.model_dump(mode="json")) for one in (config, type(config)()))
    return {name: value for name, value in options.items() if name in set(always) or value != default.get(name)}


def _origin() -> dict[str, str]:
    """Who started the run, and which command of which version of the sources."""
    command = [Path(sys.argv[0]).name, *map(without_password, sys.argv[1:])]
    return {
        **_user(),
        "mlflow.source.name": command[0],
        "mlflow.source.type": "LOCAL",
        "command": shlex.join(command),
        "engine_version": engine_version(),
        **_commit(),
    }


def _user() -> dict[str, str]:
    try:
        return {"mlflow.user": getpass.getuser()}
    except (KeyError, OSError):  # a container may run as a number without a name
        return {}


def _commit() -> dict[str, str]:
    """The commit of the sources; nothing where they were installed rather than cloned."""
    here, git = Path(__file__).resolve(), shutil.which("git")

    def ask(*words: str) -> str | None:
        if git is None:
            return None
        done = subprocess.run([git, "-C", here.parent, *words], capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else None

    # Beside a clone of something else, as in its virtual environment, that one's commit says nothing of the engine.
    commit = ask("rev-parse", "HEAD") if ask("ls-files", "--error-unmatch", here.name) is not None else None
    if commit is None:
        return {}
    return {
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.dirty": str(bool(ask("status", "--porcelain", "--untracked-files=no"))).lower(),
    }


def _inputs(data: Dataset) -> list[DatasetInput]:
    from mlflow.entities import Dataset as LoggedData
    from mlflow.entities import DatasetInput, InputTag

    role = [InputTag("mlflow.data.context", "training")]
    columns = {"orders": {name: str(kind) for name, kind in data.orders.schema().items()}}
    for name, frame in (("products", data.products), ("accounts", data.accounts), ("upgrades", data.upgrades)):
        columns[name] = {} if frame is None else {str(column): str(frame[column].dtype) for column in frame.columns}
    return [
        DatasetInput(
            LoggedData(
                name=table.table,
                digest=data.fingerprint[:_DIGEST_LIMIT],
                source_type="local",
                source=json.dumps({"uri": table.location}),
                schema=json.dumps({"mlflow_colspec": _colspec(columns[table.table])}),
                profile=json.dumps({"num_rows": table.rows_kept, "rows_read": table.rows_read}),
            ),
            role,
        )
        for table in data.report.tables
    ]


def _colspec(columns: Mapping[str, str]) -> list[dict[str, str]]:
    """The columns in the words of MLflow's schemas, from the names of their types in Ibis or pandas."""
    words = {"int": "long", "uint": "long", "float": "double", "decimal": "double", "bool": "boolean"}
    words |= {"date": "datetime", "timestamp": "datetime"}
    kinds = {
        name: next((word for start, word in words.items() if kind.lower().startswith(start)), "string")
        for name, kind in columns.items()
    }
    return [{"type": kind, "name": name} for name, kind in kinds.items()]


_KIND, _MACHINE_LEARNING = "mlflow.experimentKind", "custom_model_development"
"""Says that the experiment is about runs and models rather than traces of language models; see `run_page`."""


def _experiment_id(registry: Registry) -> str:
    client = registry.client
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        experiment_id = client.create_experiment(
            EXPERIMENT, artifact_location=_artifact_location(registry.tracking_uri)
        )
    else:
        experiment_id = found.experiment_id
    if found is None or _KIND not in found.tags:
        client.set_experiment_tag(experiment_id, _KIND, _MACHINE_LEARNING)
    return str(experiment_id)


def _artifact_location(tracking_uri: str) -> str | None:
    """Beside a SQLite file; a tracking server decides for itself."""
    file = sqlite_file(tracking_uri)
    return None if file is None else (file.resolve().parent / "mlflow-artifacts").as_uri()


_FOLDER = "backtest"
"""Below which a run's files stand."""


def log_backtest(run: TrackedRun, found: Backtest, written: Iterable[Path]) -> None:
    """Log what a backtest measured: its metrics are named as `ndcg.raw_ranker.2011-06-01`, a nested run a cutoff.

    Args:
        run: of the backtest.
        found: what was measured.
        written: files that become artifacts.
    """
    metrics = found.metrics()
    run.log_metrics(metrics, at=found.cutoffs[-1].cutoff)
    for path in written:
        run.log_file(path, f"{_FOLDER}/{path.name}")
    for one in found.cutoffs:
        day = f".{one.cutoff:%Y-%m-%d}"
        with run.nested(f"cutoff {one.cutoff:%Y-%m-%d}") as part:
            part.log_params({"cutoff": one.cutoff.isoformat()})
            part.log_metrics({name.removesuffix(day): value for name, value in metrics.items() if name.endswith(day)})
