"""The last period and its change: shown whatever came before, and called better or worse beyond noise alone.

Thousands of simulated pairs of periods go through the very code that judges a report. Bands are exact binomial, 99.9 %.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from recsys.contracts import columns as c
from recsys.data.sources import connect
from recsys.evaluation.kpis.changes import RatioColumns, interval_of, ratio_changes
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.evaluation.kpis.results import KpiReport
from recsys.reporting.kpi_page import report_page
from recsys.reporting.kpi_text import report_table

pytestmark = pytest.mark.slow

PROOF = Path(__file__).resolve().parents[3] / "docs" / "proof" / "kpi_changes.json"
N_SIMULATIONS = 600


def report_of(*orders: tuple[str, str, float], until: str = "2024-04-01") -> KpiReport:
    """A report by month on orders of one line: account, day, money."""
    lines = pd.DataFrame(
        {
            c.ORDER_ID: [str(number) for number in range(len(orders))],
            c.ACCOUNT_ID: [account for account, _, _ in orders],
            c.PRODUCT_ID: "p1",
            c.ORDERED_AT: [datetime.fromisoformat(f"{day}T09:00:00+00:00") for _, day, _ in orders],
            c.QUANTITY: 1.0,
            c.UNIT_PRICE: [money for _, _, money in orders],
        }
    )
    return kpis_from_tables(lines, as_of=datetime.fromisoformat(f"{until}T00:00:00+00:00"))


def text_of(report: KpiReport) -> str:
    console = Console(width=240)
    with console.capture() as captured:
        console.print(report_table(report))
    return captured.get()


def row_of(report: KpiReport, title: str) -> str:
    return " ".join(next(line for line in text_of(report).splitlines() if line.startswith(title)).split())


def test_a_last_period_is_shown_where_the_one_before_has_no_value() -> None:
    """Nobody ordered in February: March stood empty, although three orders were made in it."""
    orders = [("A", "2024-01-03", 10.0), ("B", "2024-01-04", 20.0)]
    later = [("A", "2024-03-03", 30.0), ("B", "2024-03-04", 40.0), ("B", "2024-03-09", 50.0)]
    report = report_of(*orders, *later)
    last = report.last("aov", "history")
    assert last is not None
    assert (last.period, last.value) == ("2024-03", 40.0)
    change = report.change("aov", "history")
    assert change is not None
    assert (change.before, change.last, change.difference, change.adjacent) == ("2024-01", 15.0, 25.0, False)
    row = row_of(report, "Average order value")
    assert row.startswith("Average order value all sales 40.00 +25.00 (")
    assert "since 2024-01" in row
    assert "since 2024-01" in report_page(report)


def test_the_first_value_of_a_kpi_is_its_last_period_without_a_change() -> None:
    report = report_of(("A", "2024-03-03", 30.0), ("B", "2024-03-04", 40.0))
    assert report.change("aov", "history") is None
    assert row_of(report, "Average order value").startswith("Average order value all sales 35.00 first value 35.00")


def test_a_last_period_without_a_value_is_a_dash_and_the_latest_value_there_was() -> None:
    report = report_of(("A", "2024-01-03", 10.0), ("A", "2024-02-04", 20.0))
    assert report.last_period == "2024-03"
    row = row_of(report, "Average order value")
    assert row.startswith("Average order value all sales – (20.00 in 2024-02) – 15.00")


def test_without_a_period_that_is_over_there_is_no_last_one_and_the_page_says_so() -> None:
    report = report_of(("A", "2024-03-03", 30.0), until="2024-03-20")
    assert report.last_period is None
    assert row_of(report, "Average order value").startswith("Average order value all sales – – 30.00")
    assert "No month was over at the figures' date" in text_of(report)
    assert "No month was over at the figures' date" in " ".join(report_page(report).split())


class Market(NamedTuple):
    """How accounts order in a period, the same in both but for `aov_factor` in the later one.

    Attributes:
        n_accounts: in the earlier period.
        n_later: accounts that may order in the later one: the first of them, or new ones behind them.
        upsell: chance that an order has an upsell, at the average account.
        sigma: of the logarithm of an order's money; 1.2 has tails like a wholesaler's.
        aov_factor: of the later period.
    """

    n_accounts: int = 150
    n_later: int = 150
    upsell: float = 0.1
    sigma: float = 1.2
    aov_factor: float = 1.0


def simulated(market: Market, n_simulations: int, seed: int) -> pd.DataFrame:
    """One row a simulation, account and period: `orders revenue upsells buyers climbers`.

    Accounts differ, and remain who they are: in how often they order, what an order is worth, how they take upsells.
    """
    rng = np.random.default_rng(seed)
    n_all = max(market.n_accounts, market.n_later)
    shape = (n_simulations, n_all)
    often, worth = rng.gamma(1.0, 1.5, shape), rng.normal(0.0, 0.7, shape)
    taking = np.clip(market.upsell * rng.gamma(1.0, 1.0, shape), 0.0, 1.0)
    frames = []
    for period, n_here in enumerate((market.n_accounts, market.n_later)):
        orders = rng.poisson(often) * (np.arange(n_all) < n_here)
        mean = np.exp(worth + market.sigma * rng.normal(size=shape) / np.sqrt(np.maximum(orders, 1)))
        revenue = 50.0 * orders * mean * (market.aov_factor if period else 1.0)
        upsells = rng.binomial(orders, taking)
        place, account = np.nonzero(orders)
        at = (place, account)
        frames.append(
            pd.DataFrame(
                {
                    "simulation": place, "cluster": account, "period": period, "orders": orders[at],
                    "revenue": revenue[at], "upsells": upsells[at], "buyers": 1, "climbers": (upsells[at] > 0) * 1,
                }
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


RATIOS = {
    "aov": ("revenue", "orders", False),
    "revenue per customer": ("revenue", "buyers", False),
    "upsell rate": ("upsells", "orders", True),
    "upsell ratio": ("climbers", "buyers", True),
}


def judged(market: Market, n_simulations: int = N_SIMULATIONS, seed: int = 1) -> pd.DataFrame:
    """One row a KPI: shares of the simulations called a change by the interval, and by a move of 5 %."""
    frame = simulated(market, n_simulations, seed)
    table = connect().create_table("accounts", frame)
    kpis = {
        name: RatioColumns(((table[above], table[below], 1),), is_share)
        for name, (above, below, is_share) in RATIOS.items()
    }
    rows = ratio_changes(table, kpis, (0, 1), ["simulation"]).to_pyarrow().to_pylist()
    sums = frame.groupby(["simulation", "period"]).sum(numeric_only=True)
    found = []
    for name, (above, below, is_share) in RATIOS.items():
        intervals = [interval_of(row, name, is_share=is_share) for row in rows]
        called = sum(one is not None and not one.low <= 0 <= one.high for one in intervals)
        ratios = sums[above] / sums[below]
        before, now = (ratios.xs(period, level="period") for period in (0, 1))
        moved = int((now.sub(before).abs() / before.abs() >= 0.05).sum())
        found.append((name, called / n_simulations, moved / n_simulations, sum(one is None for one in intervals)))
    return pd.DataFrame(found, columns=["kpi", "called", "moved", "without_interval"]).set_index("kpi")


def most_false(n_simulations: int) -> float:
    """The share of false calls at 5 % that more than one in two thousand runs would not reach."""
    return float(stats.binom.ppf(0.9995, n_simulations, 0.05)) / n_simulations


MARKETS = {
    "150 accounts": Market(),
    "six accounts": Market(n_accounts=6, n_later=6),
    "a later period that has just begun": Market(n_accounts=400, n_later=20),
    "rare upsells": Market(n_accounts=300, n_later=40, upsell=0.005),
}


@pytest.mark.parametrize("name", MARKETS)
def test_where_nothing_changed_at_most_one_in_twenty_is_called_a_change(name: str) -> None:
    """A move of 5 % alone called better or worse what nothing had changed, most of the time."""
    found = judged(MARKETS[name])
    assert (found["called"] <= most_false(N_SIMULATIONS)).all(), found
    assert (found["moved"] > 0.5).all(), found


def test_a_planted_change_of_order_value_is_found_and_it_alone() -> None:
    found = judged(Market(n_accounts=1_000, n_later=1_000, aov_factor=1.5), 100)["called"]
    assert found["aov"] > 0.8
    assert found["revenue per customer"] > 0.8
    assert found["upsell rate"] <= most_false(100)


def test_accounts_that_order_alike_are_told_from_orders_taken_for_accounts() -> None:
    """Negative control: with every order a cluster, accounts that take many upsells make changes that are none."""
    rng = np.random.default_rng(5)
    n_simulations, n_accounts, n_orders = 300, 30, 12
    taking = rng.choice([0.0, 0.9], p=[0.8, 0.2], size=(2, n_simulations, n_accounts, 1))
    upsells = rng.random((2, n_simulations, n_accounts, n_orders)) < taking
    period, simulation, account, _ = np.indices(upsells.shape).reshape(4, -1)
    shares = {}
    for name, cluster in {"account": account + period * n_accounts, "order": np.arange(upsells.size)}.items():
        frame = pd.DataFrame({"simulation": simulation, "cluster": cluster, "period": period, "orders": 1,
                              "upsells": upsells.reshape(-1) * 1})  # fmt: skip
        frame = frame.groupby(["simulation", "cluster", "period"], as_index=False).sum()
        table = connect().create_table("rows", frame)
        kpi = {"rate": RatioColumns(((table["upsells"], table["orders"], 1),), is_share=True)}
        rows = ratio_changes(table, kpi, (0, 1), ["simulation"]).to_pyarrow().to_pylist()
        found = [interval_of(row, "rate", is_share=True) for row in rows]
        shares[name] = sum(one is not None and not one.low <= 0 <= one.high for one in found) / n_simulations
    assert shares["account"] <= most_false(n_simulations)
    assert shares["order"] > 0.3


def monthly(n_accounts: int, factor: float, seed: int = 3) -> KpiReport:
    """Two months of as many accounts, each with an order in both; money times a factor in the second."""
    rng = np.random.default_rng(seed)
    orders = []
    for account in range(n_accounts):
        worth = 20.0 * np.exp(rng.normal())
        for month, scale in ((1, 1.0), (2, factor)):
            orders.append((f"A{account}", f"2024-0{month}-05", float(worth * scale * np.exp(0.1 * rng.normal()))))
    return report_of(*orders, until="2024-03-01")


def test_the_interval_is_the_delta_method_over_accounts() -> None:
    report = monthly(40, 1.2)
    change = report.change("aov", "history")
    assert change is not None
    rng = np.random.default_rng(3)
    money = np.array([[worth * scale * np.exp(0.1 * rng.normal()) for scale in (1.0, 1.2)]
                      for worth in (20.0 * np.exp(rng.normal()) for _ in range(40))])  # fmt: skip
    errors = (money - money.mean(axis=0)) / 40
    reach = stats.t.ppf(0.975, 39) * np.sqrt(((errors[:, 1] - errors[:, 0]) ** 2).sum() * 40 / 39)
    assert change.difference == pytest.approx(money[:, 1].mean() - money[:, 0].mean())
    assert (change.low, change.high) == pytest.approx((change.difference - reach, change.difference + reach))
    assert change.n_accounts == 40


@pytest.mark.parametrize(
    ("n_accounts", "factor", "reading"),
    [(40, 1.2, "better"), (40, 0.8, "worse"), (400, 1.03, "small"), (40, 1.0, "within noise"), (1, 1.2, "no interval")],
)
def test_a_change_is_called_by_its_interval(n_accounts: int, factor: float, reading: str) -> None:
    report = monthly(n_accounts, factor)
    change = report.change("aov", "history")
    assert change is not None
    assert change.reading == reading
    assert reading in row_of(report, "Average order value")
    asked = [line for line in text_of(report).splitlines() if line.startswith("Ask: Average order value")]
    assert bool(asked) == (reading in {"better", "worse"})
    document = report.to_dict()
    found = next(item for item in document["changes"] if item["kpi"] == "aov")
    assert (found["low"], found["high"], found["reading"]) == (change.low, change.high, reading)


def test_where_neither_way_is_better_a_change_has_moved() -> None:
    report = monthly(40, 1.2)
    neither = tuple(replace(item, direction="neither") for item in report.definitions)
    change = replace(report, definitions=neither).change("aov", "history")
    assert change is not None
    assert change.reading == "moved"


@pytest.mark.proof
def test_ten_thousand_pairs_of_periods() -> None:
    """The false calls of every market at 10,000 simulations, and those of a move of 5 % beside them."""
    n_simulations = 10_000
    found = {name: judged(market, n_simulations, seed=7) for name, market in MARKETS.items()}
    proof = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, Ibis {ibis.__version__}",
        "n_simulations": n_simulations,
        "most_false": most_false(n_simulations),
        "false_calls": {name: frame.round(4).to_dict("index") for name, frame in found.items()},
    }
    PROOF.write_text(json.dumps(proof, indent=1) + "\n", "utf-8")
    for name, frame in found.items():
        assert (frame["called"] <= most_false(n_simulations)).all(), (name, frame)
