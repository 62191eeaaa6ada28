"""The market's marginals against Online Retail II, and how fast a large market is written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recsys.contracts import columns as c
from recsys.data.dataset import Dataset
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import simulate_market
from tests.support.market_marginals import EARLIER_LINES, Marginals, measure_marginals

DOCS = Path(__file__).resolve().parents[2] / "docs"
LIKE_ONLINE_RETAIL = MarketConfig(start=datetime(2009, 12, 1, tzinfo=UTC), days=639)
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
WRITE = """
import resource, sys
from pathlib import Path
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market
config = MarketConfig.model_validate_json(sys.argv[1])
print(write_market(config, Path(sys.argv[2])), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.fixture(scope="module")
def real(online_retail: Dataset) -> Marginals:
    lines = online_retail.lines()
    return measure_marginals(lines[lines[c.ACCOUNT_ID].notna()])


@pytest.fixture(scope="module")
def simulated() -> Marginals:
    return measure_marginals(simulate_market(LIKE_ONLINE_RETAIL).orders)


def test_marginals_of_six_orders_by_hand() -> None:
    rows = [
        ("o1", "a", "x"), ("o1", "a", "y"), ("o1", "a", "x"),  # x twice counts once
        ("o2", "a", "x"), ("o2", "a", "z"),
        ("o3", "b", "x"),
        ("o4", "b", "x"), ("o4", "b", "y"), ("o4", "b", "z"),
    ]  # fmt: skip
    lines = pd.DataFrame(rows, columns=[c.ORDER_ID, c.ACCOUNT_ID, c.PRODUCT_ID])
    lines[c.ORDERED_AT] = pd.to_datetime(lines[c.ORDER_ID].str[1].map(lambda day: f"2024-01-0{day}"), utc=True)
    marginals = measure_marginals(lines)
    assert sorted(marginals.lines_per_order) == [1, 2, 2, 3]
    assert sorted(marginals.orders_per_account) == [2, 2]
    assert marginals.popularity == pytest.approx([4 / 4, 2 / 4, 2 / 4])
    assert marginals.novel_share == pytest.approx(3 / 5)  # z of o2, y and z of o4, of five lines in later orders
    assert marginals.novel_share_by_earlier[0] == pytest.approx(3 / 5)
    assert marginals.gini() == pytest.approx((-2 * 2 / 4 + 0 * 2 / 4 + 2 * 4 / 4) / (3 * 8 / 4))
    assert marginals.top_share(1 / 3) == pytest.approx(4 / 8)


@pytest.mark.data
class TestFit:
    def test_size(self, real: Marginals, simulated: Marginals) -> None:
        for field in ("lines_per_order", "orders_per_account", "popularity"):
            assert len(getattr(simulated, field)) == pytest.approx(len(getattr(real, field)), rel=0.16)

    def test_lines_per_order(self, real: Marginals, simulated: Marginals) -> None:
        assert simulated.lines_per_order.mean() == pytest.approx(real.lines_per_order.mean(), rel=0.08)
        for share in QUANTILES:
            here, there = np.quantile(simulated.lines_per_order, share), np.quantile(real.lines_per_order, share)
            assert abs(here - there) <= max(2, 0.12 * there)

    def test_orders_per_account(self, real: Marginals, simulated: Marginals) -> None:
        assert simulated.orders_per_account.mean() == pytest.approx(real.orders_per_account.mean(), rel=0.10)
        for share in QUANTILES:
            here, there = np.quantile(simulated.orders_per_account, share), np.quantile(real.orders_per_account, share)
            assert abs(here - there) <= max(1, 0.20 * there)
        once = [(marginals.orders_per_account == 1).mean() for marginals in (simulated, real)]
        assert once[0] == pytest.approx(once[1], abs=0.04)

    def test_popularity(self, real: Marginals, simulated: Marginals) -> None:
        assert simulated.gini() == pytest.approx(real.gini(), abs=0.03)
        for share in (0.01, 0.05, 0.2, 0.5):
            assert simulated.top_share(share) == pytest.approx(real.top_share(share), abs=0.03)

    def test_share_of_novel_products(self, real: Marginals, simulated: Marginals) -> None:
        assert simulated.novel_share == pytest.approx(real.novel_share, abs=0.04)
        assert simulated.novel_share_by_earlier == pytest.approx(real.novel_share_by_earlier, abs=0.05)


@pytest.mark.data
@pytest.mark.proof
def test_the_fit_is_drawn(real: Marginals, simulated: Marginals) -> None:
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    for marginals, label, style in ((real, "Online Retail II", "o"), (simulated, "simulated market", "-")):
        _survival(axes[0], marginals.lines_per_order, label, style)
        _survival(axes[1], marginals.orders_per_account, label, style)
        _curve(axes[2], np.arange(1, len(marginals.popularity) + 1), marginals.popularity, label, style)
        axes[3].plot(np.arange(len(EARLIER_LINES) + 1), marginals.novel_share_by_earlier, style + "-", label=label)
    bands = ["1-10", "11-40", "41-160", "161-640", "641-2,560", "more"]
    axes[3].set(xlabel="lines in the account's earlier orders", ylabel="share bought for the first time", ylim=(0, 1))
    axes[3].set_xticks(np.arange(len(bands)), bands)
    axes[0].set(xlabel="lines in an order", ylabel="share of orders with so many or more", title="Lines per order")
    axes[1].set(xlabel="orders of an account", ylabel="share of accounts with so many or more")
    axes[1].set_title("Orders per account")
    axes[2].set(xlabel="rank of the product", ylabel="share of orders with it", title="Popularity")
    axes[3].set_title(f"Novel products: {real.novel_share:.0%} of later lines, simulated {simulated.novel_share:.0%}")
    for axis in axes:
        axis.legend(frameon=False)
        axis.grid(alpha=0.25)
    path = DOCS / "pictures" / "market_fit.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"font.size": 10}):
        figure.savefig(path, dpi=110, metadata={"Software": None})
    assert path.stat().st_size > 10_000


@pytest.mark.proof
def test_large_markets_are_written_fast_and_in_bounded_memory(tmp_path: Path) -> None:
    sizes = {
        "ten million lines, orders like Online Retail II's": MarketConfig(n_accounts=76_000, n_products=20_000),
        "a million accounts": MarketConfig(n_accounts=1_000_000, n_products=20_000, activity=0.45, lines_per_order=3.0),
    }
    results: list[dict[str, Any]] = [
        {"market": name, **_written(config, tmp_path / "market")} for name, config in sizes.items()
    ]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    proof = {"date": datetime.now(tz=UTC).date().isoformat(), "machine": machine, "threads": 1, "written": results}
    path = DOCS / "proof" / "market.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(proof, indent=2) + "\n", encoding="utf-8")
    for result in results:
        assert result["lines"] > 10_000_000
        assert result["seconds"] < 180
        assert result["peak_gb"] < 2.0


def _written(config: MarketConfig, folder: Path) -> dict[str, float]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", WRITE, config.model_dump_json(), str(folder)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    seconds = time.perf_counter() - start
    n_lines, peak_kilobytes = map(int, done.stdout.split())
    return {
        "accounts": config.n_accounts,
        "products": config.n_products,
        "lines": n_lines,
        "seconds": round(seconds, 1),
        "peak_gb": round(peak_kilobytes / 1e6, 2),
        "orders_file_mb": round((folder / "orders.parquet").stat().st_size / 1e6),
    }


def _survival(axis: Axes, values: np.ndarray, label: str, style: str) -> None:
    size = np.unique(values)
    share = 1.0 - np.searchsorted(np.sort(values), size) / len(values)
    _curve(axis, size, share, label, style)


def _curve(axis: Axes, x: np.ndarray, y: np.ndarray, label: str, style: str) -> None:
    if style == "o":
        index = np.unique(np.geomspace(1, len(x), 40).astype(int)) - 1
        x, y = x[index], y[index]
    axis.loglog(x, y, style, markersize=4, label=label)
