"""The registry refuses, hangs or is gone: the models that run go on, and a start takes the last good bundle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from recsys.bundle.manifest import model_version
from recsys.errors import BundleCorruptError, ModelNotFoundError, RegistryError
from serving.models.finding import ModelFinder, finder_of
from serving.settings import KeptModelsConfig, RegistryConfig, Settings
from tests.support.training_runs import registry_in

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHAMPION = "models:/offers@champion"
HANGS = "did not answer within 0.5 s"

Serve = Callable[..., Any]


def sqlite_registry(folder: Path, *bundles: Path) -> str:
    """Make a registry with a version of `offers` a bundle, champion on the first; return its URI."""
    from mlflow import MlflowClient

    uri = registry_in(folder)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("offers", artifact_location=(folder / "artifacts").as_uri())
    client.create_registered_model("offers")
    for bundle in bundles:
        run = client.create_run(experiment)
        client.log_artifacts(run.info.run_id, str(bundle), "bundle")
        client.create_model_version("offers", source=f"{run.info.artifact_uri}/bundle", run_id=run.info.run_id)
    client.set_registered_model_alias("offers", "champion", "1")
    return uri


class HangingRegistry:
    """Speaks as much of MLflow's REST API as a champion needs, or accepts connections and never answers."""

    def __init__(self, source: str, port: int = 0) -> None:
        self.source = source
        self.hangs: str | None = None  # what paths that hang begin with
        self.let_go = threading.Event()
        self._closed = False
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """End it: from then on connections are refused."""
        if self._closed:
            return
        self._closed = True
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, dict[str, Any]]:
        if path.endswith("/registered-models/alias"):
            return 200, {"model_version": {"name": "offers", "version": "1"}}
        if path.endswith("/registered-models/get"):
            return 200, {"registered_model": {"name": "offers"}}
        if path.endswith("/model-versions/get-download-uri"):
            return 200, {"artifact_uri": self.source}
        if path.endswith("/model-versions/search"):
            return 200, {"model_versions": []}
        return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if registry._closed:
                    self.close_connection = True
                    return
                if registry.hangs is not None and parts.path.startswith(registry.hangs):
                    registry.let_go.wait()
                    self.close_connection = True
                    return
                status, body = registry._answer(parts.path)
                if "challenger" in parts.query:
                    status, body = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, bundle_folder: Path, retrained_folder: Path) -> Path:
    """A registry in SQLite with two versions, and its artifacts."""
    folder = tmp_path_factory.mktemp("made")
    sqlite_registry(folder, bundle_folder, retrained_folder)
    return folder


@pytest.fixture
def hanging(bundle_folder: Path) -> Iterator[HangingRegistry]:
    registry = HangingRegistry(bundle_folder.as_uri())
    yield registry
    registry.close()


def finder(uri: str, tmp_path: Path, seconds: float = 10) -> ModelFinder:
    settings = Settings(
        registry=RegistryConfig(seconds=seconds, download_seconds=seconds),
        kept_models=KeptModelsConfig(folder=tmp_path / "kept"),
    )
    return finder_of(settings, uri, lambda: NOW)


def served_once(uri: str, tmp_path: Path) -> str:
    """Serve the champion while its registry answers, and return its version."""
    models = finder(uri, tmp_path)
    model = models.load(models.first(CHAMPION), CHAMPION)
    models.served([model])
    return model.version


def test_a_registry_that_hangs_is_waited_for_once_and_no_longer_than_stated(
    hanging: HangingRegistry, tmp_path: Path
) -> None:
    version = served_once(hanging.uri, tmp_path)
    models = finder(hanging.uri, tmp_path, seconds=0.5)
    hanging.hangs = "/"
    begun = time.monotonic()
    assert models.first(CHAMPION).version == version
    for alias in ("champion", "challenger", "challenger"):
        with pytest.raises(RegistryError, match=HANGS):
            models.find(f"models:/offers@{alias}")
    assert time.monotonic() - begun < 10  # MLflow itself would wait for 120 s, seven times
    away = models.away()
    assert away is not None
    assert (away.since, HANGS in away.reason) == (NOW, True)


