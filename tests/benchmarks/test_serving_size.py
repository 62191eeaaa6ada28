"""A server on a bundle of a million accounts and 100,000 products, two workers: start, memory, latency."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from recsys.bundle.save import save_bundle
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "serving_size.json"
OFFERS = Path(sys.executable).parent / "offers"
SMALL = SyntheticModelConfig(
    n_accounts=5_000, n_products=4_000, candidates_per_account=50, owned_per_account=10, links_per_product=100
)
LARGE = SMALL.model_copy(update={"n_accounts": 1_000_000, "n_products": 100_000})
WARM_UP = 500
MOST_START_SECONDS, MOST_MEGABYTES, MOST_TIMES_SLOWER = 10.0, 3_072.0, 1.5


def proportional_megabytes(pid: int) -> float:
    """Memory of a process in MB; a page that several processes share counts for each by its share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def family(pid: int) -> list[int]:
    """The process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def measure(folder: Path, config: SyntheticModelConfig, n_requests: int) -> dict[str, Any]:
    save_bundle(folder / "bundle", synthetic_model(config, np.random.default_rng(0)))
    command = [str(OFFERS), "serve", "--model", str(folder / "bundle"), "--port", "0", "--workers", "2"]
    command += ["--store", f"sqlite:///{folder}/e.db"]
    begun = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stderr is not None
        url = json.loads(process.stderr.readline())["url"]
        started = time.perf_counter() - begun
        try:
            milliseconds = asked(url, config, n_requests)
            megabytes = sum(proportional_megabytes(pid) for pid in family(process.pid))
        finally:
            process.terminate()
            process.communicate(timeout=60)
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {
        "accounts": config.n_accounts,
        "products": config.n_products,
        "start_seconds": round(started, 2),
        "megabytes_of_parent_and_workers": round(megabytes),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
    }


def asked(url: str, config: SyntheticModelConfig, n_requests: int) -> list[float]:
    """Return how long each request took, ms; one at a time, each account and cart another, after a warm-up."""
    rng = np.random.default_rng(1)
    taken = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(n_requests + WARM_UP):
            cart = [{"product_id": f"P{row:06d}"} for row in rng.integers(0, config.n_products, 3)]
            body = {"account_id": f"A{rng.integers(0, config.n_accounts):07d}", "cart": cart}
            begun = time.perf_counter()
            client.post("/v1/offers", json=body).raise_for_status()
            if number >= WARM_UP:
                taken.append(1e3 * (time.perf_counter() - begun))
    return taken


def test_two_workers_serve_a_small_bundle_and_their_memory_can_be_read(tmp_path: Path) -> None:
    found = measure(tmp_path, SyntheticModelConfig(n_accounts=200, n_products=200), 50)
    assert found["megabytes_of_parent_and_workers"] > 50
    assert 0 < found["p50_ms"] <= found["p99_ms"]


@pytest.mark.proof
def test_proof_of_size(tmp_path: Path) -> None:
    found: dict[str, list[dict[str, Any]]] = {"small": [], "large": []}
    for number in range(2):
        for name, config in (("small", SMALL), ("large", LARGE)):
            (tmp_path / f"{name}{number}").mkdir()
            found[name].append(measure(tmp_path / f"{name}{number}", config, 2_000))
            shutil.rmtree(tmp_path / f"{name}{number}")
    small, large = (
        {name: statistics.median(one[name] for one in rounds) for name in rounds[0]} for rounds in found.values()
    )
    slower = round(large["p50_ms"] / small["p50_ms"], 2)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    proof = {"measured": datetime.now(UTC).date().isoformat(), "machine": machine, "workers": 2}
    proof |= {"small": small, "large": large, "p50_times_small": slower}
    PROOF.write_text(json.dumps(proof, indent=1) + "\n")
    assert large["start_seconds"] < MOST_START_SECONDS
    assert large["megabytes_of_parent_and_workers"] < MOST_MEGABYTES
    assert slower <= MOST_TIMES_SLOWER
