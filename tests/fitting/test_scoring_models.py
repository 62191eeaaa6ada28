"""The fitted models come back from their folder and score as before; strange types and altered files do not."""

from __future__ import annotations

import importlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from pandas.testing import assert_frame_equal
from sklearn.neighbors import KDTree

from recsys.bundle.manifest import digest
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.errors import BundleCorruptError, BundleError, BundleVersionError, MissingColumnError
from recsys.fitting.pipeline import FitConfig, FittedModels, fit
from recsys.fitting.scoring_models import MODELS_MANIFEST, TRUSTED_TYPES, load_models, models_folder, save_models
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market

AS_OF = datetime(2025, 7, 1, tzinfo=UTC)
CONFIG = FitConfig.model_validate(
    {
        "next_product": {
            "cutoffs": {"n_cutoffs": 2},
            "sampling": {"train_accounts": 150, "calibration_accounts": 300},
            "ranker": {"kind": "blend", "n_trees": 10},
            "activity": {"n_trees": 5},
        },
        "upgrades": {"n_cutoffs": 8},
    }
)
"""Every kind of model is fitted, each a small one."""

SCORER = """
import sys
from pathlib import Path
import numpy as np
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.fitting.pipeline import known_history
from recsys.fitting.scoring_models import load_models
folder, spec, block, out = sys.argv[1:]
data = read_dataset(ReadSpec.model_validate_json(spec))
models = load_models(Path(folder), data.products, data.accounts)
history, accounts = known_history(data), np.load(block)
found = {"cross": models.cross_sell(history, data.as_of, accounts), "up": models.upsell(history, data.as_of)}
np.savez(out, **{f"{kind}.{name}": each for kind, one in found.items() for name, each in vars(one).items()})
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ReadSpec:
    folder = tmp_path_factory.mktemp("market")
    write_market(MarketConfig(n_accounts=600, n_products=200, seed=3), folder)
    names = {name: str(folder / f"{name}.parquet") for name in ("orders", "products", "accounts", "upgrades")}
    return ReadSpec(**names, as_of=AS_OF)


@pytest.fixture(scope="module")
def data(spec: ReadSpec) -> Dataset:
    return read_dataset(spec)


@pytest.fixture(scope="module")
def fitted(data: Dataset) -> FittedModels:
    return fit(data, CONFIG)


@pytest.fixture(scope="module")
def saved(fitted: FittedModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "models"
    save_models(folder, fitted.models)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may alter."""
    return Path(shutil.copytree(saved, tmp_path / "models"))


