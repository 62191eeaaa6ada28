"""A clean log of a small experiment, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from recsys.evaluation.readout.from_event_store import ExperimentLog
from recsys.experiments.assignment import assign_many
from recsys.experiments.plan import Arm, ExperimentPlan, Guardrail, LockedPlan, Policy, plan_hash

START = datetime(2026, 1, 5, tzinfo=UTC)
END = datetime(2026, 2, 2, tzinfo=UTC)


@pytest.fixture
def plan() -> ExperimentPlan:
    """Four weeks, two arms of equal size, four weeks of attribution."""
    return ExperimentPlan(
        id="offers-q1",
        arms=(
            Arm(name="control", weight=1, is_control=True, policy=Policy(kind="popular")),
            Arm(name="engine", weight=1),
        ),
        planned_start=START,
        planned_end=END,
        planned_size=1_900,
        attribution_window_days=28,
        guardrails=(Guardrail(metric="attrition", margin=0.1, direction="lower_is_better"),),
        min_mature_share=0.9,
        practical_margin=0.02,
    )


def clean_log(plan: ExperimentPlan, n_units: int = 4_000, *, lift: float = 1.0, seed: int = 0) -> ExperimentLog:
    """Every unit comes once in the first three weeks, is answered, is shown two products, and orders around it."""
    rng = np.random.default_rng(seed)
    units = np.array([f"A{i:06d}" for i in range(n_units)], dtype=object)
    arms = np.array([arm.name for arm in plan.arms], dtype=object)[assign_many(plan, units.tolist())]
    came = pd.Timestamp(START) + pd.to_timedelta(rng.uniform(0, 21 * 86_400, n_units).round(), unit="s")
    decisions = pd.DataFrame({"decision_id": [f"D{i}" for i in range(n_units)], "unit_id": units, "arm": arms})
    decisions["decided_at"] = came
    offers = pd.DataFrame(
        {
            "decision_id": np.repeat(decisions["decision_id"].to_numpy(), 2),
            "product_id": np.tile(["P1", "P2"], n_units),
            "presented_at": np.repeat(came.to_numpy(), 2),
        }
    )
    offers["presented_at"] = offers["presented_at"].astype("datetime64[us, UTC]")
    takes = rng.random(n_units) < 0.2
    outcomes = pd.DataFrame(
        {
            "decision_id": decisions.loc[takes, "decision_id"].to_numpy(),
            "product_id": "P1",
            "kind": "accepted",
            "occurred_at": came[takes] + pd.Timedelta(minutes=3),
        }
    )
    return ExperimentLog(
        plan=LockedPlan(plan, plan_hash(plan), START),
        assignments=pd.DataFrame({"unit_id": units, "arm": arms, "assigned_at": came}),
        decisions=decisions,
        offers=offers,
        outcomes=outcomes.reset_index(drop=True),
        lines=_lines(rng, units, arms, came, takes, lift),
    )


def _lines(rng, units, arms, came, takes, lift: float) -> pd.DataFrame:
    n = len(units)
    parts = []
    for side, chance in ((-1, 0.5), (1, 0.5)):
        buys = rng.random(n) < chance
        factor = np.where((arms == "engine") & (side > 0), lift, 1.0)
        parts.append(
            pd.DataFrame(
                {
                    "order_id": [f"O{side}-{i}" for i in np.nonzero(buys)[0]],
                    "account_id": units[buys],
                    "product_id": "P9",
                    "ordered_at": came[buys] + side * pd.to_timedelta(rng.uniform(1, 27, buys.sum()), unit="D"),
                    "revenue": (rng.lognormal(3, 0.8, n) * factor)[buys],
                }
            )
        )
    parts.append(
        pd.DataFrame(
            {
                "order_id": [f"T{i}" for i in np.nonzero(takes)[0]],
                "account_id": units[takes],
                "product_id": "P1",
                "ordered_at": came[takes] + pd.Timedelta(days=2),
                "revenue": 5.0,
            }
        )
    )
    lines = pd.concat(parts, ignore_index=True)
    lines["ordered_at"] = lines["ordered_at"].astype("datetime64[us, UTC]")
    return lines


@pytest.fixture
def make_log() -> Callable[..., ExperimentLog]:
    """`clean_log`, for tests that need other sizes or effects."""
    return clean_log


@pytest.fixture
def log(plan: ExperimentPlan) -> ExperimentLog:
    """A clean log without any effect."""
    return clean_log(plan)
