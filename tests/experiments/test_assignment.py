"""Assignment: deterministic, in proportion, independent between experiments with alike names."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare, kstest

from recsys.errors import PlanError
from recsys.experiments.assignment import assign, assign_many, hash_point, hash_points
from recsys.experiments.plan import Arm, ExperimentPlan

UNITS = [f"account-{number}" for number in range(20_000)]


def _plan(name: str = "coupon", version: int = 1, weights: tuple[float, ...] = (1, 1)) -> ExperimentPlan:
    arms = tuple(Arm(name=f"arm{i}", weight=weight, is_control=i == 0) for i, weight in enumerate(weights))
    return ExperimentPlan(
        id=name,
        version=version,
        arms=arms,
        planned_start=datetime(2026, 1, 1, tzinfo=UTC),
        planned_end=datetime(2026, 2, 1, tzinfo=UTC),
        planned_size=100,
    )


def test_the_point_is_the_first_64_bits_of_blake2b() -> None:
    bits = int(hashlib.blake2b(b"coupon:1:17850").hexdigest()[:16], 16)
    assert hash_point("coupon:1", "17850") == bits / 2**64


@given(st.lists(st.text(min_size=1).filter(lambda text: text.isprintable()), max_size=20))
def test_many_units_get_what_one_unit_gets(units: list[str]) -> None:
    plan = _plan(weights=(1, 2, 3))
    assert hash_points(plan.salt, units).tolist() == [hash_point(plan.salt, unit) for unit in units]
    assert [plan.arms[i].name for i in assign_many(plan, units)] == [assign(plan, unit).arm for unit in units]


def test_an_assignment_says_its_probability() -> None:
    plan = _plan(weights=(1, 3))
    found = assign(plan, "17850")
    assert found.probability == {"arm0": 0.25, "arm1": 0.75}[found.arm]


def test_points_are_uniform() -> None:
    assert kstest(hash_points("coupon:1", UNITS), "uniform").pvalue > 0.001


@pytest.mark.parametrize("weights", [(1, 1), (0.1, 0.9), (2, 1, 1), (50, 30, 15, 5)])
def test_arms_get_their_shares(weights: tuple[float, ...]) -> None:
    plan = _plan(weights=weights)
    counts = np.bincount(assign_many(plan, UNITS), minlength=len(weights))
    assert chisquare(counts, np.array(plan.shares) * len(UNITS)).pvalue > 0.001


@pytest.mark.parametrize("other", [("coupon", 2), ("coupon2", 1), ("coupons", 1), ("Coupon", 1), ("coupon1", 1)])
def test_experiments_with_alike_names_are_independent(other: tuple[str, int]) -> None:
    first, second = assign_many(_plan(), UNITS), assign_many(_plan(*other), UNITS)
    table = np.histogram2d(first, second, bins=2)[0]
    assert chi2_contingency(table, correction=False).pvalue > 0.001
    assert not np.array_equal(first, second)


def test_a_weaker_hash_would_not_be_independent() -> None:
    def fnv1a(text: str) -> int:
        value = 0xCBF29CE484222325
        for byte in text.encode():
            value = (value ^ byte) * 0x100000001B3 % 2**64
        return value

    first = [fnv1a(f"{unit}:coupon1") % 2 for unit in UNITS]
    second = [fnv1a(f"{unit}:coupon3") % 2 for unit in UNITS]
    table = np.histogram2d(first, second, bins=2)[0]
    assert chi2_contingency(table, correction=False).pvalue < 1e-6


def test_a_unit_needs_an_id() -> None:
    with pytest.raises(PlanError, match="unit_id == ''"):
        assign(_plan(), "")
