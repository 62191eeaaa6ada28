"""Laws of the figures on markets of any size, and what data that lack something lead to."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.contracts import columns as c
from recsys.errors import DataError, EmptyDataError, MissingColumnError
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.definition import standard_attributes
from recsys.evaluation.kpis.formulas import FORMULAS
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.evaluation.kpis.report import kpis_from_tables
from recsys.evaluation.kpis.results import KpiReport
from recsys.evaluation.kpis.tables import EventTables
from recsys.ladder.tiers import edges_of, higher_rungs
from recsys.simulation.constants import MarketConfig
from recsys.simulation.responses.experiment import (
    HOLDOUT,
    WORLDS,
    OfferPolicy,
    SimulatedExperiment,
    simulate_experiment,
)

pytestmark = pytest.mark.slow

ADDITIVE = (
    "upsell_cross_sell_rate", "upsell_rate", "cross_sell_rate", "aov", "revenue_contribution",
    "upsell_revenue_contribution", "cross_sell_revenue_contribution", "volume_share",
)  # fmt: skip


@pytest.fixture(scope="module")
def log() -> SimulatedExperiment:
    market = MarketConfig(n_accounts=1_500, n_products=300, seed=2)
    return simulate_experiment(market, {"control": HOLDOUT, "offers": OfferPolicy()}, WORLDS["adds"], 3)


def report_of(log: SimulatedExperiment, orders: pd.DataFrame | None = None, **options: object) -> KpiReport:
    return kpis_from_tables(
        log.orders if orders is None else orders,
        as_of=log.ended,
        products=log.products,
        accounts=log.accounts,
        upgrades=log.upgrades,
        events=EventTables(log.decisions, log.decision_offers, log.outcomes),
        config=KpiConfig.model_validate(options),
    )


@pytest.fixture(scope="module")
def report(log: SimulatedExperiment) -> KpiReport:
    orders = log.orders.assign(**{c.CHANNEL: np.where(log.orders[c.ORDER_ID].str[-1] < "5", "web", "phone")})
    return report_of(
        log, orders, period="week", by=("channel", "segment", "category", "owner", "key_account", "surface")
    )


def test_every_kpi_has_a_formula() -> None:
    assert set(FORMULAS) == {name for name, definition in REGISTRY.items() if definition.bases != ("forecast",)}


@pytest.mark.parametrize("name", REGISTRY)
def test_every_kpi_has_its_twelve_attributes_in_words_of_its_own(name: str) -> None:
    twelve = standard_attributes(REGISTRY[name])
    assert list(twelve) == [
        "definition", "insight", "approach", "formula", "trend", "diagnostics", "tips", "charts", "risks", "tools",
        "integration_points", "change_impact",
    ]  # fmt: skip
    assert all(len(text.split()) >= 3 for attribute, text in twelve.items() if attribute != "approach")
    definitions = [item.definition for item in REGISTRY.values()]
    assert len(set(definitions)) == len(definitions)
    assert "`offers " in twelve["tools"]


def test_commands_that_definitions_name_exist() -> None:
    named = {word for item in REGISTRY.values() for text in standard_attributes(item).values()
             for word in re.findall(r"`offers ([a-z]+)", text)}  # fmt: skip
    known = {entry.name for entry in entry_points(group="offer_engine.commands")}
    assert len(named) > 4
    assert named <= known


@pytest.mark.parametrize("name", ADDITIVE)
@pytest.mark.parametrize("dimension", ["channel", "segment", "owner", "key_account"])
def test_orders_and_money_of_segments_add_up(report: KpiReport, name: str, dimension: str) -> None:
    for basis in REGISTRY[name].bases:
        groups = report.groups(name, basis, dimension)  # type: ignore[arg-type]
        overall = report.get(name, basis).figure
        assert sum(item.figure.numerator for item in groups) == pytest.approx(overall.numerator)
        assert sum(item.figure.denominator for item in groups) == pytest.approx(overall.denominator)


@pytest.mark.parametrize("name", [*ADDITIVE, "offer_conversion_rate", "offer_purchase_rate", "key_account_ratio"])
def test_periods_add_up(report: KpiReport, name: str) -> None:
    for basis in REGISTRY[name].bases:
        overall = report.get(name, basis).figure
        series = report.series(name, basis)
        assert sum(item.figure.numerator for item in series) == pytest.approx(overall.numerator)
        assert sum(item.figure.denominator for item in series) == pytest.approx(overall.denominator)


def test_money_of_categories_adds_up_and_orders_do_not(report: KpiReport) -> None:
    money = report.groups("revenue_contribution", "organic", "category")
    assert sum(item.figure.numerator for item in money) == pytest.approx(
        report.get("revenue_contribution", "organic").figure.numerator
    )
    orders = report.groups("aov", "history", "category")
    assert sum(item.figure.denominator for item in orders) > report.get("aov", "history").figure.denominator


def test_shares_lie_between_0_and_1_and_parts_below_their_whole(report: KpiReport) -> None:
    for item in report.values:
        if REGISTRY[item.kpi].unit == "share" and item.value is not None:
            assert 0 <= item.value <= 1, item
    for basis in ("organic", "attributed"):
        whole = report.get("upsell_cross_sell_rate", basis).figure.numerator
        parts = [report.get(name, basis).figure.numerator for name in ("upsell_rate", "cross_sell_rate")]
        assert max(parts) <= whole <= sum(parts)


def test_segments_hold_customers_once_and_channels_more_often(report: KpiReport) -> None:
    customers = report.get("revenue_per_customer", "history").figure.denominator
    by_segment = report.groups("revenue_per_customer", "history", "segment")
    by_channel = report.groups("revenue_per_customer", "history", "channel")
    assert sum(item.figure.denominator for item in by_segment) == customers
    assert sum(item.figure.denominator for item in by_channel) > customers


def test_offers_are_the_logs(report: KpiReport, log: SimulatedExperiment) -> None:
    """Reported acceptances are all bought a minute later; organic purchases of shown products come on top."""
    figure = report.get("offer_conversion_rate", "log").figure
    assert figure.denominator == log.decision_offers["presented_at"].notna().sum()
    assert figure.numerator >= len(log.outcomes)
    attributed = report.get("revenue_contribution", "attributed").figure.numerator
    assert attributed == pytest.approx(log.accounts["attributed_revenue"].sum())
    by_surface = report.groups("revenue_contribution", "attributed", "surface")
    assert sum(item.figure.numerator for item in by_surface) == pytest.approx(attributed)


def test_a_later_start_keeps_what_accounts_had_before(log: SimulatedExperiment) -> None:
    late = report_of(log, since=log.started)
    bare = report_of(log, log.orders[log.orders[c.ORDERED_AT] >= log.started])
    assert late.n_orders == bare.n_orders
    with_history = late.get("cross_sell_rate", "organic").figure.numerator
    assert with_history != bare.get("cross_sell_rate", "organic").figure.numerator
    assert late.get("sales_breadth", "history").value == bare.get("sales_breadth", "history").value


LINE = st.tuples(
    st.integers(0, 11), st.sampled_from("ABCD"), st.sampled_from(["p1", "p2", "p3", "q1", "r1"]), st.integers(1, 3)
)
LINES = st.lists(LINE, min_size=1, max_size=40)
PRODUCTS = pd.DataFrame({c.PRODUCT_ID: ["p1", "p2", "p3", "q1", "r1"], c.FAMILY: ["p", "p", "p", "q", "r"]})
EDGES = pd.DataFrame({c.FROM_PRODUCT_ID: ["p1", "p2"], c.TO_PRODUCT_ID: ["p2", "p3"]})
START = datetime(2024, 1, 1, tzinfo=UTC)


def by_brute_force(lines: pd.DataFrame) -> dict[str, int]:
    """Orders with an organic upsell and cross-sell, by walking through each account's orders."""
    family = dict(zip(PRODUCTS[c.PRODUCT_ID], PRODUCTS[c.FAMILY], strict=True))
    above = {("p1", "p2"), ("p1", "p3"), ("p2", "p3")}
    found = {"upsell": 0, "cross_sell": 0}
    for _, own in lines.groupby(c.ACCOUNT_ID):
        had: set[str] = set()
        for _, order in own.sort_values([c.ORDERED_AT, c.ORDER_ID]).groupby([c.ORDERED_AT, c.ORDER_ID], sort=True):
            new = set(order[c.PRODUCT_ID]) - had
            up = {item for item in new if any((old, item) in above for old in had)
                  and not any((item, old) in above for old in had)}  # fmt: skip
            cross = {item for item in new - up if family[item] not in {family[old] for old in had}}
            found["upsell"] += bool(had and up)
            found["cross_sell"] += bool(had and cross)
            had |= new
    return found


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(LINES)
def test_organic_sales_equal_a_walk_through_the_orders(rows: list[tuple[int, str, str, int]]) -> None:
    lines = pd.DataFrame(
        {
            c.ORDER_ID: [f"{account}{day}" for day, account, _, _ in rows],
            c.ACCOUNT_ID: [account for _, account, _, _ in rows],
            c.PRODUCT_ID: [product for _, _, product, _ in rows],
            c.ORDERED_AT: [START + timedelta(days=day) for day, _, _, _ in rows],
            c.QUANTITY: [float(units) for _, _, _, units in rows],
            c.UNIT_PRICE: 1.0,
        }
    )
    report = kpis_from_tables(lines, as_of=START + timedelta(days=30), products=PRODUCTS, upgrades=EDGES)
    expected = by_brute_force(lines)
    for kind, n_orders in expected.items():
        assert report.get(f"{kind}_rate", "organic").figure.numerator == n_orders


