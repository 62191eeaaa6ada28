"""`offers experiment`: power and readout at the command line, from orders, from a plan, from the event store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.cli import main as door
from recsys.contracts.events import ExperimentRecord, PostedLine, RecordedAssignment
from recsys.evaluation.readout.from_event_store import ExperimentLog
from recsys.events.store import open_store
from recsys.experiments.plan import ExperimentPlan, canonical_json, plan_hash, read_plan

PLAN = """
id = "offers-q1"
primary = "revenue"
planned_start = 2026-01-05
planned_end = 2026-02-02
planned_size = 2000
attribution_window_days = 28
segments = ["region"]
arms = [{ name = "control", weight = 1, is_control = true }, { name = "engine", weight = 1 }]
"""


def _run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        door(["experiment", *arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.fixture
def files(log: ExperimentLog, tmp_path: Path) -> Path:
    """The log as another tool would export it: order lines, accounts with their arm, values by account."""
    lines = log.lines.assign(quantity=1, unit_price=log.lines["revenue"]).drop(columns="revenue")
    lines.to_parquet(tmp_path / "orders.parquet")
    units = log.assignments.rename(columns={"unit_id": "account_id"})
    units.to_csv(tmp_path / "arms.csv", index=False)
    spent = log.lines.groupby("account_id")["revenue"].sum().reindex(units["account_id"], fill_value=0.0)
    region = ["n", "s"] * (len(units) // 2)
    units.assign(revenue=spent.to_numpy(), region=region).to_csv(tmp_path / "units.csv", index=False)
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    return tmp_path


def test_orders_and_arms(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["readout", "--data", str(files / "arms.csv"), "--unit", "account_id", "--assigned-at", "assigned_at"]
    arguments += ["--orders", str(files / "orders.parquet"), "--window-days", "21", "--out", str(files / "out")]
    code, out, err = _run(arguments, capsys)
    assert (code, err) == (0, "")
    assert "DISCUSS: engine" in out
    written = json.loads((files / "out" / "readout.json").read_text())
    assert {"revenue_per_account", "aov", "attrition"} <= {effect["metric"] for effect in written["effects"]}
    assert "buyers_before per unit" not in {effect["metric"] for effect in written["effects"]}  # it can't have moved
    assert {cell["window"] for cell in written["sensitivity"]} == {"21 days", "10 days"}


def test_a_plan_decides_and_is_checked(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["readout", "--data", str(files / "units.csv"), "--unit", "account_id", "--metric", "revenue=revenue"]
    arguments += ["--plan", str(files / "plan.toml"), "--as-of", "2026-03-02", "--out", str(files / "out")]
    assert _run(arguments, capsys)[0] == 0
    written = json.loads((files / "out" / "readout.json").read_text())
    statuses = {check["name"]: check["status"] for check in written["health"]}
    assert (statuses["plan_hash"], statuses["assignment_hash"]) == ("not_checked", "passed")
    assert {part["segment"] for part in written["segments"]} == {"region"}
    assert written["plan"]["id"] == "offers-q1"
    _run([*arguments, "--plan-hash", plan_hash(read_plan(files / "plan.toml"))], capsys)
    kept = json.loads((files / "out" / "readout.json").read_text())
    assert next(check["status"] for check in kept["health"] if check["name"] == "plan_hash") == "passed"
    _run([*arguments, "--plan-hash", "0" * 64], capsys)
    altered = json.loads((files / "out" / "readout.json").read_text())
    assert altered["verdict"]["verdict"] == "INVALID"
    assert "plan_hash" in altered["verdict"]["reason"]


def test_an_early_look_is_decided_by_the_anytime_interval(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["readout", "--data", str(files / "units.csv"), "--unit", "account_id", "--metric", "revenue=revenue"]
    arguments += ["--plan", str(files / "plan.toml"), "--as-of", "2026-02-01", "--out", str(files / "out")]
    assert _run(arguments, capsys)[0] == 0
    written = json.loads((files / "out" / "readout.json").read_text())
    assert written["effects"][0]["decided_by"] == "anytime"
    assert written["verdict"]["verdict"] == "KEEP RUNNING"
    assert "the planned end in 1 days" in written["verdict"]["reason"]


def test_an_experiment_of_the_store(
    plan: ExperimentPlan, make_log: Callable[..., ExperimentLog], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = make_log(plan, 300)
    tables: Any = log  # a cell of a frame may be anything to a type checker
    url = f"sqlite:///{tmp_path / 'offers.db'}"
    store = open_store(url)
    store.append([ExperimentRecord(plan.id, 1, canonical_json(plan), plan_hash(plan), log.plan.started_at)])
    store.append(
        [
            RecordedAssignment(
                experiment_id=plan.id,
                version=1,
                unit_id=row.unit_id,
                unit="account",
                arm=row.arm,
                probability=0.5,
                assigned_at=row.assigned_at,
            )
            for row in tables.assignments.itertuples()
        ]
    )
    store.append(
        [
            PostedLine(
                order_id=row.order_id,
                line_id="1",
                product_id=row.product_id,
                quantity=1.0,
                ordered_at=row.ordered_at,
                recorded_at=row.ordered_at,
                account_id=row.account_id,
                unit_price=row.revenue,
                currency="USD" if i == 0 else "EUR",
            )
            for i, row in enumerate(tables.lines.itertuples())
        ]
    )
    store.close()
    arguments = ["readout", plan.id, "--store", url, "--as-of", "2026-03-02", "--out", str(tmp_path / "out")]
    code, _, err = _run(arguments, capsys)
    assert code == 1
    assert "USD (1 lines), must be one; choose the one to keep (currency EUR)" in err
    code, _, err = _run([*arguments, "--currency", "EUR"], capsys)
    assert (code, err) == (0, "")
    written = json.loads((tmp_path / "out" / "readout.json").read_text())
    assert any("1 in USD" in note for note in written["notes"])
    statuses = {check["name"]: check["status"] for check in written["health"]}
    assert statuses["sample_ratio_exposed"] == "failed"  # nobody was ever answered: the log of decisions is lost
    assert written["counts"] == {arm: int(n) for arm, n in log.assignments["arm"].value_counts().items()}


@pytest.mark.parametrize("arguments", [[], ["x", "--data", "units.csv"], ["x", "--sums", "sums.csv"]])
def test_one_source_is_needed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(["readout", *arguments], capsys)
    assert code == 1
    told = "give one of an experiment of the event store, --data with a table of its units, or --sums with their sums"
    assert err == f"Error: {told}\n"


def test_power_from_orders(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["power", "--orders", str(files / "orders.parquet"), "--window-days", "14", "--effect", "0.2"]
    code, out, _ = _run([*arguments, "--format", "json"], capsys)
    assert code == 0
    found = {size["metric"]: size for size in json.loads(out)}
    assert found["revenue_per_account"]["n_per_arm"] > 100
    assert found["aov"]["relative"] == 0.2
    code, out, _ = _run(arguments, capsys)
    assert "revenue_per_account" in out
    assert "80% power, alpha 0.05" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--power", "1.5"], "power == 1.5, alpha == 0.05, both must lie between 0 and 1"),
        (["--window-days", "0"], "window_days == 0, must be a whole number of 1 or more"),
        (["--effect", "0"], "effect == 0, must be a share other than 0"),
    ],
)
def test_wrong_options_of_power(
    files: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["power", "--orders", str(files / "orders.parquet"), "--window-days", "14"]
    code, _, err = _run([*base, *arguments], capsys)
    assert code == 1
    assert sentence in err
