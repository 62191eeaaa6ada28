"""Models follow their sources: loaded beside, swapped whole, and never a broken one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.bundle.manifest import model_version
from recsys.bundle.resolve import CHAMPION, ResolvedModel, resolve
from recsys.contracts.offers import EMPTY_STATE, AccountState, OfferRequest, Slate
from recsys.errors import BundleCorruptError, ModelNotFoundError
from recsys.events.memory import MemoryStore
from recsys.events.reading import read_decisions
from serving.app import create_app
from serving.fakes import FakeEngine, fake_model
from serving.models.by_alias import LoadedModel, ModelSources, WatchedModels
from serving.models.exercise import N_REQUESTS
from serving.models.finding import finder_of, sources_of
from serving.models.loading import BundleTrial, load_model
from serving.settings import KeptModelsConfig, Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class NamedEngine(FakeEngine):
    """Says its version in every reason, so that an answer that mixes two models would show."""

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version

    def recommend(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> Slate:
        slate = super().recommend(request, state)
        return replace(slate, offers=tuple(offer._replace(reason=self.version) for offer in slate.offers))


class Shelf:
    """A registry in memory: references lead to versions, some of which can't be loaded."""

    def __init__(self, **references: str) -> None:
        self.leads = {f"models:/offers@{alias}": version for alias, version in references.items()}
        self.broken: dict[str, Exception] = {}
        self.engines: dict[str, FakeEngine] = {}
        self.loads: list[str] = []
        self.now = NOW

    def put(self, alias: str, version: str) -> None:
        self.leads[f"models:/offers@{alias}"] = version

    def find(self, reference: str) -> ResolvedModel:
        if reference not in self.leads:
            raise ModelNotFoundError(f"{reference}: not in the registry")
        return ResolvedModel(Path(self.leads[reference]), self.leads[reference])

    def load(self, found: ResolvedModel, reference: str) -> LoadedModel:
        self.loads.append(found.version)
        if found.version in self.broken:
            raise self.broken[found.version]
        return replace(
            fake_model(self.engines.get(found.version) or NamedEngine(found.version), found.version), source=reference
        )

    def models(self, *aliases: str) -> WatchedModels:
        references = {alias: f"models:/offers@{alias}" for alias in (CHAMPION, *aliases)}
        first = self.load(self.find(references[CHAMPION]), references[CHAMPION])
        return WatchedModels(
            ModelSources(references, self.find, self.load), first, lambda: self.now, timedelta(seconds=60)
        )


def test_a_new_version_answers_after_the_next_look_and_not_before() -> None:
    shelf = Shelf(champion="v1")
    models = shelf.models()
    shelf.put("champion", "v2")
    changes = models.look()
    assert models.current().version == "v1"
    models.put(changes)
    assert models.current().version == "v2"
    assert models.look() == ()
    assert shelf.loads == ["v1", "v2"]


def test_a_model_that_can_not_be_loaded_leaves_the_last_good_one_and_says_why() -> None:
    shelf = Shelf(champion="v1")
    models = shelf.models()
    shelf.put("champion", "bad")
    shelf.broken["bad"] = BundleCorruptError("tables/owned.arrow: its SHA-256 is not that of the manifest")
    models.put(models.look())
    (running,) = models.running()
    assert running.model is not None
    assert running.model.version == "v1"
    assert running.refused is not None
    assert (running.refused.version, running.refused.at) == ("bad", NOW)
    assert "SHA-256" in running.refused.reason


def test_what_was_refused_is_tried_again_after_a_while_or_at_once_when_told() -> None:
    shelf = Shelf(champion="v1")
    models = shelf.models()
    shelf.put("champion", "bad")
    shelf.broken["bad"] = RuntimeError("a secret of account A1")
    models.put(models.look())
    models.put(models.look())
    assert shelf.loads == ["v1", "bad"]
    shelf.now += timedelta(seconds=61)
    models.put(models.look())
    assert shelf.loads == ["v1", "bad", "bad"]
    refused = models.running()[0].refused
    assert refused is not None
    assert "secret" not in refused.reason
    del shelf.broken["bad"]
    models.put(models.look(at_once=True))
    assert models.current().version == "bad"
    assert models.running()[0].refused is None


class FaintEngine(NamedEngine):
    def recommend(self, request: OfferRequest, state: AccountState = EMPTY_STATE) -> Slate:
        raise ValueError(f"nothing works for {request.account_id}, {state}")


