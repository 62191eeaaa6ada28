"""What is given and can't be meant, or says nothing where it stands, is refused by name and not passed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.cli import main as door
from recsys.errors import ReadoutError
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout, with_plan
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.wording.p_values import p_words
from recsys.evaluation.statistics.metric import Margin, Ratio
from recsys.experiments.plan import ExperimentPlan, LockedPlan, plan_hash

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FORM = TableSpec("account_id", "arm", "control", {"spend": Ratio("spend")})
PLAN = """
id = "offers-q1"
primary = "spend"
planned_start = 2026-01-05
planned_end = 2026-02-02
planned_size = 200
attribution_window_days = 7
arms = [{ name = "control", weight = 1, is_control = true }, { name = "engine", weight = 1 }]
"""


def _units(n: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    spend = (rng.random(n) < 0.3) * rng.gamma(2.0, 20.0, n).round(2)
    return pd.DataFrame(
        {
            "account_id": [f"A{i}" for i in range(n)],
            "arm": np.array(["control", "engine"])[np.arange(n) % 2],
            "spend": spend,
            "credited": np.where(np.arange(n) % 4 == 1, spend / 2, 0.0),
            "before": rng.gamma(2.0, 20.0, n).round(2),
            "views": 1 + rng.poisson(3.0, n),
        }
    )


def _read(frame: pd.DataFrame, **form: Any) -> Readout:
    return table_readout(frame, replace(FORM, **form), ReadoutConfig(), now=NOW)


def _as_csv(frame: pd.DataFrame, folder: Path) -> str:
    frame.to_csv(folder / "units.csv", index=False)
    return str(folder / "units.csv")


def test_a_blank_covariate_is_filled_whatever_the_format(tmp_path: Path) -> None:
    frame = _units()
    frame.loc[frame.index % 11 == 0, "before"] = np.nan
    frame.to_parquet(tmp_path / "units.parquet")
    form = replace(FORM, before={"spend": Ratio("before")})
    sources = (_as_csv(frame, tmp_path), str(tmp_path / "units.parquet"))
    of_csv, of_parquet = (table_readout(source, form, ReadoutConfig(), now=NOW) for source in sources)
    assert of_csv.effects == of_parquet.effects
    assert [note for note in of_csv.notes if "set to the mean" in note] == [
        note for note in of_parquet.notes if "set to the mean" in note
    ]
    wrong = frame.assign(before=frame["before"].astype(object).where(frame.index != 5, "many"))
    with pytest.raises(
        ReadoutError, match="1 rows have no number in 'before', as 'many', all must have one or be blank"
    ):
        table_readout(_as_csv(wrong, tmp_path), form, ReadoutConfig(), now=NOW)


@pytest.mark.parametrize(("value", "shown"), [(3, "'3'"), (None, "a blank"), (0.5, "'0.5'")])
def test_exposed_is_yes_or_no(value: float | None, shown: str, tmp_path: Path) -> None:
    frame = _units().assign(met=1.0)
    frame["met"] = frame["met"].where(frame.index % 2 == 0, 0.0)
    assert _read(frame, exposed="met").health
    frame.loc[7, "met"] = value
    named = shown.replace("3", "3(.0)?")
    said = f"1 rows of the exposed column 'met' have another value, as {named}, all must have 0 or 1"
    for source in (frame, _as_csv(frame, tmp_path)):
        with pytest.raises(ReadoutError, match=said):
            table_readout(source, replace(FORM, exposed="met"), ReadoutConfig(), now=NOW)


def test_attributed_revenue_is_a_part_of_the_primary() -> None:
    assert _read(_units(), attributed="credited").incremental
    with pytest.raises(
        ReadoutError, match=r"attributed 'views' is no part of 'spend' in \d+ of 600 units, as 1 of 0, must"
    ):
        _read(_units(), attributed="views")
    ratio = {"per_view": Ratio("spend", "views")}
    with pytest.raises(ReadoutError, match="attributed 'credited' without a primary that is a mean"):
        _read(_units(), attributed="credited", metrics=ratio)


def test_a_plan_is_not_replaced(plan: ExperimentPlan) -> None:
    locked = LockedPlan(plan, plan_hash(plan), plan.planned_start)
    planned = replace(FORM, plan=locked)
    with pytest.raises(ReadoutError, match="primary 'spend', must be 'revenue_per_account', as the plan has decided"):
        with_plan(replace(planned, primary="spend"))
    with pytest.raises(ReadoutError, match="guardrail 'attrition', must have the margin that the plan has decided"):
        with_plan(replace(planned, guardrails={"attrition": Margin(0.5)}))


Run = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a readout of a small table that must fail; returns what it says."""
    _units().to_parquet(tmp_path / "units.parquet")
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    (tmp_path / "readout.json").write_text("{}", encoding="utf-8")

    def run(*words: str) -> str:
        known = {"TABLE": "units.parquet", "PLAN": "plan.toml", "JSON": "readout.json"}
        arguments = [str(tmp_path / known[word]) if word in known else word for word in words]
        with pytest.raises(SystemExit) as stop:
            door(["experiment", "readout", *arguments])
        assert stop.value.code == 1
        return capsys.readouterr().err

    return run


