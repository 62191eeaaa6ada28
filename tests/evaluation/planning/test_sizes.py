"""Sizes of a plan: accounts that are served and buy nothing, unequal arms, guardrails, rates; power by simulation."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys.errors import ReadoutError
from recsys.evaluation.planning.history import PastVisits, history_of, listed_visits
from recsys.evaluation.planning.sizes import guardrail_size, plan_sizes, planned_sizes, sample_size
from recsys.evaluation.readout.purchases import DAY
from recsys.evaluation.statistics.effects import difference
from recsys.evaluation.statistics.metric import Metric, Ratio
from recsys.evaluation.statistics.moments import Moments, moments_of_rows
from recsys.evaluation.statistics.significance_tests import score_statistic
from recsys.experiments.assignment import takes_part
from recsys.experiments.plan import ExperimentPlan

END = datetime(2026, 6, 1, tzinfo=UTC)
N_SIMULATIONS = 2_000
SPENT = np.array([0.0, 20.0, 60.0])
CHANCES = np.array([0.8, 0.15, 0.05])
SPEND = Metric("spend", Ratio("x"))


def _lines(n_buyers: int) -> pd.DataFrame:
    """Each of the first accounts orders once 20 days before the end, every second one 50 days before it too."""
    accounts = np.array([f"a{i:04}" for i in range(n_buyers)], dtype=object)
    early = accounts[::2]
    days = np.concatenate([np.full(len(accounts), 20), np.full(len(early), 50)])
    return pd.DataFrame(
        {
            "order_id": [f"o{i}" for i in range(len(days))],
            "account_id": np.concatenate([accounts, early]),
            "ordered_at": pd.Timestamp(END) - pd.to_timedelta(days, unit="D"),
            "revenue": 10.0 + np.arange(len(days)) % 7,
        }
    )


def _everybody(n: int) -> np.ndarray:
    return np.array([f"a{i:04}" for i in range(n)], dtype=object)


def test_accounts_that_buy_nothing_count_with_zeros() -> None:
    lines = _lines(100)
    bought = lines["ordered_at"] > pd.Timestamp(END) - pd.Timedelta(days=28)
    history = history_of(lines, END, 28, visits=listed_visits(_everybody(1_000)))
    assert (history.n_accounts, history.n_buyers, history.entry) == (1_000, 100, "listed")
    mean = history.moments.mean[history.moments.at("revenue")]
    assert mean == pytest.approx(lines.loc[bought, "revenue"].sum() / 1_000)
    assert history.arrived.tolist() == [1_000]  # a list is reached on the first day


def test_buyers_alone_would_need_far_too_few_accounts() -> None:
    """One account in ten buys: its revenue varies nine times as much about its mean, and more, than a buyer's."""
    lines = _lines(100)
    only_buyers = history_of(lines, END, 28)
    served = history_of(lines, END, 28, visits=listed_visits(_everybody(1_000)))
    needed = {
        history.entry: next(
            size.n_per_arm_without
            for size in plan_sizes(history, [0.1], window_days=28, power=0.8, alpha=0.05)
            if size.metric == "revenue_per_account"
        )
        for history in (only_buyers, served)
    }
    assert needed["listed"] > 9 * needed["ordered"]


def test_served_accounts_enter_at_their_first_decision_and_are_counted_by_day() -> None:
    seconds = int(END.timestamp()) - np.array([100, 40, 39, 38, 40, 10]) * DAY
    accounts = np.array(["a0000", "a0000", "a0000", "zz", "a0001", "late"], dtype=object)
    lines = _lines(40)
    with pytest.raises(ReadoutError, match="3 accounts were served between 56 and 28 days before the end"):
        history_of(lines, END, 28, visits=PastVisits("served", accounts, seconds))
    many = PastVisits("served", np.repeat(_everybody(30), 2), np.tile(seconds[1:3], 30))
    history = history_of(lines, END, 28, visits=many)
    assert (history.n_accounts, history.arrived[-1], history.entry) == (30, 30, "served")
    found = planned_sizes(history, [0.5], window_days=28, power=0.8, alpha=0.05)
    assert found.entered_a_day == pytest.approx(30 / 40)  # the log is 40 days old


def _drawn(n_units: int, seed: int) -> Moments:
    counts = np.random.default_rng(seed).multinomial(n_units, CHANCES, N_SIMULATIONS)
    mean = counts @ SPENT / n_units
    variance = (counts @ SPENT**2 - n_units * mean**2) / (n_units - 1)
    return Moments(("x",), np.full(N_SIMULATIONS, float(n_units)), mean[:, None], variance[:, None, None])


def _population() -> Moments:
    rows = np.repeat(SPENT, (CHANCES * 10_000).astype(int))
    return moments_of_rows(["x"], rows[:, None])


@pytest.mark.parametrize("share", [0.5, 0.1, 0.8])
def test_power_at_the_size_of_unequal_arms(share: float) -> None:
    found = sample_size(_population(), SPEND, 0.1, shares=(1 - share, share))
    n_arm = round(found.n_units * share)
    assert found.n_per_arm == pytest.approx(found.n_units * min(share, 1 - share), abs=1)
    control, arm = _drawn(found.n_units - n_arm, 1), _drawn(n_arm, 2)
    shifted = Moments(arm.columns, arm.n, arm.mean + found.effect, arm.cov)
    assert float((difference(control, shifted, SPEND).p_value < 0.05).mean()) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("rate", "relative"), [(0.03, 1.0), (0.3, 0.2), (0.9, -0.1)])
