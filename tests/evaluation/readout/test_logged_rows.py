"""Rows of one arm that an event store lost: what no treatment moves shows it, and clean stores raise nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys.contracts.events import PostedLine
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.faults.lost_outcomes import equal_arms_p_value, lost_outcomes
from recsys.evaluation.readout.from_event_store import ExperimentLog, experiment_data, read_log, readout_from_log
from recsys.evaluation.readout.health import HealthCheck
from recsys.evaluation.statistics.metric import Ratio
from recsys.evaluation.statistics.moments import Moments, moments_of_rows
from recsys.events.memory import MemoryStore
from recsys.experiments.plan import ExperimentPlan, Policy
from tests.evaluation.readout.conftest import END
from tests.support.proofs import write_proof
from tests.support.stored_experiments import stored

NOW = END + pd.Timedelta(days=28)


def _with_facts(log: ExperimentLog, seed: int = 0, **changes: pd.Series) -> ExperimentLog:
    """The log with what its store knows of each line: one in twenty is late, one in fifty has no amount."""
    rng = np.random.default_rng(seed)
    facts = log.lines[["account_id", "ordered_at"]].assign(
        has_amount=rng.random(len(log.lines)) < 0.98, is_late=rng.random(len(log.lines)) < 0.05
    )
    return replace(log, line_facts=facts.assign(**changes))


def _of_engine(log: ExperimentLog, share: float, seed: int = 9) -> np.ndarray:
    """That share of the engine's order lines, drawn."""
    arm = log.lines["account_id"].map(log.assignments.set_index("unit_id")["arm"])
    return ((arm == "engine") & (np.random.default_rng(seed).random(len(log.lines)) < share)).to_numpy()


def _check(log: ExperimentLog) -> HealthCheck:
    """The check alone, without the rest of a readout."""
    gathered = experiment_data(log, NOW)
    arms = gathered.assigned.arms
    rows = np.column_stack(list(gathered.extra.values()))
    by_arm = {arm: moments_of_rows(list(gathered.extra), rows[arms == arm]) for arm in ("control", "engine")}
    design = Design("offers-q1", "control", {"control": 0.5, "engine": 0.5}, (), quality=gathered.quality)
    return lost_outcomes(by_arm, design, ReadoutConfig())


class TestRowsOfOneArm:
    def test_none_is_missing_in_a_clean_log(self, log: ExperimentLog) -> None:
        assert _check(_with_facts(log)).status == "passed"
        assert len(experiment_data(_with_facts(log), NOW).quality) == 3

    def test_amounts(self, log: ExperimentLog) -> None:
        lost = _with_facts(log, has_amount=pd.Series(~_of_engine(log, 0.1)))
        found = _check(lost)
        assert found.status == "failed"
        assert found.detail.startswith(
            "order lines with an amount in the currency, which no treatment can move: control"
        )
        assert readout_from_log(lost, NOW).verdict.verdict == "INVALID"

    def test_rows_that_come_late(self, log: ExperimentLog) -> None:
        found = _check(_with_facts(log, is_late=pd.Series(_of_engine(log, 0.1))))
        assert (found.status, found.detail[:41]) == ("failed", "order lines recorded more than a day late")

    def test_what_was_shown_is_not_reported(self, log: ExperimentLog) -> None:
        arm = log.offers["decision_id"].map(log.decisions.set_index("decision_id")["arm"])
        lost = (arm == "engine").to_numpy() & np.repeat(np.random.default_rng(4).random(len(log.decisions)) < 0.05, 2)
        log = replace(log, offers=log.offers.assign(presented_at=log.offers["presented_at"].mask(lost)))
        found = _check(_with_facts(log))
        assert (found.status, found.detail[:39]) == ("failed", "answers with offers that were presented")

    def test_a_holdout_presents_nothing_and_that_is_no_fault(
        self, plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]
    ) -> None:
        control, engine = plan.arms
        held = plan.model_copy(update={"arms": (control.model_copy(update={"policy": Policy(kind="none")}), engine)})
        log = make_log(held)
        unshown = log.offers["decision_id"].map(log.decisions.set_index("decision_id")["arm"]) == "control"
        log = replace(log, offers=log.offers.assign(presented_at=log.offers["presented_at"].mask(unshown)))
        assert _check(_with_facts(log)).status == "passed"

    def test_a_few_rows_that_lack_something_are_no_fault(self, log: ExperimentLog) -> None:
        """Six lines of one arm without an amount are too few for a test, and no line at all is none."""
        has_amount = np.ones(len(log.lines), dtype=bool)
        assert _check(_with_facts(log, has_amount=pd.Series(has_amount))).status == "passed"
        has_amount[np.nonzero(_of_engine(log, 1.0))[0][-6:]] = False
        few = _with_facts(log, has_amount=pd.Series(has_amount))
        assert "order lines with an amount in the currency" not in experiment_data(few, NOW).quality
        assert _check(few).status == "passed"

    def test_orders_that_never_came_after_acceptances_are_a_warning(self, log: ExperimentLog) -> None:
        lost = replace(log, lines=log.lines[~_of_engine(log, 0.1)].reset_index(drop=True))
        found = readout_from_log(lost, NOW)
        check = next(check for check in found.health if check.name == "orders_after_acceptance")
        assert check.status == "warning"
        assert "control 100.0%" in check.detail
        assert "orders of one arm are lost" in check.detail
        assert found.verdict.verdict != "INVALID"


