"""Why-not answers about decisions of an earlier model: after a swap, after a restart, in every worker."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from recsys.bundle.manifest import model_version
from recsys.bundle.resolve import resolve
from recsys.events.memory import MemoryStore
from serving.app import create_app
from serving.models.by_alias import FixedModel
from serving.models.kept_models import KeptModels
from serving.models.loading import EarlierModels, load_model
from serving.settings import KeptModelsConfig, Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

Serve = Callable[..., Any]


def ask(client: httpx.Client, account_id: str = "A1") -> tuple[str, str, list[str]]:
    body = client.post("/v1/offers", json={"account_id": account_id, "limit": 3}).raise_for_status().json()
    return body["decision_id"], body["model_version"], [offer["product_id"] for offer in body["offers"]]


def why(client: httpx.Client, decision_id: str, product_id: str) -> httpx.Response:
    return client.post(f"/v1/decisions/{decision_id}/why-not", json={"product_id": product_id})


def replace_in_place(folder: Path, new: Path) -> None:
    """Write every file over the one that is there, the manifest last, as a careless copy does."""
    files = sorted(path.relative_to(new) for path in new.rglob("*") if path.is_file())
    for name in sorted(files, key=lambda name: name.name == "manifest.json"):
        (folder / name).write_bytes((new / name).read_bytes())


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.proof)])
def test_why_not_after_a_retrain_in_place_and_a_restart(
    workers: str, serve: Serve, bundle_folder: Path, retrained_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    (tmp_path / "serving.toml").write_text("model_look_seconds = 0.1\nmodel_retry_seconds = 0.1\n")
    options = ("--config", str(tmp_path / "serving.toml"), "--workers", workers)
    old, new = model_version(bundle_folder), model_version(retrained_folder)
    store = f"sqlite:///{tmp_path}/e.db"
    served = serve(store, *options, folder=folder)
    with httpx.Client(base_url=served.url, timeout=30) as client:
        decision_id, version, shown = ask(client)
        assert version == old
        other = next(product for product in ask(client, "A2")[2] if product not in shown)
        before = why(client, decision_id, other).raise_for_status().json()
        replace_in_place(folder, retrained_folder)
    in_every_worker(served.url, lambda client: ask(client)[1] == new)
    in_every_worker(served.url, lambda client: why(client, decision_id, other).json() == before)
    assert served.stop()[0] == 0
    again = serve(store, *options, folder=folder)
    assert again.started["model_version"] == new
    in_every_worker(again.url, lambda client: why(client, decision_id, other).json() == before)
    assert before["model_version"] == old
    assert again.stop()[0] == 0


def in_every_worker(url: str, holds: Callable[[httpx.Client], bool], times: int = 12) -> None:
    """Wait until it holds so many times in a row, each on a connection of its own, which any worker may take."""
    in_a_row, deadline = 0, time.monotonic() + 60
    while in_a_row < times:
        assert time.monotonic() < deadline
        with httpx.Client(base_url=url, timeout=30) as client:
            in_a_row = in_a_row + 1 if holds(client) else 0


def test_a_model_that_is_not_kept_any_more_is_gone_and_said_so(
    store: MemoryStore, running: Any, bundle_folder: Path, retrained_folder: Path, tmp_path: Path
) -> None:
    settings = Settings(kept_models=KeptModelsConfig(folder=tmp_path / "kept", days=30))
    kept = KeptModels(settings.kept_models, lambda: NOW)
    made, now = (load_model(folder, source="test", now=NOW) for folder in (bundle_folder, retrained_folder))
    with running(create_app(settings, bundles=FixedModel(made), store=store, clock=lambda: NOW)) as api:
        decision_id, version, _ = ask(api)
    with running(create_app(settings, bundles=FixedModel(now), store=store, clock=lambda: NOW)) as api:
        gone = why(api, decision_id, "P01")
        assert (gone.status_code, "is not kept any more (at most 30 days)" in gone.json()["detail"]) == (410, True)
        copy = kept.keep(resolve(str(bundle_folder)), link=False)
        found = why(api, decision_id, "P01")
        assert (found.status_code, found.json()["model_version"]) == (200, version)
    (copy.path / "facts.json").write_bytes(b"{}")
    with running(create_app(settings, bundles=FixedModel(now), store=store, clock=lambda: NOW)) as api:
        altered = why(api, decision_id, "P01")
        assert (altered.status_code, "was altered" in altered.json()["detail"]) == (410, True)


def test_few_earlier_models_stay_in_memory(bundle_folder: Path, retrained_folder: Path, tmp_path: Path) -> None:
    kept = KeptModels(KeptModelsConfig(folder=tmp_path / "kept"), lambda: NOW)
    versions = [kept.keep(resolve(str(folder)), link=False).version for folder in (bundle_folder, retrained_folder)]
    earlier = EarlierModels(kept, lambda: NOW)
    first = earlier.get(versions[0])
    assert first is not None
    assert earlier.get(versions[0]) is first
    assert earlier.get(versions[1]) is not None
    assert earlier.get("0" * 12) is None
    assert earlier.get(versions[0]) is first
