"""Readouts, sizes and KPIs from Python, on frames as on files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from statsmodels.stats.power import NormalIndPower

from recsys.data.dataset import Dataset
from recsys.errors import ConfigError, MissingColumnError, ReadoutError, SourceNotFoundError
from recsys.evaluation.api import experiment_readout, kpis, power, readout
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.planning.sizes import sample_size
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import moments_of_rows
from recsys.ladder.edges import Ladder
from recsys.simulation.market import Market, simulate_market

pytestmark = pytest.mark.slow

METRICS: dict[str, str | tuple[str, str]] = {"spend": "spend", "per visit": ("spend", "visits")}
SPENT: dict[str, Any] = {"arm": "arm", "control": "control", "metrics": METRICS}


@pytest.fixture(scope="module")
def units() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    arm = np.where(np.arange(2_000) % 2 == 0, "control", "offers")
    before = rng.gamma(2.0, 10.0, 2_000)
    spend = before + rng.normal(0, 5, 2_000) + 3.0 * (arm == "offers")
    visits = rng.integers(1, 5, 2_000)
    kind = rng.choice(["shop", "office"], 2_000)
    endless = np.where(np.arange(2_000) == 7, np.inf, spend)
    frame = {"arm": arm, "spend": spend, "visits": visits, "before": before, "kind": kind, "endless": endless}
    return pd.DataFrame(frame)


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate_market(n_accounts=150, n_products=100, seed=5)


@pytest.fixture(scope="module")
def data(market: Market) -> Dataset:
    return Dataset.read(market.orders, products=market.products, accounts=market.accounts, as_of="2025-07-01")


def test_the_readout_of_a_frame_is_that_of_its_file(units: pd.DataFrame, tmp_path: Path) -> None:
    units.to_parquet(tmp_path / "units.parquet")
    options: dict[str, Any] = SPENT | {
        "covariates": {"spend": "before"},
        "segments": ["kind"],
        "guardrails": {"per visit": "50%:higher"},
    }
    from_file = readout(tmp_path / "units.parquet", **options)
    for table in (units, pa.table(dict(units))):
        found = readout(table, **options)
        assert found.effects == from_file.effects
        assert found.verdict == from_file.verdict
    effect = from_file.effect("spend", "offers")
    assert abs(effect.effect - 3.0) < 4 * effect.standard_error
    assert from_file.verdict.verdict == "SHIP"
    assert {one.segment for one in from_file.segments} == {"kind"}
    assert json.loads(from_file.to_json())["counts"] == {"control": 1_000, "offers": 1_000}
    frame = from_file.to_frame()
    assert frame.loc[frame["metric"] == "spend", "effect"].tolist() == [effect.effect]
    assert frame["role"].tolist()[:2] == ["primary", "guardrail"]


def test_columns_are_named_and_never_parsed(units: pd.DataFrame) -> None:
    """Names that the command's form NAME=COLUMN/COLUMN would take apart."""
    odd = units.rename(columns={"spend": "spend/visits", "visits": "a=b"})
    metrics: dict[str, str | tuple[str, str]] = {"x=y": "spend/visits", "per visit": ("spend/visits", "a=b")}
    found = readout(odd, arm="arm", control="control", metrics=metrics, guardrails={"per visit": "9:higher"})
    plain = readout(units, **SPENT).effect("spend", "offers")
    assert found.effect("x=y", "offers").effect == pytest.approx(plain.effect)
    assert found.effect("x=y", "offers").role == "primary"


@pytest.mark.parametrize(
    ("kind", "control"), [("int64", 0), ("int64", "0"), ("float64", 0), ("float64", 0.0), ("bool", False), ("str", 0)]
)
def test_an_arm_is_named_as_its_column_has_it(units: pd.DataFrame, kind: str, control: str | float) -> None:
    arms = (units["arm"] == "offers").astype("int64").astype(kind)
    found = readout(units.assign(arm=arms), arm="arm", control=control, metrics={"spend": "spend"})
    assert found.effects[0].effect == pytest.approx(readout(units, **SPENT).effect("spend", "offers").effect)


def test_options_of_a_readout_are_its_configuration(units: pd.DataFrame) -> None:
    wide = readout(units, **SPENT, config=ReadoutConfig(alpha=0.001)).effect("spend", "offers")
    narrow = readout(units, **SPENT).effect("spend", "offers")
    assert wide.effect_low < narrow.effect_low < narrow.effect_high < wide.effect_high


