"""One configuration a run: quick where a file says nothing, one horizon, and files that mean what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recsys.contracts.config import read_config
from recsys.errors import ConfigError
from recsys.fitting.pipeline import QUICK
from recsys.models.next_product.model import NextProductConfig
from recsys.models.snapshot import CutoffConfig
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
    closer = CutoffConfig(step_days=10.0)  # ten of them; the defaults' fifteen days are for six
    assert thorough.next_product == NextProductConfig(cutoffs=closer)
    assert thorough.upgrades == UpgradeConfig()


def test_settings_count_before_the_file_and_are_typed_by_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("seed = 1\n[next_product.ranker]\nn_trees = 7\n")
    settings = ["next_product.ranker.kind=logistic", "seed = 2", "evaluation.replay=false", "seed=3"]
    found = read_config(file, TrainConfig, settings)
    assert (found.seed, found.next_product.ranker.kind, found.next_product.ranker.n_trees) == (3, "logistic", 7)
    assert not found.evaluation.replay
    assert read_config(None, TrainConfig, ["seed=3"]) == TrainConfig(seed=3)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("seed", "setting 'seed', must be section.key=value"),
        ("rules..min_both=3", "must be section.key=value"),
        (
            "next_product.n_classifiers=many",
            "settings: next_product.n_classifiers == 'many': must be a",
        ),
        (
            "next_product.n_trees=5",
            "settings: next_product.n_trees == 5: Extra inputs are not permitted; must be one of ",
        ),
        (
            "bad=1",
            "settings: bad == 1: Extra inputs are not permitted; must be one of seed, rules, cart, ",
        ),
        ("seed=-1", "settings: seed == -1: must be greater than or equal to 0"),
    ],
)
def test_a_wrong_setting_is_a_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        read_config(None, TrainConfig, [setting])


def test_one_horizon() -> None:
    assert TrainConfig().horizon_days == 30
    both = {"next_product": {"horizon_days": 60}, "upgrades": {"horizon_days": 60}}
    assert TrainConfig.model_validate(both).horizon_days == 60


def test_two_horizons_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("[upgrades]\nhorizon_days = 60\n")
    with pytest.raises(ConfigError, match="must be equal: a bundle has one horizon"):
        read_config(file, TrainConfig)
