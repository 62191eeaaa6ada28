"""The readout as somebody meets it who brings a file of their own, or reads a store with a plan of their own."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.cli import main
from recsys.contracts.events import ExperimentRecord, PostedLine, RecordedAssignment
from recsys.errors import MissingColumnError, ReadoutError
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_event_store import store_readout
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.from_table import with_plan as planned
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.metric import Ratio
from recsys.evaluation.statistics.significance_tests import sample_ratio_p_value
from recsys.events.memory import MemoryStore
from recsys.events.store import EventStore, open_store
from recsys.experiments.assignment import assign_many
from recsys.experiments.plan import Arm, ExperimentPlan, LockedPlan, canonical_json, plan_hash
from tests.support.stored_experiments import heartbeat

pytestmark = pytest.mark.slow

START = datetime(2026, 1, 5, tzinfo=UTC)
NOW = START + timedelta(days=28)
PROMISED = [
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
Write = Callable[[pd.DataFrame], str]


def _plan(**changes: object) -> ExperimentPlan:
    return ExperimentPlan(
        id="q1",
        arms=(Arm(name="control", weight=1, is_control=True), Arm(name="engine", weight=1)),
        planned_start=START,
        planned_end=NOW,
        planned_size=500,
        attribution_window_days=14,
    ).model_copy(update=changes)


def _table(n: int = 2_000, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    orders = rng.poisson(0.7, n)
    return pd.DataFrame(
        {
            "account_id": [f"A{i}" for i in range(n)],
            "arm": np.where(rng.random(n) < 0.5, "control", "engine"),
            "orders": orders,
            "revenue": (orders * rng.lognormal(3, 0.5, n)).round(2),
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a table as CSV and name the file."""

    def _write(frame: pd.DataFrame) -> str:
        frame.to_csv(tmp_path / "arms.csv", index=False)
        return str(tmp_path / "arms.csv")

    return _write


def _read(location: str, **options: object) -> Readout:
    metrics = {"revenue": Ratio("revenue"), "aov": Ratio("revenue", "orders")}
    form = TableSpec(unit="account_id", arm="arm", control="control", metrics=metrics, **options)  # type: ignore[arg-type]
    return table_readout(location, planned(form), ReadoutConfig(), now=NOW)


def _code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as stop:
        main(["experiment", "readout", *arguments])
    return stop.value.code


def _status(readout: Readout, name: str) -> str:
    return next(check.status for check in readout.health if check.name == name)


def test_the_json_is_strict_and_has_what_was_promised(write: Write, tmp_path: Path) -> None:
    def _refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    arguments = ["--unit", "account_id", "--metric", "revenue=revenue", "--metric", "aov=revenue/orders"]
    location = write(_table().replace({"arm": {"engine": "試験 <b>|"}}))
    assert _code("--data", location, *arguments, "--out", str(tmp_path / "out")) == 0
    found = json.loads((tmp_path / "out" / "readout.json").read_text(encoding="utf-8"), parse_constant=_refuse)
    assert {"health", "verdict"} <= set(found)
    for effect in found["effects"]:
        assert [effect[name] for name in PROMISED].count(None) == 0
    assert "<b>" not in (tmp_path / "out" / "readout.html").read_text(encoding="utf-8").partition("試験 ")[2][:4]


def test_many_small_segments_of_a_small_arm_are_no_fault(write: Write) -> None:
    rng = np.random.default_rng(3)
    frame = _table(6_000).assign(arm=np.where(rng.random(6_000) < 0.02, "control", "engine"))
    frame["country"] = rng.integers(0, 1_500, len(frame)).astype(str)
    found = _read(write(frame), shares={"control": 0.02, "engine": 0.98}, segments=("country",))
    assert _status(found, "sample_ratio_segments") == "passed"


