"""Layers: experiments of one exclude each other, those of several are independent; shares that overlap do not start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from recsys.errors import PlanError
from recsys.events.memory import MemoryStore
from recsys.experiments.assignment import assign, assign_many, takes_part
from recsys.experiments.lifecycle import list_experiments, start_experiment, stop_experiment
from recsys.experiments.plan import Arm, ExperimentPlan, plan_hash

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNITS = [f"account-{number}" for number in range(20_000)]


def _plan(name: str, **changes: Any) -> ExperimentPlan:
    fixed: dict[str, Any] = {
        "arms": (Arm(name="control", weight=1, is_control=True), Arm(name="engine", weight=1)),
        "planned_start": NOW,
        "planned_end": NOW + timedelta(days=28),
        "planned_size": 100,
    }
    return ExperimentPlan(id=name, **fixed, **changes)


FIRST = _plan("first", layer="ranking", layer_share=(0.0, 0.3))
SECOND = _plan("second", layer="ranking", layer_share=(0.3, 1.0))
OTHER = _plan("other", layer="prices", layer_share=(0.0, 0.5))


def test_a_unit_is_in_one_experiment_of_a_layer_and_every_unit_in_some() -> None:
    inside = np.array([assign_many(plan, UNITS) >= 0 for plan in (FIRST, SECOND)])
    assert (inside.sum(axis=0) == 1).all()
    counts = inside.sum(axis=1)
    assert chisquare(counts, np.array([0.3, 0.7]) * len(UNITS)).pvalue > 0.001


@pytest.mark.parametrize("plan", [FIRST, SECOND, OTHER])
def test_within_its_share_arms_are_halves(plan: ExperimentPlan) -> None:
    arms = assign_many(plan, UNITS)
    assert chisquare(np.bincount(arms[arms >= 0])).pvalue > 0.001


def test_layers_are_independent_of_each_other_and_of_arms() -> None:
    """Which part of one layer a unit is in says nothing of the other layer's part, nor of its arm there."""
    first, other = assign_many(FIRST, UNITS), assign_many(OTHER, UNITS)
    table = np.histogram2d(first, other, bins=[[-1, 0, 1, 2], [-1, 0, 1, 2]])[0]
    assert chi2_contingency(table, correction=False).pvalue > 0.001
    both = (first >= 0) & (other >= 0)
    assert both.sum() == pytest.approx(0.15 * len(UNITS), rel=0.1)
    table = np.histogram2d(first[both], other[both], bins=2)[0]
    assert chi2_contingency(table, correction=False).pvalue > 0.001


def test_a_layer_named_like_an_experiment_has_another_salt() -> None:
    plan = _plan("1", layer="1")
    assert plan.salt == "1:1"
    assert plan.layer_salt == "1:layer"


def test_one_unit_gets_what_many_get() -> None:
    found = assign_many(FIRST, UNITS[:200])
    for unit, arm in zip(UNITS, found, strict=False):
        assert takes_part(FIRST, unit) == (arm >= 0)
        if arm >= 0:
            assert assign(FIRST, unit).arm == FIRST.arms[arm].name
        else:
            with pytest.raises(PlanError, match="is not in first's share of the layer ranking"):
                assign(FIRST, unit)


def test_a_plan_without_a_layer_keeps_its_hash_and_every_unit() -> None:
    plain = _plan("plain")
    assert (assign_many(plain, UNITS) >= 0).all()
    assert plan_hash(_plan("plain", layer="ranking")) != plan_hash(plain)
    with pytest.raises(ValueError, match="without a layer, must have one"):
        _plan("plain", layer_share=(0.0, 0.5))
    with pytest.raises(ValueError, match="must rise and lie between 0 and 1"):
        _plan("plain", layer="ranking", layer_share=(0.5, 0.5))


def test_shares_of_one_layer_that_overlap_do_not_start() -> None:
    store = MemoryStore()
    start_experiment(store, FIRST, NOW)
    start_experiment(store, SECOND, NOW)
    start_experiment(store, OTHER, NOW)
    late = _plan("late", layer="ranking", layer_share=(0.2, 0.25))
    with pytest.raises(PlanError, match=r"0\.2 to 0\.25 of the layer ranking overlaps first, which has 0 to 0\.3;"):
        start_experiment(store, late, NOW)
    with pytest.raises(PlanError, match="unit == 'visitor', must be 'account' in the layer ranking, as that of first"):
        start_experiment(store, _plan("seen", layer="ranking", unit="visitor"), NOW)
    assert {record.experiment_id for record in list_experiments(store)} == {"first", "second", "other"}
    stop_experiment(store, "first", NOW + timedelta(days=1))
    assert start_experiment(store, late, NOW + timedelta(days=2)).experiment_id == "late"
