"""The placebo: clean pasts pass, heavy tails at one in a hundred and company-wide assignment fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from recsys.errors import ReadoutError
from recsys.evaluation.planning.history import PastBehaviour
from recsys.evaluation.planning.placebo import _capped, _judged, _Past, placebo_of
from recsys.evaluation.planning.placebo_results import LEAST_DRAWS, Placebo, band_of
from recsys.evaluation.planning.redrawing import drawn_assignments, redrawn
from recsys.evaluation.readout.arm_effects import effects_of
from recsys.evaluation.readout.design import Design, ReadoutConfig
from recsys.evaluation.readout.verdict import decide_verdict, evidence_of
from recsys.evaluation.statistics.column_facts import ColumnFacts
from recsys.evaluation.statistics.effects import contributions
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import moments_of_rows
from recsys.evaluation.statistics.randomisation import judge_tails
from recsys.experiments.plan import ExperimentPlan

N_DRAWS = 1_000
REVENUE = Metric("revenue_per_account", Ratio("revenue"), role="primary")
BUYS = Metric("buyer_rate", Ratio("buyers"), role="guardrail", margin=0.02)
EARLIER = Metric("revenue_per_account", Ratio("revenue"), Ratio("revenue_before"), role="primary")


def _plan(control: float, engine: float, **others: Any) -> ExperimentPlan:
    arms = [{"name": "engine", "weight": engine}, {"name": "control", "weight": control, "is_control": True}]
    dates = {"planned_start": "2026-01-01", "planned_end": "2026-02-01", "planned_size": 1_000}
    return ExperimentPlan.model_validate({"id": "tried", "arms": arms, **dates, **others})


def _past(revenue: np.ndarray, *metrics: Metric, before: np.ndarray | None = None) -> PastBehaviour:
    values = {"revenue": revenue, "buyers": (revenue > 0).astype(float)}
    values["revenue_before"] = np.roll(revenue, 1) if before is None else before
    units = np.array([f"a{i}" for i in range(len(revenue))], dtype=object)
    moments = moments_of_rows(tuple(values), np.column_stack(list(values.values())))
    return PastBehaviour(units, values, moments, metrics or (REVENUE,), np.array([len(units)]))


def _spent(rng: np.random.Generator, n: int, shape: float) -> np.ndarray:
    """One account in ten buys, for a Pareto amount."""
    return (rng.random(n) < 0.1) * rng.pareto(shape, n) * 50


@pytest.fixture(scope="module")
def clean() -> Placebo:
    rng = np.random.default_rng(1)
    before = rng.gamma(0.5, 40.0, 4_000)
    past = _past(before + rng.gamma(0.5, 20.0, 4_000), EARLIER, BUYS, before=before)
    return placebo_of(past, _plan(1, 1), effects=(0.1,), draws=2 * N_DRAWS)


def test_a_clean_past_passes(clean: Placebo) -> None:
    """CUPED, a guardrail and two equal arms: every rate inside the exact band of 2,000 draws."""
    assert clean.is_fit, clean.sentence
    assert (clean.n_refused, clean.n_accounts, clean.smallest_arm) == (0, 4_000, pytest.approx(2_000, abs=5))
    errors = clean.errors
    assert (errors.ship.low, errors.ship.high) == pytest.approx((0.0145, 0.0375), abs=1e-3)
    assert errors.ship.low <= errors.ship.rate <= errors.ship.high
    assert errors.coverage.low <= errors.coverage.rate <= errors.coverage.high
    assert clean.sentence.startswith("The plan is fit for this history: false SHIP ")


def test_power_is_that_of_the_formula(clean: Placebo) -> None:
    """+10 % of a mean of 30 with a standard error of sqrt(2 x 200 / 2,000), by CUPED: found nearly always."""
    (found,) = clean.power
    assert found.relative == 0.1
    assert found.ship > 0.99


def test_a_few_draws_tell_nothing_and_a_plan_that_finds_nothing_is_not_fit() -> None:
    """400 accounts of whom one in ten buys for a Pareto amount: errors are as stated, a true +10 % is hardly seen."""
    past = _past(_spent(np.random.default_rng(7), 400, 2.5))
    few = placebo_of(past, _plan(1, 1), draws=5)
    assert (few.outcome, few.is_fit, few.n_judged) == ("too few draws", False, 5)
    assert few.sentence == f"Too few draws to tell: 5 were judged, at least {LEAST_DRAWS:,} must be."
    weak = placebo_of(past, _plan(1, 1), draws=LEAST_DRAWS)
    assert (weak.outcome, weak.is_fit, weak.planned_effect) == ("no power", False, 0.1)
    assert weak.planned_power < 0.1
    assert weak.sentence.startswith("No power: the plan errs as stated (false SHIP ")
    assert "but a true +10 % ships in " in weak.sentence
    assert "the past has 200 in the smallest arm, 1,000 are planned" in weak.sentence


def test_the_effect_that_a_plan_must_find_is_its_practical_margin() -> None:
    past = _past(np.random.default_rng(8).gamma(2.0, 10.0, 2_000))
    assert placebo_of(past, _plan(1, 1, practical_margin=0.04), draws=20).planned_effect == 0.04
    lower = _plan(1, 1, practical_margin=0.04, primary_direction="lower_is_better")
    assert placebo_of(past, lower, draws=20).planned_effect == -0.04
    assert placebo_of(past, _plan(1, 1), effects=(0.02, 0.3), draws=20).planned_effect == 0.3
    with pytest.raises(ReadoutError, match=r"effects == \[0\], must be one or more shares other than 0"):
        placebo_of(past, _plan(1, 1), effects=(0,), draws=20)


def test_the_least_number_of_draws_finds_an_error_that_is_doubled() -> None:
    """A side that errs in 5 % leaves the band of 2.5 % in five of six runs of so many draws."""
    most = band_of(0.025, LEAST_DRAWS)[1] * LEAST_DRAWS
    assert stats.binom.sf(most, LEAST_DRAWS, 0.05) == pytest.approx(5 / 6, abs=0.02)


def test_one_in_a_hundred_with_heavy_tails_fails() -> None:
    """The small arm draws no large buyer: its mean and its variance are low at once, and it is rolled back."""
    past = _past(_spent(np.random.default_rng(2), 20_000, 1.7))
    found = placebo_of(past, _plan(99, 1), draws=600)
    assert found.smallest_arm == pytest.approx(200, abs=2)
    assert not found.is_fit
    assert found.fixed.roll_back.rate > 2 * found.fixed.roll_back.high
    assert found.randomised == 1
    assert not found.errors.faults  # the interval that decides instead errs as stated
    assert found.sentence.startswith("The plan is NOT FIT for this history: by the fixed-horizon interval false ROLL")
    assert "more equal shares" in found.sentence
    halves = placebo_of(past, _plan(1, 1), draws=600)
    assert not halves.errors.faults  # the same past in halves


def test_companies_that_are_assigned_as_a_whole_fail_where_accounts_are_judged() -> None:
    rng = np.random.default_rng(3)
    company = np.repeat(np.arange(200), 10)
    past = _past(rng.gamma(2.0, 10.0, 200)[company] + rng.gamma(2.0, 8.0, 2_000))
    whole = placebo_of(past, _plan(1, 1), draws=N_DRAWS, clusters=company.astype(object))
    assert (whole.n_clusters, whole.is_fit) == (200, False)
    assert whole.errors.ship.rate + whole.errors.roll_back.rate > 0.2
    assert "cluster in the plan" in whole.sentence
    assert placebo_of(past, _plan(1, 1), effects=(0.3,), draws=N_DRAWS).is_fit  # accounts drawn one by one
    plan = _plan(1, 1, cluster="company")
    named = placebo_of(past, plan, effects=(0.3, 0.1), draws=N_DRAWS, clusters=company.astype(object))
    assert (named.n_clusters, named.is_fit) == (200, True), named.sentence
    assert named.smallest_arm == pytest.approx(100, abs=2)


@pytest.mark.parametrize("shares", [(1, 1), (19, 1)])
def test_every_draw_is_judged_as_the_readout_judges_it(shares: tuple[int, int]) -> None:
    """One draw after the other through the readout's own effects and verdict."""
    rng = np.random.default_rng(4)
    past = _past(rng.gamma(0.1, 40.0, 1_500) * (rng.random(1_500) < 0.6), EARLIER, BUYS)
    plan, metrics, draws = _plan(*shares, alpha=0.4), (EARLIER, BUYS), 60
    rows = np.column_stack(list(past.values.values()))
    tried = _Past(past.values, moments_of_rows(tuple(past.values), rows), past.yes_or_no, plan, EARLIER, (BUYS,))
    judged = _judged(tried, redrawn(tried.values, plan, draws, None))
    assert judged.randomised.any() == (shares == (19, 1))
    (assigned,) = drawn_assignments(plan, draws, 1_500, None)
    facts = {name: ColumnFacts(0, 1, 0, name == "buyers", is_constant=False) for name in past.values}
    shares_by_arm = dict(zip(("control", "engine"), plan.shares_from_control, strict=True))
    design = Design("tried", "control", shares_by_arm, metrics)
    config = ReadoutConfig(alpha=plan.alpha, planned_units=2 * plan.planned_size)
    verdicts = []
    for arm in assigned:
        by_arm = {name: moments_of_rows(tuple(past.values), rows[arm == at]) for at, name in enumerate(shares_by_arm)}
        sizes = {"n_arm": int((arm == 1).sum()), "n_control": int((arm == 0).sum()), "n_nonzero": 0}
        ordered = np.concatenate([rows[arm == 0], rows[arm == 1]]).T
        values = dict(zip(past.values, ordered, strict=True))
        parts = contributions(by_arm["control"], by_arm["engine"], EARLIER, values)
        tails = judge_tails(parts, **sizes, alpha=plan.alpha, tolerance=config.tail_tolerance)
        effects = effects_of(by_arm, design, config, facts, {("revenue_per_account", "engine"): tails})
        verdicts.append(decide_verdict(evidence_of(effects, design, config), (), design.stage).verdict)
    assert [verdict == "SHIP" for verdict in verdicts] == judged.ship.tolist()
    assert [verdict == "ROLL BACK" for verdict in verdicts] == (judged.harmed | judged.broken).tolist()
    assert {"SHIP", "ROLL BACK"} <= set(verdicts)