def test_a_model_that_fails_its_warm_up_never_answers() -> None:
    shelf = Shelf(champion="v1")
    shelf.engines["v2"] = FaintEngine("v2")
    models = shelf.models()
    shelf.put("champion", "v2")
    models.put(models.look())
    assert models.current().version == "v1"
    assert models.running()[0].refused is not None


def test_champion_and_challenger_run_side_by_side_and_one_version_is_loaded_once() -> None:
    shelf = Shelf(champion="v1", challenger="v2")
    models = shelf.models("challenger")
    assert models.get("challenger") is None
    models.put(models.look())
    challenger = models.get("challenger")
    assert challenger is not None
    assert (models.current().version, challenger.version) == ("v1", "v2")
    shelf.put("champion", "v2")  # promoted
    models.put(models.look())
    assert models.current().engine is challenger.engine
    assert shelf.loads == ["v1", "v2"]


def test_a_challenger_may_go_and_a_champion_stays_when_its_alias_is_gone() -> None:
    shelf = Shelf(champion="v1", challenger="v2")
    models = shelf.models("challenger")
    models.put(models.look())
    shelf.leads.clear()
    models.put(models.look())
    assert models.get("challenger") is None
    assert models.current().version == "v1"
    refused = models.running()[0].refused
    assert refused is not None
    assert "not in the registry" in refused.reason


def test_a_champion_of_the_registry_brings_its_challenger() -> None:
    finder = finder_of(Settings(), "sqlite:///x.db", lambda: NOW)
    sources = sources_of("models:/offers@champion", Settings(challengers={"trial": "bundles/trial"}), finder)
    assert dict(sources.references) == {
        "champion": "models:/offers@champion",
        "challenger": "models:/offers@challenger",
        "trial": "bundles/trial",
    }
    assert set(sources_of("bundles/now", Settings(), finder).references) == {"champion"}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(champion="v1", challenger="c1")


@pytest.fixture
def watched(shelf: Shelf, store: MemoryStore, running: Any) -> Iterator[httpx.Client]:
    app = create_app(
        Settings(model_look_seconds=0.02), bundles=shelf.models("challenger"), store=store, clock=lambda: NOW
    )
    with running(app) as api:
        yield api


def test_reload_answers_what_runs_then(shelf: Shelf, watched: httpx.Client) -> None:
    shelf.put("champion", "v2")
    answered = watched.post("/v1/models:reload")
    assert answered.status_code == 200, answered.text
    assert {item["alias"]: item["version"] for item in answered.json()["models"]} == {
        "champion": "v2",
        "challenger": "c1",
    }
    assert watched.get("/readyz").json() == {"status": "ready", "model_version": "v2", "warnings": []}


def test_a_refused_model_shows_in_models_readiness_and_metrics(shelf: Shelf, watched: httpx.Client) -> None:
    shelf.broken["bad"] = BundleCorruptError("a file was altered")
    shelf.put("champion", "bad")
    body = watched.post("/v1/models:reload").json()
    assert [(item["alias"], item["version"]) for item in body["refused"]] == [("champion", "bad")]
    ready = watched.get("/readyz")
    assert ready.status_code == 200
    assert "champion was refused" in ready.json()["warnings"][0]
    assert 'offers_model_refusals_total{alias="champion"}' in watched.get("/metrics").text
    assert watched.post("/v1/offers", json={}).json()["model_version"] == "v1"


def test_no_request_fails_and_no_answer_mixes_models_while_they_swap(
    shelf: Shelf, watched: httpx.Client, store: MemoryStore
) -> None:
    stop, faults, seen = threading.Event(), [], set()

    def ask() -> None:
        with httpx.Client(base_url=watched.base_url, timeout=20) as client:
            while not stop.is_set():
                answered = client.post("/v1/offers", json={"account_id": "A1"})
                body = answered.json()
                versions = {offer["reason"] for offer in body.get("offers", ())} | {body.get("model_version")}
                seen.update(versions)
                if answered.status_code != 200 or len(versions) != 1:
                    faults.append(body)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 12):
        shelf.put("champion", f"v{number}")
        watched.post("/v1/models:reload").raise_for_status()
        deadline = time.monotonic() + 20
        while f"v{number}" not in seen and time.monotonic() < deadline:
            time.sleep(0.002)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert faults == []
    assert seen >= {f"v{number}" for number in range(2, 12)}
    assert {decision.model_version for decision in read_decisions(store)} == seen


