"""What the command and the library take to find faults, and how large a fault must be to be found."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys.cli import main as door
from recsys.contracts.events import RecordedAssignment
from recsys.evaluation.api import readout
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.faults.earlier_arms import arms_by_other_arms, other_arms
from recsys.evaluation.readout.faults.lost_outcomes import lost_outcomes
from recsys.evaluation.readout.faults.weeks import other_experiments
from recsys.evaluation.readout.from_event_store import ExperimentLog, readout_from_log
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.health import LogFacts
from recsys.evaluation.statistics.metric import Ratio
from recsys.evaluation.statistics.moments import moments_of_rows
from recsys.events.memory import MemoryStore
from recsys.experiments.plan import ExperimentPlan

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def units() -> pd.DataFrame:
    """The engine got a fifth of the first week's accounts and nine tenths of the last; its page views were lost."""
    rng = np.random.default_rng(3)
    n = 3_000
    day = rng.uniform(0, 14, n)
    arm = np.where(rng.random(n) < np.where(day < 7, 0.2, 0.9), "engine", "control")
    return pd.DataFrame(
        {
            "account_id": [f"A{i}" for i in range(n)],
            "arm": arm,
            "day": pd.Timestamp("2026-01-05") + pd.to_timedelta(day, unit="D"),
            "spend": rng.gamma(1.0, 20.0, n),
            "views": np.where(arm == "engine", rng.poisson(4.0, n), rng.poisson(5.0, n)),
        }
    )


def test_the_command_takes_quality_times_and_money(units: pd.DataFrame, tmp_path: Path) -> None:
    units.to_parquet(tmp_path / "units.parquet")
    arguments = ["experiment", "readout", "--data", str(tmp_path / "units.parquet"), "--unit", "account_id"]
    arguments += ["--metric", "spend=spend", "--money", "spend", "--currency", "SEK", "--out", str(tmp_path)]
    arguments += [
        "--quality",
        "views=views",
        "--assigned-at",
        "day",
        "--share",
        "control=0.45",
        "--share",
        "engine=0.55",
    ]
    with pytest.raises(SystemExit) as stop:
        door(arguments)
    assert stop.value.code == 0
    found = json.loads((tmp_path / "readout.json").read_text(encoding="utf-8"))
    failed = {check["name"] for check in found["health"] if check["status"] == "failed"}
    assert {"lost_outcomes", "shares_over_time"} <= failed
    assert found["money"][0]["currency"] == "SEK"


def test_so_does_the_library(units: pd.DataFrame) -> None:
    found = readout(
        units,
        arm="arm",
        control="control",
        unit="account_id",
        metrics={"spend": "spend"},
        money=["spend"],
        currency="SEK",
        quality={"views": "views"},
        assigned_at="day",
    )
    failed = {check.name for check in found.health if check.status == "failed"}
    assert {"lost_outcomes", "shares_over_time"} <= failed
    assert (found.money[0].currency, found.effect("spend", "engine").currency) == ("SEK", "SEK")


@pytest.mark.parametrize(("lost", "power"), [(0.0, 0.001), (0.026, 0.8), (0.04, 0.998)])
def test_the_power_of_a_data_quality_metric(lost: float, power: float) -> None:
    """10,000 accounts an arm, five page views each (Poisson): 2.6 % of one arm's rows lost are found in four of five.

    Formula: `loss x 5` over `sqrt(5 / n + 5 / n)` against the limit of a two-sided .001; band: 99.9 % of the binomial.
    """
    n, n_runs, rng = 10_000, 300, np.random.default_rng(9)
    shift = lost * 5 / np.sqrt(2 * 5 / n)
    expected = stats.norm.sf(stats.norm.ppf(0.9995) - shift) + stats.norm.cdf(-stats.norm.ppf(0.9995) - shift)
    assert expected == pytest.approx(power, abs=0.02)
    design = Design("x", "control", {"control": 0.5, "engine": 0.5}, (), quality={"page views": Ratio("views")})
    found = 0
    for _ in range(n_runs):
        views = {"control": rng.poisson(5.0, n), "engine": rng.poisson(5.0 * (1 - lost), n)}
        by_arm = {arm: moments_of_rows(["views"], rows[:, None].astype(float)) for arm, rows in views.items()}
        found += lost_outcomes(by_arm, design, ReadoutConfig()).status == "failed"
    low, high = (stats.binom.ppf(side, n_runs, expected) for side in (0.0005, 0.9995))
    assert low <= found <= high


