"""A quantile of units as a metric: from the command to every output, and where it is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys.cli.main import main
from recsys.errors import ReadoutError
from recsys.evaluation.readout.sums.from_sums import stored_readout

QUANTILE = "quantile(revenue,0.9)"
METRICS = {"revenue": "revenue", "p90": QUANTILE}


def _rows(n: int = 4_000) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    spent = (rng.random(n) < 0.3) * rng.lognormal(3, 1, n)
    is_treated = np.arange(n) % 2 == 0
    return pd.DataFrame(
        {
            "account_id": np.arange(n).astype(str),
            "arm": np.where(is_treated, "offers", "control"),
            "revenue": np.where(is_treated, 1.6, 1.0) * spent,
            "orders": (spent > 0).astype(int),
            "company": np.arange(n) // 8 * 2 + is_treated,
        }
    )


def _run(options: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["experiment", "readout", *options])
    assert stop.value.code == 0


def test_a_quantile_comes_out_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = _rows()
    frame.to_csv(tmp_path / "units.csv", index=False)
    told = ["--metric", "revenue=revenue", "--metric", f"p90={QUANTILE}", "--money", "p90", "--out", str(tmp_path)]
    _run(["--data", str(tmp_path / "units.csv"), "--unit", "account_id", *told])
    assert "p90" in capsys.readouterr().out
    written = json.loads((tmp_path / "readout.json").read_text())
    (found,) = [effect for effect in written["effects"] if effect["metric"] == "p90"]
    by_arm = {arm: np.sort(part.to_numpy())[1_799] for arm, part in frame.groupby("arm")["revenue"]}
    assert found["effect"] == pytest.approx(by_arm["offers"] - by_arm["control"])
    assert 0 < found["effect_low"] < found["effect"] < found["effect_high"]
    assert (found["role"], found["decided_by"], found["unit"]) == ("secondary", "fixed", "money")
    assert (found["anytime_low"], found["decision_low"]) == (None, found["effect_low"])
    assert found["estimator"] == "difference of 0.9 quantiles of units, order statistics"
    assert written["metric_columns"]["p90"] == QUANTILE
    for name in ("readout.html", "readout.md"):
        page = (tmp_path / name).read_text().replace("\u00a0", " ")
        assert ("p90" in page, "not available" in page, "nan" in page.lower().split()) == (True, True, False)
    again = stored_readout(tmp_path / "readout.json").effect("p90", "offers")
    assert (again.effect, again.effect_low, again.p_adjusted) == tuple(
        found[name] for name in ("effect", "effect_low", "p_adjusted")
    )


def test_python_takes_a_quantile_and_gives_it_in_the_frame() -> None:
    found = recsys.readout(_rows(), arm="arm", control="control", unit="account_id", metrics=METRICS).to_frame()
    row = found[found["metric"] == "p90"].iloc[0]
    assert row["effect_low"] > 0
    assert math.isnan(float(row["anytime_low"]))


def test_order_lines_give_a_quantile_of_accounts() -> None:
    frame = _rows()
    bought = frame[frame["revenue"] > 0]
    orders = pd.DataFrame(
        {
            "account_id": bought["account_id"],
            "order_id": bought["account_id"],
            "product_id": "p",
            "ordered_at": pd.Timestamp("2026-01-10"),
            "quantity": 1.0,
            "unit_price": bought["revenue"],
        }
    )
    late = orders.head(1).assign(order_id="late", ordered_at=pd.Timestamp("2026-03-01"))
    found = recsys.readout(
        frame[["account_id", "arm"]],
        arm="arm",
        control="control",
        unit="account_id",
        metrics={"p90": QUANTILE},
        orders=pd.concat([orders, late], ignore_index=True),
        started="2026-01-05",
    )
    of_rows = recsys.readout(frame, arm="arm", control="control", unit="account_id", metrics=METRICS)
    names = ("effect", "effect_low", "effect_high", "p_value")
    by_orders, by_rows = found.effect("p90", "offers"), of_rows.effect("p90", "offers")
    assert [getattr(by_orders, name) for name in names] == pytest.approx([getattr(by_rows, name) for name in names])


def test_before_the_end_a_quantile_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _rows().to_csv(tmp_path / "units.csv", index=False)
    told = ["--metric", "revenue=revenue", "--metric", f"p90={QUANTILE}", "--interim"]
    _run(["--data", str(tmp_path / "units.csv"), "--unit", "account_id", *told])
    said = " ".join(capsys.readouterr().out.split())
    assert "no anytime-valid interval of a quantile is known: p90 can be read once, at the end" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metrics": METRICS, "guardrails": {"p90": "2%:higher"}}, "guardrail of 'p90', must be of a mean or a ratio"),
        ({"metrics": METRICS, "covariates": {"p90": "orders"}}, "covariate of 'p90', must be of a mean or a ratio"),
        ({"metrics": METRICS, "covariates": {"revenue": QUANTILE}}, "only a metric can be a quantile"),
        ({"metrics": METRICS, "quality": {"seen": QUANTILE}}, "only a metric can be a quantile"),
        ({"metrics": {"r": (QUANTILE, "orders")}}, "it is no part of a ratio"),
        ({"metrics": METRICS, "cluster": "company"}, "with cluster 'company', must be of units assigned by themselves"),
        ({"metrics": {"m": "revenue", "half": "quantile(revenue,0.5)"}}, "is 0 in arm 'control', the value of 7"),
        ({"metrics": {"m": "revenue", "q": "quantile(revenue,1.5)"}}, "must be a share between 0 and 1"),
        ({"metrics": {"m": "revenue", "q": "quantile(orders,0.9)"}}, "is of yes and no, must be of amounts"),
    ],
)
def test_a_quantile_is_refused_where_it_says_nothing(options: dict[str, object], words: str) -> None:
    with pytest.raises(ReadoutError, match="(?s)" + words.replace("(", r"\(")):
        recsys.readout(_rows(), arm="arm", control="control", unit="account_id", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "units.csv", "--primary", "p90"], "primary 'p90' is a quantile, must be a mean per assigned unit"),
        (["--data", "units.csv", "--cap", "p90=0.99"], "cap of 'p90', must be of a mean or a ratio"),
        (["--sums", "units.csv"], "quantile with sums, must go with rows"),
    ],
)
def test_the_command_refuses_a_quantile_likewise(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _rows(1_000).to_csv("units.csv", index=False)
    with pytest.raises(SystemExit):
        main(["experiment", "readout", *options, "--metric", "revenue=revenue", "--metric", f"p90={QUANTILE}"])
    assert words in " ".join(capsys.readouterr().err.split())
