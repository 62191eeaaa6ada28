"""KPIs over ten million order lines: time and memory from Parquet to figures, in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from recsys.data.sources import connect
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "kpis.json"
TEN_MILLION = MarketConfig(n_accounts=76_000, n_products=20_000)
BY = ("channel", "segment", "category")


def measure(folder: Path, by: tuple[str, ...]) -> dict[str, float | int]:
    """Figures by quarter, overall and by segment, from the Parquet files of a market; two threads."""
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("products", "accounts", "upgrades")}
    connection = connect()
    connection.raw_sql("SET threads = 2")
    orders = connection.read_parquet(str(folder / "orders.parquet"))
    as_of = MarketConfig().start + timedelta(days=MarketConfig().days)
    start, start_cpu = time.perf_counter(), time.process_time()
    report = kpis_from_tables(orders, as_of=as_of, **tables, config=KpiConfig(period="quarter", by=by))  # type: ignore[arg-type]
    return {
        "lines": int(orders.count().to_pyarrow().as_py()),
        "orders": report.n_orders,
        "customers": report.n_customers,
        "figures": len(report.values),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - start_cpu, 1),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def in_a_process_of_its_own(folder: Path, by: tuple[str, ...]) -> dict[str, float | int]:
    code = (
        "import json, pathlib, runpy; "
        f"print(json.dumps(runpy.run_path({__file__!r})['measure'](pathlib.Path({str(folder)!r}), {by!r})))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, float | int] = json.loads(done.stdout)
    return found


def test_a_smaller_form_counts_every_order(tmp_path: Path) -> None:
    n_lines = write_market(MarketConfig(n_accounts=200, n_products=300), tmp_path / "market")
    found = measure(tmp_path / "market", BY)
    assert found["lines"] == n_lines
    orders = pd.read_parquet(tmp_path / "market" / "orders.parquet", columns=["order_id"])
    assert found["orders"] == orders["order_id"].nunique()


@pytest.mark.proof
def test_ten_million_lines(tmp_path: Path) -> None:
    folder = tmp_path / "market"
    assert write_market(TEN_MILLION, folder) >= 10_000_000
    results = {
        "overall and by quarter": in_a_process_of_its_own(folder, ()),
        f"and by {', '.join(BY)}": in_a_process_of_its_own(folder, BY),
    }
    proof = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, DuckDB {duckdb.__version__}, 2 threads",
        "load_at_end": round(os.getloadavg()[0], 1),
        "aim_seconds": 20,
        "kpis": results,
    }
    PROOF.parent.mkdir(parents=True, exist_ok=True)
    PROOF.write_text(json.dumps(proof, indent=1) + "\n", "utf-8")
    assert all(found["lines"] >= 10_000_000 for found in results.values())