def test_the_error_is_shared_by_the_arms_that_are_compared_with_control() -> None:
    """Three arms: each side of either interval errs at most half as often, so that any of them errs as stated."""
    plan = _plan(1, 1)
    third = plan.arms[0].model_copy(update={"name": "second engine"})
    past = _past(np.random.default_rng(5).gamma(0.5, 40.0, 1_500))
    three = plan.model_copy(update={"arms": (*plan.arms, third)})
    found = placebo_of(past, three, effects=(0.5,), draws=N_DRAWS)
    assert found.smallest_arm == pytest.approx(500, abs=5)
    assert found.is_fit, found.sentence
    assert found.errors.ship.rate > found.errors.ship.low / 2  # not so careful that nothing would be found


def test_a_plan_that_the_past_can_not_try_is_refused() -> None:
    with pytest.raises(ReadoutError, match="primary 'revenue_per_account' does not vary in past orders"):
        placebo_of(_past(np.arange(20.0), BUYS), _plan(1, 1))
    with pytest.raises(ReadoutError, match="an arm has fewer than 2 of 20 accounts in every draw"):
        placebo_of(_past(np.arange(20.0)), _plan(1_000_000, 1), draws=50)


def test_a_cap_is_that_of_the_plan() -> None:
    past = _past(np.array([0.0, 1.0, 2.0, 100.0]))
    assert _capped(past, REVENUE, _plan(1, 1, cap_percentile=0.75)).values["revenue"].max() == pytest.approx(51.0)
    assert _capped(past, REVENUE, _plan(1, 1)) is past
