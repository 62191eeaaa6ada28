"""A training run on ten million order lines of a million accounts: how long, and in how much memory."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.bundle.load import load_bundle
from recsys.contracts.offers import OfferRequest
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.fitting.pipeline import fit
from recsys.ranking.engine import OfferEngine
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market
from training.gate import TrainConfig
from training.registry import EXPERIMENT, Registry

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "scale.json"
MILLION = MarketConfig(n_accounts=1_000_000, n_products=20_000, lines_per_order=2.3, activity=0.45)
TABLES = ("orders", "products", "accounts", "upgrades")
MAX_GB = 12.0
CPU_SECONDS = 2 * 30 * 60  # half an hour of two cores; the wall clock is reported beside, nothing fails by it
HASTY = {
    "next_product": {
        "most_accounts": 60,
        "cutoffs": {"n_cutoffs": 1},
        "sampling": {"train_accounts": 100, "calibration_accounts": 100},
        "features": {"per_channel": 5, "max_products": 80},
        "ranker": {"kind": "logistic"},
    },
    "upgrades": {"n_cutoffs": 1},
}


def trained(market: Path, bundle: Path) -> dict[str, Any]:
    """Run `offers train` in a process of its own; return what it took."""
    options = [part for name in TABLES for part in (f"--{name}", str(market / f"{name}.parquet"))]
    command = [sys.executable, "-c", "from recsys.cli.main import main; main()", "train", *options]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    tracking = f"sqlite:///{bundle.parent / 'mlflow.db'}"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--out", str(bundle), "--tracking-uri", tracking], check=True, cwd=bundle.parent, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_seconds": round(time.perf_counter() - start),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime),
        "peak_gb": round(after.ru_maxrss / 1024**2, 2),
        "steps": steps_of(tracking),
    }


def steps_of(tracking: str) -> dict[str, dict[str, float]]:
    """Return seconds, CPU seconds and peak so far of each step, as MLflow keeps them of the only run."""
    registry = Registry(tracking)
    experiment = registry.client.get_experiment_by_name(EXPERIMENT)
    found = registry.client.search_runs([experiment.experiment_id])
    (run,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    steps: dict[str, dict[str, float]] = {}
    for key, value in run.data.metrics.items():
        figure, _, name = key.partition(".")
        if figure in {"seconds", "cpu_seconds", "peak_gb"}:
            steps.setdefault(name, {})[figure] = round(value, 1)
    return steps


def test_accounts_beyond_the_limit_are_answered_from_what_they_bought(tmp_path: Path) -> None:
    write_market(MarketConfig(n_accounts=300, n_products=200, seed=3), tmp_path)
    data = read_dataset(ReadSpec(**{name: str(tmp_path / f"{name}.parquet") for name in TABLES}))
    fitted = fit(data, TrainConfig.model_validate(HASTY))
    scored = np.unique(fitted.cross.account)
    assert 0 < len(scored) <= 60
    bought = np.unique(fitted.history.known().account)
    left_out = fitted.history.account_ids[np.setdiff1d(bought, scored)]
    engine = OfferEngine(fitted.model)
    tiers = {engine.recommend(OfferRequest(one, kinds=("cross_sell",), limit=4)).tier for one in left_out[:50]}
    assert tiers == {"recent"}
    assert engine.recommend(OfferRequest(fitted.history.account_ids[scored[0]], limit=4)).tier == "account"


@pytest.mark.proof
@pytest.mark.timeout(4 * 3_600)
def test_a_million_accounts(tmp_path: Path) -> None:
    n_lines = write_market(MILLION, tmp_path / "market")
    took = trained(tmp_path / "market", tmp_path / "bundle")
    assert n_lines >= 10_000_000
    write_proof(n_lines, took, tmp_path / "bundle")
    assert took["peak_gb"] <= MAX_GB
    assert took["cpu_seconds"] <= CPU_SECONDS


def write_proof(n_lines: int, took: dict[str, Any], bundle: Path) -> None:
    learned = load_bundle(bundle)
    machine = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_at_end": round(os.getloadavg()[0], 1),
    }
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    content = {
        "machine": machine,
        "accounts": MILLION.n_accounts,
        "order_lines": n_lines,
        **took,
        "bundle_gb": round(size / 1024**3, 2),
        "learned": learned.manifest.metrics,
    }
    PROOF.parent.mkdir(parents=True, exist_ok=True)
    PROOF.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
