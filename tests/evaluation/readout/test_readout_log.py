"""Logs and orders: windows, days, novelty, attribution, the event store, orders from files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys.contracts.decisions import AssignedArm
from recsys.contracts.events import PostedLine
from recsys.data.dataset import ReadSpec
from recsys.errors import CurrencyError, ReadoutError
from recsys.evaluation.planning.history import history_of
from recsys.evaluation.planning.sizes import plan_sizes
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_event_store import (
    ExperimentLog,
    experiment_data,
    read_log,
    readout_from_log,
    store_readout,
)
from recsys.evaluation.readout.from_orders import OrdersSpec, orders_readout
from recsys.evaluation.readout.from_table import TableSpec
from recsys.evaluation.readout.purchases import (
    DAY,
    Assigned,
    UnitPurchases,
    attributed_lines,
    daily_revenue,
    is_mature,
    window_values,
)
from recsys.events.memory import MemoryStore
from recsys.events.store import open_store
from recsys.experiments.plan import Arm, ExperimentPlan, LockedPlan, Policy, plan_hash
from tests.support.stored_experiments import heartbeat, stored

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 4, tzinfo=UTC)
ASSIGNED = Assigned(
    np.array(["a", "b", "c"], dtype=object), np.array(["x", "y", "x"], dtype=object), np.array([10, 10, 12]) * DAY, {}
)
# unit, day, revenue: before, on the first day, on the last, just after; a return; a stranger to the window
PURCHASES = UnitPurchases(
    np.array([0, 0, 0, 0, 1, 1, 2]),
    (np.array([9.5, 10, 16.99, 17, 11, 12, 4.9]) * DAY).astype(np.int64),
    np.array([5.0, 10.0, 20.0, 40.0, 30.0, -12.0, 7.0]),
)


def test_values_within_the_window_and_before() -> None:
    values = window_values(ASSIGNED, PURCHASES, 7, 100 * DAY)
    assert values["revenue"].tolist() == [10 + 20, 30 - 12, 0]
    assert values["orders"].tolist() == [2, 1, 0]
    assert values["buyers"].tolist() == [1, 1, 0]
    assert values["revenue_before"].tolist() == [5, 0, 0]
    assert values["lapsed"].tolist() == [0, 0, 0]


def test_nothing_at_or_after_now_counts() -> None:
    assert window_values(ASSIGNED, PURCHASES, 7, 12 * DAY)["revenue"].tolist() == [10, 30, 0]


def test_revenue_by_day_adds_up_to_the_window() -> None:
    daily = daily_revenue(ASSIGNED, PURCHASES, 7)
    assert daily.sum(axis=1).tolist() == window_values(ASSIGNED, PURCHASES, 7, 100 * DAY)["revenue"].tolist()
    assert daily[1].tolist() == [0, 30, -12, 0, 0, 0, 0]


def test_maturity_counts_complete_windows() -> None:
    assert is_mature(ASSIGNED, 7, 18 * DAY).tolist() == [True, True, False]


def test_the_last_presentation_within_the_window_is_credited_once() -> None:
    day = pd.Timestamp("2026-01-10", tz="UTC")
    presented = pd.DataFrame(
        {
            "unit_id": ["a", "a", "b"],
            "product_id": ["P", "P", "P"],
            "presented_at": [day, day + pd.Timedelta(days=2), day],
        }
    )
    lines = pd.DataFrame(
        {
            "order_id": ["1", "2", "3", "4", "5"],
            "account_id": ["a", "a", "b", "b", None],
            "product_id": ["P", "Q", "P", "P", "P"],
            "ordered_at": [day + pd.Timedelta(days=gap) for gap in (3, 3, 8, -1, 1)],
            "revenue": [10.0, 20.0, 40.0, 80.0, 160.0],
        }
    )
    assert attributed_lines(lines, presented, 7)["order_id"].tolist() == ["1"]
    assert sorted(attributed_lines(lines, presented, 8)["order_id"]) == ["1", "3"]


def test_days_and_novelty_come_with_a_log(log: ExperimentLog) -> None:
    readout = readout_from_log(log, NOW)
    days = [look.day for look in readout.looks]
    assert days == sorted(days)
    assert days[0] == "2026-01-05"
    last = readout.looks[-1]
    effect = readout.effect("revenue_per_account", "engine")
    assert last.effect == pytest.approx(effect.effect, rel=1e-9)
    assert (last.n_control, last.n_arm) == (effect.n_control, effect.n_arm)
    assert len(readout.novelty[0].days) == 28
    raw = effect.arm_mean - effect.control_mean
    assert sum(day.effect for day in readout.novelty[0].days) == pytest.approx(raw, rel=1e-9)
    assert readout.novelty[0].low < readout.novelty[0].slope < readout.novelty[0].high
    assert sum(part.slice.startswith("day=") for part in readout.sums) == len(readout.looks)
    assert {cell.window for cell in readout.sensitivity} == {"28 days", "14 days"}


def test_the_novelty_slope_is_the_regression_slope_of_the_daily_effect(log: ExperimentLog) -> None:
    found = readout_from_log(log, NOW).novelty[0]
    fitted = np.polyfit([day.day for day in found.days], [day.effect for day in found.days], 1)[0]
    assert found.slope == pytest.approx(fitted, rel=1e-6)


def test_a_fading_effect_has_a_negative_slope(plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]) -> None:
    log = make_log(plan)
    came = log.assignments.set_index("unit_id")["assigned_at"]
    engine = set(log.assignments.loc[log.assignments["arm"] == "engine", "unit_id"])
    age = (log.lines["ordered_at"] - came.reindex(log.lines["account_id"]).reset_index(drop=True)).dt.days
    fading = log.lines["account_id"].isin(engine) & (age >= 0)
    lines = log.lines.assign(revenue=log.lines["revenue"] + np.where(fading, 60 - 3 * age, 0.0))
    found = readout_from_log(replace(log, lines=lines), NOW).novelty[0]
    assert found.slope < 0
    assert found.p_value < 0.001


def test_a_holdout_is_exposed_by_answered_requests(
    plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]
) -> None:
    arms = (Arm(name="control", weight=1, is_control=True, policy=Policy(kind="none")), Arm(name="engine", weight=1))
    held = plan.model_copy(update={"arms": arms})
    log = make_log(held, lift=2.0)
    shown = log.offers["decision_id"].isin(log.decisions.loc[log.decisions["arm"] == "engine", "decision_id"])
    offers = log.offers.assign(presented_at=log.offers["presented_at"].where(shown))
    outcomes = log.outcomes[log.outcomes["decision_id"].isin(log.offers.loc[shown, "decision_id"])]
    found = replace(log, offers=offers, outcomes=outcomes.reset_index(drop=True))
    exposed = experiment_data(found, NOW).exposed
    assert exposed is not None
    assert exposed.all()
    readout = readout_from_log(found, NOW)
    assert readout.verdict.verdict == "SHIP"
    assert "offer_conversion" not in {effect.metric for effect in readout.effects}
    share = readout.incremental[0]
    assert share.attributed == pytest.approx(0.2 * 5.0, rel=0.15)
    assert share.incremental > share.attributed


def test_offer_conversion_stands_beside_its_denominator(log: ExperimentLog) -> None:
    readout = readout_from_log(log, NOW)
    found = readout.effect("offer_conversion", "engine")
    assert found.control_mean == pytest.approx(0.1, abs=0.02)
    assert found.denominator_metric == "presented_offers per unit"
    assert readout.effect("presented_offers per unit", "engine").role == "diagnostic"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_store_gives_what_the_log_gives(
    plan: ExperimentPlan, make_log: Callable[..., ExperimentLog], tmp_path: Path, kind: str
) -> None:
    log = make_log(plan, 1_000)
    store = MemoryStore() if kind == "memory" else open_store(f"sqlite:///{tmp_path / 'offers.db'}")
    stored(log, store).append([heartbeat(NOW)])
    from_store = store_readout(store, plan.id, NOW)
    store.close()
    facts = log.lines[["account_id", "ordered_at"]].assign(has_amount=True, is_late=False)
    expected = readout_from_log(replace(log, line_facts=facts), NOW)
    assert from_store.effects == expected.effects
    assert from_store.health == expected.health
    assert from_store.verdict == expected.verdict
    assert from_store.plan is not None
    assert from_store.plan.plan_hash == plan_hash(plan)


def test_an_experiment_that_is_second_in_its_decisions_is_read_out_as_if_it_stood_alone(
    plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]
) -> None:
    log = make_log(plan, 300)
    other = AssignedArm("layout", "wide", 0.5)
    second, alone = (store_readout(stored(log, MemoryStore(), None, first), plan.id, NOW) for first in ((other,), ()))
    assert (second.effects, second.health) == (alone.effects, alone.health)


def line(order_id: str, unit: str, day: datetime, currency: str | None, **more: Any) -> PostedLine:
    values: dict[str, Any] = {"quantity": 1.0, "unit_price": 1_000.0, "account_id": unit, "currency": currency} | more
    return PostedLine(order_id=order_id, line_id="1", product_id="P1", ordered_at=day, recorded_at=day, **values)


def test_orders_of_several_currencies_are_never_added_up(
    plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]
) -> None:
    log = make_log(plan, 1_000)
    store = MemoryStore()
    stored(log, store)
    expected = store_readout(store, plan.id, NOW)
    unit, day = log.assignments["unit_id"].iloc[0], log.assignments["assigned_at"].max().to_pydatetime()
    store.append([line("usd-1", unit, day, "USD"), line("usd-2", unit, day, "USD")])
    assert store_readout(store, plan.id, NOW).effects != expected.effects  # the others say no currency
    store.append([line("sek-1", unit, day, "SEK")])
    with pytest.raises(CurrencyError, match=r"order lines: currencies SEK \(1 lines\), USD \(2 lines\), must be one"):
        store_readout(store, plan.id, NOW)
    with pytest.raises(CurrencyError, match="currency == 'EUR', must be one of SEK, USD"):
        store_readout(store, plan.id, NOW, currency="EUR")
    named = stored(log, MemoryStore(), "EUR")
    named.append([line("usd-1", unit, day, "USD"), line("usd-2", unit, day, "USD"), line("none", unit, day, None)])
    found = store_readout(named, plan.id, NOW, currency="EUR")
    left_out = "order lines that are not known to be in EUR are left out: 2 in USD, 1 that say no currency"
    assert {effect.currency for effect in found.effects if effect.unit == "money"} == {"EUR"}
    assert tuple(replace(effect, currency=None) for effect in found.effects) == expected.effects
    assert left_out in found.notes


def test_a_line_that_comes_back_takes_back_what_it_cost(
    plan: ExperimentPlan, make_log: Callable[..., ExperimentLog]
) -> None:
    store = MemoryStore()
    log = make_log(plan, 300)
    stored(log, store)
    unit, day = log.assignments["unit_id"].iloc[0], log.assignments["assigned_at"].max().to_pydatetime()
    bought = line("o1", unit, day, None, discount=400.0)
    store.append([bought, replace(bought, line_id="r", quantity=-1.0, status="returned")])
    lines = read_log(store, plan.id, NOW).lines
    assert lines.loc[lines["order_id"] == "o1", "revenue"].tolist() == [1_000 - 400, -(1_000 - 400)]


def test_an_unknown_experiment_is_a_sentence() -> None:
    with pytest.raises(ReadoutError, match="the store has no experiment 'x'; it has none"):
        store_readout(MemoryStore(), "x", NOW)


class TestOrdersForm:
    def _written(self, log: ExperimentLog, tmp_path: Path) -> tuple[str, OrdersSpec]:
        lines = log.lines.assign(quantity=1, unit_price=log.lines["revenue"]).drop(columns="revenue")
        lines.to_parquet(tmp_path / "orders.parquet")
        log.assignments.rename(columns={"unit_id": "account_id"}).to_csv(tmp_path / "arms.csv", index=False)
        table = TableSpec(unit="account_id", arm="arm", control="control", metrics={})
        spec = ReadSpec(orders=str(tmp_path / "orders.parquet"))
        return str(tmp_path / "arms.csv"), OrdersSpec(table, spec, 28, assigned_at="assigned_at")

    def test_it_gives_what_the_log_gives(self, log: ExperimentLog, tmp_path: Path) -> None:
        location, form = self._written(log, tmp_path)
        found = orders_readout(location, form, ReadoutConfig(planned_units=4_000), now=NOW)
        expected = readout_from_log(log, NOW)
        for metric in ("revenue_per_account", "aov", "buyer_rate"):
            assert found.effect(metric, "engine").effect == pytest.approx(
                expected.effect(metric, "engine").effect, rel=1e-9
            )
        names = [factor.name for factor in found.decompositions[0].factors]
        assert names == ["buyer rate", "orders per buyer", "AOV"]

    def test_orders_of_others_are_left_out_and_named(self, log: ExperimentLog, tmp_path: Path) -> None:
        fewer = replace(log, assignments=log.assignments.iloc[10:])
        location, form = self._written(fewer, tmp_path)
        notes = orders_readout(location, form, ReadoutConfig(), now=NOW).notes
        assert any("accounts that are in no arm are left out" in note for note in notes)

    def test_unknown_accounts_are_a_sentence(self, log: ExperimentLog, tmp_path: Path) -> None:
        strangers = log.assignments.assign(unit_id="x" + log.assignments["unit_id"])
        location, form = self._written(replace(log, assignments=strangers), tmp_path)
        with pytest.raises(ReadoutError, match="0 orders belong to the 4,000 units"):
            orders_readout(location, form, ReadoutConfig(), now=NOW)

    def test_a_missing_start_is_a_sentence(self, log: ExperimentLog, tmp_path: Path) -> None:
        location, form = self._written(log, tmp_path)
        with pytest.raises(ReadoutError, match="orders without a start"):
            orders_readout(location, replace(form, assigned_at=None), ReadoutConfig(), now=NOW)


class TestPlanning:
    def test_size_and_days_from_history(self, log: ExperimentLog) -> None:
        history = history_of(log.lines, NOW, 14)
        found = plan_sizes(history, [0.1, 0.2], window_days=14, power=0.8, alpha=0.05)
        revenue = [size for size in found if size.metric == "revenue_per_account"]
        # a quarter of the units for twice the effect
        assert revenue[0].n_per_arm_without / revenue[1].n_per_arm_without == pytest.approx(4, rel=0.05)
        assert history.arrived.tolist() == sorted(history.arrived)
        for size in found:
            assert (size.days is None) == (history.arrived[-1] < 2 * size.n_per_arm)

    def test_too_short_a_history_is_a_sentence(self, log: ExperimentLog) -> None:
        with pytest.raises(ReadoutError, match="0 accounts placed an order between 28 and 14 days"):
            history_of(log.lines, NOW + timedelta(days=300), 14)


def test_a_stopped_plan_counts_its_run_until_the_stop(log: ExperimentLog) -> None:
    stopped = LockedPlan(
        log.plan.plan, log.plan.plan_hash, log.plan.started_at, stopped_at=datetime(2026, 1, 12, tzinfo=UTC)
    )
    readout = readout_from_log(replace(log, plan=stopped), NOW)
    assert readout.verdict.verdict == "DISCUSS"
    assert "the run ended without the minimum run" in readout.verdict.reason
