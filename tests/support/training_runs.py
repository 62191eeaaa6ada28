"""How tests name the tables of a market and its registry, and look at what a training has made of them."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from recsys.bundle.load import load_bundle
from recsys.bundle.manifest import FileEntry
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.fitting.pipeline import known_history
from recsys.fitting.scoring_models import load_models
from recsys.models.candidates import Candidates
from training.registry import Registry

AS_OF = datetime(2025, 7, 1, tzinfo=UTC)


def spec_of(market: Path, orders: Path | None = None) -> ReadSpec:
    names = {name: str(market / f"{name}.parquet") for name in ("products", "accounts", "upgrades")}
    return ReadSpec(orders=str(orders or market / "orders.parquet"), as_of=AS_OF, **names)


def digests(bundle: Path) -> tuple[FileEntry, ...]:
    return load_bundle(bundle).manifest.files


def scored_by(models: Path, market: Path) -> Candidates:
    data = read_dataset(spec_of(market))
    return load_models(models, data.products, data.accounts).cross_sell(known_history(data), AS_OF)


def registry_in(folder: Path) -> str:
    """Return the URI of the registry of a folder, one without a run where there is none yet."""
    file = folder / "mlflow.db"
    if not file.exists():
        file.write_bytes(_empty_registry())
    return f"sqlite:///{file}"


@cache
def _empty_registry() -> bytes:
    """A database as MLflow makes it, which takes two seconds of migrations: once is enough."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mlflow.db"
        Registry(f"sqlite:///{file}").client.search_experiments()
        return file.read_bytes()