def test_without_families_organic_cross_sell_is_not_computable_and_says_so(log: SimulatedExperiment) -> None:
    bare = kpis_from_tables(log.orders, as_of=log.ended, upgrades=log.upgrades)
    missing = {(item.kpi, item.basis): item.why for item in bare.missing}
    assert "organic cross-sell is not computable: no product has a family" in missing["cross_sell_rate", "organic"]
    assert "no event log" in missing["offer_conversion_rate", "log"]
    assert ("upsell_rate", "organic") not in missing
    with pytest.raises(KeyError):
        bare.get("cross_sell_rate", "organic")
    by_category = report_of(log, families_by="category")
    assert by_category.get("cross_sell_rate", "organic").value < report_of(log).get("cross_sell_rate", "organic").value


def test_without_upgrades_the_tiers_of_the_products_make_the_ladder(log: SimulatedExperiment) -> None:
    edges, said = edges_of(log.products, None)
    assert len(edges) > 0
    assert "from the tiers" in said
    none = kpis_from_tables(log.orders, as_of=log.ended, products=log.products.drop(columns=c.TIER))
    assert any("no upgrade edges" in item.why for item in none.missing if item.kpi == "upsell_ratio")


def test_a_circle_of_upgrades_is_no_ladder() -> None:
    circle = pd.DataFrame({c.FROM_PRODUCT_ID: ["a", "b", "b"], c.TO_PRODUCT_ID: ["b", "a", "c"]})
    assert higher_rungs(circle).to_numpy().tolist() == [["a", "c"], ["b", "c"]]


