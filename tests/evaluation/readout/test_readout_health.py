"""Each fault planted alone is found, named, and makes the verdict INVALID; a clean log raises none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.errors import ReadoutError
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_event_store import ExperimentLog, readout_from_log
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.metric import Ratio
from recsys.experiments.plan import ExperimentPlan, LockedPlan

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 4, tzinfo=UTC)
Fault = Callable[[ExperimentLog], ExperimentLog]


def _failed(readout: Readout) -> set[str]:
    return {check.name for check in readout.health if check.status == "failed"}


def _status(readout: Readout, name: str) -> str:
    return next(check.status for check in readout.health if check.name == name)


def _mixed(log: ExperimentLog) -> ExperimentLog:
    first = log.assignments.iloc[[0]]
    other = first.assign(arm="engine" if first["arm"].iloc[0] == "control" else "control")
    return replace(log, assignments=pd.concat([log.assignments, other], ignore_index=True))


def _answered_by_the_other_arm(log: ExperimentLog) -> ExperimentLog:
    arms = log.decisions["arm"].to_numpy().copy()
    arms[0] = "engine" if arms[0] == "control" else "control"
    return replace(log, decisions=log.decisions.assign(arm=arms))


def _early_outcome(log: ExperimentLog) -> ExperimentLog:
    times = log.outcomes["occurred_at"].copy()
    times.iloc[0] -= pd.Timedelta(hours=1)
    return replace(log, outcomes=log.outcomes.assign(occurred_at=times))


def _lost_log_of_one_arm(log: ExperimentLog) -> ExperimentLog:
    lost = (log.decisions["arm"] == "engine") & (np.arange(len(log.decisions)) % 4 == 0)
    kept = log.decisions[~lost].reset_index(drop=True)
    offers, outcomes = (
        table[table["decision_id"].isin(kept["decision_id"])].reset_index(drop=True)
        for table in (log.offers, log.outcomes)
    )
    return replace(log, decisions=kept, offers=offers, outcomes=outcomes)


def _altered_plan(log: ExperimentLog) -> ExperimentLog:
    altered = log.plan.plan.model_copy(update={"alpha": 0.1})
    return replace(log, plan=LockedPlan(altered, log.plan.plan_hash, log.plan.started_at))


def _wrong_hash(log: ExperimentLog) -> ExperimentLog:
    """One unit of each arm changes places: the counts stay as they were."""
    arms = log.assignments["arm"].to_numpy().copy()
    a, b = np.argmax(arms == "control"), np.argmax(arms == "engine")
    arms[a], arms[b] = arms[b], arms[a]
    return replace(log, assignments=log.assignments.assign(arm=arms), decisions=log.decisions.assign(arm=arms))


def _stranger(log: ExperimentLog) -> ExperimentLog:
    other = log.decisions.iloc[[0]].assign(decision_id="D-x", unit_id="nobody")
    return replace(log, decisions=pd.concat([log.decisions, other], ignore_index=True))


def test_a_clean_log_raises_no_fault(log: ExperimentLog) -> None:
    readout = readout_from_log(log, NOW)
    assert _failed(readout) == set()
    assert readout.verdict.verdict != "INVALID"
    unchecked = {check.name for check in readout.health if check.status == "not_checked"}
    assert unchecked == {"sample_ratio_segments", "lost_outcomes"}


@pytest.mark.parametrize(
    ("fault", "name", "words"),
    [
        (_early_outcome, "outcome_before_exposure", "outcomes lie before the exposure"),
        (_lost_log_of_one_arm, "sample_ratio_exposed", "exposed units"),
        (_altered_plan, "plan_hash", "altered after its start"),
        (_wrong_hash, "assignment_hash", "2 units are not in the arm that the plan's hash gives"),
        (_stranger, "exposure_without_assignment", "1 units met the experiment without an assignment"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_alone_is_named_and_invalid(log: ExperimentLog, fault: Fault, name: str, words: str) -> None:
    readout = readout_from_log(fault(log), NOW)
    assert _failed(readout) == {name}
    assert readout.verdict.verdict == "INVALID"
    assert {verdict.verdict for verdict in readout.verdict.arms} == {"INVALID"}
    assert name in readout.verdict.reason
    assert words in readout.verdict.reason


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (_mixed, "1 units stand in several arms; they are left out of the effects; 0.03% of all"),
        (_answered_by_the_other_arm, "1 units were answered by another arm than their assignment's; 0.03% of all"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_one_mixed_unit_is_a_warning(log: ExperimentLog, fault: Fault, words: str) -> None:
    readout = readout_from_log(fault(log), NOW)
    assert _failed(readout) == set()
    check = next(check for check in readout.health if check.name == "mixed_assignment")
    assert check.status == "warning"
    assert check.detail.startswith(words)
    assert _status(readout, "sample_ratio_sequential") == "passed"  # its days are those of the other units


def test_51_to_49_with_80_000_accounts(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    arms = np.where(rng.random(80_000) < 0.51, "engine", "control")
    path = tmp_path / "units.parquet"
    pd.DataFrame({"account_id": np.arange(80_000), "arm": arms, "revenue": rng.gamma(1, 10, 80_000)}).to_parquet(path)
    form = TableSpec(unit="account_id", arm="arm", control="control", metrics={"revenue": Ratio("revenue")})
    readout = table_readout(str(path), form, ReadoutConfig(), now=NOW)
    assert _failed(readout) == {"sample_ratio_assigned", "sample_ratio_sequential"}
    assert readout.verdict.verdict == "INVALID"
    planned = replace(form, shares={"control": 0.49, "engine": 0.51})
    assert _failed(table_readout(str(path), planned, ReadoutConfig(), now=NOW)) == set()


def test_one_segment_with_another_split_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    arm = np.array(["control", "engine"])[np.arange(40_000) % 2]
    region = np.where(rng.random(40_000) < 0.2, "n", "s")
    region[(arm == "engine") & (rng.random(40_000) < 0.1)] = "n"
    path = tmp_path / "units.parquet"
    pd.DataFrame({"id": np.arange(40_000), "arm": arm, "y": rng.random(40_000), "region": region}).to_parquet(path)
    form = TableSpec(unit="id", arm="arm", control="control", metrics={"y": Ratio("y")}, segments=("region",))
    assert _failed(table_readout(str(path), form, ReadoutConfig(), now=NOW)) == {"sample_ratio_segments"}


def test_unequal_pasts_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    arm = np.array(["control", "engine"])[np.arange(20_000) % 2]
    past = rng.gamma(1, 10, 20_000) * np.where(arm == "engine", 1.1, 1.0)
    path = tmp_path / "units.parquet"
    pd.DataFrame({"id": np.arange(20_000), "arm": arm, "y": past + rng.gamma(1, 10, 20_000), "past": past}).to_parquet(
        path
    )
    form = TableSpec(unit="id", arm="arm", control="control", metrics={"y": Ratio("y")}, before={"y": Ratio("past")})
    assert _failed(table_readout(str(path), form, ReadoutConfig(), now=NOW)) == {"balance_before"}


def test_what_a_table_can_not_tell_is_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "units.csv"
    pd.DataFrame({"arm": ["a", "b"] * 20, "y": range(40)}).to_csv(path, index=False)
    form = TableSpec(unit=None, arm="arm", control="a", metrics={"y": Ratio("y")})
    readout = table_readout(str(path), form, ReadoutConfig(), now=NOW)
    unchecked = {check.name for check in readout.health if check.status == "not_checked"}
    assert {"plan_hash", "mixed_assignment", "assignment_hash", "maturity", "balance_before"} <= unchecked
    assert any(note.startswith("not checked is not passed") for note in readout.notes)


def test_few_mature_units_are_a_warning_and_hold_back_ship(
    plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]
) -> None:
    log = make_log(plan, lift=2.0)
    early = readout_from_log(log, datetime(2026, 2, 10, tzinfo=UTC))
    assert _status(early, "maturity") == "warning"
    assert early.verdict.verdict == "KEEP RUNNING"
    assert "wait for the last windows and late rows after the planned end, complete windows" in early.verdict.reason
    late = readout_from_log(log, NOW)
    assert _status(late, "maturity") == "passed"
    assert late.verdict.verdict == "SHIP"


def test_a_log_without_an_assignment_is_a_sentence(log: ExperimentLog) -> None:
    with pytest.raises(ReadoutError, match="0 units are assigned to offers-q1"):
        readout_from_log(replace(log, assignments=log.assignments.head(0)), NOW)


def test_arms_of_the_plan_that_differ_from_the_log_are_a_sentence(log: ExperimentLog) -> None:
    renamed = log.assignments.assign(arm=log.assignments["arm"].replace("engine", "other"))
    with pytest.raises(ReadoutError, match="arms other are in the data and not in the plan"):
        readout_from_log(replace(log, assignments=renamed), NOW)


def test_a_window_longer_than_the_run_is_a_sentence(log: ExperimentLog) -> None:
    with pytest.raises(ReadoutError, match="window of 28 days, must not be longer than the run of 26 days"):
        readout_from_log(log, datetime(2026, 1, 31, tzinfo=UTC))


def test_no_order_yet_is_a_sentence(log: ExperimentLog) -> None:
    with pytest.raises(ReadoutError, match="0 orders within 28 days of an assignment"):
        readout_from_log(replace(log, lines=log.lines.head(0)), NOW)


def test_the_error_of_a_check_and_what_is_enough_are_options(tmp_path: Path) -> None:
    path = tmp_path / "units.csv"
    values = [value**3 for value in range(300)]
    pd.DataFrame({"id": range(300), "arm": ["a"] * 130 + ["b"] * 170, "y": values}).to_csv(path, index=False)
    form = TableSpec(unit="id", arm="arm", control="a", metrics={"y": Ratio("y")})
    loose = table_readout(str(path), form, ReadoutConfig(), now=NOW)
    assert _failed(loose) == set()
    assert _status(loose, "enough_units") == "passed"
    strict = table_readout(str(path), form, ReadoutConfig(health_alpha=0.05, tail_tolerance=0.001), now=NOW)
    assert _failed(strict) == {"sample_ratio_assigned"}
    assert _status(strict, "enough_units") == "warning"
    assert strict.effects[0].decided_by == "randomisation"