TABLE = ("--data", "TABLE", "--unit", "account_id", "--metric", "spend=spend")
PLANNED = (*TABLE, "--plan", "PLAN", "--as-of", "2026-03-01")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((*TABLE, "--window-days", "7"), "--window-days does not apply to --data, must go with --data with --orders"),
        ((*TABLE, "--day", "day"), "--day does not apply to --data, must go with --sums; leave it out"),
        (
            (*TABLE, "--accounts", "a.csv"),
            "--accounts does not apply to --data, must go with an experiment of the event",
        ),
        ((*TABLE, "--store", "sqlite:///x.db"), "--store does not apply to --data"),
        ((*TABLE, "--as-of", "2026-03-01"), "--as-of without --plan or --orders, must go with one: rows have no times"),
        ((*TABLE, "--started", "2026-03-01"), "--started without --plan or --orders"),
        ((*TABLE, "--plan-hash", "0" * 64), "--plan-hash without --plan, must go with one"),
        ((*TABLE, "--orders", "TABLE", "--exposed", "views"), "--exposed does not apply to --data with --orders"),
        (("offers-q1", "--window-days", "7"), "--window-days does not apply to an experiment of the event store"),
        (("offers-q1", "--plan", "PLAN"), "--plan does not apply to an experiment of the event store"),
        (("--sums", "JSON", "--alpha", "0.1"), "--alpha does not apply to a stored readout.json"),
        (("--sums", "TABLE", "--orders", "TABLE"), "--orders does not apply to --sums"),
        ((*PLANNED, "--alpha", "0.1"), "--alpha with --plan, must be left out: the plan has decided it"),
        ((*PLANNED, "--share", "control=.9"), "--share with --plan, must be left out"),
        (
            (*PLANNED[:-1], "2026-01-01"),
            "as_of == 2026-01-01 00:00 UTC, must lie after the start on 2026-01-05 00:00 UTC",
        ),
        ((*TABLE, "--reason", "because"), "--reason without --override, must go with one"),
        ((*TABLE, "--share", "control=.9"), "shares control 0.9, must name every arm of the data; engine has none"),
    ],
)
def test_an_option_that_says_nothing_is_refused(refused: Run, arguments: tuple[str, ...], sentence: str) -> None:
    assert refused(*arguments).startswith(f"Error: {sentence}")


def test_no_p_value_is_zero() -> None:
    assert p_words(0.0) == p_words(1e-30) == "p < 0.0001"
    frame = _units()
    found = _read(frame[(frame["arm"] == "control") | (frame.index % 7 == 1)])
    (check,) = [check for check in found.health if check.name == "sample_ratio_assigned"]
    assert check.detail.endswith("p < 0.0001 (equal shares are assumed; state others as shares)")
