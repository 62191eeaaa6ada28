"""Rows at or after the cutoff change no score, no candidate and no feature: each source and each block of features.

The later rows are as strange as they can be: they name accounts and products that nobody knew before, in between the
known ones, at prices and quantities of their own. So the two histories differ in their vocabularies too, and rows are
compared by id. The negative control at the end shows that the comparison has teeth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.data.history import History
from recsys.ladder.edges import LadderConfig, build_ladder
from recsys.models.next_product.account_features import AccountColumns
from recsys.models.next_product.features import FeatureBuilder, FeatureConfig
from recsys.models.retrieval.popularity import PopularityConfig, PopularityRetriever
from recsys.models.retrieval.retriever import Retriever
from recsys.models.retrieval.retrievers import default_retrievers
from recsys.models.snapshot import Snapshot, take_snapshot
from recsys.models.upgrade.features import climb_features
from recsys.models.upgrade.snapshot import ClimbSnapshot

START = datetime(2024, 1, 1, tzinfo=UTC)
CUTOFF = START + timedelta(days=150)
N_ACCOUNTS, N_PRODUCTS = 40, 24
SOURCE_NAMES = [
    "/".join(source.channels) for source in default_retrievers()
]  # one entry a source, in the order they are made

# account, product, seconds after the cutoff; numbers beyond the known ones are new accounts and products
LATER = st.lists(
    st.tuples(st.integers(-1, N_ACCOUNTS + 8), st.integers(0, N_PRODUCTS + 6), st.integers(0, 60 * 86_400)),
    min_size=1,
    max_size=40,
)
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def account_name(number: int) -> str | None:
    """The new ones sort in between the known ones: every row number moves."""
    if number < 0:
        return None
    return f"a{number:02d}" if number < N_ACCOUNTS else f"a{3 * (number - N_ACCOUNTS):02d}new"


def product_name(number: int) -> str:
    return f"p{number:02d}" if number < N_PRODUCTS else f"p{3 * (number - N_PRODUCTS):02d}new"


def earlier_lines() -> pd.DataFrame:
    """Two tastes, repeat purchases, dearer rungs at twice the price, some lines without an account."""
    rng = np.random.default_rng(5)
    rows = []
    for number in range(260):
        account = int(rng.integers(-2, N_ACCOUNTS))
        products = np.unique(rng.integers(0, N_PRODUCTS // 2, 4) * 2 + account % 2)
        moment = START + timedelta(days=float(rng.uniform(0, 150)))
        rows += [(f"o{number:03d}", account_name(max(account, -1)), int(product), moment) for product in products]
    frame = pd.DataFrame(rows, columns=["order_id", "account_id", "product", "ordered_at"])
    frame["product_id"] = frame["product"].map(product_name)
    frame["unit_price"] = 2.0 + frame["product"] % 5
    return frame.assign(quantity=1.0 + frame.pop("product") % 3)


EARLIER = earlier_lines()


def with_later(rows: Sequence[tuple[int, int, int]]) -> pd.DataFrame:
    later = pd.DataFrame(
        {
            "order_id": [f"later{number}" for number in range(len(rows))],
            "account_id": [account_name(account) for account, _, _ in rows],
            "ordered_at": [CUTOFF + timedelta(seconds=delay) for _, _, delay in rows],
            "product_id": [product_name(product) for _, product, _ in rows],
            "unit_price": 77.0,
            "quantity": 99.0,
        }
    )
    return pd.concat([EARLIER, later], ignore_index=True)


class Market:
    """A history with the tables that are derived from it: what is not in the lines is in no table."""

    def __init__(self, lines: pd.DataFrame) -> None:
        self.history = History.from_frame(lines)
        ids = self.history.product_ids
        names = [f"{'new ' * id_.endswith('new')}{('red', 'blue')[int(id_[1:3]) % 2]} cup {id_[1:3]}" for id_ in ids]
        self.products = pd.DataFrame({"product_id": ids, "name": names, "category": [name[:3] for name in names]})
        self.accounts = pd.DataFrame({"account_id": self.history.account_ids})
        self.accounts["size"] = self.accounts["account_id"].str[1:3].astype(float)

    def snapshot(self) -> Snapshot:
        return take_snapshot(self.history, CUTOFF, self.products)

    def scores(self, source: Retriever) -> pd.DataFrame:
        """One row an account that was known before the cutoff, one column a channel and product."""
        fitted = source.fit(self.snapshot())
        rows = np.array([row for row, id_ in enumerate(self.history.account_ids) if not id_.endswith("new")], np.int32)
        known = np.array([not id_.endswith("new") for id_ in self.history.product_ids])
        table = np.concatenate(list(fitted.score(rows)[:, :, known]), axis=1)
        return pd.DataFrame(table, index=self.history.account_ids[rows])

    def block(self, sources: tuple[Retriever, ...]) -> pd.DataFrame:
        """One row a candidate, by id, with its features by name."""
        extra = AccountColumns().fit(self.accounts).transform(self.accounts, self.history.account_ids)
        builder = FeatureBuilder(self.snapshot(), sources, extra, FeatureConfig(per_channel=5))
        found = builder.block(builder.standing())
        index: list[Any] = [self.history.account_ids[found.account], self.history.product_ids[found.product]]
        return pd.DataFrame(found.values, index=pd.MultiIndex.from_arrays(index), columns=list(builder.names))

    def climbs(self) -> pd.DataFrame:
        """One row an account and edge that it may climb, by id, with its features by name."""
        ladder = build_ladder(PAST.products, PAST.history, LINKS, LadderConfig())  # frozen before the cutoff
        config = LadderConfig().climbs
        snapshot = ClimbSnapshot.at(self.history, ladder, config, CUTOFF)
        pairs = snapshot.standing
        table = climb_features(snapshot, pairs, ladder, PAST.accounts, 30)
        edges = ladder.edges.iloc[pairs.edge]
        index: list[Any] = [self.history.account_ids[pairs.account], edges["from_product_id"], edges["to_product_id"]]
        return table.set_axis(pd.MultiIndex.from_arrays(index, names=None))


LINKS = pd.DataFrame(
    {
        "from_product_id": [product_name(row) for row in range(12)],
        "to_product_id": [product_name(row + 12) for row in range(12)],
    }
)
PAST = Market(EARLIER)


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one.sort_index(), other.sort_index(), check_exact=False, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", range(len(SOURCE_NAMES)), ids=SOURCE_NAMES)
@given(rows=LATER)
@FEW
def test_no_score_of_any_source_changes(position: int, rows: list[tuple[int, int, int]]) -> None:
    def source() -> Retriever:
        return default_retrievers()[position]

    assert_same(PAST.scores(source()), Market(with_later(rows)).scores(source()))


@given(rows=LATER)
@FEW
def test_no_candidate_and_no_feature_changes(rows: list[tuple[int, int, int]]) -> None:
    sources = default_retrievers()
    assert_same(PAST.block(sources), Market(with_later(rows)).block(default_retrievers()))


@given(rows=LATER)
@FEW
def test_no_upgrade_and_no_feature_of_it_changes(rows: list[tuple[int, int, int]]) -> None:
    assert len(PAST.climbs()) > 20
    assert_same(PAST.climbs(), Market(with_later(rows)).climbs())


class LeakingPopularity(PopularityRetriever):
    """The negative control: it counts the first purchases of the whole history, those after the snapshot too."""

    def __init__(self, market: Market) -> None:
        super().__init__(PopularityConfig(windows_days=(30,)))
        self.market = market

    def fit(self, snapshot: Snapshot) -> LeakingPopularity:
        first = self.market.history.first_purchases()
        counted = np.bincount(first.product, minlength=snapshot.shape[1]).astype(np.float32)
        # within a builder the snapshot is of some products only
        self.counts_ = np.stack([counted[np.isin(self.market.history.product_ids, snapshot.lines.product_ids)]] * 2)
        return self


LEAKED = [(account, 3, 60 * account) for account in range(30)]


@pytest.mark.parametrize(
    "seen", [lambda market, source: market.scores(source), lambda market, source: market.block((source,))]
)
def test_the_comparison_catches_a_leaking_popularity(seen: Callable[[Market, Retriever], pd.DataFrame]) -> None:
    later = Market(with_later(LEAKED))
    assert_same(
        seen(PAST, PopularityRetriever(PopularityConfig())), seen(later, PopularityRetriever(PopularityConfig()))
    )
    with pytest.raises(AssertionError):
        assert_same(seen(PAST, LeakingPopularity(PAST)), seen(later, LeakingPopularity(later)))
