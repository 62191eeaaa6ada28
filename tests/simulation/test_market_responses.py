"""The simulated response to offers: its truth, its worlds, and a log that shows the truth on average."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recsys.contracts import columns as c
from recsys.errors import ConfigError
from recsys.simulation.constants import MarketConfig
from recsys.simulation.responses.experiment import (
    HOLDOUT,
    WORLDS,
    OfferPolicy,
    ResponseConfig,
    SimulatedExperiment,
    simulate_experiment,
)

MARKET = MarketConfig(n_accounts=6_000, n_products=400, seed=3)
POLICIES = {"control": HOLDOUT, "offers": OfferPolicy()}


@pytest.fixture(scope="module", params=["adds", "moves_only", "harm"])
def log(request: pytest.FixtureRequest) -> SimulatedExperiment:
    return simulate_experiment(MARKET, POLICIES, WORLDS[request.param], 7)


@pytest.fixture(scope="module")
def adds() -> SimulatedExperiment:
    return simulate_experiment(MARKET, POLICIES, WORLDS["adds"], 7)


def test_the_same_seed_gives_the_same_log(adds: SimulatedExperiment) -> None:
    again = simulate_experiment(MARKET, POLICIES, WORLDS["adds"], 7)
    pd.testing.assert_frame_equal(adds.accounts, again.accounts)
    pd.testing.assert_frame_equal(adds.orders, again.orders)
    other = simulate_experiment(MARKET, POLICIES, WORLDS["adds"], 8)
    assert not adds.orders.equals(other.orders)


def test_accounts_agree_with_their_order_lines_and_offers(log: SimulatedExperiment) -> None:
    lines = log.orders.assign(money=log.orders[c.QUANTITY] * log.orders[c.UNIT_PRICE] - log.orders[c.DISCOUNT])
    ids = log.accounts[c.ACCOUNT_ID]
    in_run = lines[c.ORDERED_AT] >= log.started
    for part, suffix in ((lines[in_run], ""), (lines[~in_run], "_before")):
        money = part.groupby(c.ACCOUNT_ID)["money"].sum().reindex(ids, fill_value=0.0)
        orders = part.groupby(c.ACCOUNT_ID)[c.ORDER_ID].nunique().reindex(ids, fill_value=0)
        np.testing.assert_allclose(log.accounts[f"revenue{suffix}"], money, atol=1e-6)
        np.testing.assert_array_equal(log.accounts[f"orders{suffix}"], orders)
    presented = log.decision_offers[log.decision_offers["presented_at"].notna()]
    counts = presented.groupby(c.ACCOUNT_ID).size().reindex(ids, fill_value=0)
    np.testing.assert_array_equal(log.accounts["presented"], counts)
    assert log.accounts["accepted"].sum() == len(log.outcomes)


def test_a_holdout_is_logged_and_never_presented(log: SimulatedExperiment) -> None:
    control = log.decisions[log.decisions["arm"] == "control"]
    assert len(control) > 1_000
    assert not control["shown"].any()
    offers = log.decision_offers[log.decision_offers[c.DECISION_ID].isin(control[c.DECISION_ID])]
    assert offers["presented_at"].isna().all()
    assert log.accounts.loc[log.accounts["arm"] == "control", ["presented", "accepted"]].to_numpy().sum() == 0


def test_purchases_that_are_only_moved_earn_nothing() -> None:
    truth = simulate_experiment(MARKET, POLICIES, WORLDS["moves_only"], 7).truth.arms["offers"]
    assert truth.effect == pytest.approx(0.0, abs=1e-9)
    assert truth.added_per_account == 0
    assert truth.incremental_share == pytest.approx(0.0, abs=1e-9)
    assert truth.attributed_per_account > 0.03 * truth.revenue_per_account  # looks fine
    control = simulate_experiment(MARKET, POLICIES, WORLDS["moves_only"], 7).truth.arms["control"]
    assert truth.orders_per_account > control.orders_per_account  # brought forward into orders of their own
    assert truth.aov < control.aov


def test_in_moves_only_every_account_spends_the_same_under_both_arms() -> None:
    log = simulate_experiment(MARKET, POLICIES, WORLDS["moves_only"], 7)
    by_arm = {arm: frame["revenue"].to_numpy() for arm, frame in log.potential.groupby("arm")}
    np.testing.assert_allclose(by_arm["control"], by_arm["offers"], atol=1e-9)


def test_the_worlds_differ_as_they_should() -> None:
    def arm(world: str) -> tuple[float, float, float]:
        truth = simulate_experiment(MARKET, POLICIES, WORLDS[world], 7).truth  # type: ignore[index]
        offers, control = truth.arms["offers"], truth.arms["control"]
        return (
            offers.effect,
            offers.attrition - control.attrition,
            offers.orders_per_account - control.orders_per_account,
        )

    adds, harm = arm("adds"), arm("harm")
    assert adds[0] > 0
    assert adds[1] == 0  # nobody is driven away
    assert adds[2] > 0
    assert harm[0] < 0
    assert harm[1] > 0.01


def test_the_effect_is_what_was_added_less_what_was_displaced() -> None:
    """Without lost orders and without lapses an account's effect is added - displaced revenue, to the penny."""
    config = WORLDS["adds"].model_copy(update={"lapse_share": 0.0})
    log = simulate_experiment(MARKET, POLICIES, config, 7)
    truth = log.truth.arms["offers"]
    assert truth.effect == pytest.approx(truth.added_per_account - truth.displaced_per_account, abs=1e-9)
    assert truth.displaced_per_account > 0


