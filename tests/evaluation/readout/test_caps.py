"""A cap for each metric: its own quantile of the values above zero of all arms together."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.cli.main import main
from recsys.errors import ReadoutError
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.metric import Margin, Ratio

NOW = datetime(2026, 6, 1, tzinfo=UTC)
METRICS = {"revenue": Ratio("revenue"), "margin": Ratio("margin"), "bought": Ratio("bought")}


def _file(folder: Path) -> Path:
    rng = np.random.default_rng(2)
    bought = (rng.random(4_000) < 0.4).astype(float)
    frame = pd.DataFrame(
        {
            "arm": np.array(["a", "c"])[rng.integers(0, 2, 4_000)],
            "revenue": bought * rng.pareto(2.5, 4_000),
            "margin": bought * rng.pareto(2.0, 4_000),
            "bought": bought,
        }
    )
    frame.to_parquet(folder / "units.parquet")
    return folder / "units.parquet"


def _readout(folder: Path, caps: dict[str, float], cap: float | None = None) -> Readout:
    guardrails = {"margin": Margin(0.1, direction="higher_is_better")}
    form = TableSpec(None, "arm", "c", METRICS, guardrails=guardrails, caps=caps)
    return table_readout(str(_file(folder)), form, ReadoutConfig(cap_percentile=cap), now=NOW)


def test_each_metric_has_its_own_cap(tmp_path: Path) -> None:
    frame = pd.read_parquet(_file(tmp_path))
    found = _readout(tmp_path, {"margin": 0.9}, 0.98)
    expected = {
        name: frame.loc[frame[name] > 0, name].quantile(at) for name, at in {"revenue": 0.98, "margin": 0.9}.items()
    }
    assert found.caps == pytest.approx(expected)
    for name, cap in expected.items():
        means = frame[name].clip(upper=cap).groupby(frame["arm"]).mean()
        assert found.effect(name, "a").effect == pytest.approx(means["a"] - means["c"])
        assert found.effect(name, "a").estimator.endswith("capped")
    assert not found.effect("bought", "a").estimator.endswith("capped")


def test_the_sensitivity_grid_keeps_the_caps_of_other_metrics(tmp_path: Path) -> None:
    plain, capped = _readout(tmp_path, {}), _readout(tmp_path, {"margin": 0.9, "revenue": 0.95})
    assert {cell.cap for cell in plain.sensitivity} == {None, 0.99}
    assert {cell.cap for cell in capped.sensitivity} == {None, 0.95}


@pytest.mark.parametrize(
    ("caps", "sentence"),
    [
        ({"other": 0.9}, "cap of 'other', must be of one of the metrics revenue, margin, bought"),
        ({"margin": 99.0}, "cap of 'margin' == 99, must be a quantile between 0.5 and 1"),
    ],
)
def test_wrong_caps_are_a_sentence(tmp_path: Path, caps: dict[str, float], sentence: str) -> None:
    with pytest.raises(ReadoutError, match=sentence):
        _readout(tmp_path, caps)


def test_the_command_names_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "experiment",
        "readout",
        "--data",
        str(_file(tmp_path)),
        "--control",
        "c",
        "--out",
        str(tmp_path / "out"),
    ]
    arguments += [part for name in METRICS for part in ("--metric", f"{name}={name}")]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--cap", "0.98", "--cap", "margin=0.9"])
    assert stop.value.code == 0
    assert set(json.loads((tmp_path / "out" / "readout.json").read_text())["caps"]) == {"revenue", "margin"}
    with pytest.raises(SystemExit):
        main([*arguments, "--cap", "margin=much"])
    assert "--cap 'margin=much', must be a quantile or METRIC=QUANTILE" in capsys.readouterr().err
