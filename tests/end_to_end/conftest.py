"""One small market and one small configuration for everything that runs from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.contracts.config import read_config
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market
from tests.support.training_runs import registry_in, spec_of
from training.gate import TrainConfig
from training.run import train_and_register

SMALL = """
[next_product.sampling]
train_accounts = 150
calibration_accounts = 300
[next_product.ranker]
kind = "logistic"
[upgrades]
n_cutoffs = 2
[evaluation.bootstrap]
n_resamples = 200
[evaluation]
importance_rows = 300
"""


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a market of 300 accounts and 200 products."""
    folder = tmp_path_factory.mktemp("market")
    write_market(MarketConfig(n_accounts=300, n_products=200, seed=3), folder)
    return folder


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Options that make training take seconds."""
    file = tmp_path_factory.mktemp("config") / "small.toml"
    file.write_text(SMALL)
    return file


@pytest.fixture(scope="session")
def unjudged_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without the replay, which changes nothing in the bundle."""
    file = tmp_path_factory.mktemp("config") / "unjudged.toml"
    file.write_text(f"{SMALL}replay = false\n")
    return file


@pytest.fixture(scope="session")
def trained(market: Path, small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bundle`, `bundle-models` and `mlflow.db` of one training run."""
    folder = tmp_path_factory.mktemp("trained")
    train_and_register(
        spec_of(market),
        read_config(small_config, TrainConfig),
        tracking_uri=registry_in(folder),
        out=folder / "bundle",
    )
    return folder


def tables(market: Path) -> list[str]:
    """The options that name a market's tables."""
    names = ("orders", "products", "accounts", "upgrades")
    return [part for name in names for part in (f"--{name}", str(market / f"{name}.parquet"))]
