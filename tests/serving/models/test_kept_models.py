"""Bundles that served stay on disk for a stated time: whole, never written by others, and not for ever."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.bundle.manifest import model_version
from recsys.bundle.resolve import ResolvedModel, resolve
from recsys.errors import BundleCorruptError
from serving.models.finding import ModelFinder, finder_of
from serving.models.kept_models import KeptModels
from serving.settings import KeptModelsConfig, Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Hours:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Hours:
    return Hours()


@pytest.fixture
def kept(tmp_path: Path, clock: Hours) -> KeptModels:
    return KeptModels(KeptModelsConfig(folder=tmp_path / "kept", days=90), clock)


@pytest.fixture
def source(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def finder(tmp_path: Path) -> ModelFinder:
    settings = Settings(kept_models=KeptModelsConfig(folder=tmp_path / "kept"))
    return finder_of(settings, "sqlite:///none.db", lambda: NOW)


def in_folder(kept: KeptModels) -> set[str]:
    return {path.name for path in kept.root.iterdir()}


def test_a_folder_that_is_written_again_in_place_changes_no_kept_bundle(kept: KeptModels, source: Path) -> None:
    found = resolve(str(source))
    copy = kept.keep(found, link=False)
    for file in (path for path in source.rglob("*") if path.is_file()):
        file.write_bytes(b"")
    assert copy == kept.find(found.version) == kept.keep(found, link=False)
    assert model_version(copy.path) == found.version
    assert all(path.stat().st_size for path in copy.path.rglob("*") if path.is_file())


def test_what_nobody_writes_again_is_linked_and_takes_no_room(kept: KeptModels, source: Path) -> None:
    copy = kept.keep(resolve(str(source)), link=True)
    tables = list((copy.path / "tables").iterdir())
    assert tables
    assert all(table.samefile(source / "tables" / table.name) for table in tables)


def test_a_bundle_that_changes_while_it_is_copied_or_lacks_a_file_is_not_kept(kept: KeptModels, source: Path) -> None:
    with pytest.raises(BundleCorruptError, match="changed while it was copied"):
        kept.keep(ResolvedModel(source, "0" * 12), link=False)
    (source / "facts.json").unlink()
    with pytest.raises(BundleCorruptError, match=r"facts\.json: missing"):
        kept.keep(resolve(str(source)), link=False)
    assert in_folder(kept) == set()


def test_of_two_servers_that_keep_the_same_at_once_one_copy_stays(kept: KeptModels, source: Path) -> None:
    version = model_version(source)
    with kept.incoming() as one, kept.incoming() as other:
        shutil.copytree(source, one / "bundle")
        shutil.copytree(source, other / "bundle")
        assert kept.move_in(one / "bundle", version) == kept.move_in(other / "bundle", version)
    assert in_folder(kept) == {version}


@pytest.mark.parametrize("version", ["offers/3", "../kept", "bundle-1234", "", "references"])
def test_only_a_version_is_looked_for_on_disk(kept: KeptModels, source: Path, version: str) -> None:
    kept.keep(resolve(str(source)), link=False)
    assert kept.find(version) is None


def test_a_reference_leads_to_what_it_last_led_to_and_no_password_is_written(kept: KeptModels, source: Path) -> None:
    name = "postgresql://mlflow:hush@db/mlflow models:/offers@champion"
    assert kept.led_to(name) is None
    found = kept.keep(resolve(str(source)), link=False)
    kept.note(name, found.version)
    assert kept.led_to(name) == found
    assert kept.led_to(name.replace("hush", "other")) is None
    (note,) = (kept.root / "references").iterdir()
    assert "hush" not in note.read_text()
    note.write_text("{")
    assert kept.led_to(name) is None


def test_a_bundle_goes_after_its_time_and_never_while_it_serves(
    kept: KeptModels, clock: Hours, bundle_folder: Path, retrained_folder: Path
) -> None:
    old, new = (kept.keep(resolve(str(folder)), link=False) for folder in (bundle_folder, retrained_folder))
    clock.now += timedelta(days=80)
    kept.tidy({new.version})
    clock.now += timedelta(days=9)
    kept.tidy({new.version})
    assert kept.find(old.version) == old
    clock.now += timedelta(days=2)
    kept.tidy({new.version})
    assert kept.find(old.version) is None
    clock.now += timedelta(days=1000)
    kept.tidy({new.version})
    assert kept.find(new.version) == new


def test_beyond_the_room_those_go_first_that_served_longest_ago(
    tmp_path: Path, clock: Hours, bundle_folder: Path, retrained_folder: Path
) -> None:
    kept = KeptModels(KeptModelsConfig(folder=tmp_path / "kept", gigabytes=0), clock)
    old, new = (kept.keep(resolve(str(folder)), link=False) for folder in (bundle_folder, retrained_folder))
    clock.now += timedelta(hours=3)
    kept.tidy({new.version})
    assert kept.find(old.version) == old  # another server on the same folder may run it
    clock.now += timedelta(hours=23)
    kept.tidy({new.version})
    assert in_folder(kept) == {new.version}


def test_what_a_killed_server_left_half_copied_is_removed_and_what_one_copies_now_is_not(kept: KeptModels) -> None:
    kept.tidy(())  # nothing there: nothing to do
    (kept.root / ".new-abandoned" / "tables").mkdir(parents=True)
    with kept.incoming() as place:
        kept.tidy(())
        assert in_folder(kept) == {place.name}
    assert in_folder(kept) == set()


def test_an_altered_copy_is_made_again_where_the_original_is_whole(tmp_path: Path, source: Path) -> None:
    models = finder(tmp_path)
    found = models.find(str(source))
    models.load(found, str(source))
    copy = models.kept.find(found.version)
    assert copy is not None
    (copy.path / "facts.json").write_bytes(b"{}")
    assert models.load(found, str(source)).version == found.version
    (copy.path / "facts.json").write_bytes(b"{}")
    (source / "facts.json").write_bytes(b"{}")
    with pytest.raises(BundleCorruptError):
        models.load(found, str(source))
    assert models.kept.find(found.version) is None


def test_a_whole_copy_stays_where_its_trial_fails(tmp_path: Path, source: Path) -> None:
    models = finder(tmp_path)
    found = models.find(str(source))
    models.load(found, str(source))
    models.close()  # no trial begins any more
    with pytest.raises(BundleCorruptError, match="the server is stopping"):
        models.load(found, str(source))
    assert models.kept.is_whole(found.version)


def test_a_disk_that_takes_nothing_costs_the_copy_only(tmp_path: Path, source: Path) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be")
    models = finder(tmp_path)
    model = models.load(models.find(str(source)), str(source))
    models.served([model])
    assert model.version == model_version(source)