def test_orders_are_read_off_by_account(market: Market, data: Dataset) -> None:
    arms = pd.DataFrame(
        {"who": market.accounts["account_id"], "arm": np.where(np.arange(150) % 2, "control", "offers")}
    )
    options: dict[str, Any] = {
        "arm": "arm",
        "control": "control",
        "unit": "who",
        "started": "2025-01-01",
        "window_days": 90,
    }
    found = readout(arms, **options, orders=data)
    assert found.to_frame()["metric"].tolist()[0] == "revenue_per_account"
    assert sum(found.counts.values()) == 150
    whole = readout(arms, **options, orders=market.orders)
    assert whole.effect("revenue_per_account", "offers").effect == pytest.approx(
        found.effect("revenue_per_account", "offers").effect
    )


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"started": "2025-01-01"}, ReadoutError, "started without orders says nothing"),
        ({"window_days": 7}, ReadoutError, "window_days without orders says nothing"),
        ({"metrics": ["spend"]}, ReadoutError, "must be a mapping"),
        ({"segments": 3}, ConfigError, "segments == 3, must be names of columns"),
        ({"segments": "no such"}, MissingColumnError, "column 'no such' is not in the data"),
        ({"config": {"alpha": 0.1}}, ConfigError, "config is a dict, must be a ReadoutConfig"),
        ({"arm": "Arm"}, MissingColumnError, "column 'Arm' is not in the data; did you mean 'arm'?"),
        ({"control": "nobody"}, ReadoutError, "control 'nobody' is not among the arms: control, offers"),
        ({"metrics": {}}, ReadoutError, "0 metrics, must be 1 or more"),
        ({"metrics": {"a": ("b", "c", "d")}}, ReadoutError, "metrics 'a' == .* must be a column or a pair of columns"),
        ({"metrics": {"a": "spend/visits"}}, MissingColumnError, "column 'spend/visits' is not in the data; .*pair"),
        ({"metrics": {"a": 1}}, ReadoutError, "metrics 'a' == 1, must be a column or a pair"),
        ({"metrics": {1: "spend"}}, ReadoutError, "metrics has the name 1, must be a text"),
        ({"guardrails": {"spend": "much"}}, ReadoutError, "guardrails 'spend' == 'much', must be a number of 0 or"),
        ({"guardrails": {"spend": -1}}, ReadoutError, "guardrails 'spend' == -1, must be a number of 0 or more"),
        ({"metrics": {"spend": "endless"}}, ReadoutError, "1 rows are infinite in 'endless', all must be finite"),
        ({"control": 0}, ReadoutError, "control '0' is not among the arms: control, offers"),
    ],
)
def test_what_can_not_be_judged_is_told(
    units: pd.DataFrame, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        readout(units, **(SPENT | changed))


def test_a_store_that_is_not_there_is_not_made(data: Dataset, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    with pytest.raises(SourceNotFoundError, match=r"none\.db: no such file"):
        experiment_readout(url, "q1", now="2025-07-01")
    with pytest.raises(SourceNotFoundError, match=r"none\.db: no such file"):
        kpis(data, events=url)
    assert not list(tmp_path.iterdir())


def test_kpis_are_those_of_the_dataset_and_of_its_orders(market: Market, data: Dataset) -> None:
    report = kpis(data, by=["segment"], config=KpiConfig(period="quarter"))
    frame = report.to_frame()
    row = frame[frame["dimension"].notna() & frame["period"].isna()].iloc[0]
    same = report.get(row["kpi"], row["basis"], dimension="segment", group=row["group"])
    assert (row["numerator"], row["denominator"]) == (same.figure.numerator, same.figure.denominator)
    assert json.loads(report.to_json())["n_orders"] == report.n_orders == data.lines()["order_id"].nunique()
    assert kpis(market.orders).n_orders > report.n_orders  # whose as_of is later
    with pytest.raises(ConfigError, match=r"by\.0 == 'colour'"):
        kpis(data, by="colour")


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda data: kpis(data, by=3), ConfigError, r"by == 3, must be names of columns; give \['region'\]"),  # type: ignore[arg-type]
        (lambda data: kpis(data, events=3), ConfigError, "the store is a int, must be a URL or an open store"),  # type: ignore[arg-type]
        (lambda _: experiment_readout(3, "q1", now="2025-07-01"), ConfigError, "the store is a int"),  # type: ignore[arg-type]
        (lambda data: power(data, power="x"), ReadoutError, "power == 'x', alpha == 0.05, both must lie between"),  # type: ignore[arg-type]
        (lambda data: power(data, window_days="a"), ReadoutError, "window_days == 'a', must be a whole number"),  # type: ignore[arg-type]
        (lambda data: power(data, effects=["a"]), ReadoutError, r"effects == \['a'\], must be several relative"),  # type: ignore[list-item]
        (lambda data: Ladder.build(data, 3), ConfigError, "config is a int, must be a LadderConfig"),  # type: ignore[arg-type]
        (lambda _: simulate_market(3), ConfigError, "config is a int, must be a MarketConfig"),  # type: ignore[arg-type]
    ],
)
def test_values_of_a_wrong_kind_are_told(
    data: Dataset, ask: Callable[[Dataset], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(data)


@pytest.mark.parametrize("relative", [0.02, 0.05, -0.1, 0.3])
def test_sizes_are_those_of_statsmodels_rounded_up(relative: float) -> None:
    values = np.random.default_rng(3).gamma(1.5, 20.0, 2_000)
    found = sample_size(moments_of_rows(("x",), values[:, None]), Metric("x", Ratio("x")), relative)
    effect = abs(relative) * values.mean() / values.std(ddof=1)
    assert found.n_per_arm == math.ceil(NormalIndPower().solve_power(effect, alpha=0.05, power=0.8))


def test_power_says_units_and_days(data: Dataset) -> None:
    plan = power(data, effects=[0.1, 0.5], window_days=60)
    frame = plan.to_frame()
    needed = frame[frame["metric"] == "revenue_per_account"].set_index("relative")["n_per_arm"]
    assert needed[0.1] / needed[0.5] == pytest.approx((0.5 / 0.1) ** 2, rel=0.05)  # rounded up to whole units
    assert 10 <= plan.n_accounts <= 150
    with pytest.raises(ReadoutError, match=r"power == 1.2, alpha == 0.05, both must lie between 0 and 1"):
        power(data, power=1.2)
    assert datetime(2025, 7, 1, tzinfo=UTC) == data.as_of
