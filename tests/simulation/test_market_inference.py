"""The oracle that must infer who still orders: calibrated, blind to what comes, no better than the one that is told."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.metrics import log_loss

from recsys.contracts import columns as c
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import Market, simulate_market
from recsys.simulation.truth import CLIMBED_AT
from tests.support.climb_oracle import climb_probabilities
from tests.support.market_inference import inferred_climb_probabilities

HORIZON_DAYS = 30


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate_market(MarketConfig(n_accounts=5_000, n_products=600, seed=4))


def inferred(market: Market, as_of: datetime, orders: pd.DataFrame | None = None) -> pd.DataFrame:
    lines = market.orders if orders is None else orders
    return inferred_climb_probabilities(market.config, market.truth, lines, market.accounts, as_of, HORIZON_DAYS)


def with_outcomes(market: Market, day: int) -> pd.DataFrame:
    as_of = market.config.start + timedelta(days=day)
    scored, told = inferred(market, as_of), climb_probabilities(market, as_of, HORIZON_DAYS)
    key = [c.ACCOUNT_ID, c.FROM_PRODUCT_ID]
    joined = scored.merge(market.truth.hazards[[*key, CLIMBED_AT]], on=key, validate="one_to_one")
    climbs = (joined[CLIMBED_AT] < pd.Timestamp(as_of + timedelta(days=HORIZON_DAYS))).to_numpy()
    pd.testing.assert_frame_equal(scored[key], told[key])
    return scored.assign(climbs=climbs, told=told[c.PROBABILITY].to_numpy())


def test_each_band_is_calibrated_and_being_told_helps(market: Market) -> None:
    scored = pd.concat([with_outcomes(market, day) for day in (300, 420, 540, 660)])
    for _, group in scored.groupby(pd.qcut(scored[c.PROBABILITY], 8, labels=False)):
        low, high = binom.interval(0.9999, len(group), group[c.PROBABILITY].mean())
        assert low <= group["climbs"].sum() <= high
    constant = np.full(len(scored), scored["climbs"].mean())
    told, own, none = (log_loss(scored["climbs"], p) for p in (scored["told"], scored[c.PROBABILITY], constant))
    assert told < own < 0.95 * none


def test_nothing_at_or_after_the_cutoff_is_used(market: Market) -> None:
    as_of = market.config.start + timedelta(days=500)
    before = market.orders[market.orders[c.ORDERED_AT] < pd.Timestamp(as_of)]
    pd.testing.assert_frame_equal(inferred(market, as_of, before), inferred(market, as_of))