def test_the_store_says_what_is_late_and_what_has_no_amount(log: ExperimentLog) -> None:
    few = replace(log, lines=log.lines.tail(20).reset_index(drop=True))
    store, when = stored(few, MemoryStore(), "EUR"), log.assignments["assigned_at"].max().to_pydatetime()
    late = PostedLine(
        order_id="late",
        line_id="1",
        product_id="P9",
        quantity=1.0,
        ordered_at=when,
        recorded_at=when + timedelta(days=1, seconds=1),
        account_id="A000001",
        unit_price=5.0,
        currency="EUR",
    )
    on_time = {"recorded_at": when + timedelta(days=1)}
    store.append(
        [
            late,
            replace(late, order_id="unpriced", unit_price=None, **on_time),
            replace(late, order_id="foreign", currency="USD", **on_time),
        ]
    )
    facts = read_log(store, "offers-q1", NOW, currency="EUR").line_facts
    assert facts is not None
    assert (len(facts), (~facts["has_amount"]).sum(), facts["is_late"].sum()) == (23, 2, 1)


class TestTheScoreTest:
    def test_it_errs_as_stated_where_misses_are_rare_and_arms_unequal(self) -> None:
        """2,000 clean draws of 6,000 units, 1 to 9, where one unit in fifty misses something: .01 within its band."""
        rng = np.random.default_rng(1)
        errors = 0
        for _ in range(2_000):
            whole = rng.poisson(2.0, 6_000)
            part = whole - np.where(rng.random(6_000) < 0.02, whole, 0)
            errors += equal_arms_p_value(_moments(part, whole, rng.random(6_000) < 0.1), Ratio("part", "whole")) < 0.01
        low, high = (stats.binom.ppf(at, 2_000, 0.01) for at in (0.0005, 0.9995))
        assert low <= errors <= high

    def test_a_mean_that_is_the_same_for_all_is_equal(self) -> None:
        ones = np.ones(50)
        assert equal_arms_p_value(_moments(ones, ones, np.arange(50) < 20), Ratio("part")) == 1.0


def _moments(part: np.ndarray, whole: np.ndarray, is_treated: np.ndarray) -> Moments:
    rows = np.column_stack([part, whole]).astype(np.float64)
    sides = [moments_of_rows(("part", "whole"), rows[side]) for side in (~is_treated, is_treated)]
    return Moments(
        ("part", "whole"), *(np.stack([getattr(one, name) for one in sides]) for name in ("n", "mean", "cov"))
    )


class TestCleanStores:
    """500 clean A/A stores: one family of three shares and errs one time in a thousand, and warns one in a hundred."""

    def test_the_check_alone_errs_as_stated(self, plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]) -> None:
        """In 40 stores at most 2 are failed and 4 warned of (99.9 % of the binomial)."""
        found = Counter(_check(_clean(make_log, plan, 800, run)).status for run in range(40))
        config = ReadoutConfig()
        most = [stats.binom.ppf(0.9995, 40, alpha) for alpha in (config.health_alpha, config.warning_alpha)]
        assert most == [2, 4]
        assert found["failed"] <= most[0]
        assert found["warning"] + found["failed"] <= most[1]
        assert not found["not_checked"]

    @pytest.mark.proof
    def test_500_are_called_invalid_as_often_as_stated(
        self, plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]
    ) -> None:
        level = 6 * ReadoutConfig().health_alpha
        n_invalid, named = 0, Counter[str]()
        for run in range(500):
            found = readout_from_log(_clean(make_log, plan, 1_000, run), NOW)
            n_invalid += found.verdict.verdict == "INVALID"
            named.update(f"{check.name} {check.status}" for check in found.health)
        most = int(stats.binom.ppf(0.9995, 500, level))
        write_proof(
            "clean_stores.json",
            "A/A experiments of 1,000 units as an event store has them: what is called INVALID and what is warned of",
            experiments=500,
            invalid=n_invalid,
            most_invalid=most,
            checks={name: named[name] for name in sorted(named) if name.endswith(("failed", "warning"))},
        )
        assert n_invalid <= most
        for name in ("lost_outcomes", "orders_after_acceptance"):
            assert named[f"{name} warning"] <= stats.binom.ppf(0.9995, 500, ReadoutConfig().warning_alpha)


def _clean(make_log: Callable[..., ExperimentLog], plan: ExperimentPlan, n_units: int, run: int) -> ExperimentLog:
    version = plan.model_copy(update={"version": run + 1, "planned_size": n_units // 3})
    return _with_facts(make_log(version, n_units, seed=run), seed=run)
