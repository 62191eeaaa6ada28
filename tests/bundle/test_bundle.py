"""A bundle's round trip, and every way that one can be broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import MANIFEST, WarmUp, read_manifest
from recsys.bundle.save import BundleDetails, save_bundle
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.errors import BundleCorruptError, BundleError, BundleVersionError
from recsys.offer_model.tables import OfferModel
from recsys.ranking.config import RankingConfig
from recsys.ranking.engine import OfferEngine
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = SyntheticModelConfig(n_accounts=30, n_products=60)


def model() -> OfferModel:
    return synthetic_model(SIZE, np.random.default_rng(5))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    save_bundle(path, model())
    return path


def edit_manifest(bundle: Path, **changes: object) -> None:
    path = bundle / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("verify", [True, False])
def test_a_loaded_bundle_answers_as_the_model_that_was_saved(bundle: Path, verify: bool) -> None:
    loaded = OfferEngine(load_bundle(bundle, verify=verify).model)
    built = OfferEngine(model())
    for row in range(30):
        request = OfferRequest(f"A{row:07d}", cart=(CartLine(f"P{row:06d}"),) * (row % 2), explain="full")
        assert loaded.recommend(request) == built.recommend(request)


def test_its_arrays_are_mapped_not_read(bundle: Path) -> None:
    loaded = load_bundle(bundle).model
    before = pa.total_allocated_bytes()
    again = load_bundle(bundle, verify=False).model
    assert pa.total_allocated_bytes() == before
    assert not again.candidates.product.flags.owndata
    assert not again.candidates.product.flags.writeable
    assert np.array_equal(again.candidates.product, loaded.candidates.product)


def test_the_manifest_says_what_the_bundle_rests_on(tmp_path: Path) -> None:
    details = BundleDetails(
        data_fingerprint="abc", config={"k": 1}, metrics={"ndcg_at_10": 0.2}, warm_up=(WarmUp(cart=("P000001",)),)
    )
    manifest = save_bundle(tmp_path / "b", model(), details=details)
    assert read_manifest(tmp_path / "b") == manifest
    assert (manifest.as_of, manifest.horizon_days, manifest.currency) == ("2026-01-01T00:00:00+00:00", 30, "EUR")
    assert (manifest.data_fingerprint, manifest.config, manifest.metrics) == ("abc", {"k": 1}, {"ndcg_at_10": 0.2})
    assert manifest.warm_up == (WarmUp(account_id=None, cart=("P000001",)),)
    assert "numpy" in manifest.libraries
    assert [file.name for file in manifest.files] == sorted(
        file.relative_to(tmp_path / "b").as_posix() for file in (tmp_path / "b").rglob("*.*") if file.name != MANIFEST
    )


def test_warm_up_requests_are_of_the_model(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    engine = OfferEngine(loaded.model)
    assert len(loaded.manifest.warm_up) > 3
    for warm in loaded.manifest.warm_up:
        cart = tuple(CartLine(product) for product in warm.cart)
        slate = engine.recommend(OfferRequest(warm.account_id, cart=cart))
        assert not slate.unknown_products
        assert slate.tier == ("cart" if warm.account_id is None else slate.tier)


def test_tables_for_people_are_parquet(tmp_path: Path) -> None:
    rules = pd.DataFrame({"antecedent_id": ["A"], "lift": [2.0]}, index=[7])
    save_bundle(tmp_path / "b", model(), frames={"rules": rules})
    read = pd.read_parquet(tmp_path / "b" / "frames" / "rules.parquet")
    pd.testing.assert_frame_equal(read, rules.reset_index(drop=True), check_dtype=False)


WRITER = """
import sys
from pathlib import Path
import numpy as np
import pandas as pd
from recsys.bundle.save import save_bundle
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model
frame = pd.DataFrame({"name": sorted({"a", "b", "c"}), "n": [1, 2, 3]})
model = synthetic_model(SyntheticModelConfig(n_accounts=30, n_products=60), np.random.default_rng(5))
save_bundle(Path(sys.argv[1]), model, frames={"f": frame})
"""


def test_the_same_model_gives_the_same_digests_under_another_hash_seed(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", WRITER, str(tmp_path / seed)], check=True, cwd=REPOSITORY, env=environment
        )
    one, two = read_manifest(tmp_path / "1"), read_manifest(tmp_path / "2")
    assert one.files == two.files
    assert one == two


def test_a_flipped_byte_of_any_file_is_refused(bundle: Path) -> None:
    for file in read_manifest(bundle).files:
        path = bundle / file.name
        if file.size == 0:
            continue
        before = path.read_bytes()
        flip_a_byte(path)
        with pytest.raises(BundleCorruptError, match="SHA-256 is not that of the manifest"):
            load_bundle(bundle)
        path.write_bytes(before)
    load_bundle(bundle)


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / "tables" / "candidates.arrow").unlink()
    with pytest.raises(BundleCorruptError, match=r"candidates\.arrow: missing, the manifest lists it"):
        load_bundle(bundle)


@pytest.mark.parametrize("verify", [True, False])
def test_a_truncated_file_is_refused(bundle: Path, verify: bool) -> None:
    path = bundle / "tables" / "candidates.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleCorruptError, match="bytes, must be"):
        load_bundle(bundle, verify=verify)


def test_a_table_that_the_manifest_does_not_list_is_not_read(bundle: Path) -> None:
    files = json.loads((bundle / MANIFEST).read_text())["files"]
    edit_manifest(bundle, files=[file for file in files if file["name"] != "tables/rules.arrow"])
    with pytest.raises(BundleCorruptError, match=r"lists no 'tables/rules\.arrow'"):
        load_bundle(bundle)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version_is_refused(bundle: Path, version: object) -> None:
    edit_manifest(bundle, schema_version=version)
    with pytest.raises(BundleVersionError, match="must be 1; train again"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "tables/../../x", "a\\b", "./facts.json", "", ".", "a//b", MANIFEST, "x\0"]
)
def test_a_name_that_leaves_the_folder_is_refused(bundle: Path, name: str) -> None:
    files = json.loads((bundle / MANIFEST).read_text())["files"]
    edit_manifest(bundle, files=[*files, {"name": name, "size": 0, "sha256": "0" * 64}])
    with pytest.raises(BundleCorruptError, match="must be a plain path inside the bundle"):
        load_bundle(bundle)


def test_a_link_out_of_the_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.arrow"
    inside = bundle / "tables" / "rules.arrow"
    outside.write_bytes(inside.read_bytes())
    inside.unlink()
    inside.symlink_to(outside)
    with pytest.raises(BundleCorruptError, match="a link that leaves its folder"):
        load_bundle(bundle)


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', "\xff"])
def test_a_broken_manifest_is_a_sentence(bundle: Path, content: str) -> None:
    (bundle / MANIFEST).write_bytes(content.encode("latin-1"))
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(bundle)


def test_a_manifest_with_a_wrong_field_is_a_sentence(bundle: Path) -> None:
    edit_manifest(bundle, horizon_days="soon")
    with pytest.raises(BundleCorruptError, match="horizon_days == 'soon'"):
        load_bundle(bundle)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleCorruptError, match=r"no manifest\.json; name the folder of a bundle"):
        load_bundle(tmp_path)


def reseal(bundle: Path, name: str) -> None:
    """Give an altered file the digest that it now has, as a careless hand would."""
    from recsys.bundle.manifest import digest

    files = json.loads((bundle / MANIFEST).read_text())["files"]
    for file in files:
        if file["name"] == name:
            file |= {"size": (bundle / name).stat().st_size, "sha256": digest(bundle / name)}
    edit_manifest(bundle, files=files)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (pa.table({"product": pa.array([1], pa.int32())}), "columns"),
        (
            pa.table({"to_product": [1], "climb_rate": [0.5], "n_standing": [1], "n_climbed": [1], "evidence": [-1]}),
            "type int64",
        ),
        (
            pa.table(
                {
                    "to_product": pa.array([10_000] * 6, pa.int32()),
                    "climb_rate": pa.array([0.5] * 6, pa.float32()),
                    "n_standing": pa.array([1] * 6, pa.int32()),
                    "n_climbed": pa.array([1] * 6, pa.int32()),
                    "evidence": pa.array([-1] * 6, pa.int32()),
                }
            ),
            r"ladder.to_product: rows from 10000 to 10000, must be in \[0, 60\)",
        ),
    ],
)
def test_a_resealed_table_that_does_not_fit_is_refused(bundle: Path, table: pa.Table, sentence: str) -> None:
    path = bundle / "tables" / "ladder.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    reseal(bundle, "tables/ladder.arrow")
    with pytest.raises(BundleCorruptError, match=sentence):
        load_bundle(bundle)


def test_a_table_that_is_no_arrow_file_is_refused(bundle: Path) -> None:
    (bundle / "tables" / "ladder.arrow").write_bytes(b"PAR1 something")
    reseal(bundle, "tables/ladder.arrow")
    with pytest.raises(BundleCorruptError, match="not a readable Arrow file"):
        load_bundle(bundle)


def test_saving_replaces_a_bundle_and_readers_keep_the_old_one(bundle: Path) -> None:
    old = load_bundle(bundle)
    rows = old.model.candidates.product.copy()
    save_bundle(bundle, synthetic_model(SIZE, np.random.default_rng(6)))
    assert np.array_equal(old.model.candidates.product, rows)
    assert not np.array_equal(load_bundle(bundle).model.products.price, old.model.products.price)
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_something_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        save_bundle(tmp_path / "notes", model())
    assert (tmp_path / "notes" / "diary.txt").read_text() == "dear diary"


def test_a_failed_save_leaves_the_old_bundle_and_nothing_else(bundle: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    with pytest.raises(pa.ArrowException):
        save_bundle(bundle, model(), frames={"bad": pd.DataFrame({"mixed": ["text", 1]})})
    assert (bundle / MANIFEST).read_bytes() == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_it_ranks_as_it_was_told(tmp_path: Path) -> None:
    model = synthetic_model(SIZE, np.random.default_rng(0))
    told = RankingConfig(min_probability=0.5)
    save_bundle(tmp_path / "bundle", model, details=BundleDetails(ranking=told))
    assert load_bundle(tmp_path / "bundle").engine().config == told


def test_a_table_of_an_earlier_release_lacks_what_was_added_later_and_nothing_else(bundle: Path) -> None:
    path = bundle / "tables" / "evidence.arrow"
    with pa.memory_map(str(path)) as file:
        whole = pa.ipc.open_file(file).read_all()
    for dropped, fault in (("relation", None), ("n_anchor", "columns")):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, whole.drop_columns(dropped).schema) as writer:
            writer.write_table(whole.drop_columns(dropped))
        reseal(bundle, "tables/evidence.arrow")
        if fault is None:
            assert load_bundle(bundle).model.evidence.relation.tolist() == [0] * whole.num_rows
        else:
            with pytest.raises(BundleCorruptError, match=fault):
                load_bundle(bundle)
