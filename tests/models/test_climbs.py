"""The upgrade model: who stands, who climbed, what was known, and how near it comes to an oracle."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from sklearn.metrics import average_precision_score

from recsys.data.history import History
from recsys.ladder.edges import Ladder, LadderConfig, build_ladder
from recsys.ladder.upgrade_events import UpgradeEventConfig
from recsys.models.quantities import FirstQuantities
from recsys.models.upgrade.features import FEATURES, climb_features
from recsys.models.upgrade.model import UpgradeConfig, UpgradeModel, climb_cutoffs, climbs_within
from recsys.models.upgrade.snapshot import (
    ClimbSnapshot,
    ladder_of_edge,
    orders_share,
    peer_order_shares,
    peer_quantities,
    usual_quantity,
)
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import Market, simulate_market
from tests.support.climb_oracle import climb_probabilities

AS_OF = datetime(2025, 8, 1, tzinfo=UTC)
CONFIG = UpgradeConfig(n_cutoffs=6)


@pytest.fixture(scope="module")
def market() -> Market:
    return simulate_market(MarketConfig(n_accounts=2_500, n_products=400, ladder_share=0.4, activity=1.5, seed=3))


@pytest.fixture(scope="module")
def history(market: Market) -> History:
    return History.from_frame(market.orders)


@pytest.fixture(scope="module")
def ladder(market: Market, history: History) -> Ladder:
    return build_ladder(market.products, history.before(AS_OF), market.upgrades, LadderConfig(infer="never"))


@pytest.fixture(scope="module")
def model(market: Market, history: History, ladder: Ladder) -> UpgradeModel:
    rng = np.random.default_rng(0)
    return UpgradeModel(CONFIG).fit(history, market.products, market.accounts, ladder, AS_OF, rng)


def test_candidates_are_rungs_above_what_the_account_stands_on(
    model: UpgradeModel, history: History, ladder: Ladder
) -> None:
    found = model.score(history, AS_OF)
    assert len(found) > 100
    order = np.lexsort((-found.score, found.account))
    np.testing.assert_array_equal(order, np.arange(len(found)))
    assert len(np.unique(found.account.astype(np.int64) * history.n_products + found.product)) == len(found)
    owned = history.before(AS_OF).owned().toarray() > 0
    assert owned[found.account, found.from_product].all()
    assert not owned[found.account, found.product].any()
    edges = set(zip(ladder.from_ids, ladder.to_ids, strict=True))
    ends = zip(history.product_ids[found.from_product], history.product_ids[found.product], strict=True)
    assert set(ends) <= edges
    assert ((found.probability > 0) & (found.probability < 1)).all()
    assert (found.expected_quantity > 0).all()


def test_no_more_of_an_upgrade_is_expected_after_few_orders_than_new_buyers_take(
    model: UpgradeModel, history: History
) -> None:
    odd = replace(history, quantity=history.quantity * np.where(np.arange(len(history)) % 3 == 0, 40.0, 1.0))
    found = model.score(odd, AS_OF)
    first = FirstQuantities.of(odd.before(AS_OF))
    few = first.has_few[found.account]
    assert few.sum() > 50
    assert (found.expected_quantity[few] <= first.most[found.product[few]] * (1 + 1e-6)).all()


def test_it_ranks_like_an_oracle_and_beats_the_edges_own_rates(
    market: Market, model: UpgradeModel, history: History, ladder: Ladder
) -> None:
    snapshot = ClimbSnapshot.at(history, ladder, CONFIG.climbs, AS_OF)
    pairs = snapshot.standing
    climbed = climbs_within(history, snapshot, pairs, CONFIG)
    mine = model.pair_probabilities(snapshot, pairs)
    table = pd.DataFrame(
        {
            "account_id": history.account_ids[pairs.account],
            "from_product_id": history.product_ids[snapshot.edges.lower[pairs.edge]],
            "to_product_id": history.product_ids[snapshot.edges.upper[pairs.edge]],
            "climbed": climbed,
            "mine": mine,
            "edge": ladder.edges["climb_rate"].to_numpy()[pairs.edge],
        }
    )
    oracle = climb_probabilities(market, AS_OF, CONFIG.horizon_days)
    table = table.merge(oracle, on=["account_id", "from_product_id", "to_product_id"], validate="one_to_one")
    reached = {name: average_precision_score(table["climbed"], table[name]) for name in ("mine", "edge", "probability")}
    print(reached, int(table["climbed"].sum()))
    assert reached["mine"] >= 0.65 * reached["probability"]
    assert reached["mine"] >= 1.5 * reached["edge"]
    # about 50 climbs here, judged by a calibration on about as many: two chance errors of 15 % each
    assert 0.6 <= climbed.sum() / mine.sum() <= 1.6


@pytest.mark.parametrize("moment", [AS_OF, AS_OF - timedelta(days=200, hours=5)])
def test_rows_at_or_after_as_of_change_no_feature(
    market: Market, history: History, ladder: Ladder, moment: datetime
) -> None:
    def features(given: History, at: datetime) -> pd.DataFrame:
        snapshot = ClimbSnapshot.at(given, ladder, CONFIG.climbs, at)
        return climb_features(snapshot, snapshot.standing, ladder, market.accounts, CONFIG.horizon_days)

    known = features(history.before(moment), moment)
    pd.testing.assert_frame_equal(features(history, moment), known)
    later = history.select(history.seconds >= int(moment.timestamp()))
    assert len(later) > 0
    leaking = features(history, moment + timedelta(days=30))  # the control: a later moment does see them
    assert len(leaking) != len(known) or not leaking[list(FEATURES)].equals(known[list(FEATURES)])


def test_lines_after_as_of_change_no_score(market: Market, model: UpgradeModel, history: History) -> None:
    seen, all_of_it = model.score(history.before(AS_OF), AS_OF), model.score(history, AS_OF)
    np.testing.assert_array_equal(seen.product, all_of_it.product)
    np.testing.assert_array_equal(seen.probability, all_of_it.probability)


def test_blocks_change_no_score(model: UpgradeModel, history: History) -> None:
    whole = model.score(history, AS_OF)
    small = UpgradeModel(CONFIG.model_copy(update={"block_pairs": 97}))
    small.__dict__.update({name: value for name, value in vars(model).items() if name != "config"})
    np.testing.assert_allclose(small.score(history, AS_OF).probability, whole.probability, rtol=1e-5)


def few_lines(rows: list[tuple[str, str, float, float]]) -> History:
    """A history of (account, product, day, quantity) at 2 for p and 4 for q."""
    return History.from_frame(
        pd.DataFrame(
            {
                "order_id": [str(i) for i in range(len(rows))],
                "account_id": [row[0] for row in rows],
                "product_id": [row[1] for row in rows],
                "ordered_at": [pd.Timestamp("2025-01-01", tz="UTC") + pd.Timedelta(days=row[2]) for row in rows],
                "quantity": [row[3] for row in rows],
                "unit_price": [2.0 if row[1] == "p" else 4.0 for row in rows],
            }
        ),
        product_ids=np.array(["p", "q"], dtype=object),
    )


PRODUCTS = pd.DataFrame({"product_id": ["p", "q"]})
LINK = pd.DataFrame({"from_product_id": ["p"], "to_product_id": ["q"]})
DAY_100 = datetime(2025, 4, 11, tzinfo=UTC)


def test_labels_by_hand() -> None:
    history = few_lines(
        [
            ("climbs", "p", 10, 4), ("climbs", "q", 110, 4),
            ("adds", "p", 10, 4), ("adds", "q", 110, 1), ("adds", "p", 112, 9),
            ("late", "p", 10, 4), ("late", "q", 131, 4),
            ("early", "p", 10, 4), ("early", "q", 90, 4),
            ("starts", "p", 105, 4), ("starts", "q", 110, 4),
        ]
    )  # fmt: skip
    ladder = build_ladder(PRODUCTS, history, LINK, LadderConfig())
    config = UpgradeConfig()
    snapshot = ClimbSnapshot.at(history, ladder, config.climbs, DAY_100)
    labels = climbs_within(history, snapshot, snapshot.standing, config)
    ids = history.account_ids[snapshot.standing.account]
    assert dict(zip(ids, labels.tolist(), strict=True)) == {"climbs": 1, "adds": 0, "late": 0}


def test_standing_ends_after_its_window_and_quantity_is_the_mean() -> None:
    history = few_lines([("a", "p", 0, 4), ("a", "p", 20, 8), ("b", "p", 90, 5)])
    ladder = build_ladder(PRODUCTS, history, LINK, LadderConfig())
    everybody = ClimbSnapshot.at(history, ladder, UpgradeEventConfig(), DAY_100)
    assert usual_quantity(everybody, everybody.standing).tolist() == [6.0, 5.0]
    recent = ClimbSnapshot.at(history, ladder, UpgradeEventConfig(standing_days=30), DAY_100)
    assert history.account_ids[recent.standing.account].tolist() == ["b"]


def test_few_of_many_climbs_stand_for_all(market: Market, history: History, ladder: Ladder) -> None:
    few = UpgradeModel(CONFIG.model_copy(update={"most_climbs": 5, "pairs_a_climb": 3, "min_pairs": 10}))
    few.fit(history, market.products, market.accounts, ladder, AS_OF, np.random.default_rng(0))
    snapshots = [ClimbSnapshot.at(history, ladder, CONFIG.climbs, at) for at in climb_cutoffs(history, AS_OF, CONFIG)]
    assert few.n_climbs_ <= 5 * len(snapshots)
    assert few.n_pairs_ == pytest.approx(sum(len(snapshot.standing) for snapshot in snapshots), rel=0.01)


def test_with_enough_climbs_no_earlier_cutoff_is_looked_at(market: Market, history: History, ladder: Ladder) -> None:
    quick = UpgradeConfig(enough_climbs=1, n_calibration=1, most_climbs=5, pairs_a_climb=3, min_pairs=10)
    model = UpgradeModel(quick).fit(history, market.products, market.accounts, ladder, AS_OF, np.random.default_rng(0))
    cutoffs = climb_cutoffs(history, AS_OF, quick)
    assert len(cutoffs) > 2
    one_to_learn_one_to_calibrate = cutoffs[-2:]
    last = [ClimbSnapshot.at(history, ladder, quick.climbs, at) for at in one_to_learn_one_to_calibrate]
    assert model.n_pairs_ == pytest.approx(sum(len(snapshot.standing) for snapshot in last), rel=0.01)


def test_before_a_year_is_known_as_many_orders_are_expected_as_there_were() -> None:
    rows = [(f"a{i}", "p", i + 50.0 * again, 1.0) for i in range(40) for again in range(5)]
    calm = few_lines(rows)
    busy = few_lines([*rows, *((f"a{i}", "p", 239.0 + day, 1.0) for i in range(40) for day in range(5))])
    as_of = datetime(2025, 9, 7, tzinfo=UTC)  # day 249
    ladder = build_ladder(PRODUCTS, calm, LINK, LadderConfig())
    accounts = pd.DataFrame({"account_id": ["a1"]})
    model = UpgradeModel().fit(calm, PRODUCTS, accounts, ladder, as_of, np.random.default_rng(0))
    odds = []
    for history in (calm, busy):
        snapshot = ClimbSnapshot.at(history, ladder, UpgradeEventConfig(), as_of)
        odds.append(logit(model.pair_probabilities(snapshot, snapshot.standing)))
    # 21 orders in the last 30 days, 200 more when busy; a hundred is added to both
    assert odds[1] - odds[0] == pytest.approx(np.full(40, np.log(321 / 121)))


def test_what_peers_do_by_hand() -> None:
    history = few_lines([("a", "p", 0, 4), ("a", "p", 20, 8), ("b", "p", 90, 5)])
    snapshot = ClimbSnapshot.at(
        history, build_ladder(PRODUCTS, history, LINK, LadderConfig()), UpgradeEventConfig(), DAY_100
    )
    assert ladder_of_edge(snapshot).tolist() == [0]
    # one group: nothing to shrink, the mean of log sqrt(4 * 8) and log 5
    usual = (np.log(32) / 2 + np.log(5)) / 2
    assert peer_quantities(snapshot, ladder_of_edge(snapshot)) == pytest.approx([usual])
    # orders after the first: one, with the rung; pooled rate (1 + .5) / (1 + 1), the weight of ten: (1 + 7.5) / 11
    peers = peer_order_shares(snapshot, 1)
    assert peers == pytest.approx([8.5 / 11])
    # two accounts are too few to tell how much they differ: again ten orders' worth of the peers
    share = orders_share(snapshot, snapshot.standing, peers)
    assert share == pytest.approx([(1 + 10 * peers[0]) / 11, peers[0]])


def test_a_climb_restocks_too_and_what_follows_it_does_not_count() -> None:
    rows = [("a", "p", 0, 4), ("a", "p", 10, 4), ("a", "q", 20, 4), ("a", "q", 30, 4), ("a", "q", 40, 4)]
    history = few_lines([*rows, ("b", "p", 5, 1)])
    snapshot = ClimbSnapshot.at(
        history, build_ladder(PRODUCTS, history, LINK, LadderConfig()), UpgradeEventConfig(), DAY_100
    )
    # a: the orders of day 10 and 20 restock the edge, two of two; b has none after its first
    assert peer_order_shares(snapshot, 1) == pytest.approx([(2 + 10 * 2.5 / 3) / 12])


def test_cutoffs_leave_room_for_horizon_and_follow_up() -> None:
    history = few_lines([("a", "p", 0, 1), ("a", "p", 200, 1)])
    as_of = datetime(2025, 7, 20, tzinfo=UTC)  # day 200
    config = UpgradeConfig(horizon_days=30, n_cutoffs=20)
    days = [(cutoff - datetime(2025, 1, 1, tzinfo=UTC)).days for cutoff in climb_cutoffs(history, as_of, config)]
    assert days == [50, 80, 110, 140]
    assert len(climb_cutoffs(history, as_of, UpgradeConfig(n_cutoffs=2))) == 2


def test_without_edges_there_are_no_candidates() -> None:
    history = few_lines([("a", "p", 0, 1), ("b", "q", 20, 1)])
    ladder = build_ladder(PRODUCTS, history, None, LadderConfig())
    accounts = pd.DataFrame({"account_id": ["a", "b"]})
    model = UpgradeModel().fit(history, PRODUCTS, accounts, ladder, DAY_100, np.random.default_rng(0))
    assert len(model.score(history, DAY_100)) == 0


def test_without_climbs_the_peers_rate_is_all_there_is() -> None:
    history = few_lines([(f"a{i}", "p", i, 1) for i in range(40)])
    ladder = build_ladder(PRODUCTS, history, LINK, LadderConfig())
    accounts = pd.DataFrame({"account_id": ["a1", "nobody"], "size": [3, 4]})
    model = UpgradeModel().fit(history, PRODUCTS, accounts, ladder, DAY_100, np.random.default_rng(0))
    found = model.score(history, DAY_100)
    assert model.classifier_ is None
    assert len(found) == 40
    assert (found.probability < 0.05).all()


def test_no_history_before_as_of_is_tolerated() -> None:
    history = few_lines([("a", "p", 200, 1)])
    ladder = build_ladder(PRODUCTS, history.before(DAY_100), LINK, LadderConfig())
    accounts = pd.DataFrame({"account_id": ["a"]})
    model = UpgradeModel().fit(history, PRODUCTS, accounts, ladder, DAY_100, np.random.default_rng(0))
    assert len(model.score(history, DAY_100)) == 0
