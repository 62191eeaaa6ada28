"""Versions and aliases on a real MLflow database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.bundle.manifest import model_version
from recsys.errors import ModelNotFoundError
from training.registry import Registry
from training.tracking import open_run

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/deeper/mlflow.db")


def _trained(registry: Registry, folder: Path) -> str:
    (folder / "manifest.json").write_text("{}")
    with open_run(registry, "trained") as run:
        run.log_params({"rules": {"min_count": 5}})
        run.log_metrics({"ndcg": 0.25})
        run.log_bundle(folder)
    return run.run_id


def test_life_of_a_model(registry: Registry, tmp_path: Path) -> None:
    assert registry.find("champion") is None
    first = registry.register(_trained(registry, tmp_path))
    second = registry.register(_trained(registry, tmp_path))
    assert first.tags == second.tags == {"model_version": model_version(tmp_path)}  # equal content, equal name
    assert registry.get("challenger") == second
    (model,) = registry.client.get_run(second.run_id).outputs.model_outputs
    tags = registry.client.get_logged_model(model.model_id).tags
    assert json.loads(tags["mlflow.modelVersions"]) == [{"name": "offers", "version": second.version}]

    assert registry.promote(first, now=NOW, why="first model") is None
    before = registry.promote(second, now=NOW, why="better")
    assert before is not None
    assert before.version == first.version
    assert registry.get("champion").tags["promoted_because"] == "better"

    back, left = registry.rollback(now=NOW, why="complaints")
    assert (back.version, left.version) == (first.version, second.version)
    assert registry.get("champion").version == first.version
    with pytest.raises(ModelNotFoundError, match="first champion"):
        registry.rollback(now=NOW, why="again")


def test_what_a_run_keeps(registry: Registry, tmp_path: Path) -> None:
    run = registry.client.get_run(_trained(registry, tmp_path))
    assert run.data.params == {"rules.min_count": "5"}
    assert run.data.metrics == {"ndcg": 0.25}
    (model,) = run.outputs.model_outputs
    logged = registry.client.get_logged_model(model.model_id)
    assert (logged.name, logged.status, logged.source_run_id) == ("offers", "READY", run.info.run_id)
    files = {item.path for item in registry.client.list_logged_model_artifacts(model.model_id)}
    assert files == {"manifest.json", "MLmodel", "requirements.txt"}
    assert run.info.status == "FINISHED"


def test_a_run_that_raises_is_marked_failed(registry: Registry) -> None:
    with pytest.raises(RuntimeError, match="boom"), open_run(registry, "breaks") as run:
        raise RuntimeError("boom")
    assert registry.client.get_run(run.run_id).info.status == "FAILED"


def test_a_question_makes_no_registry(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="the file is not there; `offers train` makes it"):
        Registry.existing(f"sqlite:///{tmp_path}/var/mlflow.db")
    assert list(tmp_path.iterdir()) == []
    assert Registry.existing(registry.tracking_uri).tracking_uri == registry.tracking_uri


@pytest.mark.parametrize("reference", ["99", "nobody"])
def test_unknown_model_is_a_sentence(registry: Registry, reference: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"no model offers@{reference}"):
        registry.get(reference)
