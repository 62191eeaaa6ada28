"""Which way of a guardrail is good is stated or known: with the wrong one any harm would pass as non-inferior."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.cli import main as door
from recsys.errors import PlanError, ReadoutError
from recsys.evaluation.api import readout
from recsys.events.memory import MemoryStore
from recsys.experiments.lifecycle import start_experiment
from recsys.experiments.plan import ExperimentPlan, Guardrail, plan_hash, read_plan

PLAN = """
id = "returns-test"
planned_start = 2026-01-05
planned_end = 2099-02-02
planned_size = 1000
primary = "revenue"
arms = [{ name = "control", weight = 1, is_control = true }, { name = "engine", weight = 1 }]
guardrails = [{ metric = "returns", margin = 0.05, is_relative = true }]
"""


@pytest.fixture
def units() -> pd.DataFrame:
    """Revenue rises by a tenth, and returns by 23 %: far beyond a margin of 5 %."""
    rng = np.random.default_rng(23)
    n = 20_000
    arm = np.array(["control", "engine"])[np.arange(n) % 2]
    is_treated = arm == "engine"
    return pd.DataFrame(
        {
            "account_id": [f"A{i}" for i in range(n)],
            "arm": arm,
            "revenue": rng.gamma(1.0, 30.0, n) * np.where(is_treated, 1.1, 1.0),
            "returns": rng.poisson(np.where(is_treated, 1.23, 1.0)),
        }
    )


def _read(units: pd.DataFrame, margin: str | float):
    return readout(
        units,
        arm="arm",
        control="control",
        unit="account_id",
        metrics={"revenue": "revenue", "returns": "returns"},
        guardrails={"returns": margin},
    )


def test_23_percent_more_returns_are_not_shipped(units: pd.DataFrame) -> None:
    with pytest.raises(ReadoutError, match=r"guardrail 'returns' has no direction, must say which way is good"):
        _read(units, "5%")
    found = _read(units, "5%:lower")
    assert found.verdict.verdict == "ROLL BACK"
    assert "returns rose by 0.2" in found.verdict.reason
    assert "worse by more than its margin" in found.verdict.reason
    assert _read(units, "5%:higher").verdict.verdict == "SHIP"  # the direction alone decides: it must be right


def test_the_command_says_how_to_state_it(
    units: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    units.to_parquet(tmp_path / "units.parquet")
    arguments = ["experiment", "readout", "--data", str(tmp_path / "units.parquet"), "--unit", "account_id"]
    arguments += ["--metric", "revenue=revenue", "--metric", "returns=returns", "--guardrail", "returns=5%"]
    with pytest.raises(SystemExit) as stop:
        door(arguments)
    assert stop.value.code == 1
    assert "put :lower or :higher behind its margin" in capsys.readouterr().err


def test_an_experiment_does_not_start_without_it(plan: ExperimentPlan) -> None:
    unstated = plan.model_copy(update={"guardrails": (Guardrail(metric="returns", margin=0.05),)})
    now = datetime(2026, 1, 5, tzinfo=UTC)
    with pytest.raises(PlanError, match=r"guardrail 'returns' has no direction"):
        start_experiment(MemoryStore(), unstated, now)
    stated = Guardrail(metric="returns", margin=0.05, direction="lower_is_better")
    assert start_experiment(MemoryStore(), plan.model_copy(update={"guardrails": (stated,)}), now)
    known = Guardrail(metric="attrition", margin=0.05)
    assert start_experiment(MemoryStore(), plan.model_copy(update={"guardrails": (known,)}), now)


def test_a_plan_that_runs_keeps_its_hash_and_is_judged_as_it_was_locked(
    units: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN, encoding="utf-8")
    plan = read_plan(path)
    said = plan.model_copy(
        update={"guardrails": (plan.guardrails[0].model_copy(update={"direction": "higher_is_better"}),)}
    )
    assert plan_hash(plan) == plan_hash(said)  # what was not said was hashed as higher is better
    units.to_parquet(tmp_path / "units.parquet")
    arguments = ["experiment", "readout", "--data", str(tmp_path / "units.parquet"), "--unit", "account_id"]
    arguments += ["--metric", "revenue=revenue", "--metric", "returns=returns", "--plan", str(path)]
    with pytest.raises(SystemExit):
        door(arguments)
    assert "guardrail 'returns' has no direction" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        door([*arguments, "--plan-hash", plan_hash(plan), "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    found = json.loads((tmp_path / "out" / "readout.json").read_text(encoding="utf-8"))
    check = next(check for check in found["health"] if check["name"] == "guardrail_directions")
    assert check["status"] == "warning"
    assert "does not say which way is good for returns" in check["detail"]
    assert next(check for check in found["health"] if check["name"] == "plan_hash")["status"] == "passed"
    assert next(e for e in found["effects"] if e["metric"] == "returns")["direction"] == "higher_is_better"
