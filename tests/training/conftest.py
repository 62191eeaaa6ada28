"""One small simulated market for the tests of training runs and their replays."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market
from training.gate import TrainConfig

AS_OF = datetime(2025, 7, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def market_spec(tmp_path_factory: pytest.TempPathFactory) -> ReadSpec:
    """What to read of a market of 300 accounts and 200 products, up to the middle of its last year."""
    folder: Path = tmp_path_factory.mktemp("market")
    write_market(MarketConfig(n_accounts=300, n_products=200, seed=3), folder)
    names = {name: str(folder / f"{name}.parquet") for name in ("orders", "products", "accounts", "upgrades")}
    return ReadSpec(**names, as_of=AS_OF)


@pytest.fixture(scope="session")
def market_data(market_spec: ReadSpec) -> Dataset:
    return read_dataset(market_spec)


@pytest.fixture(scope="session")
def small_config() -> TrainConfig:
    """Options that make training take seconds."""
    return TrainConfig.model_validate(
        {
            "next_product": {
                "sampling": {"train_accounts": 150, "calibration_accounts": 300},
                "ranker": {"kind": "logistic"},
            },
            "upgrades": {"n_cutoffs": 2},
            "evaluation": {"bootstrap": {"n_resamples": 200}, "importance_rows": 300},
        }
    )
