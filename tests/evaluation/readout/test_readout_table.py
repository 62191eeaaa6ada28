"""The readout of a table: fields, hand-made figures, recomputation from its sums, wrong inputs, same bytes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys.cli import main as door
from recsys.errors import DataError, ReadoutError
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.verdict import VerdictOverride
from recsys.evaluation.statistics.metric import Margin, Ratio, parse_margins, parse_ratios
from recsys.reporting.readout_page import write_report

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FORM = TableSpec(
    unit="account_id",
    arm="arm",
    control="control",
    metrics={"revenue": Ratio("revenue"), "orders": Ratio("orders"), "aov": Ratio("revenue", "orders")},
)
EXAMPLE = pd.DataFrame(
    {
        "account_id": ["a", "b", "c", "d", "e", "f", "g", "h"],
        "arm": ["control"] * 4 + ["engine"] * 4,
        "revenue": [10.0, 0.0, 30.0, 20.0, 40.0, 20.0, 0.0, 60.0],
        "orders": [1, 0, 2, 1, 2, 1, 0, 2],
        "revenue_before": [8.0, 1.0, 20.0, 12.0, 20.0, 8.0, 2.0, 31.0],
        "region": ["n", "n", "s", "s", "n", "n", "s", "s"],
    }
)


def _random(n: int = 4_000, seed: int = 0, arms: tuple[str, ...] = ("control", "engine")) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    orders = rng.poisson(0.8, n)
    past = rng.gamma(1.0, 30.0, n)
    return pd.DataFrame(
        {
            "account_id": [f"a{i}" for i in range(n)],
            "arm": np.array(arms)[np.arange(n) % len(arms)],
            "revenue": orders * rng.lognormal(3, 1, n) + past,
            "orders": orders,
            "revenue_before": past,
            "left": (rng.random(n) < 0.2).astype(int),
            "exposed": (rng.random(n) < 0.5).astype(int),
            "region": rng.choice(["n", "s"], n),
        }
    )


def _read(frame: pd.DataFrame, tmp_path: Path, form: TableSpec = FORM, suffix: str = "csv", **options: Any):
    path = tmp_path / f"units.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    override = options.pop("override", None)
    return table_readout(str(path), form, ReadoutConfig(**options), now=NOW, override=override)


class TestByHand:
    def test_a_mean(self, tmp_path: Path) -> None:
        found = _read(EXAMPLE, tmp_path).effect("revenue", "engine")
        assert (found.control_mean, found.arm_mean) == ((10 + 0 + 30 + 20) / 4, (40 + 20 + 0 + 60) / 4)
        assert found.effect == 30 - 15
        # variances 500/3 and 2000/3, each over 4 units
        assert found.standard_error == pytest.approx(math.sqrt(500 / 3 / 4 + 2000 / 3 / 4))
        assert found.p_value == pytest.approx(
            stats.ttest_ind([40, 20, 0, 60], [10, 0, 30, 20], equal_var=False).pvalue, abs=1e-12
        )
        assert (found.n_control, found.n_arm) == (4, 4)

    def test_a_ratio_by_the_delta_method(self, tmp_path: Path) -> None:
        found = _read(EXAMPLE, tmp_path).effect("aov", "engine")
        assert (found.control_mean, found.arm_mean) == (60 / 4, 120 / 5)
        # control: residuals 10-15, 0, 30-30, 20-15 -> squares 25 + 25 over 3; arm: 40-48, 20-24, 0, 60-48
        control = (25 + 0 + 0 + 25) / 3 / 4 / 1.0**2
        arm = (64 + 16 + 0 + 144) / 3 / 4 / 1.25**2
        assert found.standard_error == pytest.approx(math.sqrt(control + arm))
        assert found.denominator_metric == "orders"

    def test_cuped_takes_out_what_the_past_explains(self, tmp_path: Path) -> None:
        form = replace(FORM, before={"revenue": Ratio("revenue_before")})
        found = _read(EXAMPLE, tmp_path, form).effect("revenue", "engine")
        rows = EXAMPLE[["revenue", "revenue_before"]].to_numpy()
        theta = np.cov(rows.T)[0, 1] / np.cov(rows.T)[1, 1]
        gap = rows[4:].mean(axis=0) - rows[:4].mean(axis=0)
        assert found.effect == pytest.approx(gap[0] - theta * gap[1])
        assert (found.control_mean, found.arm_mean) == (15, 30)
        assert found.variance_ratio < 0.2
        assert "CUPED" in found.estimator


FIELDS = frozenset(
    [
        "metric",
        "arm",
        "control_mean",
        "arm_mean",
        "n_control",
        "n_arm",
        "effect",
        "effect_low",
        "effect_high",
        "relative",
        "relative_low",
        "relative_high",
        "p_value",
        "p_adjusted",
        "anytime_low",
        "anytime_high",
    ]
)


class TestJson:
    def test_every_field_of_every_arm_and_metric(self, tmp_path: Path) -> None:
        readout = _read(_random(3_000, arms=("control", "engine", "popular")), tmp_path)
        written = json.loads(write_report(readout, tmp_path / "out")[0].read_text())
        assert written["schema_version"] == 1
        assert len(written["effects"]) == 2 * 3
        for effect in written["effects"]:
            assert set(effect) >= FIELDS
            assert effect["anytime_low"] < effect["effect_low"] < effect["effect"] < effect["effect_high"]
        assert written["verdict"]["verdict"] in {"SHIP", "DISCUSS", "ROLL BACK"}
        assert [check["name"] for check in written["health"]][:2] == ["plan_hash", "sample_ratio_assigned"]

    def test_every_effect_can_be_recomputed_from_the_sums(self, tmp_path: Path) -> None:
        readout = _read(_random(), tmp_path)
        written = json.loads(write_report(readout, tmp_path / "out")[0].read_text())
        sums = next(part for part in written["sums"] if part["slice"] == "all")["arms"]
        names = sums["control"]["columns"]
        k = len(names)
        for metric in ("revenue", "aov"):
            means, variances = {}, {}
            for arm, part in sums.items():
                cov = np.zeros((k, k))
                cov[np.tril_indices(k)] = part["cov"]
                cov = cov + cov.T - np.diag(np.diag(cov))
                mean = dict(zip(names, part["mean"], strict=True))
                top, bottom = mean["revenue"], mean["orders"] if metric == "aov" else 1.0
                gradient = np.zeros(k)
                gradient[names.index("revenue")] = 1 / bottom
                if metric == "aov":
                    gradient[names.index("orders")] = -top / bottom**2
                means[arm], variances[arm] = top / bottom, gradient @ cov @ gradient / part["n"]
            effect = readout.effect(metric, "engine")
            assert effect.effect == pytest.approx(means["engine"] - means["control"], rel=1e-12)
            assert effect.standard_error == pytest.approx(math.sqrt(sum(variances.values())), rel=1e-12)

    def test_the_same_table_gives_the_same_bytes(self, tmp_path: Path) -> None:
        frame = _random(50_000)
        form = replace(FORM, before={"revenue": Ratio("revenue_before")}, segments=("region",), exposed="exposed")

        def written(name: str) -> list[bytes]:
            readout = _read(frame, tmp_path, form, cap_percentile=0.99)
            return [path.read_bytes() for path in write_report(readout, tmp_path / name)]

        first, second = written("one"), written("two")
        assert first == second

    @pytest.mark.parametrize("suffix", ["csv", "parquet"])
    def test_csv_and_parquet_agree(self, tmp_path: Path, suffix: str) -> None:
        frame = _random()
        found = _read(frame, tmp_path, suffix=suffix).effect("revenue", "engine")
        by_arm = frame.groupby("arm")["revenue"].mean()
        assert found.effect == pytest.approx(by_arm["engine"] - by_arm["control"], rel=1e-12)


class TestOptions:
    def test_a_cap_cuts_the_primary_alone(self, tmp_path: Path) -> None:
        frame = _random()
        readout = _read(frame, tmp_path, cap_percentile=0.95)
        cap = frame.loc[frame["revenue"] > 0, "revenue"].quantile(0.95)
        assert readout.caps == {"revenue": pytest.approx(cap)}
        capped = frame["revenue"].clip(upper=cap).groupby(frame["arm"]).mean()
        assert readout.effect("revenue", "engine").effect == pytest.approx(capped["engine"] - capped["control"])
        assert readout.histogram is not None
        assert readout.histogram.cap == pytest.approx(cap)

    def test_segments_are_one_family(self, tmp_path: Path) -> None:
        form = replace(FORM, segments=("region",))
        frame = _random()
        readout = _read(frame, tmp_path, form)
        assert [(part.segment, part.level) for part in readout.segments] == [("region", "n"), ("region", "s")]
        north = frame[frame["region"] == "n"].groupby("arm")["revenue"].mean()
        assert readout.segments[0].effect == pytest.approx(north["engine"] - north["control"])
        assert max(part.p_adjusted for part in readout.segments) <= 2 * max(part.p_value for part in readout.segments)
        assert sum(part.slice.startswith("region=") for part in readout.sums) == 2

    def test_the_grid_tries_cuped_cap_and_exposed(self, tmp_path: Path) -> None:
        form = replace(FORM, before={"revenue": Ratio("revenue_before")}, exposed="exposed")
        cells = _read(_random(), tmp_path, form).sensitivity
        assert {(cell.cuped, cell.cap, cell.triggered) for cell in cells} == {
            (cuped, cap, triggered) for cuped in (True, False) for cap in (None, 0.99) for triggered in (True, False)
        }

    def test_a_decomposition_adds_up(self, tmp_path: Path) -> None:
        form = replace(FORM, chain=("orders", "revenue"))
        readout = _read(_random(), tmp_path, form)
        found = readout.decompositions[0]
        assert sum(factor.log_effect for factor in found.factors) == pytest.approx(found.total.log_effect)
        effect = readout.effect("revenue", "engine")
        assert found.total.log_effect == pytest.approx(math.log(effect.arm_mean / effect.control_mean))

    def test_incremental_against_attributed(self, tmp_path: Path) -> None:
        frame = _random(20_000)
        credit = np.where(frame["arm"] == "engine", frame["orders"] * 10.0, 0.0)
        moved = frame.assign(credited=credit)
        added = moved.assign(revenue=moved["revenue"] + credit)
        form = replace(FORM, attributed="credited")
        only_moved, all_added = (_read(data, tmp_path, form).incremental[0] for data in (moved, added))
        assert only_moved.low < 0 < only_moved.high
        assert all_added.low < 1 < all_added.high
        assert all_added.attributed == pytest.approx(credit.sum() / 10_000)

    def test_rows_of_one_unit_are_added_up_when_asked(self, tmp_path: Path) -> None:
        doubled = pd.concat([EXAMPLE, EXAMPLE.iloc[[0]]])
        form = replace(FORM, aggregate=True)
        found = _read(doubled, tmp_path, form)
        assert found.effect("revenue", "engine").control_mean == (20 + 0 + 30 + 20) / 4
        assert any("9 rows were added up to 8 units" in note for note in found.notes)

    def test_the_past_of_a_unit_is_not_added_up(self, tmp_path: Path) -> None:
        doubled = pd.concat([EXAMPLE, EXAMPLE.assign(revenue=0.0, orders=0)])
        form = replace(FORM, aggregate=True, before={"revenue": Ratio("revenue_before")})
        found = _read(doubled, tmp_path, form).effect("revenue", "engine")
        expected = _read(EXAMPLE, tmp_path, replace(form, aggregate=False)).effect("revenue", "engine")
        assert (found.effect, found.standard_error) == pytest.approx((expected.effect, expected.standard_error))

    def test_refunds_count_and_are_named_and_no_relative_effect_is_shown(self, tmp_path: Path) -> None:
        refunded = EXAMPLE.assign(revenue=[-50, 0, 30, 20, 40, 20, 0, 60])
        found = _read(refunded, tmp_path)
        assert found.effect("revenue", "engine").relative is None
        assert any("1 units have a revenue below zero" in note for note in found.notes)

    def test_an_override_is_kept_with_its_reason(self, tmp_path: Path) -> None:
        readout = _read(EXAMPLE, tmp_path, override=VerdictOverride("SHIP", "contract signed"))
        assert readout.verdict.override == VerdictOverride("SHIP", "contract signed")
        with pytest.raises(ReadoutError, match="override 'SHIP' without a reason"):
            _read(EXAMPLE, tmp_path, override=VerdictOverride("SHIP", " "))


class TestWrongInput:
    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda f: f.assign(arm=f["arm"].replace("control", "a")), "control 'control' is not among the arms"),
            (lambda f: f[f["arm"] == "control"], "one arm only, control, must be control and another"),
            (lambda f: f.drop(index=[4, 5, 6]), "arm 'engine' has 1 unit, must have 2 or more"),
            (lambda f: f.assign(revenue=5), "column 'revenue' of 'revenue' is 5 for every unit, must vary"),
            (lambda f: f.assign(orders=0), "column 'orders' of 'orders' is 0 for every unit"),
            (lambda f: f.assign(orders=[1, 1, 1, 1, 0, 0, 0, 0]), "'orders' adds up to 0 in arm 'engine'"),
            (lambda f: pd.concat([f, f.iloc[[0]]]), "9 rows of 8 units, must be one row a unit"),
            (lambda f: f.assign(revenue=["x", *f["revenue"][1:]]), "1 rows have no number in 'revenue'"),
            (lambda f: f.assign(revenue=[None, *f["revenue"][1:]]), "1 rows have .* in 'revenue'"),
            (lambda f: f.assign(arm=[None, *f["arm"][1:]]), "1 rows have no 'arm'"),
            (lambda f: f.rename(columns={"revenue": "revenues"}), "column 'revenue' is not in the data; did you mean"),
            (lambda f: f.head(0), "no row of data"),
        ],
    )
    def test_data(self, tmp_path: Path, change, sentence: str) -> None:
        with pytest.raises((ReadoutError, DataError), match=sentence) as stop:
            _read(change(EXAMPLE), tmp_path)
        assert "\n" not in str(stop.value)

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"metrics": {}}, "0 metrics, must be 1 or more"),
            ({"primary": "x"}, "primary 'x' is no metric"),
            ({"primary": "aov"}, "primary 'aov' is a ratio, must be a mean per assigned unit"),
            ({"before": {"x": Ratio("revenue")}}, "covariate 'x' is no metric"),
            ({"guardrails": {"x": Margin(1)}}, "guardrail 'x' is no metric"),
            ({"shares": {"control": 0.5, "other": 0.5}}, "must name every arm of the data; engine has none"),
            ({"shares": {"control": 0.9}}, "shares control 0.9, must name every arm of the data; engine has none"),
            (
                {"shares": {"control": 0.9, "engine": 0.2}},
                "shares control 0.9, engine 0.2 add up to 1.1, must add up to 1",
            ),
            ({"shares": {"control": 0.3, "engine": 0.3, "popular": 0.4}}, "arm 'popular' has no unit"),
            ({"shares": {"control": 1, "engine": 0}}, "must be above 0"),
        ],
    )
    def test_options(self, tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
        with pytest.raises(ReadoutError, match=sentence):
            _read(EXAMPLE, tmp_path, replace(FORM, **change))

    @pytest.mark.parametrize("text", ["revenue", "=revenue", "a=b/c/d", "a=", "a=b/"])
    def test_a_metric_that_can_not_be_read(self, text: str) -> None:
        with pytest.raises(ReadoutError, match="must be NAME=COLUMN or NAME=COLUMN/COLUMN"):
            parse_ratios("--metric", [text])

    @pytest.mark.parametrize("text", ["left", "left=x", "left=-1", "left=1:sideways", "left=nan"])
    def test_a_guardrail_that_can_not_be_read(self, text: str) -> None:
        with pytest.raises(ReadoutError, match="guardrail"):
            parse_margins([text])

    def test_a_name_twice(self) -> None:
        with pytest.raises(ReadoutError, match="'a' stands twice"):
            parse_ratios("--metric", ["a=b", "a=c"])


class TestCommand:
    def _run(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            door(["experiment", "readout", *arguments])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    def _arguments(self, tmp_path: Path, frame: pd.DataFrame) -> list[str]:
        path = tmp_path / "units.csv"
        frame.to_csv(path, index=False)
        return ["--data", str(path), "--unit", "account_id", "--arm", "arm", "--control", "control"]

    def test_the_form_for_a_table(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = self._arguments(tmp_path, _random())
        arguments += ["--metric", "revenue=revenue", "--metric", "aov=revenue/orders", "--metric", "left=left"]
        arguments += [
            "--covariate",
            "revenue=revenue_before",
            "--guardrail",
            "left=0.05:lower",
            "--share",
            "control=.5",
        ]
        arguments += ["--share", "engine=.5", "--decompose", "orders,revenue", "--out", str(tmp_path / "out")]
        code, out, _ = self._run(arguments, capsys)
        assert code == 0
        assert "aov" in out
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "readout.html",
            "readout.json",
            "readout.md",
        ]
        written = json.loads((tmp_path / "out" / "readout.json").read_text())
        left = next(effect for effect in written["effects"] if effect["metric"] == "left")
        assert (left["role"], left["margin"], left["direction"]) == ("guardrail", 0.05, "lower_is_better")

    def test_an_override_needs_a_known_verdict(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [*self._arguments(tmp_path, EXAMPLE), "--metric", "revenue=revenue", "--override", "maybe"]
        code, _, err = self._run(arguments, capsys)
        assert code == 1
        assert err.startswith("Error: --override 'maybe', must be one of INVALID, ROLL BACK, SHIP")

    def test_a_share_that_can_not_be_read(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [*self._arguments(tmp_path, EXAMPLE), "--metric", "revenue=revenue", "--share", "control"]
        assert self._run(arguments, capsys)[2] == "Error: --share 'control', must be ARM=NUMBER, as control=0.5\n"

    def test_alpha_out_of_range(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [*self._arguments(tmp_path, EXAMPLE), "--metric", "revenue=revenue", "--alpha", "2"]
        assert "alpha == 2.0" in self._run(arguments, capsys)[2]

    def test_out_is_a_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [*self._arguments(tmp_path, EXAMPLE), "--metric", "revenue=revenue", "--out"]
        assert "is a file, must be a folder" in self._run([*arguments, str(tmp_path / "units.csv")], capsys)[2]
