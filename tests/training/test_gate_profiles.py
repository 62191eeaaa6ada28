"""The gate asks of a small firm what a small firm can show, and of a large one more."""

from __future__ import annotations

import pytest

from recsys.errors import ConfigError
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