def test_power_of_a_rate_has_the_variance_of_both_rates(rate: float, relative: float) -> None:
    """Where a rate of 3 % doubles, the variance of the past alone sizes too small: 72 % power instead of 80."""
    ones = round(rate * 10_000)
    history = moments_of_rows(["x"], np.repeat([1.0, 0.0], [ones, 10_000 - ones])[:, None])
    found = sample_size(history, SPEND, relative, is_proportion=True)
    p_control, p_arm = rate, rate * (1 + relative)
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    spread = p_control * (1 - p_control) + p_arm * (1 - p_arm)
    assert found.n_per_arm == pytest.approx(z**2 * spread / (p_arm - p_control) ** 2, rel=1e-3, abs=1)
    rng = np.random.default_rng(5)
    control, arm = (_rates(rng, found.n_per_arm, p) for p in (p_control, p_arm))
    assert float((difference(control, arm, SPEND).p_value < 0.05).mean()) == pytest.approx(0.8, abs=0.03)
    with pytest.raises(ReadoutError, match=r"of a rate of .*, must lie between 0 and 100 %"):
        sample_size(history, SPEND, 40.0, is_proportion=True)


def _rates(rng: np.random.Generator, n: int, p: float) -> Moments:
    mean = rng.binomial(n, p, N_SIMULATIONS) / n
    return Moments(("x",), np.full(N_SIMULATIONS, float(n)), mean[:, None], (mean * (1 - mean))[:, None, None])


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_a_guardrail_without_an_effect_is_shown_kept_at_the_planned_power(share: float) -> None:
    """By the score interval that the readout judges a mean of yes and no by."""
    history = moments_of_rows(["x"], np.repeat([1.0, 0.0], [500, 9_500])[:, None])
    guardrail = Metric("returned", Ratio("x"), direction="lower_is_better", role="guardrail", margin=0.01)
    found = guardrail_size(history, guardrail, shares=(1 - share, share), is_proportion=True)
    n_arm = round(found.n_units * share)
    n_control = found.n_units - n_arm
    rng = np.random.default_rng(8)
    arm, control = rng.binomial(n_arm, 0.05, N_SIMULATIONS), rng.binomial(n_control, 0.05, N_SIMULATIONS)
    z = stats.norm.ppf(0.975)
    kept = [score_statistic(int(a), n_arm, int(b), n_control, 0.01) < -z for a, b in zip(arm, control, strict=True)]
    assert float(np.mean(kept)) == pytest.approx(0.8, abs=0.03)


PLAN = ExperimentPlan.model_validate(
    {
        "id": "q",
        "arms": [
            {"name": "engine", "weight": 9},
            {"name": "control", "weight": 1, "is_control": True},
        ],
        "guardrails": [
            {"metric": "attrition", "margin": 0.05, "direction": "lower_is_better"},
            {"metric": "latency", "margin": 0.1, "direction": "lower_is_better"},
        ],
        "planned_start": "2026-06-01",
        "planned_end": "2026-07-01",
        "planned_size": 1,
    }
)


def test_a_plan_brings_its_shares_and_guardrails() -> None:
    lines = _lines(400).iloc[100:]  # a hundred did not come again: they lapsed
    history = history_of(lines, END, 28, visits=listed_visits(_everybody(1_000)), plan=PLAN)
    assert PLAN.shares_from_control == (0.1, 0.9)
    found = planned_sizes(history, [0.1], window_days=28, power=0.8, alpha=0.05, shares=PLAN.shares_from_control)
    assert found.left_out == ("latency",)
    by_name = {size.metric: size for size in found.sizes}
    assert by_name["attrition"].margin == 0.05
    revenue = by_name["revenue_per_account"]
    assert revenue.n_per_arm == pytest.approx(revenue.n_units / 10, abs=1)
    in_two = planned_sizes(history, [0.1], window_days=28, power=0.8, alpha=0.05)
    equal = next(size for size in in_two.sizes if size.metric == "revenue_per_account")
    # 1 / (.1 * .9) against 1 / (.5 * .5): 2.8 times as many units in all
    assert revenue.n_units / equal.n_units == pytest.approx(0.25 / 0.09, rel=1e-2)


def test_a_share_of_a_layer_gets_that_share_of_the_accounts() -> None:
    history = history_of(_lines(400), END, 28, visits=listed_visits(_everybody(1_000)), plan=PLAN)
    layered = PLAN.model_copy(update={"layer": "ranking", "layer_share": (0.0, 0.25)})
    found = history.in_layer(layered)
    assert found.n_accounts == pytest.approx(250, abs=45)  # 99.9 % of draws
    assert found.arrived.tolist() == [found.n_accounts]
    assert set(found.units) == {unit for unit in history.units if takes_part(layered, unit)}
    assert found.n_buyers == pytest.approx(found.values["buyers"].sum())
    assert history.in_layer(PLAN) is history
