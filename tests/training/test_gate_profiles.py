"""The gate asks of a small firm what a small firm can show, and of a large one more."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from recsys.backtesting.baselines import PopularBaseline, RecentlyPopularBaseline
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.errors import ConfigError
from recsys.fitting.pipeline import fit
from recsys.ladder.file import ladder_from_data
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market
from training.evidence import gather_evidence
from training.gate import (
    BinEvidence,
    Comparison,
    DataFacts,
    GateEvidence,
    GateProfiles,
    KindCalibration,
    Profile,
    TrainConfig,
    judge_evidence,
    limits_sentence,
)
from training.validation import validate_on_past

QUICK = {
    "next_product": {"sampling": {"train_accounts": 150, "calibration_accounts": 300}, "ranker": {"kind": "logistic"}},
    "upgrades": {"n_cutoffs": 2},
    "evaluation": {"bootstrap": {"n_resamples": 200}, "importance_rows": 100},
}
WHOLE = DataFacts(fingerprint="a", rows_a_day=100, active_accounts=500, products=400)


def evidence(
    accounts: int, purchases: float, low: float = 0.01, mean: float = 0.03, ratio: float = 1.0
) -> GateEvidence:
    """What was measured of a model that is calibrated but for `ratio`, against one baseline."""
    return GateEvidence(
        ndcg_at_10=0.2,
        baselines=(Comparison(rival="popular", difference=mean, low=low, high=2 * mean - low),),
        champion=None,
        calibration=(
            KindCalibration(
                kind="cross_sell",
                bins=(BinEvidence(observed=purchases, expected=purchases / ratio),),
                log_loss=0.010,
                log_loss_of_base_rate=0.012,
            ),
        ),
        coverage=0.4,
        data=WHOLE,
        n_accounts=accounts,
    )


@pytest.mark.parametrize(
    ("accounts", "purchases", "profile"),
    [
        (80, 5_000, "small"),
        (5_000, 299, "small"),
        (399, 5_000, "medium"),
        (5_000, 1_999, "medium"),
        (400, 2_000, "large"),
    ],
)
def test_accounts_and_purchases_tell_the_profile(accounts: int, purchases: float, profile: Profile) -> None:
    found = evidence(accounts, purchases)
    assert GateProfiles().profile_of(found) == profile
    assert limits_sentence(found, GateProfiles()).startswith(f"Limits of a {profile} firm: {accounts:,} accounts")
    assert GateProfiles(profile="large").profile_of(found) == "large"
    assert "gate.profile says so" in limits_sentence(found, GateProfiles(profile="large"))


def test_what_was_not_measured_is_judged_strictly() -> None:
    assert GateProfiles().profile_of(evidence(0, 0)) == "large"
    assert GateProfiles().profile_of(evidence(80, 200).model_copy(update={"ndcg_at_10": None})) == "large"


@pytest.mark.parametrize(
    ("low", "mean", "passes"),
    [
        (0.01, 0.03, ["small", "medium", "large"]),
        (-0.01, 0.03, ["small", "medium"]),
        (-0.05, -0.01, ["small"]),
        (-0.05, -0.03, []),
    ],
    ids=["surely above", "above", "not below", "below"],
)
def test_a_larger_firm_shows_more(low: float, mean: float, passes: list[str]) -> None:
    sizes = {"small": (80, 250), "medium": (300, 1_500), "large": (900, 9_000)}
    found = {name: judge_evidence(evidence(*size, low=low, mean=mean), None) for name, size in sizes.items()}
    assert [name for name, checks in found.items() if checks[0].passed] == passes
    assert {name: checks[0].required for name, checks in found.items()} == {
        "small": "not all below 0",
        "medium": "mean above 0",
        "large": "above 0",
    }


@pytest.mark.parametrize(("ratio", "passes"), [(0.75, ["small"]), (0.82, ["small", "medium"]), (1.3, ["small"])])
def test_the_band_of_calibration_is_the_profiles(ratio: float, passes: list[str]) -> None:
    sizes = {"small": (80, 250), "medium": (300, 1_500), "large": (900, 9_000)}
    found = {name: judge_evidence(evidence(*size, ratio=ratio), None) for name, size in sizes.items()}
    assert [name for name, checks in found.items() if all(check.passed for check in checks)] == passes


def test_a_configuration_states_other_limits() -> None:
    config = TrainConfig.model_validate({"gate": {"small": {"margin": "above"}, "small_accounts": 50}})
    weak = evidence(40, 200, low=-0.05, mean=-0.01)
    assert not judge_evidence(weak, None, config.gate.limits(weak))[0].passed
    assert config.gate.profile_of(evidence(80, 5_000)) == "medium"
    with pytest.raises(ConfigError, match="profile == 'tiny'"):
        TrainConfig(gate={"profile": "tiny"})


@pytest.mark.proof  # a training and its replay, half a minute
def test_a_market_of_medium_size_is_judged_as_one(tmp_path: Path) -> None:
    """Of 1,200 accounts some hundred and fifty buy something new in the month that is replayed."""
    write_market(MarketConfig(n_accounts=1_200, n_products=200, seed=3), tmp_path)
    names = {name: str(tmp_path / f"{name}.parquet") for name in ("orders", "products", "accounts", "upgrades")}
    spec, config = ReadSpec(**names, as_of=datetime(2025, 7, 1, tzinfo=UTC)), TrainConfig.model_validate(QUICK)
    data = read_dataset(spec)
    replay = validate_on_past(
        lambda cutoff: read_dataset(spec.model_copy(update={"as_of": cutoff})),
        data.history(),
        data.as_of,
        config,
        ladder_from_data(config.ladder),
        baselines=lambda: (PopularBaseline(), RecentlyPopularBaseline(30)),
    )
    found = gather_evidence(fit(data, config), data, config, replay, np.random.default_rng(0))
    assert 100 <= found.n_accounts < 400
    assert found.purchases >= 300
    assert config.gate.profile_of(found) == "medium"
    assert judge_evidence(found, None) == judge_evidence(found, None, config.gate.medium)
    failed = [
        {check.name for check in judge_evidence(found, None, limits) if not check.passed}
        for limits in (config.gate.small, config.gate.medium, config.gate.large)
    ]
    assert failed[0] <= failed[1] <= failed[2]
