"""Ten million lines from Parquet: time and memory of reading and cleaning them."""

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

import duckdb
import pytest

from recsys.data.dataset import ReadSpec, read_dataset

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "reading.json"
N_LINES = 10_000_000
N_ORDERS = 2_600_000
# Every fiftieth line is a reversal, every ninth has no account; orders stand scattered over the file.
LINES = f"""
SELECT
    'o' || (i * 7919) % {N_ORDERS} AS order_id,
    CASE WHEN i % 9 = 0 THEN NULL ELSE 'a' || ((i * 7919) % {N_ORDERS}) % 300000 END AS account_id,
    'p' || ((i * 2654435761) % 20000) * ((i * 40503) % 20000) // 20000 AS product_id,
    TIMESTAMP '2023-01-01' + to_seconds(((i * 7919) % {N_ORDERS}) * 24) AS ordered_at,
    CASE WHEN i % 50 = 3 THEN -1 ELSE 1 + i % 12 END AS quantity,
    (i % 1000 + 1) / 20.0 AS unit_price
FROM range({{rows}}) AS t(i)
"""


def write_lines(path: Path, rows: int) -> str:
    duckdb.sql(LINES.format(rows=rows)).write_parquet(str(path))
    return str(path)


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(path: str) -> dict[str, float | int]:
    start, start_cpu = time.perf_counter(), time.process_time()
    report = read_dataset(ReadSpec(orders=path)).report.orders
    return {
        "rows_read": report.rows_read,
        "rows_kept": report.rows_kept,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - start_cpu, 1),
        "peak_megabytes": round(peak_megabytes()),
    }


def test_a_smaller_form_accounts_for_every_row(tmp_path: Path) -> None:
    found = measure(write_lines(tmp_path / "lines.parquet", 20_000))
    assert found["rows_read"] == 20_000
    assert 0 < found["rows_kept"] <= 20_000 * 49 // 50  # one line in fifty is a reversal


@pytest.mark.proof
def test_ten_million_lines(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "lines.parquet", N_LINES)
    # A process of its own, so that the peak of its memory is that of reading alone.
    code = f"import json, runpy; print(json.dumps(runpy.run_path({__file__!r})['measure']({path!r})))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["rows_read"] == N_LINES
    machine = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_at_end": round(os.getloadavg()[0], 1),
    }
    PROOF.parent.mkdir(parents=True, exist_ok=True)
    PROOF.write_text(json.dumps({"machine": machine, **found}, indent=1) + "\n", "utf-8")
