"""Where a model reference leads, against a real registry on SQLite."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import model_version
from recsys.bundle.resolve import resolve, resolve_model
from recsys.bundle.save import save_bundle
from recsys.errors import BundleCorruptError, ModelNotFoundError
from tests.support.installation import ROOT, link_distributions, locked, python_of_links
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model
from tests.support.training_runs import registry_in

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A registry with two versions of `offers`, champion on the first; returns its URI and the first's folder."""
    from mlflow import MlflowClient

    root = tmp_path_factory.mktemp("registry")
    uri = registry_in(root)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("offers", artifact_location=(root / "artifacts with blanks").as_uri())
    client.create_registered_model("offers")
    folders = []
    for seed in (1, 2):
        bundle = root / f"bundle-{seed}"
        size = SyntheticModelConfig(n_accounts=5, n_products=20)
        save_bundle(bundle, synthetic_model(size, np.random.default_rng(seed)))
        run = client.create_run(experiment)
        client.log_artifacts(run.info.run_id, str(bundle), "bundle")
        client.create_model_version("offers", source=f"{run.info.artifact_uri}/bundle", run_id=run.info.run_id)
        folders.append(bundle)
    client.set_registered_model_alias("offers", "champion", "1")
    return uri, folders[0]


def test_an_alias_and_a_version_lead_to_the_artifacts_without_a_copy(registry: tuple[str, Path]) -> None:
    uri, folder = registry
    by_alias = resolve("models:/offers@champion", tracking_uri=uri)
    assert by_alias == resolve("models:/offers/1", tracking_uri=uri)
    assert by_alias.version == model_version(folder)
    assert (folder.parent / "artifacts with blanks") in by_alias.path.parents
    assert load_bundle(by_alias.path).manifest == load_bundle(folder).manifest
    assert resolve_model("models:/offers/2", tracking_uri=uri) != by_alias.path


def test_the_image_of_the_server_reads_the_registry(registry: tuple[str, Path], tmp_path: Path) -> None:
    """By MLflow's client alone, which is what `deploy/serve.lock` has of it."""
    uri, folder = registry
    installed = link_distributions(tmp_path / "installed", locked(ROOT / "deploy" / "serve.lock"))
    words = f"'models:/offers@champion', tracking_uri={uri!r}"
    command = python_of_links("-c", f"from recsys.bundle.resolve import resolve; print(resolve({words}).version)")
    done = subprocess.run(command, env=installed, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == model_version(folder), done.stderr


def test_a_folder_is_named_by_its_manifest(registry: tuple[str, Path]) -> None:
    uri, folder = registry
    found = resolve(str(folder))
    assert found.path == folder
    assert found.version == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:12]
    assert found.version == resolve("models:/offers/1", tracking_uri=uri).version
    assert found.version != resolve("models:/offers/2", tracking_uri=uri).version


def test_a_folder_without_a_bundle_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BundleCorruptError, match=r"no manifest\.json; name the folder of a bundle"):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("models:/offers@challenger", "it has offers with versions 1, 2 and aliases @champion"),
        ("models:/offers/7", "it has offers with versions 1, 2"),
        ("models:/other@champion", "it has the models offers"),
        ("models:/offers", "must read models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/offers/latest", "must read models:/NAME@ALIAS"),
        ("/no/such/folder", "no such folder"),
    ],
)
def test_what_is_not_there_is_a_sentence(registry: tuple[str, Path], reference: str, words: str) -> None:
    with pytest.raises(ModelNotFoundError, match=words.replace("@", "@")):
        resolve(reference, tracking_uri=registry[0])


def test_a_registry_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no registry at"):
        resolve("models:/offers@champion", tracking_uri=f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_artifacts_that_were_deleted_are_a_sentence(registry: tuple[str, Path], tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=registry[0], registry_uri=registry[0])
    client.create_registered_model("gone")
    client.create_model_version("gone", source=(tmp_path / "gone").as_uri())
    with pytest.raises(ModelNotFoundError, match="the registry names it, but there is no such folder"):
        resolve("models:/gone/1", tracking_uri=registry[0])
