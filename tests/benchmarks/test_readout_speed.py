"""A readout of one million accounts, two arms and ten metrics from Parquet: under 5 s on two cores and 3 GB."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "readout_speed.json"
N_ACCOUNTS = 1_000_000

# A process of its own, so that time and memory are the readout's alone; imports are told apart.
READER = """
import json, resource, statistics, sys, time
began = time.perf_counter()
from datetime import UTC, datetime
from pathlib import Path
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.statistics.metric import Margin, Ratio
from recsys.reporting.readout_page import write_report
imported = time.perf_counter() - began
metrics = {f"metric{i}": Ratio(f"m{i}") for i in range(6)}
metrics |= {f"ratio{i}": Ratio(f"m{i}", f"m{i + 1}") for i in range(4)}
form = TableSpec(
    unit="account_id", arm="arm", control="control", metrics=metrics, exposed="exposed", segments=("region",),
    before={"metric0": Ratio("p0"), "metric1": Ratio("p1"), "ratio0": Ratio("p0", "p1")},
    guardrails={"metric5": Margin(0.05, direction="higher_is_better")}, chain=("m2", "m1", "m0"),
)
taken, busy = [], []
for _ in range(int(sys.argv[3])):
    began, began_busy = time.perf_counter(), time.process_time()
    readout = table_readout(
        sys.argv[1], form, ReadoutConfig(cap_percentile=0.99), now=datetime(2026, 1, 1, tzinfo=UTC)
    )
    write_report(readout, Path(sys.argv[2]))
    taken.append(time.perf_counter() - began)
    busy.append(time.process_time() - began_busy)
print(json.dumps({
    "imports_seconds": round(imported, 2),
    "first_seconds": round(taken[0], 2),
    "median_seconds": round(statistics.median(taken), 2),
    "median_processor_seconds": round(statistics.median(busy), 2),
    "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    "effects": len(readout.effects),
    "n": sum(readout.counts.values()),
}))
"""


def _write(path: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "account_id": pa.array([f"A{i:07d}" for i in range(n)]),
        "arm": pa.array(np.array(["control", "engine"])[rng.integers(0, 2, n)]),
        "exposed": rng.integers(0, 2, n),
        "region": pa.array(np.array(["n", "s", "e", "w"])[rng.integers(0, 4, n)]),
    }
    for i in range(6):
        columns[f"m{i}"] = rng.gamma(0.5, 40, n) if i < 5 else (rng.random(n) < 0.2).astype(float)
    for i in range(2):
        columns[f"p{i}"] = columns[f"m{i}"] * rng.gamma(2, 0.5, n)
    pq.write_table(pa.table(columns), path)


def _measured(tmp_path: Path, n: int, repeats: int) -> dict[str, float]:
    _write(tmp_path / "units.parquet", n)
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "units.parquet"), str(tmp_path / "out"), str(repeats)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_every_account_of_a_larger_table_counts(tmp_path: Path) -> None:
    found = _measured(tmp_path, 20_000, 1)
    assert (found["n"], found["effects"]) == (20_000, 10)
    assert found["peak_megabytes"] < 3_000


@pytest.mark.proof
def test_one_million_accounts(tmp_path: Path) -> None:
    found = _measured(tmp_path, N_ACCOUNTS, 5)
    machine = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "accounts": N_ACCOUNTS,
        "what": "ten metrics, three with covariates, cap, four segments, exposed, sensitivity grid, three files",
    }
    PROOF.write_text(json.dumps(machine | found, indent=1) + "\n", encoding="utf-8")
    assert found["peak_megabytes"] < 3_000
    assert found["n"] == N_ACCOUNTS
