"""Running sums in the layout of the ASOS Digital Experiments Dataset: the same figures as sums by arm and day."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys.cli.main import main
from recsys.errors import ReadoutError
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.readout.sums.from_sums import sums_readout
from recsys.evaluation.statistics.metric import Ratio

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HEAD = (
    *("experiment_id", "variant_id", "metric_id", "time_since_start"),
    *("count_c", "count_t", "mean_c", "mean_t", "variance_c", "variance_t"),
)
ROWS = (
    ("036afc", 1, 1, 0.5, 1_000.0, 1_010.0, 0.100, 0.110, 0.0901, 0.0980),
    ("036afc", 1, 1, 1.0, 2_000.0, 2_005.0, 0.102, 0.118, 0.0916, 0.1041),
    ("036afc", 1, 4, 0.5, 1_000.0, 1_010.0, 4.1, 4.4, 70.0, 73.0),
    ("036afc", 1, 4, 1.0, 2_000.0, 2_005.0, 4.2, 4.6, 71.0, 74.0),
    ("036afc", 3, 1, 0.5, 1_000.0, 990.0, 0.100, 0.090, 0.0901, 0.0820),
    ("036afc", 3, 1, 1.0, 2_000.0, 1_998.0, 0.102, 0.101, 0.0916, 0.0908),
    ("036afc", 3, 4, 0.5, 1_000.0, 990.0, 4.1, 4.0, 70.0, 69.0),
    ("036afc", 3, 4, 1.0, 2_000.0, 1_998.0, 4.2, 4.1, 71.0, 72.0),
    ("b2e0f1", 2, 4, 0.5, 10.0, 12.0, None, None, None, None),
    ("b2e0f1", 2, 4, 1.0, 500.0, 510.0, 4.0, 4.1, 60.0, 61.0),
)


def _table() -> pd.DataFrame:
    return pd.DataFrame(ROWS, columns=list(HEAD))


def _readout(table: pd.DataFrame, experiment: str | None, **options: Any) -> Readout:
    form = {"metrics": {"revenue": Ratio("4"), "bought": Ratio("1")}, "unit": None, "arm": "arm", "control": "control"}
    return sums_readout(table, TableSpec(**form | options), ReadoutConfig(), now=NOW, experiment=experiment)


def test_the_layout_gives_what_sums_by_arm_and_day_give() -> None:
    by_hand = [
        ("control", 0.5, 1_000, 4.1, 70.0, 0.100, 0.0901),
        ("control", 1.0, 2_000, 4.2, 71.0, 0.102, 0.0916),
        ("1", 0.5, 1_010, 4.4, 73.0, 0.110, 0.0980),
        ("1", 1.0, 2_005, 4.6, 74.0, 0.118, 0.1041),
        ("3", 0.5, 990, 4.0, 69.0, 0.090, 0.0820),
        ("3", 1.0, 1_998, 4.1, 72.0, 0.101, 0.0908),
    ]
    names = ["arm", "time", "n", "4_mean", "4_variance", "1_mean", "1_variance"]
    form = TableSpec(None, "arm", "control", {"revenue": Ratio("4"), "bought": Ratio("1")})
    plain = sums_readout(pd.DataFrame(by_hand, columns=names), form, ReadoutConfig(), now=NOW, day="time")
    found = _readout(_table(), "036afc")
    assert (found.experiment, found.effects, found.looks) == ("036afc", plain.effects, plain.looks)
    first = found.effect("revenue", "1")
    assert (first.n_control, first.n_arm, first.effect) == (2_000, 2_005, pytest.approx(4.6 - 4.2))
    assert [(look.day, look.arm) for look in found.looks] == [("0.5", "1"), ("0.5", "3"), ("1.0", "1"), ("1.0", "3")]
    assert all(look.anytime_low < look.effect_low for look in found.looks)


def test_times_without_every_figure_are_left_out_and_said() -> None:
    found = _readout(_table(), "b2e0f1", metrics={"revenue": Ratio("4")})
    assert [look.day for look in found.looks] == ["1.0"]
    assert "1 of 2 times lack a figure of a variant or metric; they are left out" in found.notes


def _later(frame: pd.DataFrame, row: int, column: str, value: float) -> pd.DataFrame:
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("table", "experiment", "options", "words"),
    [
        (_table(), None, {}, "2 experiments in the table, must be one of 036afc, b2e0f1; name it as experiment"),
        (_table(), "ffffff", {}, "experiment 'ffffff', must be one of 036afc, b2e0f1"),
        (_table(), "036afc", {"metrics": {}}, "no metric is named of those in experiment 036afc, must be one of 1, 4"),
        (_table(), "036afc", {"metrics": {"x": Ratio("2")}}, "metric '2' is not in experiment 036afc, must be one of"),
        (pd.concat([_table()] * 2), "036afc", {}, "time_since_start 0.5 stand twice, must stand once"),
        (_later(_table(), 3, "count_t", 2_000.0), "036afc", {}, "units of the metrics differ at time_since_start 1"),
        (_later(_table(), 7, "mean_c", 4.3), "036afc", {}, "control of the variants differ at time_since_start 1"),
        (_table().drop(columns="metric_id"), "036afc", {}, "must go with sums by experiment_id, variant_id, metric_id"),
    ],
)
def test_what_the_layout_does_not_tell_is_refused(
    table: pd.DataFrame, experiment: str | None, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ReadoutError, match=words):
        _readout(table, experiment, **options)


def test_the_command_reads_one_experiment_of_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _table().to_csv(tmp_path / "asos.csv", index=False)
    told = ["--sums", str(tmp_path / "asos.csv"), "--experiment", "036afc", "--metric", "revenue=4"]
    with pytest.raises(SystemExit) as stop:
        main(["experiment", "readout", *told])
    assert stop.value.code == 0
    assert "revenue" in capsys.readouterr().out
