"""One configuration a run: quick where a file says nothing, one horizon, and files that mean what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.contracts.config import read_config
from recsys.errors import ConfigError
from recsys.fitting.pipeline import QUICK
from recsys.models.next_product.model import NextProductConfig
from recsys.models.upgrade.model import UpgradeConfig
from training.gate import TrainConfig

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"


def test_a_section_changes_what_it_names_and_nothing_else() -> None:
    quick = TrainConfig()
    named = TrainConfig.model_validate({"next_product": {"ranker": {"kind": "logistic"}}})
    assert quick.next_product.ranker.n_trees == QUICK["next_product"]["ranker"]["n_trees"]
    assert named.next_product.ranker == quick.next_product.ranker.model_copy(update={"kind": "logistic"})
    assert named.next_product.sampling == quick.next_product.sampling


def test_thorough_is_what_the_models_were_made_for() -> None:
    thorough = read_config(CONFIGS / "thorough.toml", TrainConfig)
    assert thorough.next_product == NextProductConfig()
    assert thorough.upgrades == UpgradeConfig()


def test_one_horizon() -> None:
    assert TrainConfig().horizon_days == 30
    both = {"next_product": {"horizon_days": 60}, "upgrades": {"horizon_days": 60}}
    assert TrainConfig.model_validate(both).horizon_days == 60


def test_two_horizons_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("[upgrades]\nhorizon_days = 60\n")
    with pytest.raises(ConfigError, match="must be equal: a bundle has one horizon"):
        read_config(file, TrainConfig)
