"""A fit takes parts of others, refuses what is none before its first step, and their models can be kept."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.errors import BundleCorruptError, PluginError
from recsys.fitting.pipeline import FitConfig, fit
from recsys.fitting.scoring_models import load_models, save_models
from recsys.models.retrieval.retrievers import default_retrievers
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market
from tests.support.foreign_parts import OwnedOfPrice, SameBrand

CONFIG = FitConfig.model_validate(
    {
        "next_product": {
            "cutoffs": {"n_cutoffs": 2, "step_days": 30.0},
            "sampling": {"train_accounts": 100, "calibration_accounts": 100},
        },
        "upgrades": {"n_cutoffs": 2},
    }
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("market")
    write_market(MarketConfig(n_accounts=150, n_products=120, seed=5), folder)
    tables = {name: str(folder / f"{name}.parquet") for name in ("orders", "products", "accounts")}
    return read_dataset(ReadSpec(**tables))


def test_what_is_no_part_is_refused_before_the_first_step(data: Dataset) -> None:
    steps: list[str] = []

    def step(name: str) -> nullcontext[None]:
        steps.append(name)
        return nullcontext()

    with pytest.raises(PluginError, match="ranker == SameBrand, lacks predict_proba"):
        fit(data, CONFIG, step=step, ranker=SameBrand())  # type: ignore[arg-type]
    assert not steps


def test_they_are_fitted_and_kept(data: Dataset, tmp_path: Path) -> None:
    fitted = fit(
        data,
        CONFIG,
        retrievers=[*default_retrievers()[3:], SameBrand()],
        ranker=HistGradientBoostingClassifier(max_iter=5, max_bins=16),
        features=[OwnedOfPrice()],
    )
    assert len(fitted.cross) > 100
    save_models(tmp_path / "models", fitted.models)
    tables = data.products, data.accounts
    with pytest.raises(BundleCorruptError, match=r"asks for .*foreign_parts\.OwnedOfPrice, .*foreign_parts\.SameBrand"):
        load_models(tmp_path / "models", *tables)
    own = [f"{each.__module__}.{each.__name__}" for each in (SameBrand, OwnedOfPrice)]
    again = load_models(tmp_path / "models", *tables, trusted=own)
    scored = again.cross_sell(fitted.history, data.as_of)
    assert scored.product.tolist() == fitted.cross.product.tolist()