def test_the_arms_of_an_earlier_version_are_read_from_the_store(plan: ExperimentPlan) -> None:
    """The first version gave the very arms of the second; one beside it did too; a third began too late to matter."""
    store, began = MemoryStore(), datetime(2026, 1, 5, tzinfo=UTC)
    for name, version, days in ((plan.id, 1, -40), (plan.id, 2, 1), ("beside", 1, 3), ("later", 1, 60)):
        at = began + timedelta(days=days)
        store.append(
            [
                RecordedAssignment(
                    experiment_id=name,
                    version=version,
                    unit_id=f"A{i}",
                    unit="account",
                    arm="ab"[i % 2],
                    probability=0.5,
                    assigned_at=at,
                )
                for i in range(100)
            ]
        )
    record = {"experiment_id": plan.id, "version": 2, "started_at": began}
    others = other_arms(store, record, began + timedelta(days=56))
    assert set(others["other"]) == {f"{plan.id} version 1", "beside version 1"}
    assigned = others.rename(columns={"other": "experiment_id"})
    mine = assigned[assigned["experiment_id"] == "beside version 1"]
    by_other = arms_by_other_arms(others, mine)
    assert [counts.tolist() for counts in by_other.values()] == [[[50, 0], [0, 50]]] * 2
    counts = by_other[f"{plan.id} version 1"]
    check = other_experiments(LogFacts(others={"offers-q1 version 1": counts}), ReadoutConfig())
    assert check.status == "failed"
    assert check.detail.startswith(
        "100 units are in offers-q1 version 1 too; the share of an arm there differs by up to 100.0% between arms "
        "here, Holm-adjusted p < 0.0001, at most 2% may be"
    )


@pytest.mark.parametrize(
    ("gap", "n", "status"), [(0.0, 100_000, "passed"), (0.015, 200_000, "warning"), (0.05, 20_000, "failed")]
)
def test_dependent_assignments_are_judged_by_their_strength(gap: float, n: int, status: str) -> None:
    """Both experiments halve; the other's arm has a share that is larger by `gap` in one arm here."""
    counts = np.array([[n * (0.5 - gap / 2), n * (0.5 + gap / 2)], [n * (0.5 + gap / 2), n * (0.5 - gap / 2)]])
    check = other_experiments(LogFacts(others={"prices version 1": counts}), ReadoutConfig())
    assert check.status == status
    assert f"differs by up to {gap:.1%} between arms here" in check.detail


def test_a_store_without_another_experiment_has_looked_and_a_table_has_not() -> None:
    assert other_experiments(LogFacts(others={}), ReadoutConfig()).status == "passed"
    assert other_experiments(LogFacts(), ReadoutConfig()).status == "not_checked"


def test_units_with_impossible_numbers_of_rows_and_of_exposures_are_named(log: ExperimentLog) -> None:
    rng = np.random.default_rng(4)
    unit = np.concatenate([rng.integers(0, 500, 2_000), np.full(3_000, 7)])
    rows = pd.DataFrame({"account_id": unit, "visit": np.arange(len(unit)), "spend": rng.gamma(1.0, 5.0, len(unit))})
    rows = rows.assign(arm=np.where(rows["account_id"] % 2, "control", "engine"))
    form = TableSpec("account_id", "arm", "control", {"spend": Ratio("spend")}, aggregate=True)
    found = table_readout(rows, form, ReadoutConfig(), now=NOW)
    check = next(check for check in found.health if check.name == "impossible_counts")
    assert check.status == "warning"
    assert check.detail.startswith("1 units have more than ")
    assert "rows, up to 3,00" in check.detail
    more = log.offers.head(1).loc[np.zeros(5_000, dtype=int)].reset_index(drop=True)
    more = more.assign(product_id=[f"X{i}" for i in range(len(more))])
    shown = readout_from_log(replace(log, offers=pd.concat([log.offers, more], ignore_index=True)), NOW)
    check = next(check for check in shown.health if check.name == "impossible_counts")
    assert check.status == "warning"
    assert "1 units have more than 50 presented offers, up to 5,002" in check.detail
