"""`offers backtest` on a simulated market: trained at a cutoff, served from the saved bundle, and all of it written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.backtesting.baselines import default_baselines
from recsys.backtesting.cart_task import split_carts
from recsys.backtesting.trainer import CART_ALONE, CART_AND_ACCOUNT, CART_AS_SERVED, engine_methods, freeze_ladder
from recsys.bundle.load import load_bundle
from recsys.cli import main
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from tests.support.training_runs import registry_in
from training.gate import TrainConfig
from training.registry import EXPERIMENT, Registry

CUTOFF = "2025-06-01"


@pytest.fixture(scope="module")
def out(market: Path, small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command wrote; `mlflow.db` stands in it too."""
    folder = tmp_path_factory.mktemp("backtest")
    arguments = ["backtest", "--orders", str(market / "orders.parquet"), "--cutoffs", CUTOFF, "--out", str(folder)]
    for name in ("products", "accounts", "upgrades"):
        arguments += [f"--{name}", str(market / f"{name}.parquet")]
    arguments += ["--config", str(small_config), "--tracking-uri", registry_in(folder)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None)
    return folder


@pytest.fixture(scope="module")
def found(out: Path) -> dict[str, Any]:
    [cutoff] = json.loads((out / "backtest.json").read_text())["cutoffs"]
    return cutoff


def test_the_raw_ranker_and_the_served_list_stand_beside_every_baseline(found: dict[str, Any]) -> None:
    methods = {method["name"]: method for method in found["methods"]}
    assert list(methods) == [*(baseline.name for baseline in default_baselines()), "raw ranker", "served list"]
    assert methods["raw ranker"]["ndcg"] > 1.1 * methods["popular"]["ndcg"]
    assert 0 < methods["served list"]["ndcg"] <= 1
    for figure in ("recall", "hit_rate", "average_precision", "coverage", "novelty_bits", "revenue_share"):
        assert methods["served list"][figure] > 0
    assert {one["method"] for one in found["differences"]} == {"raw ranker", "served list"}


def test_the_ladder_is_frozen_before_the_first_cutoff(market: Path, tmp_path: Path) -> None:
    orders = pd.read_parquet(market / "orders.parquet")
    later = orders["ordered_at"] >= pd.Timestamp(CUTOFF, tz="UTC")
    orders.loc[later, "unit_price"] *= 9
    orders.to_parquet(tmp_path / "dearer.parquet")

    def ladder_of(file: Path, cutoff: str) -> pd.DataFrame:
        tables = {name: str(market / f"{name}.parquet") for name in ("products", "upgrades")}

        def read(as_of: datetime) -> Dataset:
            return read_dataset(ReadSpec(orders=str(file), as_of=as_of, **tables))

        return freeze_ladder(read, datetime.fromisoformat(cutoff).replace(tzinfo=UTC), TrainConfig()).edges

    frozen = ladder_of(market / "orders.parquet", CUTOFF)
    assert len(frozen) > 5
    pd.testing.assert_frame_equal(ladder_of(tmp_path / "dearer.parquet", CUTOFF), frozen)
    assert not ladder_of(tmp_path / "dearer.parquet", "2025-10-01").equals(
        ladder_of(market / "orders.parquet", "2025-10-01")
    )


def test_calibration_and_upsell_are_judged_apart(found: dict[str, Any]) -> None:
    assert found["calibration"]["log_loss"] < found["calibration"]["base_log_loss"]
    assert found["upsell"]["n_pairs"] > found["upsell"]["n_climbs"] > 0
    assert found["upsell"]["calibration"]["bins"]


def test_carts_are_completed_by_the_saved_bundle_beside_every_pair_measure(found: dict[str, Any]) -> None:
    methods = {method["name"]: method for method in found["carts"]["methods"]}
    engine = {name: methods[name]["hit_rate"]["estimate"] for name in (CART_ALONE, CART_AND_ACCOUNT, CART_AS_SERVED)}
    assert engine[CART_AND_ACCOUNT] > methods["popular"]["hit_rate"]["estimate"]
    assert min(engine.values()) > 0
    assert set(methods["cosine, best"]["by_kind"]) >= {"new", "repeat"}


def test_carts_of_an_account_are_asked_for_it(out: Path, market: Path) -> None:
    engine = load_bundle(out / "bundles" / CUTOFF).engine()
    history = read_dataset(ReadSpec(orders=str(market / "orders.parquet"))).history()
    task = split_carts(history, datetime(2025, 6, 1, tzinfo=UTC), 30.0, 40, np.random.default_rng(0)).task
    alone, known, served = (method.recommend(task, 10) for method in engine_methods(engine, history))
    assert (alone != known).any(axis=1).mean() > 0.5
    assert (known != served).any()


def test_the_bundle_that_served_the_plots_and_the_run_are_kept(out: Path) -> None:
    assert load_bundle(out / "bundles" / CUTOFF).manifest.config["seed"] == 0
    plots = {path.name for path in out.glob("*.png")}
    assert plots == {"ndcg.png", "coverage.png", "calibration_cross_sell.png", "calibration_upsell.png", "carts.png"}
    client = Registry(f"sqlite:///{out}/mlflow.db").client
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    [run] = [run for run in client.search_runs([experiment]) if "mlflow.parentRunId" not in run.data.tags]
    assert f"ndcg.served_list.{CUTOFF}" in run.data.metrics
    assert f"average_precision.upsell.{CUTOFF}" in run.data.metrics
    assert run.data.params["training.next_product.horizon_days"] == "30.0"
