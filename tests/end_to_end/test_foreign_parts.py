"""Parts of others, named in a configuration, go through the same training, gate and backtest as those of the engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from recsys.bundle.load import load_bundle
from recsys.cli import main
from recsys.contracts.offers import OfferRequest
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.errors import BundleCorruptError
from recsys.fitting.pipeline import known_history
from recsys.fitting.scoring_models import load_models
from tests.support.foreign_distribution import install
from tests.support.training_runs import registry_in
from training.champion import read_evidence
from training.registry import Registry

PARTS = """
[next_product]
n_classifiers = 2
[next_product.cutoffs]
n_cutoffs = 2
step_days = 30.0
[next_product.sampling]
train_accounts = 150
calibration_accounts = 200
[next_product.sources]
plugins = ["same_brand"]
neighbours = []
[next_product.features]
plugins = ["owned_of_price"]
[next_product.ranker]
plugin = "normal_bayes"
[upgrades]
n_cutoffs = 2
[evaluation]
baselines = ["rising"]
importance_rows = 200
[evaluation.bootstrap]
n_resamples = 100
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "parts.toml"
    file.write_text(PARTS)
    return file


def offers(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    assert ended.value.code in (0, None)


def options(market: Path, names: Sequence[str] = ("orders", "products", "accounts")) -> list[str]:
    return [part for name in names for part in (f"--{name}", str(market / f"{name}.parquet"))]


def test_they_are_trained_judged_and_served(market: Path, config: Path, tmp_path: Path) -> None:
    uri = registry_in(tmp_path)
    out = ("--out", tmp_path / "bundle", "--tracking-uri", uri)
    offers("train", *options(market), "--as-of", "2025-07-01", "--config", config, *out)
    registry = Registry(uri)
    version = registry.find("challenger")
    assert version is not None
    evidence = read_evidence(registry, version)
    assert evidence is not None
    assert "rising" in {one.rival for one in evidence.baselines}
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest.config["next_product"]["ranker"]["plugin"] == "normal_bayes"
    tables = {name: str(market / f"{name}.parquet") for name in ("orders", "products", "accounts")}
    data = read_dataset(ReadSpec(**tables, as_of=bundle.manifest.as_of))
    slate = bundle.engine().recommend(OfferRequest(account_id=data.accounts["account_id"][0], limit=3))
    assert len(slate.offers) == 3
    kept = tmp_path / "bundle-models"
    with pytest.raises(BundleCorruptError, match=r"asks for foreign_parts\.NormalBayes, .* then name them as trusted"):
        load_models(kept, data.products, data.accounts)
    models = load_models(kept, data.products, data.accounts, trusted=["foreign_parts.NormalBayes"])
    assert len(models.cross_sell(known_history(data), data.as_of)) > 100


def test_they_are_scored_in_the_backtest(market: Path, config: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "scores", "--tracking-uri", registry_in(tmp_path))
    offers("backtest", *options(market), "--cutoffs", "2025-06-01", "--config", config, *out)
    [cutoff] = json.loads((tmp_path / "scores" / "backtest.json").read_text())["cutoffs"]
    methods = {method["name"]: method for method in cutoff["methods"]}
    assert 0 < methods["rising"]["ndcg"] < 1
    assert methods["raw ranker"]["ndcg"] > 0.02
    assert "rising" in {one["against"] for one in cutoff["differences"]}


def test_a_part_that_is_not_installed_stops_before_anything_is_read(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "parts.toml"
    file.write_text('[next_product.ranker]\nplugin = "normal_bayes"\n')
    for command in ("train", "backtest"):
        rest = ["--cutoffs", "2025-06-01", "--out", str(tmp_path / "out")] if command == "backtest" else []
        with pytest.raises(SystemExit) as ended:
            main([command, *options(market), *rest, "--config", str(file)])
        assert ended.value.code == 1
        assert "offer_engine.rankers, installed: none" in capsys.readouterr().err
