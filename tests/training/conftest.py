"""One small simulated market for the tests of training runs and their replays."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.backtesting.baselines import BacktestModel, PopularBaseline, RecentlyPopularBaseline
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.fitting.pipeline import FittedModels, fit
from recsys.ladder.file import ladder_from_data
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market
from training.gate import TrainConfig
from training.validation import PastValidation, validate_on_past

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


@pytest.fixture(scope="session")
def fitted(market_data: Dataset, small_config: TrainConfig) -> FittedModels:
    return fit(market_data, small_config)


@pytest.fixture(scope="session")
def replay(
    market_spec: ReadSpec, market_data: Dataset, fitted: FittedModels, small_config: TrainConfig
) -> PastValidation:
    return replayed(market_spec, market_data, fitted, small_config)


def replayed(spec: ReadSpec, data: Dataset, fitted: FittedModels, config: TrainConfig) -> PastValidation:
    """The last horizon of a market beside two baselines."""

    def read(cutoff: datetime) -> Dataset:
        return read_dataset(spec.model_copy(update={"as_of": cutoff}))

    return validate_on_past(read, fitted.history, data.as_of, config, ladder_from_data(config.ladder), baselines=few)


def few() -> tuple[BacktestModel, ...]:
    return (PopularBaseline(), RecentlyPopularBaseline(30))