def test_a_folder_that_is_replaced_is_followed_and_a_corrupt_one_is_not(bundle_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    settings = Settings(kept_models=KeptModelsConfig(folder=tmp_path / "kept"))
    sources = sources_of(str(folder), settings, finder_of(settings, "sqlite:///none.db", lambda: NOW))
    first = sources.load(sources.find(str(folder)), str(folder))
    models = WatchedModels(sources, first, lambda: NOW, timedelta(0))
    assert models.look() == ()

    manifest = folder / "manifest.json"
    good = manifest.read_bytes()
    manifest.write_bytes(good.replace(b"EUR", b"GBP"))
    models.put(models.look())
    assert (models.current().currency, models.current().version) == ("GBP", model_version(folder))

    served = models.current().version
    for name, content in (("manifest.json", b"{"), ("facts.json", b"{}")):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        manifest.write_bytes(manifest.read_bytes() + b" ")  # another version, with one file that does not match
        models.put(models.look())
        assert models.current().version == served
        assert models.running()[0].refused is not None
        (folder / name).write_bytes(kept)

    shutil.rmtree(folder)
    models.put(models.look())
    assert models.current().version == served
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        resolve(str(folder), tracking_uri="sqlite:///none.db")


CRASHES = "import ctypes; ctypes.string_at(0)"
NEVER_ENDS = "import time; time.sleep(600)"
SAYS_NOTHING = "raise SystemExit(3)"


@pytest.mark.parametrize(
    ("program", "seconds", "sentence"),
    [
        (CRASHES, 60, "it ended the trial process by SIGSEGV; do not use this bundle"),
        (NEVER_ENDS, 0.5, r"its trial did not end within 0\.5 s"),
        (SAYS_NOTHING, 60, "its trial ended with exit code 3 and no result"),
    ],
)
def test_a_bundle_whose_trial_fails_is_refused_and_the_last_good_one_goes_on(
    bundle_folder: Path, tmp_path: Path, program: str, seconds: float, sentence: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    trial = BundleTrial(seconds, (sys.executable, "-c", program))
    first = load_model(folder, source=str(folder), now=NOW)
    sources = replace(
        sources_of(str(folder), Settings(), finder_of(Settings(), "sqlite:///none.db", lambda: NOW)),
        load=lambda found, source: load_model(found.path, source=source, now=NOW, trial=trial),
    )
    models = WatchedModels(sources, first, lambda: NOW, timedelta(0))
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"EUR", b"GBP"))
    models.put(models.look())
    (running,) = models.running()
    assert running.model is first
    assert running.refused is not None
    assert running.refused.version == model_version(folder)
    assert re.search(sentence, running.refused.reason)


def test_a_trial_that_answers_offers_that_can_not_be_is_refused(bundle_folder: Path) -> None:
    said = {"version": model_version(bundle_folder), "answers": 1, "fault": "it made an offer that can't be"}
    trial = BundleTrial(60, (sys.executable, "-c", f"print({json.dumps(json.dumps(said))})"))
    with pytest.raises(BundleCorruptError, match="it made an offer that can't be"):
        load_model(bundle_folder, source="x", now=NOW, trial=trial)


def test_files_that_change_while_they_are_tried_are_not_loaded(bundle_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    said = json.dumps({"version": model_version(folder), "answers": 1, "fault": None})
    program = f"import os, sys; os.utime(sys.argv[1] + '/tables/owned.arrow', (1, 1)); print({said!r})"
    with pytest.raises(BundleCorruptError, match="its files changed while it was tried"):
        load_model(folder, source="x", now=NOW, trial=BundleTrial(60, (sys.executable, "-c", program)))


def test_a_trial_ends_when_the_server_stops(bundle_folder: Path) -> None:
    trial = BundleTrial(600, (sys.executable, "-c", NEVER_ENDS))
    with ThreadPoolExecutor(1) as pool:
        tried = pool.submit(trial.run, bundle_folder, "v1")
        while not trial.is_running:
            time.sleep(0.005)
        trial.stop()
        with pytest.raises(BundleCorruptError, match="the server is stopping"):
            tried.result(60)
    with pytest.raises(BundleCorruptError, match="the server is stopping"):
        trial.run(bundle_folder, "v1")


def test_the_trial_itself_compares_digests_answers_and_loads_nothing_heavy(bundle_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from serving.models.exercise import exercise_main as main\n"
        "assert main(Path(sys.argv[1]), 100) == 0\n"
        "assert not {'mlflow', 'sklearn', 'ibis', 'duckdb'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, bundle_folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answers"] > 3 * N_REQUESTS / 2
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    facts = folder / "facts.json"
    facts.write_bytes(facts.read_bytes().replace(b"EUR", b"GBP"))
    with pytest.raises(BundleCorruptError, match="its SHA-256 is not that of the manifest"):
        BundleTrial(100).run(folder, model_version(folder))