def test_the_sample_ratio_of_few_units_keeps_its_error() -> None:
    rng = np.random.default_rng(0)
    controls = rng.binomial(20, 0.02, 20_000)
    p_values = sample_ratio_p_value(np.column_stack([controls, 20 - controls]), [0.02, 0.98])
    assert (p_values < 0.01).mean() <= 0.01
    assert sample_ratio_p_value([0, 0], [0.5, 0.5]) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.assign(revenue=frame["revenue"] * 1e150), "must lie within ±1e\\+60"),
        (lambda frame: frame.assign(revenue=np.where(frame["arm"] == "control", 5.1, 6.3)), "must vary within one"),
    ],
)
def test_values_that_can_not_be_judged_are_a_sentence(
    write: Write, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ReadoutError, match=message):
            _read(write(change(_table())))


def test_a_share_that_is_no_number_does_not_pass_the_sample_ratio(write: Write) -> None:
    with pytest.raises(ReadoutError, match="must be above 0 and finite"):
        _read(write(_table()), shares={"control": float("nan"), "engine": 1.0})


def test_an_arm_column_of_ids_is_a_short_sentence(write: Write) -> None:
    frame = _table(50)
    with pytest.raises(ReadoutError, match=r"is not among the arms: .* and 40 more; name one of them"):
        _read(write(frame.assign(arm=frame["account_id"])))


def test_a_segment_that_is_a_value_is_a_sentence(write: Write) -> None:
    with pytest.raises(ReadoutError, match="segment 'orders' is a value of a metric too"):
        _read(write(_table()), segments=("orders",))


def test_a_ratio_that_is_the_same_for_all_shows_no_effect(write: Write) -> None:
    frame = _table()
    effect = _read(write(frame.assign(revenue=frame["orders"] * 0.1))).effect("aov", "engine")
    assert effect.p_value > 0.99
    assert effect.effect_low == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("direction", "verdict"), [("higher_is_better", "SHIP"), ("lower_is_better", "ROLL BACK")])
def test_the_plan_says_which_way_of_the_primary_is_good(write: Write, direction: str, verdict: str) -> None:
    plan = _plan(primary="revenue", primary_direction=direction, secondary=("aov", "margin"))
    frame = _table()
    names = np.array([arm.name for arm in plan.arms])
    frame["arm"] = names[assign_many(plan, frame["account_id"].tolist())]
    frame["revenue"] += np.where(frame["arm"] == "engine", 5.0, 0.0)
    found = _read(write(frame), plan=LockedPlan(plan, plan_hash(plan), START))
    assert found.verdict.verdict == verdict
    assert found.effect("revenue", "engine").direction == direction
    assert "secondary metrics of the plan that are not measured here: margin" in found.notes


def test_a_guardrail_on_attrition_needs_no_word_on_which_way_is_bad(write: Write) -> None:
    frame = _table()
    frame["revenue"] += np.where(frame["arm"] == "engine", 30.0, 0.0)
    frame["attrition"] = (np.arange(len(frame)) % np.where(frame["arm"] == "engine", 2, 10) == 0).astype(int)
    arguments = ["--data", write(frame), "--unit", "account_id", "--guardrail", "attrition=0.02"]
    arguments += ["--metric", "revenue=revenue", "--metric", "attrition=attrition"]
    out = Path(arguments[1]).parent
    assert _code(*arguments, "--out", str(out)) == 0
    found = json.loads((out / "readout.json").read_text(encoding="utf-8"))
    assert found["verdict"]["verdict"] == "ROLL BACK"


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        ({"account_id": None}, [], "1 rows have no 'account_id', all must have one"),
        ({"arm": None}, [], "1 rows have no 'arm', all must have one"),
        ({}, ["--metric", "margin=margin"], "metric 'margin' uses 'margin', must use what is read off orders: "),
        ({}, ["--segment", "revenue"], "segment 'revenue' is a value of a metric too"),
    ],
)
def test_arms_with_orders_are_refused_by_a_sentence(
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    more: list[str],
    message: str,
) -> None:
    frame = _table(200)
    days = pd.Timestamp("2026-01-06") + pd.to_timedelta(np.arange(200) % 40, unit="D")
    orders = pd.DataFrame({"order_id": np.arange(200), "account_id": frame["account_id"], "ordered_at": days})
    orders = orders.assign(product_id="P1", quantity=1, unit_price=np.arange(200) + 1.0)
    orders.to_csv(tmp_path / "orders.csv", index=False)
    for name, value in change.items():
        frame.loc[3, name] = value
    arguments = ["--data", write(frame), "--unit", "account_id", "--orders", str(tmp_path / "orders.csv")]
    assert _code(*arguments, "--started", "2026-01-05", *more) == 1
    assert message in capsys.readouterr().err