def test_a_registry_that_answers_again_is_believed_again(hanging: HangingRegistry, tmp_path: Path) -> None:
    models = finder(hanging.uri, tmp_path, seconds=0.5)
    hanging.hangs = "/"
    with pytest.raises(RegistryError, match=HANGS):
        models.find(CHAMPION)
    hanging.hangs = None
    hanging.let_go.set()
    for _ in range(100):
        try:
            found = models.find(CHAMPION)
        except RegistryError:
            time.sleep(0.1)
            continue
        assert (found.version, models.away()) == (model_version(found.path), None)
        return
    raise AssertionError("the registry answers and is not asked")


def test_who_closes_waits_no_longer(hanging: HangingRegistry, tmp_path: Path) -> None:
    models = finder(hanging.uri, tmp_path, seconds=60)
    hanging.hangs = "/"
    models.close()
    begun = time.monotonic()
    with pytest.raises(RegistryError):
        models.find(CHAMPION)
    assert time.monotonic() - begun < 30


def test_a_store_of_artifacts_that_hangs_is_not_waited_for(hanging: HangingRegistry, tmp_path: Path) -> None:
    hanging.source = "mlflow-artifacts:/1/run/artifacts/bundle"
    hanging.hangs = "/api/2.0/mlflow-artifacts"
    models = finder(hanging.uri, tmp_path, seconds=0.5)
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"the bundle was not there within 0\.5 s"):
            models.find(CHAMPION)


def lost_file(folder: Path) -> None:
    (folder / "mlflow.db").unlink()


def no_database(folder: Path) -> None:
    (folder / "mlflow.db").write_text("this is no database, whatever its name says" * 100)


def lost_artifacts(folder: Path) -> None:
    shutil.rmtree(folder / "artifacts")


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (lost_file, "no registry at sqlite:///"),
        (no_database, "file is not a database"),
        (lost_artifacts, "there is no such folder"),
    ],
)
def test_it_starts_from_the_last_good_bundle(
    happens: Callable[[Path], None], reason: str, made: Path, tmp_path: Path
) -> None:
    """The registry is moved, so that the place of its artifacts is another one for each case."""
    folder = Path(shutil.copytree(made, tmp_path / "registry"))
    with sqlite3.connect(folder / "mlflow.db") as database:
        for table, column in (("model_versions", "source"), ("model_versions", "storage_location")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(made), str(folder)))
    database.close()
    uri = f"sqlite:///{folder}/mlflow.db"
    version = served_once(uri, tmp_path)
    happens(folder)
    models = finder(uri, tmp_path)
    found = models.first(CHAMPION)
    assert (found.version, models.load(found, CHAMPION).version) == (version, version)
    with pytest.raises(RegistryError, match=f"{reason}.*keeps no bundle of it to start from"):
        finder(uri, tmp_path / "new").first(CHAMPION)


def test_a_registry_that_is_locked_is_away(made: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{made}/mlflow.db"
    version = served_once(uri, tmp_path)
    with sqlite3.connect(made / "mlflow.db", isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert finder(uri, tmp_path, seconds=0.5).first(CHAMPION).version == version
        database.execute("ROLLBACK")
    database.close()


def test_what_the_registry_says_is_no_failure_of_it(made: Path, tmp_path: Path) -> None:
    models = finder(f"sqlite:///{made}/mlflow.db", tmp_path)
    models.served([models.load(models.first("models:/offers/1"), "models:/offers/1")])
    with pytest.raises(ModelNotFoundError, match="it has offers with versions 1, 2") as caught:
        models.first("models:/offers@challenger")
    assert not isinstance(caught.value, RegistryError)
    assert models.away() is None


def test_a_kept_bundle_that_was_altered_starts_nothing(hanging: HangingRegistry, tmp_path: Path) -> None:
    version = served_once(hanging.uri, tmp_path)
    facts = tmp_path / "kept" / version / "facts.json"
    facts.unlink()
    facts.write_text("{}")
    hanging.close()
    models = finder(hanging.uri, tmp_path)
    with pytest.raises(BundleCorruptError, match="facts"):
        models.load(models.first(CHAMPION), CHAMPION)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.proof)])
