"""Arms assigned by company: errors by company hold their level, errors by account do not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from recsys.errors import PlanError, ReadoutError
from recsys.evaluation.api import readout
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.effects import difference
from recsys.evaluation.statistics.metric import UNITS, Metric, Ratio
from recsys.evaluation.statistics.moments import Moments, moments_of_rows
from recsys.events.memory import MemoryStore
from recsys.experiments.assignment import assign_many
from recsys.experiments.lifecycle import start_experiment
from recsys.experiments.plan import Arm, ExperimentPlan, LockedPlan, canonical_json, plan_hash

REVENUE = Metric("revenue", Ratio("revenue"))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
Band = Callable[[float, int], tuple[float, float]]


def _sums(rng: np.random.Generator, n: int, n_companies: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accounts, revenue and squared revenue of each company, shape `(n, n_companies)`.

    An account spends `v (1 + e)`, `v` lognormal by company and `e` standard normal: alike within a company.
    """
    size = 1.0 + rng.poisson(rng.gamma(2.0, 2.0, (n, n_companies)))
    level = rng.lognormal(0.0, 0.8, size.shape)
    noise = rng.standard_normal(size.shape) * np.sqrt(size)
    squares = noise**2 / size + stats.chi2.rvs(np.maximum(size - 1, 1e-9), random_state=rng)
    return size, level * (size + noise), level**2 * (size + 2 * noise + squares)


def _errors(n: int, seed: int) -> tuple[float, float]:
    """False positives at 5 % with errors by company and with errors by account."""
    rng = np.random.default_rng(seed)
    by_company, by_account = [], []
    for _ in range(2):
        size, total, squares = _sums(rng, n, 400)
        by_company.append(moments_of_rows(("revenue", UNITS), np.stack([total, size], axis=-1)))
        count = size.sum(axis=1)
        mean = total.sum(axis=1) / count
        variance = (squares.sum(axis=1) - count * mean**2) / (count - 1)
        by_account.append(Moments(("revenue",), count, mean[:, None], variance[:, None, None]))
    found = (
        difference(by_company[0], by_company[1], REVENUE.by_cluster()),
        difference(by_account[0], by_account[1], REVENUE),
    )
    rates = [float((effect.p_value < 0.05).mean()) for effect in found]
    return rates[0], rates[1]


def test_errors_by_company_lie_in_the_band_and_errors_by_account_far_above(band: Band) -> None:
    low, high = band(0.05, 2_000)
    by_company, by_account = _errors(2_000, seed=4)
    assert low <= by_company <= high
    assert by_account > 0.2


@pytest.mark.proof
def test_ten_thousand_simulations_lie_in_the_band(band: Band) -> None:
    low, high = band(0.05, 10_000)
    assert low <= _errors(10_000, seed=9)[0] <= high