def test_key_accounts_by_rule_look_at_revenue_before_the_quarter() -> None:
    """Quarter 1: nobody. Quarter 2: A spent most before (1 of 20 accounts at 5 %), although B spends most then."""
    rows = [("A", START, 100.0), *((f"x{n}", START, 1.0) for n in range(18)), ("B", START, 2.0)]
    rows += [("A", START + timedelta(days=100), 1.0), ("B", START + timedelta(days=101), 900.0)]
    lines = pd.DataFrame(
        {
            c.ORDER_ID: [str(number) for number in range(len(rows))],
            c.ACCOUNT_ID: [row[0] for row in rows],
            c.PRODUCT_ID: "p1",
            c.ORDERED_AT: [row[1] for row in rows],
            c.QUANTITY: 1.0,
            c.UNIT_PRICE: [row[2] for row in rows],
        }
    )
    found = kpis_from_tables(
        lines, as_of=START + timedelta(days=120), config=KpiConfig(by=("key_account",), key_accounts="top:5%")
    )
    assert found.key_rule == "top:5% of the accounts by revenue before the quarter"
    assert found.get("aov", "history", dimension="key_account", group="key account").value == 1.0
    assert found.get("aov", "history", dimension="key_account", group="other").figure.denominator == 21


def test_posted_orders_that_stand_in_both_places_count_once() -> None:
    def lines(*orders: tuple[str, int, float]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                c.ORDER_ID: [order for order, _, _ in orders],
                c.LINE_ID: "1",
                c.ACCOUNT_ID: "A",
                c.PRODUCT_ID: "p1",
                c.ORDERED_AT: [START + timedelta(days=day) for _, day, _ in orders],
                c.QUANTITY: [units for _, _, units in orders],
                c.UNIT_PRICE: 1.0,
            }
        )

    log = simulate_experiment(
        MarketConfig(n_accounts=30, n_products=150), {"c": HOLDOUT, "o": OfferPolicy()}, WORLDS["adds"], 1
    )
    posted = lines(("o1", 0, 5.0), ("o2", 3, 7.0), ("o3", 4, -2.0))  # o1 stands in the export; o3 takes 2 of o2 back
    events = EventTables(log.decisions, log.decision_offers, log.outcomes, posted)
    found = kpis_from_tables(lines(("o1", 0, 5.0)), as_of=START + timedelta(days=9), events=events)
    assert found.get("aov", "history").figure.numerator == 5 + (7 - 2)
    assert found.n_orders == 2