@pytest.mark.parametrize("column", ["revenue", "orders", "upsell_orders", "cross_sell_orders", "left"])
def test_the_log_shows_the_planted_effect_on_average(log: SimulatedExperiment, column: str) -> None:
    """2,000 random assignments of the same accounts: the mean estimate lies within 3.29 of its standard errors."""
    one = log.potential[log.potential["arm"] == "offers"][column].to_numpy()
    zero = log.potential[log.potential["arm"] == "control"][column].to_numpy()
    rng = np.random.default_rng(11)
    n, estimates = len(one), []
    for _ in range(2_000):
        treated = rng.permutation(n) < n // 2
        estimates.append(one[treated].mean() - zero[~treated].mean())
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - (one - zero).mean()) <= 3.29 * error


@pytest.mark.parametrize(
    ("update", "better"),
    [({"need_effect": 4.0}, True), ({"fatigue_effect": -0.5}, False), ({"rank_effect": -1.0}, False),
     ({"price_effect": -1.5}, None), ({"base_logit": -4.0}, False)],
)  # fmt: skip
def test_each_planted_effect_moves_conversion(
    adds: SimulatedExperiment, update: dict[str, float], better: bool | None
) -> None:
    other = simulate_experiment(MARKET, POLICIES, WORLDS["adds"].model_copy(update=update), 7)
    was, found = adds.truth.arms["offers"].conversion, other.truth.arms["offers"].conversion
    assert was is not None
    assert found is not None
    if better is not None:
        assert (found > was) == better
        return
    accepted = other.decision_offers.merge(other.outcomes, on=[c.DECISION_ID, c.PRODUCT_ID], how="inner")
    offered = other.decision_offers[other.decision_offers["shown"]]
    assert accepted[c.PRICE].mean() < offered[c.PRICE].mean()  # what is cheap is taken


def test_first_ranks_and_relevant_policies_convert_better(adds: SimulatedExperiment) -> None:
    shown = adds.decision_offers[adds.decision_offers["shown"]]
    yes = shown.merge(adds.outcomes[[c.DECISION_ID, c.PRODUCT_ID]], on=[c.DECISION_ID, c.PRODUCT_ID])
    rate = yes.groupby(c.RANK).size() / shown.groupby(c.RANK).size()
    assert rate[1] > rate[2] > rate[3]
    random = simulate_experiment(MARKET, {"control": HOLDOUT, "offers": OfferPolicy(relevance=0.0)}, WORLDS["adds"], 7)
    assert adds.truth.arms["offers"].conversion > random.truth.arms["offers"].conversion


def test_a_discount_costs_money_and_wins_acceptance() -> None:
    policies = {"control": HOLDOUT, "full": OfferPolicy(), "off": OfferPolicy(discount=0.3)}
    log = simulate_experiment(MARKET, policies, WORLDS["adds"].model_copy(update={"price_effect": -2.0}), 7)
    assert log.truth.arms["off"].conversion > log.truth.arms["full"].conversion
    assert log.orders[c.DISCOUNT].max() > 0


def test_a_policy_without_offers_logs_nothing() -> None:
    log = simulate_experiment(MARKET, {"control": OfferPolicy(limit=0), "offers": OfferPolicy()}, WORLDS["adds"], 7)
    assert set(log.decisions["arm"]) == {"offers"}


def test_arms_can_be_given_and_are_checked() -> None:
    small = MarketConfig(n_accounts=100, n_products=200)
    arms = ["control", "offers"] * 50
    log = simulate_experiment(small, POLICIES, ResponseConfig(), 1, arms=arms)
    assert log.accounts["arm"].tolist() == arms
    with pytest.raises(ConfigError, match="arms == 3 names, must be one for each of the 100 accounts"):
        simulate_experiment(small, POLICIES, ResponseConfig(), 1, arms=["control"] * 3)
    with pytest.raises(ConfigError, match="'other', must be one of the policies control, offers"):
        simulate_experiment(small, POLICIES, ResponseConfig(), 1, arms=["other"] * 100)
    with pytest.raises(ConfigError, match="must be a control and another"):
        simulate_experiment(small, {"control": HOLDOUT}, ResponseConfig(), 1)
