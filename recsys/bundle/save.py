"""Writes a bundle: beside its place, then moved, so that no one ever reads half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.bundle.arrow import write_table
from recsys.bundle.manifest import FACTS, MANIFEST, FileEntry, Manifest, WarmUp, digest
from recsys.errors import BundleError
from recsys.offer_model.tables import OfferModel
from recsys.ranking.config import RankingConfig

if TYPE_CHECKING:
    import pandas as pd

LIBRARIES = ("numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "skops", "offer-engine")
N_WARM_UP = 8


@dataclass(frozen=True)
class BundleDetails:
    """What a manifest says beyond the files.

    Attributes:
        data_fingerprint: of the cleaned order lines.
        config: the whole configuration of the training.
        ranking: how its candidates become a slate.
        metrics: figures of the backtest, by name.
        warm_up: requests to replay; None: chosen from the model.
    """

    data_fingerprint: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    ranking: RankingConfig = field(default_factory=RankingConfig)
    metrics: dict[str, float] = field(default_factory=dict)
    warm_up: tuple[WarmUp, ...] | None = None


def save_bundle(
    path: Path,
    model: OfferModel,
    *,
    frames: Mapping[str, pd.DataFrame] | None = None,
    details: BundleDetails | None = None,
) -> Manifest:
    """Write a bundle to the folder `path` and return its manifest.

    An older bundle at `path` is replaced; readers that have it open keep it.

    Args:
        path: the folder to make.
        model: the tables that serve.
        frames: name -> table for people (rules, ladder), kept as Parquet.
        details: what the manifest says beyond the files.

    Raises:
        BundleError: `path` is something else than a bundle.
        BundleCorruptError: a table breaks a rule of one of its columns, so that nobody could load it.
    """
    model.check()
    said = details or BundleDetails()
    with replaced_folder(path, MANIFEST, "bundle") as beside:
        _write_files(beside, model, frames or {})
        manifest = Manifest(
            as_of=model.facts.as_of,
            horizon_days=model.facts.horizon_days,
            currency=model.facts.currency,
            data_fingerprint=said.data_fingerprint,
            config=said.config,
            ranking=said.ranking,
            metrics=said.metrics,
            libraries=library_versions(),
            warm_up=choose_warm_up(model) if said.warm_up is None else said.warm_up,
            files=file_entries(beside),
        )
        (beside / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


@contextmanager
def replaced_folder(path: Path, marker: str, kind: str) -> Iterator[Path]:
    """Yield a new folder that takes the place of `path`, whole and on disk, when the block ends without an error.

    Args:
        path: the folder to make; readers of an older one keep it.
        marker: the file that every folder of this kind holds.
        kind: what such a folder is called.

    Raises:
        BundleError: `path` is something else.
    """
    _refuse_strangers(path, marker, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield beside
        beside.chmod(0o755)
        for item in [*beside.rglob("*"), beside]:
            _sync(item)
        _move(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def file_entries(folder: Path) -> tuple[FileEntry, ...]:
    """Return name, size and digest of every file below a folder, sorted by name."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return tuple(
        FileEntry(name=name, size=(folder / name).stat().st_size, sha256=digest(folder / name)) for name in names
    )


def choose_warm_up(model: OfferModel) -> tuple[WarmUp, ...]:
    """Return requests spread over the accounts, each with a popular product in its cart."""
    n_accounts = len(model.accounts.ids)
    popular = [model.products.ids[row] for row in model.fallback.product[:N_WARM_UP].tolist()]
    rows = [n_accounts * step // N_WARM_UP for step in range(N_WARM_UP)] if n_accounts else []
    accounts: list[str | None] = [model.accounts.ids[row] for row in dict.fromkeys(rows)]
    return tuple(
        WarmUp(account_id=account, cart=(popular[step % len(popular)],) if popular else ())
        for step, account in enumerate([None, *accounts])
    )


def _write_files(folder: Path, model: OfferModel, frames: Mapping[str, pd.DataFrame]) -> None:
    (folder / "tables").mkdir()
    for table in fields(model):
        if table.name != "facts":
            write_table(getattr(model, table.name), folder / "tables" / f"{table.name}.arrow")
    (folder / FACTS).write_text(model.facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for name, frame in sorted(frames.items()):
        (folder / "frames").mkdir(exist_ok=True)
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(table, folder / "frames" / f"{name}.parquet", compression="zstd")


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a bundle rests on, by name."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):  # a source tree that was never installed
            found[name] = version(name)
    return found


def _refuse_strangers(path: Path, marker: str, kind: str) -> None:
    if path.exists() and not (path / marker).exists() and (path.is_file() or any(path.iterdir())):
        raise BundleError(f"{path}: exists and is no {kind}, must be a new folder or one to replace; name another")


def _sync(item: Path) -> None:
    handle = os.open(item, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move(beside: Path, path: Path) -> None:
    # A folder that holds something can't be replaced in one step: the old one steps aside first.
    aside = beside.with_name(f"{beside.name}.old")
    if path.exists():
        path.rename(aside)
    try:
        beside.rename(path)
    except OSError:
        if aside.exists():
            aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    _sync(path.parent)