def test_a_silent_last_period_is_shown_and_everybody_counts_as_lost() -> None:
    lines = pd.DataFrame(
        {
            c.ORDER_ID: ["1"],
            c.ACCOUNT_ID: ["A"],
            c.PRODUCT_ID: ["p1"],
            c.ORDERED_AT: [START],
            c.QUANTITY: [1.0],
            c.UNIT_PRICE: [1.0],
        }
    )
    found = kpis_from_tables(lines, as_of=datetime(2024, 3, 1, tzinfo=UTC))
    assert found.periods == ("2024-01", "2024-02")
    assert found.get("attrition", "history", period="2024-02").value == 1.0
    assert found.get("aov", "history", period="2024-02").value is None
    assert found.get("aggregate_cross_selling_ratio", "history", period="2024-02").value == 1.0


def test_groups_beyond_the_limit_are_left_out_and_counted(log: SimulatedExperiment) -> None:
    found = report_of(log, by=("product",), max_groups=3)
    assert len(found.groups("aov", "history", "product")) == 3
    assert any("groups of lower revenue are not shown" in note for note in found.notes)


def test_wrong_input_is_told(log: SimulatedExperiment) -> None:
    with pytest.raises(MissingColumnError, match="no column quantity"):
        kpis_from_tables(log.orders.drop(columns=c.QUANTITY), as_of=log.ended)
    with pytest.raises(EmptyDataError, match="no order line before as_of"):
        kpis_from_tables(log.orders, as_of=datetime(1999, 1, 1, tzinfo=UTC))
    with pytest.raises(EmptyDataError, match="no order since 2030-01-01"):
        report_of(log, since=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match="as top:5%"):
        KpiConfig(key_accounts="best")
    with pytest.raises(ValueError, match="no KPI is called"):
        KpiConfig(targets={"nonsense": 1.0})


def test_one_order_of_a_wrong_year_does_not_make_thousands_of_periods(log: SimulatedExperiment) -> None:
    orders = log.orders.copy()
    orders[c.ORDERED_AT] = [datetime(1990, 1, 1, tzinfo=UTC), *orders[c.ORDERED_AT].tolist()[1:]]
    with pytest.raises(DataError, match=r"orders since 1990-01-01 make 13,\d{3} periods by day, must be at most 4,000"):
        report_of(log, orders, period="day")
    assert report_of(log, orders, period="quarter").periods[0] == "1990 Q1"


def test_what_counts_as_a_move_and_which_way_is_better(log: SimulatedExperiment) -> None:
    calm, nervous = report_of(log, moved=100.0), report_of(log, moved=1e-9)
    change = nervous.change("attrition", "history")
    assert change is not None
    assert change.moved
    assert change.better == (change.difference < 0)
    assert change.reading in {"better", "worse", "within noise"}
    steady = calm.change("attrition", "history")
    assert steady is not None
    assert not steady.moved
    assert steady.difference == change.difference


def test_a_longer_window_attributes_more(log: SimulatedExperiment) -> None:
    """Offers are bought at once in this market: presented five days earlier, a window of a day misses them."""
    earlier = log.decision_offers["presented_at"] - timedelta(days=5)
    early = replace(log, decision_offers=log.decision_offers.assign(presented_at=earlier.to_numpy()))
    short, long = (report_of(early, window_days=days).get("revenue_contribution", "attributed") for days in (1, 30))
    assert short.value < 0.5 * long.value