def _accounts(n_companies: int = 300, *, arm: np.ndarray | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    size = rng.integers(1, 9, n_companies)
    company = np.repeat(np.arange(n_companies), size)
    level = rng.lognormal(0.0, 0.5, n_companies)[company]
    arms = np.array(["a", "c"])[np.arange(n_companies) % 2] if arm is None else arm
    return pd.DataFrame(
        {
            "account_id": np.arange(len(company)),
            "company_id": company,
            "arm": arms[company],
            "revenue": level * rng.lognormal(0.0, 0.3, len(company)),
            "orders": 1 + rng.poisson(level),
            "before": level,
            "segment": np.array(["x", "y"])[company % 3 // 2],
        }
    )


def _readout(frame: pd.DataFrame, folder: Path, **options: object) -> Readout:
    path = folder / "accounts.parquet"
    frame.to_parquet(path)
    metrics = {"revenue": Ratio("revenue"), "aov": Ratio("revenue", "orders")}
    form = {"unit": "account_id", "arm": "arm", "control": "c", "metrics": metrics, "money": ("revenue",)} | options
    return table_readout(str(path), TableSpec(**form), ReadoutConfig(), now=NOW)  # type: ignore[arg-type]


def test_it_equals_the_cluster_robust_errors_of_a_regression(tmp_path: Path) -> None:
    frame = _accounts()
    found = _readout(frame, tmp_path, cluster="company_id").effects[0]
    design = sm.add_constant((frame["arm"] == "a").to_numpy(float))
    fit = sm.OLS(frame["revenue"].to_numpy(), design).fit(
        cov_type="cluster", cov_kwds={"groups": frame["company_id"], "use_correction": False}
    )
    assert found.effect == pytest.approx(fit.params[1], rel=1e-9)
    assert found.standard_error == pytest.approx(fit.bse[1] * np.sqrt(150 / 149), rel=1e-9)
    assert (found.n_control, found.n_arm) == (150, 150)


def test_companies_of_one_account_give_what_accounts_give(tmp_path: Path) -> None:
    frame = _accounts().drop_duplicates("company_id")
    options = {"before": {"revenue": Ratio("before")}, "segments": ("segment",), "chain": ("orders", "revenue")}
    plain, clustered = (_readout(frame, tmp_path, **options, cluster=name) for name in (None, "company_id"))
    for one, other in zip(plain.effects, clustered.effects, strict=True):
        for name in ("effect", "standard_error", "effect_low", "anytime_high", "p_value", "variance_ratio"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9), name
    p_values = [[found.p_adjusted for found in readout.segments] for readout in (plain, clustered)]
    assert p_values[0] == pytest.approx(p_values[1], rel=1e-9)
    (whole,), (parts,) = plain.decompositions, clustered.decompositions
    assert whole.total.log_low == pytest.approx(parts.total.log_low, rel=1e-9)
    assert [factor.control for factor in whole.factors] == pytest.approx([factor.control for factor in parts.factors])
    assert whole.total.control == pytest.approx(parts.total.control)


def test_companies_are_counted_and_money_is_of_accounts(tmp_path: Path) -> None:
    frame = _accounts()
    found = _readout(frame, tmp_path, cluster="company_id")
    assert found.unit == "company_id"
    assert found.counts == {"a": 150, "c": 150}
    assert found.money[0].n_units == (frame["arm"] == "a").sum()
    assert f"assigned and judged by company_id: {len(frame):,} units in 300" in found.notes
    assert found.effects[0].estimator == "difference of means, Welch, errors by cluster"


def test_companies_in_several_arms_are_no_clusters(tmp_path: Path) -> None:
    frame = _accounts()
    frame["arm"] = np.array(["a", "c"])[np.arange(len(frame)) % 2]
    with pytest.raises(ReadoutError, match="of 300 company_id stand in several arms, each must stand in one"):
        _readout(frame, tmp_path, cluster="company_id")


def test_one_company_in_two_arms_is_left_out_and_found(tmp_path: Path) -> None:
    frame = _accounts()
    rows = np.flatnonzero(frame["company_id"] == 7)
    frame.loc[rows[0], "arm"] = "a"
    found = _readout(frame, tmp_path, cluster="company_id")
    assert sum(found.counts.values()) == 299
    (check,) = [check for check in found.health if check.name == "mixed_assignment"]
    assert check.status != "passed"


def test_orders_are_judged_by_company_too() -> None:
    accounts = _accounts()
    rng = np.random.default_rng(2)
    who = np.repeat(accounts["account_id"].to_numpy(), rng.poisson(accounts["before"]))
    day = rng.integers(-20, 20, len(who))
    lines = pd.DataFrame(
        {
            "order_id": [f"O{i}" for i in range(len(who))],
            "account_id": who.astype(str),
            "product_id": "P1",
            "ordered_at": pd.Timestamp("2026-02-01", tz="UTC") + pd.to_timedelta(day, unit="D"),
            "quantity": 1,
            "unit_price": rng.lognormal(3, 0.5, len(who)),
        }
    )
    units = accounts[["account_id", "company_id", "arm"]].astype(str)
    options: dict[str, Any] = {"arm": "arm", "control": "c", "unit": "account_id", "orders": lines, "window_days": 14}
    plain, clustered = (readout(units, **options, started="2026-02-01", cluster=name) for name in (None, "company_id"))
    one, other = (found.effect("revenue_per_account", "a") for found in (plain, clustered))
    assert (one.control_mean, one.arm_mean) == pytest.approx((other.control_mean, other.arm_mean))
    assert other.n_arm == 150
    assert other.standard_error != pytest.approx(one.standard_error, rel=1e-3)
    assert clustered.decompositions[0].total.control == pytest.approx(plain.decompositions[0].total.control)
    last, before = clustered.looks[-1], plain.looks[-1]
    assert (last.n_arm, before.n_arm) == (150, plain.counts["a"])
    assert (last.effect, last.effect_low, last.anytime_high) == pytest.approx(
        (other.effect, other.effect_low, other.anytime_high)
    )
    assert last.effect_low != pytest.approx(before.effect_low, rel=1e-3)
    assert clustered.novelty[0].slope == pytest.approx(plain.novelty[0].slope)
    assert clustered.novelty[0].low != pytest.approx(plain.novelty[0].low, rel=1e-3)


def _large_companies(*, is_ramped: bool = False) -> pd.DataFrame:
    """240 companies of 30 accounts, a company's accounts all within a day; a ramp gives the late weeks to one arm."""
    rng = np.random.default_rng(3)
    day = rng.integers(0, 28, 240)
    share = np.where(day < 14, 0.2, 0.8) if is_ramped else np.full(240, 0.5)
    arm = np.where(rng.random(240) < share, "a", "c")
    company = np.repeat(np.arange(240), 30)
    return pd.DataFrame(
        {
            "account_id": np.arange(len(company)),
            "company_id": company,
            "arm": arm[company],
            "revenue": rng.lognormal(0.0, 0.5, 240)[company] * rng.lognormal(0.0, 0.3, len(company)),
            "orders": 1 + rng.poisson(1.0, len(company)),
            "assigned_at": pd.Timestamp("2026-01-05")
            + pd.to_timedelta(day[company] * 24 + rng.integers(0, 24, len(company)), unit="h"),
        }
    )


@pytest.mark.parametrize(
    ("is_ramped", "cluster", "status"),
    [(False, "company_id", "passed"), (False, None, "failed"), (True, "company_id", "failed")],
)
def test_shares_over_time_are_of_companies(is_ramped: bool, cluster: str | None, status: str, tmp_path: Path) -> None:
    """By account 30 of one company count as 30 draws, so that clean weeks look unlike."""
    frame = _large_companies(is_ramped=is_ramped)
    found = _readout(frame, tmp_path, cluster=cluster, assigned_at="assigned_at")
    (check,) = [check for check in found.health if check.name == "shares_over_time"]
    assert check.status == status


def test_mixed_accounts_are_told_by_the_arm_of_their_company(tmp_path: Path) -> None:
    """15 accounts of 7,200, one a company, stand in both arms: few, but all in companies of one arm."""
    plan = _plan("company_id")
    arms = np.array(["c", "a"])[assign_many(plan, [str(i) for i in range(240)])]
    frame = _large_companies()
    frame["arm"] = arms[frame["company_id"]]
    locked = LockedPlan(plan, plan_hash(plan), plan.planned_start)
    for companies, status in ((np.flatnonzero(arms == "c")[:15], "failed"), (np.arange(15), "warning")):
        twice = frame[frame["company_id"].isin(companies)].drop_duplicates("company_id")
        both = pd.concat([frame, twice.assign(arm=np.where(twice["arm"] == "c", "a", "c"))], ignore_index=True)
        found = _readout(both, tmp_path, plan=locked, cluster="company_id")
        (check,) = [check for check in found.health if check.name == "mixed_assignment"]
        assert check.status == status
        assert "15 units stand in several arms; they are left out of the effects; 0.21% of all" in check.detail
        assert f"by the arm that is theirs c {(arms[companies] == 'c').sum()}" in check.detail


def _plan(cluster: str | None) -> ExperimentPlan:
    return ExperimentPlan(
        id="by-company",
        arms=(Arm(name="c", weight=1, is_control=True), Arm(name="a", weight=1)),
        primary="revenue",
        planned_start=datetime(2026, 1, 5, tzinfo=UTC),
        planned_end=datetime(2026, 3, 2, tzinfo=UTC),
        planned_size=100,
        cluster=cluster,
    )


def test_a_plan_assigns_by_company(tmp_path: Path) -> None:
    plan = _plan("company_id")
    arms = np.array(["c", "a"])[assign_many(plan, [str(i) for i in range(300)])]
    locked = LockedPlan(plan, plan_hash(plan), plan.planned_start)
    found = _readout(_accounts(arm=arms), tmp_path, plan=locked, cluster="company_id")
    (check,) = [check for check in found.health if check.name == "assignment_hash"]
    assert (check.status, found.unit) == ("passed", "company_id")


def test_a_plan_without_a_cluster_keeps_its_hash() -> None:
    assert "cluster" not in canonical_json(_plan(None))
    assert "company_id" in canonical_json(_plan("company_id"))


def test_servers_refuse_a_plan_that_assigns_by_cluster() -> None:
    with pytest.raises(PlanError, match="cluster == 'company_id', must be left out of a plan that servers run"):
        start_experiment(MemoryStore(), _plan("company_id"), datetime(2026, 1, 5, tzinfo=UTC))