def reseal(folder: Path, name: str, content: bytes) -> None:
    """Give a file another content and the manifest its digest."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MODELS_MANIFEST).read_text())
    for file in manifest["files"]:
        if file["name"] == name:
            file |= {"size": len(content), "sha256": digest(folder / name)}
    (folder / MODELS_MANIFEST).write_text(json.dumps(manifest))


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / MODELS_MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_another_process_scores_a_block_of_accounts_as_the_one_that_fitted(
    fitted: FittedModels, folder: Path, spec: ReadSpec, tmp_path: Path
) -> None:
    models = fitted.models
    ranker: Any = models.next_product.ensemble_[0].ranker
    assert ranker is not None
    assert None not in (ranker.boosting_, ranker.logistic_, models.next_product.calibrator_.logistic_)
    assert models.next_product.columns_.levels_
    assert None not in (models.cold_start.model_, models.upgrades.classifier_)
    block, out = tmp_path / "block.npy", tmp_path / "scores.npz"
    np.save(block, np.arange(0, fitted.history.n_accounts, 3))
    subprocess.run([sys.executable, "-c", SCORER, folder, spec.model_dump_json(), block, out], check=True)
    of_block = models.cross_sell(fitted.history, AS_OF, np.load(block))
    scored = np.load(out)
    for kind, one in {"cross": of_block, "up": fitted.up}.items():
        assert len(one) > 100
        for name, column in vars(one).items():
            np.testing.assert_allclose(scored[f"{kind}.{name}"], column, rtol=0, atol=1e-12, err_msg=name)


def test_what_is_kept_holds_no_account_and_leaves_the_fitted_models_as_they_are(
    fitted: FittedModels, folder: Path, data: Dataset
) -> None:
    for path in folder.glob("*.skops"):
        with zipfile.ZipFile(path) as parts:
            schema = parts.read("schema.json").decode()
        assert not [account for account in data.accounts["account_id"] if f'"{account}"' in schema]
    assert fitted.models.next_product.accounts_ is data.accounts
    again = load_models(folder, data.products, data.accounts)
    assert_frame_equal(again.upgrades.ladder_.edges, fitted.ladder.edges)


def test_they_stand_beside_their_bundle() -> None:
    assert models_folder(Path("var/june")) == Path("var/june-models")


@pytest.mark.parametrize("name", TRUSTED_TYPES)
def test_every_listed_type_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def test_the_list_names_no_type_twice_and_stands_in_order() -> None:
    assert list(TRUSTED_TYPES) == sorted(set(TRUSTED_TYPES))


def test_a_type_that_is_not_listed_is_neither_written_nor_built(
    fitted: FittedModels, folder: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / MODELS_MANIFEST).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(fitted.models.cold_start, "tree_", KDTree, raising=False)  # a type, which could be any
        with pytest.raises(BundleError, match=r"model 'cold_start': holds .*KDTree.*, must hold listed types only"):
            save_models(folder, fitted.models)
    assert (folder / MODELS_MANIFEST).read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    reseal(folder, "cold_start.skops", skops.io.dumps({"tree": KDTree}))
    with pytest.raises(BundleCorruptError, match=r"cold_start\.skops: asks for .*KDTree.*; do not use this file"):
        load_models(folder, data.products, data.accounts)


def test_an_altered_file_is_refused(folder: Path, data: Dataset) -> None:
    for path in [*folder.glob("*.skops"), *folder.glob("*.parquet")]:
        before = path.read_bytes()
        middle = len(before) // 2
        path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
        with pytest.raises(BundleCorruptError, match=rf"{path.name}: its SHA-256 is not that of the manifest"):
            load_models(folder, data.products, data.accounts)
        path.write_bytes(before)
    load_models(folder, data.products, data.accounts)


def test_a_file_that_is_missing_unlisted_or_no_skops_is_a_sentence(folder: Path, data: Dataset) -> None:
    reseal(folder, "upgrades.skops", b"PK something")
    with pytest.raises(BundleCorruptError, match=r"upgrades\.skops: not readable as skops"):
        load_models(folder, data.products, data.accounts)
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as parts:
        parts.writestr("schema.json", "{}")
    reseal(folder, "upgrades.skops", empty.getvalue())
    with pytest.raises(BundleCorruptError, match=r"upgrades\.skops: not readable as skops"):
        load_models(folder, data.products, data.accounts)
    (folder / "upgrades.skops").unlink()
    with pytest.raises(BundleCorruptError, match=r"upgrades\.skops: missing, the manifest lists it"):
        load_models(folder, data.products, data.accounts)
    edit_manifest(folder, files=[])
    with pytest.raises(BundleCorruptError, match=r"models\.json lists no 'next_product\.skops'"):
        load_models(folder, data.products, data.accounts)


def test_another_version_is_refused(folder: Path, data: Dataset) -> None:
    edit_manifest(folder, scikit_learn="0.1")
    with pytest.raises(BundleVersionError, match=r"scikit_learn == '0\.1', must be .*; train again"):
        load_models(folder, data.products, data.accounts)
    edit_manifest(folder, schema_version=2)
    with pytest.raises(BundleCorruptError, match="schema_version == 2"):
        load_models(folder, data.products, data.accounts)
    (folder / MODELS_MANIFEST).unlink()
    with pytest.raises(BundleCorruptError, match=r"models\.json: not readable .*; name a folder of models"):
        load_models(folder, data.products, data.accounts)


def test_accounts_without_a_column_that_was_learned_from_are_refused(folder: Path, data: Dataset) -> None:
    column = next(iter(load_models(folder, data.products, data.accounts).next_product.columns_.levels_))
    with pytest.raises(MissingColumnError, match=rf"accounts: columns \['{column}'\] are missing"):
        load_models(folder, data.products, data.accounts.drop(columns=column))


def test_something_else_is_never_overwritten(fitted: FittedModels, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(BundleError, match="exists and is no folder of models"):
        save_models(tmp_path, fitted.models)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]
