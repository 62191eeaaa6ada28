"""Plug-ins are found by entry points of what is installed: here a distribution in a folder of the path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recsys.backtesting.baselines import default_baselines
from recsys.contracts.config import read_config
from recsys.contracts.plugins import load_plugin
from recsys.errors import ConfigError, PluginError
from recsys.fitting.pipeline import FitConfig
from recsys.models.next_product.ranker import default_ranker
from recsys.models.retrieval.retrievers import default_retrievers
from tests.support.foreign_distribution import install
from training.gate import TrainConfig

BROKEN = """
[offer_engine.retrievers]
gone = no_such_module:Retriever
number = math:pi
[offer_engine.baselines]
again = recsys.backtesting.baselines:PopularBaseline
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def written(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


@pytest.mark.usefixtures("installed")
def test_the_configuration_of_the_guide_names_each_kind(tmp_path: Path) -> None:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "own_parts.md"
    _, text = re.findall(r"```toml\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
    config = read_config(written(tmp_path, text), TrainConfig)
    assert default_retrievers(config.next_product.sources)[-1].channels == ("same_brand",)
    assert type(default_ranker(config.next_product.ranker)).__name__ == "NormalBayes"
    assert default_baselines(config.evaluation.baselines)[-1].name == "rising"
    assert load_plugin("features", *config.next_product.features.plugins).names == ("owned_of_price",)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[next_product.sources]\nplugins = ["same"]',
            r"sources\.plugins\.0 == 'same': 'same' is no entry point of .*retrievers, installed: same_brand; install",
        ),
        ('[next_product.ranker]\nplugin = "same_brand"', r"offer_engine\.rankers, installed: normal_bayes;"),
        ('[next_product.features]\nplugins = ["x"]', r"offer_engine\.features, installed: owned_of_price;"),
        ('[evaluation]\nbaselines = ["x"]', r"offer_engine\.baselines, installed: rising;"),
    ],
)
def test_a_name_that_is_not_installed_is_told_with_those_that_are(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_config(written(tmp_path, text), TrainConfig)


def test_without_any_the_sentence_says_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"offer_engine\.retrievers, installed: none;"):
        read_config(written(tmp_path, '[next_product.sources]\nplugins = ["same_brand"]'), FitConfig)
    with pytest.raises(PluginError, match=r"'same_brand' is no entry point"):
        load_plugin("retrievers", "same_brand")


def test_what_can_not_be_made_is_told_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        PluginError, match=r"offer_engine\.retrievers 'gone' \(no_such_module:Retriever\): can't be made"
    ):
        load_plugin("retrievers", "gone")
    with pytest.raises(PluginError, match=r"'number' \(math:pi\): can't be made: TypeError"):
        load_plugin("retrievers", "number")
    with pytest.raises(PluginError, match="baseline 'popular' stands twice"):
        default_baselines(["again"])
