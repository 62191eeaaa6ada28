"""Cart completion as the backtest reports it: apart from novel products, new and repeat lines apart."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from recsys.backtesting.backtest import BacktestConfig, score_cutoffs
from recsys.backtesting.baselines import PopularBaseline
from recsys.backtesting.cart_task import JOINS, MEASURES
from recsys.backtesting.results import Backtest
from recsys.backtesting.trainer import cart_scorer
from recsys.contracts import columns as c
from recsys.data.history import History
from recsys.evaluation.statistics.bootstrap import BootstrapConfig
from recsys.reporting.backtest_plots import write_plots
from recsys.reporting.backtest_text import backtest_tables

JUNE, JULY = datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)
PAIRS = [f"{measure}, {join}" for measure in MEASURES for join in JOINS]


def history_of(lines_an_order: int) -> History:
    """Orders of 30 accounts over five months, each a run of neighbouring products; every fifth has no account."""
    rng = np.random.default_rng(0)
    n_orders = 400
    order = np.repeat(np.arange(n_orders), lines_an_order)
    first = rng.integers(0, 15, n_orders)
    product = first[order] + np.tile(np.arange(lines_an_order), n_orders)
    days = np.linspace(-90, 60, n_orders)[order]
    frame = pd.DataFrame(
        {
            c.ORDER_ID: [f"o{number:04d}" for number in order],
            c.ACCOUNT_ID: [None if number % 5 == 0 else f"a{number % 30:02d}" for number in order],
            c.PRODUCT_ID: [f"p{number:02d}" for number in product],
            c.ORDERED_AT: [JUNE + timedelta(days=float(day)) for day in days],
        }
    )
    return History.from_frame(frame.assign(quantity=1.0, unit_price=1.0))


HISTORY = history_of(3)
QUICK = BacktestConfig(cutoffs=(JUNE, JULY), bootstrap=BootstrapConfig(n_resamples=50), k=3, max_carts=60)


def backtest_of(history: History, config: BacktestConfig = QUICK, *, carts: bool = True) -> Backtest:
    scorer = cart_scorer(history, config, None) if carts else None
    return score_cutoffs(history, config, carts=scorer, baselines=lambda: (PopularBaseline(),))


@pytest.fixture(scope="module")
def found() -> Backtest:
    return backtest_of(HISTORY)


def test_each_cutoff_completes_its_own_carts_with_every_pair_measure(found: Backtest) -> None:
    for result in found.cutoffs:
        assert result.carts is not None
        assert result.carts.n_carts == 60 == sum(result.carts.n_by_kind.values())
        assert [method.name for method in result.carts.methods] == ["popular", *PAIRS]
        # neighbours are ordered together: who looks at the cart completes more than who does not
        assert result.carts.method("cosine, sum").hit_rate.low > result.carts.method("popular").hit_rate.high


def test_the_hit_rate_is_that_of_its_kinds_weighted_by_their_carts(found: Backtest) -> None:
    carts = found.cutoffs[0].carts
    assert carts is not None
    for method in carts.methods:
        weighted = sum(n * method.by_kind[kind] for kind, n in carts.n_by_kind.items()) / carts.n_carts
        assert method.hit_rate.estimate == pytest.approx(weighted)


def test_carts_move_no_other_figure(found: Backtest) -> None:
    without = backtest_of(HISTORY, carts=False).metrics()
    assert without == {name: value for name, value in found.metrics().items() if not name.startswith("cart")}


def test_orders_of_one_product_have_no_cart_to_complete() -> None:
    assert [result.carts for result in backtest_of(history_of(1)).cutoffs] == [None, None]


def test_json_metrics_table_and_plot_show_them(found: Backtest, tmp_path: Path) -> None:
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    carts = found.cutoffs[0].carts
    assert carts is not None
    assert plain["cutoffs"][0]["carts"]["n_by_kind"] == carts.n_by_kind
    metrics = found.metrics()
    assert metrics["cart_hit_rate.cosine_sum.2024-07-01"] > 0
    assert {"cart_hit_rate_new.lift_best.2024-06-01", "cart_hit_rate_repeat.lift_best.2024-06-01"} < set(metrics)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*backtest_tables(found))
    text = console.export_text()
    assert "Carts completed after 2024-06-01: 60 carts" in text
    assert "…" not in text
    assert (tmp_path / "carts.png") in write_plots(found, tmp_path)
