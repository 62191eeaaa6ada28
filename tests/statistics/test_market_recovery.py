"""Planted effects of offers, recovered from an experiment's log by the readout and the KPIs.

The truth is the mean difference of potential outcomes over the accounts of the log. An estimate must lie within 3.29
of its own standard errors of it (99.9 %), with 10,000 accounts an arm.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.evaluation.kpis.results import KpiReport
from recsys.evaluation.kpis.tables import EventTables
from recsys.evaluation.readout.arm_effects import Effect
from recsys.evaluation.readout.design import ReadoutConfig
from recsys.evaluation.readout.from_table import TableSpec, table_readout
from recsys.evaluation.readout.results import Readout
from recsys.evaluation.statistics.metric import Ratio
from recsys.reporting.kpi_text import effect_lines
from recsys.simulation.constants import MarketConfig
from recsys.simulation.responses.experiment import (
    HOLDOUT,
    WORLDS,
    OfferPolicy,
    SimulatedExperiment,
    simulate_experiment,
)
from recsys.simulation.responses.scenario import ResponseWorld

MARKET = MarketConfig(n_accounts=20_000, n_products=1_000, seed=4)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
Z = 3.29
METRICS = {
    "revenue_per_account": Ratio("revenue"),
    "orders_per_account": Ratio("orders"),
    "buyer_rate": Ratio("buyer"),
    "orders_per_buyer": Ratio("orders", "buyer"),
    "aov": Ratio("revenue", "orders"),
    "upsell_rate": Ratio("upsell_orders", "orders"),
    "cross_sell_rate": Ratio("cross_sell_orders", "orders"),
}
FORM = TableSpec(
    unit="account_id",
    arm="arm",
    control="control",
    metrics=METRICS,
    before={"revenue_per_account": Ratio("revenue_before"), "orders_per_account": Ratio("orders_before")},
    primary="revenue_per_account",
    chain=("buyer", "orders", "revenue"),
    attributed="attributed_revenue",
)
POLICIES = {"control": HOLDOUT, "offers": OfferPolicy()}
# Many wishes and easy acceptance, so that attributed revenue is far above the noise of 10,000 accounts an arm.
BUSY = {"wish_rate": 0.2, "base_logit": 1.0, "fatigue_effect": 0.0}


def readout_of(log: SimulatedExperiment, folder: Path, form: TableSpec = FORM) -> Readout:
    path = folder / "accounts.parquet"
    log.accounts.drop(columns="assigned_at").to_parquet(path)
    return table_readout(str(path), form, ReadoutConfig(), now=NOW)


def effect_of(readout: Readout, metric: str) -> Effect:
    return next(item for item in readout.effects if item.metric == metric)


@pytest.fixture(scope="module", params=["adds", "moves_only", "harm"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SimulatedExperiment, Readout]:
    log = simulate_experiment(MARKET, POLICIES, WORLDS[request.param], 21)
    return log, readout_of(log, tmp_path_factory.mktemp("recovery"))


@pytest.mark.parametrize("metric", list(METRICS))
def test_planted_effects_are_recovered(world: tuple[SimulatedExperiment, Readout], metric: str) -> None:
    log, readout = world
    truth = {arm: getattr(log.truth.arms[arm], metric) for arm in POLICIES}
    found = effect_of(readout, metric)
    assert abs(found.effect - (truth["offers"] - truth["control"])) <= Z * found.standard_error


def test_the_decomposition_is_recovered(world: tuple[SimulatedExperiment, Readout]) -> None:
    log, readout = world
    control, offers = log.truth.arms["control"], log.truth.arms["offers"]
    planted = [
        np.log(offers.buyer_rate / control.buyer_rate),
        np.log(offers.orders_per_buyer / control.orders_per_buyer),
        np.log(offers.aov / control.aov),
    ]
    (found,) = readout.decompositions
    assert sum(factor.log_effect for factor in found.factors) == pytest.approx(found.total.log_effect)
    for factor, true, variance in zip(found.factors, planted, np.diag(found.covariance), strict=True):
        assert abs(factor.log_effect - true) <= Z * np.sqrt(variance), factor.name


def test_an_engine_that_only_moves_purchases_is_found_out(tmp_path: Path) -> None:
    """Attributed revenue looks fine, the incremental share is near zero, and nothing is shipped."""
    moves = simulate_experiment(MARKET, POLICIES, WORLDS["moves_only"].model_copy(update=BUSY), 22)
    attributed = kpis_of(moves).get("revenue_contribution", "attributed").value
    assert attributed is not None
    assert attributed > 0.1
    readout = readout_of(moves, tmp_path)
    (share,) = readout.incremental
    assert share.low is not None
    assert share.high is not None
    assert share.low <= 0 <= share.high
    assert share.high < 0.5
    assert readout.verdict.verdict not in {"SHIP", "INVALID"}


def test_an_engine_that_adds_sales_is_told_from_one_that_moves_them(tmp_path: Path) -> None:
    adds = simulate_experiment(MARKET, POLICIES, WORLDS["adds"].model_copy(update={"base_logit": 0.0}), 22)
    (share,) = readout_of(adds, tmp_path).incremental
    truth = adds.truth.arms["offers"].incremental_share
    assert share.low is not None
    assert share.high is not None
    assert truth is not None
    assert share.low > 0.25
    width = (share.high - share.low) / 2 / 1.96
    assert share.share is not None
    assert abs(share.share - truth) <= Z * width


def test_an_engine_that_harms_is_not_shipped(world: tuple[SimulatedExperiment, Readout]) -> None:
    log, readout = world
    if log.truth.arms["offers"].effect < 0:
        assert readout.verdict.verdict in {"ROLL BACK", "KEEP RUNNING", "DISCUSS", "FLAT"}
    assert readout.verdict.verdict != "INVALID"


def test_conversion_is_recovered_between_two_policies(tmp_path: Path) -> None:
    policies = {"control": OfferPolicy(relevance=0.0), "offers": OfferPolicy()}
    log = simulate_experiment(MARKET, policies, WORLDS["adds"], 23)
    form = TableSpec(
        unit="account_id",
        arm="arm",
        control="control",
        metrics={"revenue_per_account": Ratio("revenue"), "conversion": Ratio("accepted", "presented")},
        primary="revenue_per_account",
    )
    found = effect_of(readout_of(log, tmp_path, form), "conversion")
    truth = {arm: log.truth.arms[arm].conversion for arm in policies}
    assert truth["offers"] is not None
    assert truth["control"] is not None
    assert truth["offers"] > truth["control"]
    assert found.effect_low > 0
    assert abs(found.effect - (truth["offers"] - truth["control"])) <= Z * found.standard_error


def test_the_kpis_of_one_arm_are_its_truth() -> None:
    """KPIs over all accounts of a log in which nearly everybody has offers: the planted figures of that arm."""
    arms = np.array(["control", *["offers"] * (MARKET.n_accounts - 1)], dtype=object)
    log = simulate_experiment(MARKET, POLICIES, WORLDS["adds"], 24, arms=arms)
    report, truth = kpis_of(log), log.truth.arms["offers"]
    assert report.get("aov", "history").value == pytest.approx(truth.aov, rel=0.01)
    own = log.accounts["attributed_revenue"].sum() / log.accounts["revenue"].sum()
    assert report.get("revenue_contribution", "attributed").value == pytest.approx(own)
    accepted = report.get("offer_conversion_rate", "log").figure
    assert truth.conversion is not None
    assert accepted.numerator / accepted.denominator >= truth.conversion * 0.99  # organic purchases of it on top


@pytest.mark.parametrize("name", ["adds", "moves_only"])
def test_the_randomised_effect_on_aov_is_recovered_and_the_descriptive_increase_is_none(name: ResponseWorld) -> None:
    """Offers at orders that only move purchases leave AOV as it is; orders with an accepted offer are bigger still."""
    config = WORLDS[name].model_copy(update={"browses_per_order": 0.0})
    log = simulate_experiment(MARKET, POLICIES, config, 25)
    report = kpis_of(log)
    (found,) = report.aov_effects
    assert (found.control, found.arm) == ("control", "offers")
    (line,) = effect_lines(report)
    assert line.index("95 % anytime-valid") < line.index("fixed-horizon, for one look at the planned end")
    assert found.anytime_low < found.low < found.high < found.anytime_high
    truth = log.truth.arms["offers"].aov - log.truth.arms["control"].aov
    assert abs(found.effect - truth) <= Z * (found.high - found.low) / 2 / 1.96
    described = report.get("aov_increase", "attributed").value
    assert described is not None
    if name == "moves_only":
        assert truth == pytest.approx(0.0, abs=1e-9)
        assert described > found.high


def kpis_of(log: SimulatedExperiment) -> KpiReport:
    return kpis_from_tables(
        log.orders,
        as_of=log.ended.to_pydatetime(),
        products=log.products,
        accounts=log.accounts,
        upgrades=log.upgrades,
        events=EventTables(log.decisions, log.decision_offers, log.outcomes),
        config=KpiConfig(since=log.started.to_pydatetime()),
    )
