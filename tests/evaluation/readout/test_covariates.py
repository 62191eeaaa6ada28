"""Several covariates of one metric, and missing ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import binom

from recsys.errors import ReadoutError
from recsys.evaluation.readout.arm_effects import Effect
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.effects import difference
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import moments_of_rows

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def _units(n: int = 6_000) -> pd.DataFrame:
    rng = np.random.default_rng(12)
    spent, visits = rng.gamma(2.0, 10.0, n), rng.poisson(4.0, n).astype(float)
    return pd.DataFrame(
        {
            "arm": np.array(["a", "c"])[rng.integers(0, 2, n)],
            "revenue": 0.5 * spent + 3.0 * visits + rng.normal(0, 5, n),
            "orders": 1.0 + rng.poisson(1.0, n),
            "spent": spent,
            "visits": visits,
            "company": np.arange(n),
        }
    )


def _readout(frame: pd.DataFrame, folder: Path, before: str, metric: str = "revenue", **options: Any) -> Readout:
    path = folder / "units.parquet"
    frame.to_parquet(path)
    metrics = {"revenue": Ratio("revenue"), "aov": Ratio("revenue", "orders")}
    form = TableSpec(None, "arm", "c", metrics, {metric: Ratio(before)}, **options)
    return table_readout(str(path), form, ReadoutConfig(), now=NOW)


def _effect(frame: pd.DataFrame, folder: Path, before: str, **options: Any) -> Effect:
    return _readout(frame, folder, before, **options).effects[0]


def test_two_covariates_take_out_what_a_regression_on_both_does(tmp_path: Path) -> None:
    frame = _units()
    found = _effect(frame, tmp_path, "spent+visits")
    design = sm.add_constant(np.column_stack([frame["arm"] == "a", frame["spent"], frame["visits"]]).astype(float))
    fit = sm.OLS(frame["revenue"].to_numpy(), design).fit(cov_type="HC2")
    assert found.effect == pytest.approx(fit.params[1], abs=0.01 * fit.bse[1])
    assert found.standard_error == pytest.approx(fit.bse[1], rel=1e-3)
    alone = [_effect(frame, tmp_path, name).variance_ratio for name in ("spent", "visits")]
    assert found.variance_ratio < 0.75 * min(alone)


def test_two_covariates_of_clusters(tmp_path: Path) -> None:
    frame = _units(2_000)
    plain, clustered = (_effect(frame, tmp_path, "spent+visits", cluster=name) for name in (None, "company"))
    assert clustered.standard_error == pytest.approx(plain.standard_error, rel=1e-9)


def test_missing_values_are_set_to_the_mean_and_told(tmp_path: Path) -> None:
    frame = _units()
    frame.loc[np.random.default_rng(1).random(len(frame)) < 0.2, "spent"] = np.nan
    found = _readout(frame, tmp_path, "spent+visits")
    filled = _readout(frame.fillna({"spent": frame["spent"].mean()}), tmp_path, "spent+visits")
    assert found.effects[0].effect == pytest.approx(filled.effects[0].effect, rel=1e-12)
    assert any("units have no spent (a 2" in note or "units have no spent (a 1" in note for note in found.notes)


def test_missing_heavy_spenders_bias_nothing() -> None:
    """2,000 experiments of 400 units an arm: who spends much is missing more often, alike in both arms."""
    rng = np.random.default_rng(4)
    spent = rng.gamma(2.0, 10.0, (2_000, 800))
    revenue = 0.5 * spent + rng.normal(0, 5, spent.shape)
    known = np.where(rng.random(spent.shape) < np.clip(spent / 60, 0, 0.9), np.nan, spent)
    mean = np.nanmean(known, axis=1, keepdims=True)
    rows = np.stack([revenue, np.where(np.isnan(known), mean, known)], axis=-1)
    arm, control = (moments_of_rows(("y", "x"), part) for part in (rows[:, :400], rows[:, 400:]))
    found = difference(control, arm, Metric("y", Ratio("y"), Ratio("x")))
    low, high = binom.interval(0.999, 2_000, 0.05)
    assert low <= int((found.p_value < 0.05).sum()) <= high
    assert abs(float(found.effect.mean())) < 3.3 * float(found.effect.std()) / np.sqrt(2_000)
    assert float(found.variance_ratio.mean()) < 0.9


def test_a_covariate_that_is_missing_in_one_arm_is_refused(tmp_path: Path) -> None:
    frame = _units()
    frame.loc[(frame["arm"] == "a") & (np.arange(len(frame)) % 10 == 0), "spent"] = np.nan
    with pytest.raises(ReadoutError, match=r"covariate 'spent' is missing more often in one arm \(a \d+.\d%, c 0.0%\)"):
        _readout(frame, tmp_path, "spent")


def test_several_covariates_of_a_ratio_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadoutError, match=r"covariate 'spent\+visits' of the ratio 'aov', must be one column"):
        _readout(_units(200), tmp_path, "spent+visits", "aov")
