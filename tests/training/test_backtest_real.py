"""The ladder of baselines on real invoices."""

from __future__ import annotations

import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.data import ReadSpec, read_data
from recsys.data.history import History
from training.backtest import BacktestConfig, run_backtest
from training.baselines.popular import RecentlyPopular
from training.baselines.user_knn import UserKnn

CUTOFFS = tuple(datetime(2011, month, 1, tzinfo=UTC) for month in (6, 7, 8))
PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "backtest_baselines.json"


@pytest.fixture(scope="module")
def history(online_retail_path: Path) -> History:
    return read_data(ReadSpec(orders=str(online_retail_path), preset="online-retail-ii")).history()


def test_the_best_single_methods_rank_as_known(history: History) -> None:
    """An independent run with cancelled lines dropped got 0.098 in June, from first purchases of the last month."""
    found = run_backtest(
        history,
        BacktestConfig(cutoffs=CUTOFFS[:1]),
        baselines=lambda: (RecentlyPopular(30), UserKnn(100, 90.0)),
    )
    [june] = found.cutoffs
    assert june.method("recently popular, 30 d").ndcg == pytest.approx(0.098, abs=0.003)
    assert june.method("user kNN 100, decay 90 d").ndcg == pytest.approx(0.097, abs=0.004)
    assert 780 <= len(june.accounts) <= 840


@pytest.mark.proof
def test_proof_of_the_baselines(history: History) -> None:
    started = time.perf_counter()
    found = run_backtest(history, BacktestConfig(cutoffs=CUTOFFS))
    machine = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "seconds": round(time.perf_counter() - started, 1),
        "cleaning": "preset online-retail-ii: cancellations matched with their sales",
    }
    PROOF.parent.mkdir(parents=True, exist_ok=True)
    PROOF.write_text(json.dumps({"machine": machine, **found.to_dict()}, indent=1) + "\n", "utf-8")
    assert all(0.09 < result.best_baseline.ndcg < 0.13 for result in found.cutoffs)