def _fill(store: EventStore, plan: ExperimentPlan) -> list[str]:
    units = [f"A{i}" for i in range(1_000)]
    rng = np.random.default_rng(1)
    store.append([ExperimentRecord(plan.id, plan.version, canonical_json(plan), plan_hash(plan), START)])
    arms = [plan.arms[at].name for at in assign_many(plan, units)]
    store.append(
        [
            RecordedAssignment(
                experiment_id="q1", version=1, unit_id=unit, unit="account", arm=arm, probability=0.5, assigned_at=START
            )
            for unit, arm in zip(units, arms, strict=True)
        ]
    )
    at = START + timedelta(days=2)
    store.append(
        [
            PostedLine(
                order_id=f"O{i}",
                line_id="1",
                product_id="P1",
                quantity=1.0,
                ordered_at=at,
                recorded_at=at,
                account_id=unit,
                unit_price=float(rng.lognormal(3, 0.5)),
            )
            for i, unit in enumerate(units)
            if rng.random() < 0.6
        ]
    )
    store.append([heartbeat(NOW)])  # the log reaches until then
    return units


class TestSegmentsOfAStore:
    def test_without_accounts_they_are_named_as_not_checked(self) -> None:
        store = MemoryStore()
        _fill(store, _plan(segments=("country",)))
        found = store_readout(store, "q1", NOW)
        check = next(check for check in found.health if check.name == "sample_ratio_segments")
        assert (check.status, check.detail) == ("not_checked", "the values of country are not in the data")
        assert any("give them as accounts" in note for note in found.notes)
        assert found.segments == ()

    def test_with_accounts_they_are_read_out(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'offers.db'}"
        store = open_store(url)
        units = _fill(store, _plan(segments=("country",)))
        store.close()
        rows = pd.DataFrame({"account_id": units, "country": np.where(np.arange(len(units)) % 2, "DE", "FR")})
        rows.iloc[:-100].to_csv(tmp_path / "accounts.csv", index=False)
        arguments = ["--store", url, "--as-of", NOW.isoformat(), "--accounts", str(tmp_path / "accounts.csv")]
        assert _code("q1", *arguments, "--out", str(tmp_path)) == 0
        found = json.loads((tmp_path / "readout.json").read_text(encoding="utf-8"))
        by_level = {row["level"]: row["n_control"] + row["n_arm"] for row in found["segments"]}
        assert by_level == {"DE": 450, "FR": 450, "(none)": 100}

    def test_accounts_must_have_the_segment_and_one_row_each(self, tmp_path: Path) -> None:
        store = MemoryStore()
        units = _fill(store, _plan(segments=("country",)))
        location = tmp_path / "accounts.csv"
        pd.DataFrame({"account_id": units, "land": "DE"}).to_csv(location, index=False)
        with pytest.raises(MissingColumnError, match="column 'country' is not in the data"):
            store_readout(store, "q1", NOW, accounts=str(location))
        pd.DataFrame({"account_id": [*units, "A0"], "country": "DE"}).to_csv(location, index=False)
        with pytest.raises(ReadoutError, match="1,001 rows of 1,000 accounts, must be one row an account"):
            store_readout(store, "q1", NOW, accounts=str(location))

    def test_a_table_has_segments_of_its_own(self, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
        location = write(_table())
        arguments = ["--data", location, "--metric", "revenue=revenue", "--accounts", location]
        assert _code(*arguments) == 1
        assert "--accounts does not apply to --data" in capsys.readouterr().err
