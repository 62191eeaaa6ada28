"""Sums of groups in place of rows: the same figures, the course over time, and what sums can't tell."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.cli.main import main
from recsys.errors import MissingColumnError, ReadoutError
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.sums.from_sums import stored_readout, sums_readout
from recsys.evaluation.statistics.metric import Margin, Ratio
from recsys.reporting.readout_page import write_report

NOW = datetime(2026, 6, 1, tzinfo=UTC)
COLUMNS = ("revenue", "orders", "before", "left")
FORM: dict[str, Any] = {
    "unit": None,
    "arm": "arm",
    "control": "c",
    "metrics": {"revenue": Ratio("revenue"), "aov": Ratio("revenue", "orders"), "attrition": Ratio("left")},
    "before": {"revenue": Ratio("before")},
    "guardrails": {"attrition": Margin(0.05, direction="lower_is_better")},
    "money": ("revenue",),
}
FIGURES = (
    *("control_mean", "arm_mean", "n_control", "n_arm", "effect", "effect_low", "effect_high", "relative"),
    *("relative_low", "relative_high", "p_value", "p_adjusted", "anytime_low", "anytime_high", "standard_error"),
    *("degrees_of_freedom", "variance_ratio", "decision_low", "decision_high"),
)


def _rows(n: int = 3_000, *, treated: float = 0.5) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    level = rng.lognormal(0, 0.5, n)
    orders = rng.poisson(level)
    return pd.DataFrame(
        {
            "arm": np.where(np.arange(n) < treated * n, "a", "c"),
            "revenue": orders * rng.lognormal(3, 0.5, n),
            "orders": orders,
            "before": level * rng.lognormal(0, 0.3, n),
            "left": (rng.random(n) < 0.2).astype(float),
            "region": np.array(["north", "south", "west"])[np.arange(n) % 3],
            "company": np.arange(n) // 4 * 2 + (np.arange(n) < treated * n),
        }
    )


def _from_rows(frame: pd.DataFrame, folder: Path, **options: Any) -> Readout:
    path = folder / "rows.parquet"
    frame.to_parquet(path)
    return table_readout(str(path), TableSpec(**FORM | options), ReadoutConfig(), now=NOW)


def _sums(frame: pd.DataFrame, *, centred: bool) -> pd.DataFrame:
    rows = []
    for arm, part in frame.groupby("arm"):
        row: dict[str, Any] = {"arm": arm, "n": len(part)}
        for name in COLUMNS:
            value = part[name]
            row |= (
                {f"{name}_mean": value.mean(), f"{name}_variance": value.var()}
                if centred
                else {f"{name}_sum": value.sum(), f"{name}_squares": (value**2).sum()}
            )
        for one, other in itertools.combinations(COLUMNS, 2):
            if centred:
                row[f"{one}_{other}_covariance"] = part[one].cov(part[other])
            else:
                row[f"{other}_{one}_products"] = (part[one] * part[other]).sum()
        rows.append(row)
    return pd.DataFrame(rows)


def _assert_equal(one: Readout, other: Readout) -> None:
    for left, right in zip(one.effects, other.effects, strict=True):
        assert (left.metric, left.arm, left.role, left.unit) == (right.metric, right.arm, right.role, right.unit)
        for name in FIGURES:
            assert getattr(left, name) == pytest.approx(getattr(right, name), rel=1e-9, abs=1e-12), name
    assert one.verdict.verdict == other.verdict.verdict
    assert [money.total for money in one.money] == pytest.approx([money.total for money in other.money])


@pytest.mark.parametrize("centred", [True, False])
def test_sums_give_what_rows_give(tmp_path: Path, centred: bool) -> None:
    frame = _rows()
    by_sums = sums_readout(_sums(frame, centred=centred), TableSpec(**FORM), ReadoutConfig(), now=NOW)
    _assert_equal(_from_rows(frame, tmp_path), by_sums)
    unchecked = {check.name for check in by_sums.health if check.status == "not_checked"}
    assert {"mixed_assignment", "sample_ratio_exposed", "outcome_before_exposure"} <= unchecked
    assert any(note.startswith("judged by sums: not checked, as it needs rows") for note in by_sums.notes)


@pytest.mark.parametrize(
    "options", [{}, {"segments": ("region",)}, {"cluster": "company"}], ids=["", "segments", "cluster"]
)
def test_a_written_readout_gives_itself(tmp_path: Path, options: dict[str, Any]) -> None:
    found = _from_rows(_rows(treated=0.1), tmp_path, **options)
    write_report(found, tmp_path / "out")
    again = stored_readout(tmp_path / "out" / "readout.json")
    _assert_equal(found, again)
    assert [effect.decided_by for effect in found.effects] == [effect.decided_by for effect in again.effects]
    assert [part.p_adjusted for part in found.segments] == pytest.approx([part.p_adjusted for part in again.segments])
    assert (found.counts, found.unit) == (again.counts, again.unit)


def test_unequal_arms_are_decided_by_the_wider_interval(tmp_path: Path) -> None:
    form = TableSpec(**FORM | {"shares": {"a": 0.02, "c": 0.98}})
    found = sums_readout(_sums(_rows(treated=0.02), centred=True), form, ReadoutConfig(), now=NOW)
    primary = found.effects[0]
    assert primary.decided_by == "pooled"
    assert primary.decision_low <= primary.effect_low < primary.effect_high <= primary.decision_high
    assert "wider of Welch's and the pooled interval" in found.verdict.reason
    (check,) = [check for check in found.health if check.name == "enough_units"]
    assert (check.status, "buyers and skewness need rows" in check.detail) == ("warning", True)


def _by_day(frame: pd.DataFrame, days: int) -> pd.DataFrame:
    """Sums to date, as a platform keeps them."""
    rng = np.random.default_rng(1)
    came = rng.integers(1, days + 1, len(frame))
    parts = [_sums(frame[came <= day], centred=True).assign(day=f"2026-03-{day:02d}") for day in range(1, days + 1)]
    return pd.concat(parts, ignore_index=True)


def test_running_sums_give_the_course_over_time(tmp_path: Path) -> None:
    frame = _rows()
    found = sums_readout(_by_day(frame, 9), TableSpec(**FORM, interim=True), ReadoutConfig(), now=NOW, day="day")
    assert [look.day for look in found.looks] == [f"2026-03-{day:02d}" for day in range(1, 10)]
    last = found.looks[-1]
    assert (last.effect, last.anytime_low) == pytest.approx((found.effects[0].effect, found.effects[0].anytime_low))
    assert all(look.anytime_low < look.effect_low < look.effect_high < look.anytime_high for look in found.looks)
    assert found.effects[0].decided_by == "anytime"
    _assert_equal(_from_rows(frame, tmp_path, interim=True), found)
    (check,) = [check for check in found.health if check.name == "sample_ratio_sequential"]
    assert "9 daily looks" in check.detail


def test_the_command_reads_sums_and_a_written_readout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "sums.csv"
    _by_day(_rows(), 4).to_csv(table, index=False)
    out = tmp_path / "out"
    args = ["experiment", "readout", "--sums", str(table), "--day", "day", "--control", "c", "--metric"]
    _run([*args, "revenue=revenue", "--covariate", "revenue=before", "--out", str(out)])
    told = capsys.readouterr().out
    _run(["experiment", "readout", "--sums", str(out / "readout.json")])
    assert capsys.readouterr().out in told
    assert "judged by sums" in " ".join(told.split())


def _run(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f.drop(columns="n"), "column 'n' is not in the data"),
        (lambda f: f.drop(columns="revenue_mean"), "'revenue' has neither revenue_mean and revenue_variance nor"),
        (lambda f: f.drop(columns="revenue_variance"), "column 'revenue_variance' is not in the table"),
        (lambda f: f.drop(columns="revenue_orders_covariance"), "must have revenue_orders_covariance or"),
        (lambda f: f.assign(left_mean=["x", 1]), "'left_mean' has rows without a number"),
        (lambda f: pd.concat([f, f]), "4 rows of 2 arms, must be one row for each of a, c"),
        (lambda f: f.assign(orders_mean=[0.0, 1.0]), "'orders' adds up to 0 in arm 'a'"),
        (lambda f: f.assign(n=[1, 900]), "'n' is .* must be whole numbers of units, 2 or more"),
        (lambda f: f.assign(revenue_variance=-4.0), "'revenue' has the variance -4, must be 0 or more"),
        (lambda f: f.assign(revenue_orders_covariance=1e6), "have a covariance beyond the product of their standard"),
    ],
)
def test_wrong_sums_are_a_sentence(change: Any, sentence: str) -> None:
    with pytest.raises((ReadoutError, MissingColumnError), match=sentence):
        sums_readout(change(_sums(_rows(), centred=True)), TableSpec(**FORM), ReadoutConfig(), now=NOW)


def test_units_that_grow_fewer_are_not_to_date() -> None:
    frame = _by_day(_rows(), 3)
    frame["day"] = frame["day"].map(dict(zip(sorted(set(frame["day"])), ("c", "b", "a"), strict=True)))
    with pytest.raises(ReadoutError, match="units grow fewer along 'day', must be to date"):
        sums_readout(frame, TableSpec(**FORM), ReadoutConfig(), now=NOW, day="day")


@pytest.mark.parametrize(
    ("name", "value"), [("segments", ("region",)), ("unit", "id"), ("chain", ("orders", "revenue"))]
)
def test_what_needs_rows_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ReadoutError, match="with sums, must go with rows"):
        sums_readout(_sums(_rows(), centred=True), TableSpec(**FORM | {name: value}), ReadoutConfig(), now=NOW)


def test_a_file_that_is_no_readout_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ReadoutError, match=r"other.json: not a readout.json"):
        stored_readout(path)
