"""Windows, half-lives, steps and the horizon follow the gaps between orders, but for what a configuration states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.contracts.config import Config
from recsys.data.history import History
from recsys.fitting.pipeline import FitConfig, FittedModels, with_horizon
from recsys.fitting.time_scales import FOLLOWING, TimeScales, with_time_scales
from recsys.ladder.upgrade_events import UpgradeEventConfig
from recsys.models.next_product.features import FeatureConfig
from recsys.models.next_product.product_features import product_feature_matrix
from recsys.models.retrieval.popularity import SeasonConfig
from recsys.models.retrieval.retrievers import RetrieversConfig
from recsys.models.snapshot import take_snapshot
from recsys.models.upgrade.model import UpgradeConfig
from recsys.recommender import Recommender
from recsys.simulation.market import simulate_market
from training.gate import TrainConfig

START = datetime(2024, 1, 1, tzinfo=UTC)


def every(days: int, n_orders: int = 30, n_accounts: int = 20) -> History:
    """Accounts that order every so many days, two orders on one of them."""
    at = [(account, START + timedelta(days=days * i)) for account in range(n_accounts) for i in range(n_orders)]
    at += [(account, START + timedelta(hours=5)) for account in range(n_accounts)]
    frame = pd.DataFrame(at, columns=["account_id", "ordered_at"])
    frame["account_id"] = frame["account_id"].astype(str)
    frame["order_id"] = [str(row) for row in range(len(frame))]
    frame["product_id"], frame["quantity"], frame["unit_price"] = "p", 1.0, 2.0
    return History.from_frame(frame)


def joined(one: History, other: History) -> History:
    frames = [
        pd.DataFrame(
            {
                "account_id": [f"{part}{row}" for row in history.account.tolist()],
                "order_id": [f"{part}{row}" for row in history.order.tolist()],
                "product_id": "p",
                "ordered_at": pd.to_datetime(history.seconds, unit="s", utc=True),
                "quantity": history.quantity,
                "unit_price": history.unit_price,
            }
        )
        for part, history in (("a", one), ("b", other))
    ]
    return History.from_frame(pd.concat(frames, ignore_index=True))


def followed(config: FitConfig, days: int) -> FitConfig:
    return with_time_scales(config, TimeScales.of(every(days)))


@pytest.mark.parametrize(
    ("gap", "factor", "horizon"),
    [(1, 0.25, 30), (7, 0.25, 30), (15, 0.5, 30), (27, 1.0, 30), (40, 1.0, 30), (60, 2.0, 60), (92, 4.0, 90)],
)
def test_the_formula(gap: int, factor: float, horizon: int) -> None:
    scales = TimeScales.of(every(gap))
    assert scales.gap_days == gap
    assert scales.factor == pytest.approx(factor)
    assert scales.horizon_days == horizon


def test_long_pauses_keep_the_windows_of_who_orders_often() -> None:
    mixed = TimeScales.of(joined(every(14, n_orders=9), every(110, n_orders=4, n_accounts=30)))
    assert (mixed.gap_days, mixed.factor) == (14.0, 1.0)


def test_a_wholesalers_defaults_stay() -> None:
    assert followed(FitConfig(), 30) == FitConfig()


@pytest.mark.data
def test_on_online_retail_ii_nothing_changes(online_retail_history: History) -> None:
    for as_of in (datetime(2010, 9, 1, tzinfo=UTC), datetime(2011, 3, 1, tzinfo=UTC), datetime(2011, 9, 1, tzinfo=UTC)):
        assert with_time_scales(FitConfig(), TimeScales.of(online_retail_history.before(as_of))) == FitConfig()


def test_who_never_came_back_tells_no_pace() -> None:
    scales = TimeScales.of(every(7, n_orders=1))
    assert np.isnan(scales.gap_days)
    assert with_time_scales(FitConfig(), scales) == FitConfig()


def test_all_that_is_measured_in_days_follows_but_the_season() -> None:
    slow = followed(FitConfig(), 60)
    sources, times = slow.next_product.sources, FitConfig().next_product.sources
    # a season is as long whoever orders in it, and goods of one come back after a year
    stay: dict[type[Config], set[str]] = {
        SeasonConfig: {"ahead_days"},
        UpgradeEventConfig: {"standing_days"},
        UpgradeConfig: {"horizon_days"},
    }
    sections = [
        (ours, theirs)
        for name in RetrieversConfig.model_fields
        for ours, theirs in _pairs(getattr(sources, name), getattr(times, name))
    ]
    plain = FitConfig()
    sections += [(slow.cart, plain.cart), (slow.next_product.cutoffs, plain.next_product.cutoffs)]
    sections += [(slow.launches, plain.launches), (slow.upgrades, plain.upgrades)]
    sections += [(slow.upgrades.climbs, plain.upgrades.climbs), (slow.ladder.climbs, plain.ladder.climbs)]
    sections += [(slow.offers.evidence, plain.offers.evidence)]
    for ours, theirs in sections:
        for name in type(ours).model_fields:
            if not name.endswith("_days") or getattr(theirs, name) is None or name in stay.get(type(ours), ()):
                continue
            assert name in FOLLOWING[type(ours)] or name == "step_days"
            np.testing.assert_allclose(getattr(ours, name), np.multiply(getattr(theirs, name), 2.0))
    assert slow.next_product.features.time_scale == 2.0
    assert (slow.horizon_days, slow.next_product.horizon_days) == (60, 60)


def _pairs(ours: object, theirs: object) -> list[tuple[Config, Config]]:
    several = ours if isinstance(ours, tuple) else (ours,), theirs if isinstance(theirs, tuple) else (theirs,)
    pairs = zip(*several, strict=True)
    return [(one, other) for one, other in pairs if isinstance(one, Config) and isinstance(other, Config)]


def test_whole_days_stay_whole_and_are_read_back() -> None:
    fast = followed(FitConfig(), 3)
    assert (fast.upgrades.recent_days, fast.upgrades.climbs.follow_days, fast.offers.evidence.window_days) == (
        22,
        8,
        15,
    )
    assert FitConfig.model_validate(fast.model_dump(mode="json")) == fast


def test_a_number_that_is_stated_stays() -> None:
    stated = TrainConfig.model_validate(
        {"next_product": {"cutoffs": {"step_days": 15.0}, "sources": {"ridge": [{"window_days": 45.0}]}}}
    )
    found = followed(with_horizon(stated, 30), 60)
    assert found.next_product.cutoffs.step_days == 15.0
    assert (found.next_product.sources.ridge[0].window_days, found.next_product.sources.ridge[0].half_life_days) == (
        45.0,
        180.0,
    )
    assert found.horizon_days == 30
    assert type(found) is TrainConfig


def test_steps_are_half_a_horizon_or_what_the_history_holds() -> None:
    weekly, short = (followed_over(every(7, n_orders=n)).next_product for n in (40, 9))
    assert weekly.cutoffs.step_days == 15.0
    assert weekly.cutoffs.min_history_days == short.cutoffs.min_history_days == 7.5
    assert short.cutoffs.step_days == pytest.approx((8 * 7 - 30 - 7.5) / (short.cutoffs.n_cutoffs - 1))


def followed_over(history: History) -> FitConfig:
    return with_time_scales(FitConfig(), TimeScales.of(history))


def test_following_twice_changes_nothing() -> None:
    once = followed(FitConfig(), 92)
    assert with_time_scales(once, TimeScales.of(every(7))) == once
    again = FitConfig.model_validate(once.model_dump(mode="json"))
    assert with_time_scales(again, TimeScales.of(every(7))) == again == once


def test_features_count_longer_windows_where_accounts_order_rarely() -> None:
    history = every(60, n_orders=1)
    counted = {
        scale: product_feature_matrix(take_snapshot(history, START + timedelta(days=70), pd.DataFrame(), scale))
        for scale in (1.0, 3.0)
    }
    assert counted[1.0].column("product_new_30d").tolist() == [0.0]
    assert counted[3.0].column("product_new_30d").tolist() == [20.0]


@pytest.fixture(scope="module")
def learned() -> FittedModels:
    """What a small fit learns of accounts that order every other day."""
    orders = simulate_market(n_accounts=60, n_products=100, days=400, seed=1).orders
    first = orders["ordered_at"].min()
    small = {
        "next_product": {
            "cutoffs": {"n_cutoffs": 2},
            "sampling": {"train_accounts": 30, "calibration_accounts": 30},
            "ranker": {"kind": "logistic"},
            "activity": {"n_trees": 5},
        },
        "upgrades": {"n_cutoffs": 2},
    }
    quick = orders.assign(ordered_at=first + (orders["ordered_at"] - first) / 4)
    return Recommender(FitConfig.model_validate(small)).fit(quick).learned()


def test_a_fit_says_what_it_took(learned: FittedModels) -> None:
    scales = TimeScales.of(learned.history)
    taken = learned.config.next_product
    assert scales.factor == 0.25
    assert taken.features == FeatureConfig(per_channel=30, time_scale=0.25)
    assert learned.models.next_product.config == taken
