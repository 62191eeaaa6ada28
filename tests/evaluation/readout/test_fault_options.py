"""What the command and the library take to find faults, and how large a fault must be to be found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys.cli import main as door
from recsys.evaluation.api import readout
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.faults.values import lost_outcomes
from recsys.evaluation.statistics.metric import Ratio
from recsys.evaluation.statistics.moments import moments_of_rows


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
