"""Two experiments at once: a planted interaction is found at its power, none is invented; the readout says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys.contracts.events import ExperimentRecord, RecordedAssignment
from recsys.evaluation.readout.concurrent.interactions import ConcurrentExperiment, interactions_of
from recsys.evaluation.readout.from_event_store import ExperimentLog, store_readout
from recsys.evaluation.readout.purchases import Assigned
from recsys.evaluation.statistics.interaction import InteractionEstimate, interaction_of
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import Moments, moments_of_rows
from recsys.events.memory import MemoryStore
from recsys.experiments.assignment import assign
from recsys.experiments.plan import Arm, ExperimentPlan, canonical_json, plan_hash
from tests.support.stored_experiments import stored

N_SIMULATIONS = 2_000
N_CELL = 500
SPEND = Metric("spend", Ratio("x"), role="primary")


def _estimates(interaction: float, n_simulations: int = N_SIMULATIONS) -> InteractionEstimate:
    """Each experiment moves the mean of 20 by 2; both together by 4 and the interaction."""
    rng = np.random.default_rng(1)

    def cell(shift: float) -> Moments:
        return moments_of_rows(("x",), rng.gamma(1.0, 20.0, (n_simulations, N_CELL, 1)) + shift)

    return interaction_of((cell(0), cell(2)), (cell(2), cell(4 + interaction)), SPEND)


def test_no_interaction_is_invented_and_the_interval_covers() -> None:
    found = _estimates(0.0)
    low, high = (float(stats.binom.ppf(at, N_SIMULATIONS, 0.05)) / N_SIMULATIONS for at in (0.0005, 0.9995))
    assert low <= float((found.p_value < 0.05).mean()) <= high
    assert float(((found.low <= 0) & (found.high >= 0)).mean()) >= 1 - high


def test_a_planted_interaction_is_found_at_its_power() -> None:
    """Four cells of 500 with a standard deviation of 20: (1.96 + .84) standard errors are found four times of five."""
    planted = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * np.sqrt(4 * 20**2 / N_CELL)
    found = _estimates(float(planted), 1_000)
    assert float((found.p_value < 0.05).mean()) == pytest.approx(0.8, abs=0.04)
    assert found.difference.mean() == pytest.approx(planted, rel=0.05)


def _two(n: int, interaction: float, seed: int = 2) -> tuple[Assigned, dict[str, np.ndarray], ConcurrentExperiment]:
    rng = np.random.default_rng(seed)
    units = np.array([f"u{i}" for i in range(n)], dtype=object)
    here, there = rng.integers(0, 2, n), rng.integers(0, 2, n)
    values = {"x": rng.gamma(4.0, 5.0, n) + 2.0 * here + 1.0 * there + interaction * here * there}
    arms = np.where(here == 1, "engine", "control").astype(object)
    other = ConcurrentExperiment(
        "prices version 1", "usual", dict(zip(units, np.where(there, "low", "usual"), strict=True))
    )
    return Assigned(units, arms, np.zeros(n, dtype=np.int64), {}), values, other


def test_each_pair_of_arms_is_compared_and_the_sentence_says_what_was_found() -> None:
    assigned, values, other = _two(4_000, 4.0)
    (found,) = interactions_of(assigned, values, SPEND, "control", [other], 0.05)
    assert (found.other, found.arm, found.other_arm, found.n_units) == ("prices version 1", "engine", "low", 4_000)
    assert found.difference == pytest.approx(found.effect_beside_arm - found.effect_beside_control)
    assert found.difference == pytest.approx(4.0, abs=2.0)  # three standard errors
    assert found.p_adjusted < 0.05
    assert found.independence_p > 0.001
    assert found.sentence(0.05).endswith("the effects depend on each other: judge what will be shipped")
    (none,) = interactions_of(*_two(4_000, 0.0)[:2], SPEND, "control", [other], 0.05)
    assert "depend" not in none.sentence(0.05)


def test_units_that_are_in_one_only_and_small_cells_say_nothing() -> None:
    assigned, values, other = _two(4_000, 4.0)
    few = replace(other, arms={unit: other.arms[unit] for unit in assigned.units[:60]})
    assert interactions_of(assigned, values, SPEND, "control", [few], 0.05) == ()
    follows = dict(zip(assigned.units, np.where(assigned.arms == "engine", "low", "usual").tolist(), strict=True))
    half = {unit: arm if i % 3 else other.arms[unit] for i, (unit, arm) in enumerate(follows.items())}
    (mixed,) = interactions_of(assigned, values, SPEND, "control", [replace(other, arms=half)], 0.05)
    assert mixed.independence_p < 0.001


def _other_plan(start: datetime) -> ExperimentPlan:
    return ExperimentPlan(
        id="prices",
        arms=(Arm(name="usual", weight=1, is_control=True), Arm(name="low", weight=1)),
        planned_start=start,
        planned_end=start + timedelta(days=56),
        planned_size=10,
    )


def test_the_readout_of_a_store_names_experiments_that_ran_at_the_same_time(log: ExperimentLog) -> None:
    store = stored(log, MemoryStore())
    start = log.plan.started_at
    alone = store_readout(store, log.plan.plan.id, datetime(2026, 3, 2, tzinfo=UTC))
    assert alone.interactions == ()
    plan = _other_plan(start)
    units: pd.Series = log.assignments["unit_id"]
    store.append([ExperimentRecord(plan.id, 1, canonical_json(plan), plan_hash(plan), start)])
    store.append(
        [
            RecordedAssignment(
                experiment_id=plan.id,
                version=1,
                unit_id=unit,
                unit="account",
                arm=assign(plan, unit).arm,
                probability=0.5,
                assigned_at=start + timedelta(hours=1),
            )
            for unit in units
        ]
    )
    both = store_readout(store, log.plan.plan.id, datetime(2026, 3, 2, tzinfo=UTC))
    assert both.effects == alone.effects
    (found,) = [one for one in both.interactions if one.arm != log.plan.plan.control.name]
    assert (found.other, found.other_arm, found.n_units) == ("prices version 1", "low", units.nunique())
    assert any(note.startswith("prices version 1 ran at the same time, ") for note in both.notes)
    assert both.to_dict()["interactions"]
    for readout, said in (
        (alone, "no other experiment"),
        (both, f"{units.nunique():,} units are in prices version 1 too"),
    ):
        (check,) = [check for check in readout.health if check.name == "other_experiments"]
        assert check.status == "passed"
        assert check.detail.startswith(said)