def test_a_server_lives_without_its_registry(
    workers: str, serve: Serve, hanging: HangingRegistry, tmp_path: Path
) -> None:
    (tmp_path / "serving.toml").write_text("model_look_seconds = 0.2\n[registry]\nseconds = 4.0\n")
    options = ("--tracking-uri", hanging.uri, "--config", str(tmp_path / "serving.toml"), "--workers", workers)
    store = f"sqlite:///{tmp_path}/e.db"
    served = serve(store, *options, folder=CHAMPION)
    hanging.hangs = "/"
    with httpx.Client(base_url=served.url, timeout=60) as client:
        version = client.get("/readyz").json()["model_version"]
        answered = client.post("/v1/models:reload")
        assert (answered.status_code, "did not answer" in answered.json()["detail"]) == (503, True)
        warned(client, "the model registry is away since 20")
        assert client.post("/v1/offers", json={"account_id": "A1"}).json()["model_version"] == version
    code, written = served.stop()  # within 30 s
    assert code == 0
    assert 1 <= written.count("the model registry is away") <= 2 * int(workers)  # not with every look

    again = serve(store, *options, folder=CHAMPION)
    assert again.started["model_version"] == version
    with httpx.Client(base_url=again.url, timeout=60) as client:
        warned(client, "did not answer within 4 s")
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/offers", json={"account_id": "A1"}).json()["model_version"] == version
    assert again.stop()[0] == 0


def warned(client: httpx.Client, words: str) -> None:
    for _ in range(200):
        warnings = client.get("/readyz").raise_for_status().json()["warnings"]
        if any(words in warning for warning in warnings):
            return
        time.sleep(0.1)
    raise AssertionError(f"{words!r} is not among {warnings}")


@pytest.mark.proof
@pytest.mark.parametrize("workers", ["1", "2"])
def test_proof_of_a_real_registry_that_is_stopped_killed_and_started(
    workers: str, serve: Serve, made: Path, tmp_path: Path
) -> None:
    """MLflow's own server: with SIGSTOP it accepts and never answers, killed it refuses; then a start and a stop."""
    with tracking_server(made) as (process, uri):
        options = ("--tracking-uri", uri, "--workers", workers)
        store = f"sqlite:///{tmp_path}/e.db"
        served = serve(store, *options, folder=CHAMPION)
        version = served.started["model_version"]
        os.killpg(process.pid, signal.SIGSTOP)
        with httpx.Client(base_url=served.url, timeout=60) as client:
            assert client.post("/v1/models:reload").status_code == 503
            warned(client, "did not answer within 10 s")
        begun = time.monotonic()
        assert served.stop()[0] == 0
        stopped_seconds = time.monotonic() - begun
        begun = time.monotonic()
        again = serve(store, *options, folder=CHAMPION)
        started_seconds = time.monotonic() - begun
        assert again.started["model_version"] == version
        os.killpg(process.pid, signal.SIGCONT)
        with httpx.Client(base_url=again.url, timeout=60) as client:
            deadline = time.monotonic() + 60
            while client.get("/readyz").json()["warnings"] and time.monotonic() < deadline:
                time.sleep(0.5)
            assert client.post("/v1/models:reload").status_code == 200
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            answered = client.post("/v1/models:reload")
            assert answered.status_code == 503
            assert client.post("/v1/offers", json={"account_id": "A1"}).json()["model_version"] == version
        assert again.stop()[0] == 0
        assert serve(store, *options, folder=CHAMPION).started["model_version"] == version
    print(
        f"{workers} workers: start {started_seconds:.1f} s, stop {stopped_seconds:.1f} s; {answered.json()['detail']}"
    )


@contextmanager
def tracking_server(made: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `mlflow server` on the registry, in a process group of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "mlflow"), "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{made}/mlflow.db", "--artifacts-destination", str(made)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=made
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{uri}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield process, uri
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
