"""The champion as a rival: its lists of before, its own replay of the same days, or its configuration trained again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.bundle.load import load_bundle
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.fitting.pipeline import FittedModels, fit, write_bundle
from tests.support.training_runs import registry_in
from training.champion import Champion, compare_kept, compare_with, present_champion, same_window
from training.gate import DataFacts, GateEvidence, TrainConfig
from training.registry import Registry
from training.run import TrainingRun, train_and_register
from training.validation import CrossReplay, PastValidation

RNG = partial(np.random.default_rng, 0)
FACTS = DataFacts(fingerprint="a", rows_a_day=1, active_accounts=1, products=1)
UNMEASURED = GateEvidence(ndcg_at_10=None, baselines=(), champion=None, calibration=(), coverage=0, data=FACTS)


@pytest.fixture(scope="module")
def cross(replay: PastValidation) -> CrossReplay:
    assert replay.cross is not None
    return replay.cross


def _champion(folder: Path, fitted: FittedModels, data: Dataset, config: TrainConfig, **known: object) -> Champion:
    """A champion of version 7 that was trained on some data."""
    write_bundle(folder, fitted, data, config)
    options: dict[str, object] = {"evidence": None, "ndcg": None} | known
    return Champion(version=7, bundle=load_bundle(folder), **options)  # type: ignore[arg-type]


def test_paired_over_the_accounts_that_both_scored() -> None:
    ours = pd.DataFrame({"account_id": ["a", "b", "c"], "ndcg": [0.5, 0.2, 0.9]})
    theirs = pd.DataFrame({"account_id": ["d", "b", "a"], "ndcg": [0.0, 0.1, 0.2]})
    found = compare_kept("champion (version 3)", ours, theirs, RNG())
    assert found is not None
    assert found.difference == pytest.approx(((0.5 - 0.2) + (0.2 - 0.1)) / 2)
    assert (found.low, found.high) == pytest.approx((0.1, 0.3))
    assert compare_kept("nobody in common", ours, theirs.head(1), RNG()) is None


def test_the_same_days() -> None:
    june = datetime(2025, 6, 1, tzinfo=UTC)
    ours = UNMEASURED.model_copy(update={"cutoff": june, "horizon_days": 30})
    assert same_window(ours, ours)
    assert not same_window(ours, ours.model_copy(update={"horizon_days": 60}))
    assert not same_window(ours, ours.model_copy(update={"cutoff": june + timedelta(days=1)}))
    assert not same_window(ours, None)
    assert not same_window(UNMEASURED, UNMEASURED)


def test_a_champion_of_before_the_window_is_judged_by_what_it_would_have_served(
    cross: CrossReplay, market_spec: ReadSpec, small_config: TrainConfig, tmp_path: Path
) -> None:
    """At the very cutoff its bundle's lists are the replayed ranker's own; older, it knows the purchases since."""
    same = _champion(tmp_path / "same", fit(cross.past, small_config), cross.past, small_config)
    assert same.as_of == cross.split.cutoff
    level = compare_with(same, cross, small_config, RNG())
    assert level is not None
    assert (level.rival, level.how) == ("champion (version 7)", "its bundle")
    assert abs(level.difference) < 0.02
    old = read_dataset(market_spec.model_copy(update={"as_of": cross.split.cutoff - timedelta(days=200)}))
    aged = _champion(tmp_path / "old", fit(old, small_config), old, small_config)
    stale = compare_with(aged, cross, small_config, RNG())
    assert stale is not None
    assert stale.how == "its bundle"
    assert stale.difference > level.difference


def test_a_champion_that_replayed_the_same_days_is_judged_by_them(
    cross: CrossReplay, fitted: FittedModels, market_data: Dataset, small_config: TrainConfig, tmp_path: Path
) -> None:
    ids = cross.split.history.account_ids[cross.split.truth.accounts]
    kept = pd.DataFrame({"account_id": ids, "ndcg": cross.ndcg - 0.01})
    seen = UNMEASURED.model_copy(update={"cutoff": cross.split.cutoff, "horizon_days": small_config.horizon_days})
    champion = _champion(tmp_path / "bundle", fitted, market_data, small_config, evidence=seen, ndcg=kept)
    found = compare_with(champion, cross, small_config, RNG())
    assert found is not None
    assert found.how == "its own replay"
    assert found.difference == pytest.approx(0.01)
    assert found.low == pytest.approx(0.01)


def test_else_its_configuration_is_trained_again(
    cross: CrossReplay, fitted: FittedModels, market_data: Dataset, small_config: TrainConfig, tmp_path: Path
) -> None:
    same = compare_with(_champion(tmp_path / "same", fitted, market_data, small_config), cross, small_config, RNG())
    assert same is not None
    assert same.how == "its configuration trained again"
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    sampling = small_config.next_product.sampling.model_copy(update={"train_accounts": 2})
    poor = small_config.model_copy(
        update={"next_product": small_config.next_product.model_copy(update={"sampling": sampling})}
    )
    poorly = _champion(tmp_path / "poor", fit(market_data, poor), market_data, poor)
    other = compare_with(poorly, cross, small_config, RNG())
    assert other is not None
    assert other.difference != 0
    assert other.low < other.difference < other.high


def test_a_run_meets_the_champion_of_its_registry(
    market_spec: ReadSpec, small_config: TrainConfig, tmp_path: Path
) -> None:
    uri = registry_in(tmp_path)
    registry = Registry(uri)
    assert present_champion(registry) is None

    def trained(as_of: datetime) -> TrainingRun:
        spec = market_spec.model_copy(update={"as_of": as_of})
        return train_and_register(spec, small_config, tracking_uri=uri)

    assert market_spec.as_of is not None
    first = trained(market_spec.as_of - timedelta(days=60))
    assert first.evidence.champion is None
    registry.promote(registry.get("challenger"), now=datetime.now(UTC), why="first")
    champion = present_champion(registry)
    assert champion is not None
    assert champion.evidence == first.evidence
    assert champion.ndcg is not None
    assert len(champion.ndcg) == first.evidence.n_accounts
    second = trained(market_spec.as_of)
    assert second.evidence.champion_version == 1
    assert second.evidence.champion is not None
    assert second.evidence.champion.how == "its bundle"
