"""Faults planted into a clean experiment: each is found and named in a sentence, and the clean one raises none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys.errors import ReadoutError
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_event_store import ExperimentLog, readout_from_log
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.health import HealthCheck
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.metric import Ratio
from tests.support.proofs import write_proof

NOW = datetime(2026, 3, 2, tzinfo=UTC)
FORM = TableSpec(
    unit="account_id",
    arm="arm",
    control="control",
    metrics={"revenue": Ratio("revenue"), "buyers": Ratio("buyers"), "aov": Ratio("revenue", "orders")},
    before={"revenue": Ratio("revenue_before")},
    quality={"page views logged": Ratio("views")},
    segments=("earlier_arm",),
    assigned_at="assigned_at",
)


def _units(n: int = 4_000, seed: int = 0) -> pd.DataFrame:
    """A clean A/A experiment of four weeks."""
    rng = np.random.default_rng(seed)
    orders = rng.poisson(1.0, n)
    past = rng.gamma(2.0, 20.0, n)
    return pd.DataFrame(
        {
            "account_id": [f"A{i:05}" for i in range(n)],
            "arm": np.where(rng.random(n) < 0.5, "control", "engine"),
            "assigned_at": pd.Timestamp("2026-01-05") + pd.to_timedelta(rng.uniform(0, 28, n), unit="D"),
            "orders": orders,
            "buyers": (orders > 0).astype(int),
            "revenue": orders * rng.lognormal(3, 0.5, n) + 0.5 * past,
            "revenue_before": past,
            "views": rng.poisson(5.0, n),
            "earlier_arm": rng.choice(["old control", "old engine"], n),
        }
    )


def _read(frame: pd.DataFrame, form: TableSpec = FORM, config: ReadoutConfig | None = None) -> Readout:
    return table_readout(frame, form, config or ReadoutConfig(), now=NOW)


def _check(readout: Readout, name: str) -> HealthCheck:
    return next(check for check in readout.health if check.name == name)


def _of_status(readout: Readout, *status: str) -> set[str]:
    return {check.name for check in readout.health if check.status in status}


def _in_engine(frame: pd.DataFrame) -> np.ndarray:
    return (frame["arm"] == "engine").to_numpy()


def _constant_in_one_arm(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(buyers=np.where(_in_engine(frame), 1, frame["buyers"]))


def _in_one_arm_only(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(revenue=np.where(_in_engine(frame), frame["revenue"], 0.0))


def _after_the_start(frame: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return frame.assign(revenue_before=frame["revenue"] + rng.normal(0, 4, len(frame)))


def _the_outcome_itself(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(revenue_before=frame["revenue"])


def _one_row_of_all(frame: pd.DataFrame) -> pd.DataFrame:
    revenue = frame["revenue"].to_numpy(copy=True)
    revenue[np.argmax(_in_engine(frame))] = 5e6
    return frame.assign(revenue=revenue)


def _bots(frame: pd.DataFrame) -> pd.DataFrame:
    orders = frame["orders"].to_numpy(copy=True)
    orders[np.nonzero(_in_engine(frame))[0][:3]] = 20_000
    return frame.assign(orders=orders)


def _rows_lost(frame: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    lost = _in_engine(frame) & (rng.random(len(frame)) < 0.15)
    return frame.assign(views=np.where(lost, 0, frame["views"]), revenue=np.where(lost, 0.0, frame["revenue"]))


def _ramp(frame: pd.DataFrame) -> pd.DataFrame:
    """A fifth in the first two weeks, four fifths in the last two: in all the planned half."""
    rng = np.random.default_rng(3)
    is_late = frame["assigned_at"] >= pd.Timestamp("2026-01-19")
    share = np.where(is_late, 0.8, 0.2)
    late = np.where(is_late, 60.0, 0.0)  # late weeks sell more, whatever the arm: no effect in any week
    arm = np.where(rng.random(len(frame)) < share, "engine", "control")
    return frame.assign(arm=arm, revenue=frame["revenue"] + late)


def _same_arm_as_before(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(earlier_arm="old " + frame["arm"])


def test_a_clean_experiment_raises_no_fault() -> None:
    found = _read(_units())
    assert _of_status(found, "failed", "warning") <= {"enough_units"}
    assert _of_status(found, "not_checked") == {
        "plan_hash",
        "sample_ratio_exposed",
        "assignment_hash",
        "exposure_without_assignment",
        "outcome_before_exposure",
        "maturity",
        "other_experiments",
        "guardrail_directions",
    }


@pytest.mark.parametrize(
    ("plant", "name", "status", "words"),
    [
        (_constant_in_one_arm, "constant_in_an_arm", "warning", "buyers is 1 for all .* units of engine, and varies"),
        (_in_one_arm_only, "constant_in_an_arm", "failed", "revenue is 0 for all .* units of control, and varies"),
        (_after_the_start, "covariate_timing", "warning", "was it measured after the start"),
        (_the_outcome_itself, "covariate_timing", "failed", "it is the outcome itself"),
        (_one_row_of_all, "one_row_dominates", "warning", "one unit of engine has 5e.06 of revenue, 9"),
        (_bots, "impossible_counts", "warning", "3 units have more than 50 orders, up to 20,000: 9.* bots"),
        (_rows_lost, "lost_outcomes", "failed", "page views logged, which no treatment can move: .* lost or doubled"),
        (_ramp, "shares_over_time", "failed", "engine got 2.* to 7.* of the units of a week, 4 weeks; .* unlike weeks"),
        (_same_arm_as_before, "sample_ratio_segments", "failed", "earlier_arm old control"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_fault_is_found_and_named(
    plant: Callable[[pd.DataFrame], pd.DataFrame], name: str, status: str, words: str
) -> None:
    found = _read(plant(_units()))
    check = _check(found, name)
    assert check.status == status

    assert re.search(words, check.detail), check.detail
    assert (found.verdict.verdict == "INVALID") == bool(_of_status(found, "failed"))


def test_the_ramp_is_simpsons_paradox() -> None:
    """Without the time of the assignment the ramp is a large effect, and the check is not passed but not made."""
    blind = _read(_ramp(_units()), replace(FORM, assigned_at=None))
    assert blind.verdict.verdict == "SHIP"
    assert _check(blind, "shares_over_time").status == "not_checked"
    assert _read(_ramp(_units())).verdict.verdict == "INVALID"


class TestLargestUnit:
    def test_an_outlier_that_makes_the_effect_is_named(self) -> None:
        frame = _units()
        revenue = frame["revenue"].to_numpy(copy=True)
        at = int(np.argmax(_in_engine(frame)))
        is_control = ~_in_engine(frame)
        revenue[is_control] *= 1.01
        revenue[at] = 30_000.0
        check = _check(_read(frame.assign(revenue=revenue)), "largest_unit")
        assert check.status == "warning"
        assert check.detail.startswith(f"unit {frame['account_id'][at]} of engine with 30,000 of revenue makes")
        assert "without it the effect of engine is -" in check.detail

    def test_an_outlier_that_hides_a_decision_is_named(self) -> None:
        frame = _units()
        revenue = frame["revenue"].to_numpy(copy=True) + np.where(_in_engine(frame), 5.0, 0.0)
        revenue[int(np.argmin(_in_engine(frame)))] = 60_000.0
        check = _check(_read(frame.assign(revenue=revenue)), "largest_unit")
        assert check.status == "warning"
        assert "the verdict SHIP instead of" in check.detail

    def test_a_real_effect_does_not_hang_on_one_unit(self) -> None:
        frame = _units()
        frame["revenue"] += np.where(_in_engine(frame), 5.0, 0.0)
        assert _check(_read(frame), "largest_unit").status == "passed"


class TestRowsTwice:
    def test_of_one_row_a_unit_it_is_refused_by_its_name(self) -> None:
        frame = _units(500)
        with pytest.raises(ReadoutError, match="500 rows equal another in every column, as of an export"):
            _read(pd.concat([frame, frame], ignore_index=True))

    def test_of_several_rows_a_unit_it_is_invalid(self) -> None:
        orders = _order_rows()
        form = replace(ORDER_FORM, aggregate=True)
        assert _check(_read(orders, form), "duplicate_rows").status == "passed"
        twice = _read(pd.concat([orders, orders], ignore_index=True), form)
        assert _check(twice, "duplicate_rows").status == "failed"
        assert twice.verdict.verdict == "INVALID"
        batch = _read(pd.concat([orders, orders.head(100)], ignore_index=True), form)
        assert _check(batch, "duplicate_rows").status == "failed"
        assert "100 of 4,100 rows equal another in every column" in _check(batch, "duplicate_rows").detail

    def test_rows_that_may_look_alike_are_not_called_copies(self) -> None:
        sessions = _order_rows()[["account_id", "arm", "is_large"]].assign(n=1)
        form = replace(ORDER_FORM, metrics={"large": Ratio("is_large", "n")}, aggregate=True)
        check = _check(_read(sessions, form), "duplicate_rows")
        assert check.status == "not_checked"
        assert "nothing tells the rows of a unit apart" in check.detail


ORDER_FORM = TableSpec(unit="account_id", arm="arm", control="control", metrics={"revenue": Ratio("revenue")})


def _order_rows(n: int = 4_000) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    unit = rng.integers(0, 1_000, n)
    revenue = rng.lognormal(3, 0.7, n).round(2)
    arm = np.where(rng.random(1_000) < 0.5, "control", "engine")[unit]
    frame = pd.DataFrame({"account_id": [f"A{i}" for i in unit], "arm": arm, "order_id": np.arange(n)})
    return frame.assign(revenue=revenue, is_large=(revenue > 30).astype(int))


def test_yes_or_no_is_never_summed_to_two() -> None:
    rows = _order_rows()
    both = {"large": Ratio("is_large"), "revenue": Ratio("revenue")}
    found = _read(rows, replace(ORDER_FORM, metrics=both, aggregate=True))
    expected = rows.groupby(["arm", "account_id"])["is_large"].max().groupby("arm").mean()
    effect = found.effect("large", "engine")
    assert (effect.control_mean, effect.arm_mean) == pytest.approx((expected["control"], expected["engine"]))
    assert effect.unit == "share"
    assert any(note.startswith("is_large is yes or no on every row and is not added up") for note in found.notes)
    share = _read(rows.assign(n=1), replace(ORDER_FORM, metrics={"share": Ratio("is_large", "n")}, aggregate=True))
    assert share.effect("share", "engine").control_mean == pytest.approx(
        rows.loc[rows["arm"] == "control", "is_large"].mean()
    )


def test_a_metric_without_values_in_one_arm_is_refused_by_its_name() -> None:
    frame = _units(500)
    frame.loc[frame["arm"] == "control", "revenue"] = np.nan
    with pytest.raises(ReadoutError, match="control has none at all: was it measured there"):
        _read(frame)


class TestMixedUnits:
    @pytest.mark.parametrize(("n_mixed", "status"), [(1, "warning"), (40, "warning"), (60, "failed")])
    def test_few_are_a_warning_and_many_invalid(self, n_mixed: int, status: str) -> None:
        frame = _units()
        other = frame.head(n_mixed).assign(arm=np.where(_in_engine(frame.head(n_mixed)), "control", "engine"))
        found = _read(pd.concat([frame, other], ignore_index=True))
        check = _check(found, "mixed_assignment")
        assert check.status == status
        assert f"{n_mixed} units stand in several arms" in check.detail
        assert sum(found.counts.values()) == len(frame) - n_mixed
        strict = _read(pd.concat([frame, other], ignore_index=True), config=ReadoutConfig(most_mixed_share=0.0))
        assert _check(strict, "mixed_assignment").status == "failed"

    def test_more_of_one_arm_than_of_the_other_is_invalid(self, log: ExperimentLog) -> None:
        """30 of 4,000 are few, but all are units of one arm: the arms are not alike any more."""
        arms = log.decisions["arm"].to_numpy(copy=True)
        arms[np.nonzero(arms == "control")[0][:30]] = "engine"
        found = readout_from_log(replace(log, decisions=log.decisions.assign(arm=arms)), NOW)
        check = _check(found, "mixed_assignment")
        assert check.status == "failed"
        assert "by the arm that is theirs control 30, engine 0" in check.detail


def test_an_arm_that_is_carried_over_from_an_earlier_version_is_invalid(log: ExperimentLog) -> None:
    units = log.assignments["unit_id"].to_numpy()
    rng = np.random.default_rng(8)
    fresh = pd.DataFrame({"other": "q0 version 1", "unit_id": units, "arm": rng.choice(["a", "b"], len(units))})
    assert _check(readout_from_log(replace(log, others=fresh), NOW), "other_experiments").status == "passed"
    kept = fresh.assign(arm=log.assignments["arm"].to_numpy())
    check = _check(readout_from_log(replace(log, others=kept), NOW), "other_experiments")
    assert check.status == "failed"
    assert "4,000 units are in q0 version 1 too" in check.detail


def test_a_sample_ratio_between_one_in_a_thousand_and_one_in_a_hundred_is_amber() -> None:
    """p = .0086 of 4,000: 2,083 against 1,917."""
    n_control = 1_917
    assert stats.chisquare([n_control, 4_000 - n_control]).pvalue == pytest.approx(0.0087, abs=2e-4)
    frame = _units().assign(arm=np.where(np.arange(4_000) < n_control, "control", "engine"))
    found = _read(frame)
    assert _check(found, "sample_ratio_assigned").status == "warning"
    assert found.verdict.verdict != "INVALID"
    assert _check(_read(frame, config=ReadoutConfig(warning_alpha=0.005)), "sample_ratio_assigned").status == "passed"


class TestCleanExperiments:
    """Six checks err one time in a thousand each: at most six in a thousand clean experiments are called INVALID."""

    LEVEL = 6 * ReadoutConfig().health_alpha

    def _found(self, n_runs: int, n_units: int) -> list[Readout]:
        return [_read(_units(n_units, seed=100 + run)) for run in range(n_runs)]

    def test_few_are_called_invalid(self) -> None:
        """20 clean experiments: at most 2 (99.9 % of the binomial)."""
        most = int(stats.binom.ppf(0.9995, 20, self.LEVEL))
        found = self._found(20, 800)
        assert most == 2
        assert sum(readout.verdict.verdict == "INVALID" for readout in found) <= most
        assert not any(_of_status(readout, "warning") & NEVER_IN_CLEAN_DATA for readout in found)

    @pytest.mark.proof
    def test_500_are_called_invalid_as_often_as_stated(self) -> None:
        found = self._found(500, 4_000)
        failed = Counter(name for readout in found for name in _of_status(readout, "failed"))
        warned = Counter(name for readout in found for name in _of_status(readout, "warning"))
        n_invalid = sum(readout.verdict.verdict == "INVALID" for readout in found)
        most = int(stats.binom.ppf(0.9995, 500, self.LEVEL))
        write_proof(
            "clean_experiments.json",
            "A/A experiments of 4,000 units through the whole readout: what is called INVALID and what is warned of",
            experiments=500,
            invalid=n_invalid,
            most_invalid=most,
            failed=dict(sorted(failed.items())),
            warnings=dict(sorted(warned.items())),
        )
        assert n_invalid <= most
        assert not set(warned) & NEVER_IN_CLEAN_DATA
        for name in ("sample_ratio_assigned", "balance_before", "lost_outcomes", "shares_over_time"):
            assert warned[name] <= stats.binom.ppf(0.9995, 500, ReadoutConfig().warning_alpha)


NEVER_IN_CLEAN_DATA = {
    "duplicate_rows",
    "impossible_counts",
    "constant_in_an_arm",
    "one_row_dominates",
    "covariate_timing",
    "mixed_assignment",
}
