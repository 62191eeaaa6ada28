"""Candidates and features: point in time, the same in batch and online, and right by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from recsys.arrays import FeatureMatrix, informative
from recsys.models.next_product.account_features import AccountColumns, account_feature_matrix
from recsys.models.next_product.features import WHOLE_PAST, FeatureBuilder, FeatureConfig
from recsys.models.next_product.pair_features import NAMES as PAIR_NAMES
from recsys.models.next_product.pair_features import PairFeatures
from recsys.models.next_product.product_features import product_feature_matrix
from recsys.models.retrieval.baskets import BasketRetriever
from recsys.models.retrieval.popularity import PopularityRetriever, SeasonRetriever
from recsys.models.retrieval.retriever import take_head
from recsys.models.retrieval.retrievers import RetrieversConfig, default_retrievers
from recsys.models.snapshot import take_snapshot

START = datetime(2024, 1, 1, tzinfo=UTC)
CUTOFF = START + timedelta(days=150)
FEW = RetrieversConfig(content=None)


def build(history, products, accounts=None, as_of=CUTOFF, sources=None, per_channel=10):
    snapshot = take_snapshot(history, as_of, products)
    columns = AccountColumns().fit(pd.DataFrame() if accounts is None else accounts)
    extra = columns.transform(pd.DataFrame() if accounts is None else accounts, history.account_ids)
    used = default_retrievers(FEW) if sources is None else sources
    return FeatureBuilder(snapshot, used, extra, FeatureConfig(per_channel=per_channel))


def everyone(history) -> np.ndarray:
    return np.arange(history.n_accounts, dtype=np.int32)


class TestBuilder:
    def test_the_batch_row_equals_the_online_one(self, drawn, drawn_products, drawn_accounts):
        builder = build(drawn, drawn_products, drawn_accounts)
        batch = builder.block(everyone(drawn))
        for account in (0, 11, 42):
            online = builder.block(np.array([account], dtype=np.int32))
            mine = batch.account == account
            np.testing.assert_array_equal(online.product, batch.product[mine])
            np.testing.assert_allclose(online.values, batch.values[mine], rtol=1e-5, atol=1e-6)

    def test_the_consensus_is_the_mean_of_the_ranks_of_what_looks_at_all_of_the_past(self, drawn, drawn_products):
        builder = build(drawn, drawn_products)
        values = builder.block(everyone(drawn)).values
        ranks = [values[:, builder.names.index(f"{name}_rank")] for name in WHOLE_PAST]
        np.testing.assert_allclose(builder.consensus(values), -sum(map(np.log1p, ranks)) / 4, rtol=1e-5)
        other = build(drawn, drawn_products, sources=[PopularityRetriever()])
        alone = other.block(everyone(drawn)).values
        np.testing.assert_allclose(other.consensus(alone), -np.log1p(alone[:, other.names.index("owners_rank")]))
        nothing = build(drawn, drawn_products, sources=[SeasonRetriever(), BasketRetriever()])
        assert (nothing.consensus(nothing.block(everyone(drawn)).values) == 0).all()

    def test_nothing_owned_and_nothing_unsold_is_a_candidate(self, drawn, drawn_products):
        builder = build(drawn, drawn_products)
        block = builder.block(everyone(drawn))
        owned = drawn.before(CUTOFF).owned()
        assert len(block.account) > 0
        assert not np.asarray(owned[block.account, block.product]).any()
        assert builder.snapshot.offerable[block.product].all()

    def test_only_the_head_of_the_catalogue_is_looked_at(self, drawn, drawn_products):
        snapshot = take_snapshot(drawn, CUTOFF, drawn_products)
        head = take_head(snapshot, 12).products
        extra = FeatureMatrix.of({}, drawn.n_accounts)
        narrow = FeatureBuilder(
            snapshot, default_retrievers(FEW), extra, FeatureConfig(per_channel=10, max_products=12)
        )
        block = narrow.block(everyone(drawn))
        assert set(block.product.tolist()) <= set(head.tolist())
        assert len(set(block.product.tolist())) > 6
        owners = block.values[:, narrow.names.index("product_owners")]  # told of the same product, not of its place
        counted = np.bincount(snapshot.pairs.product, minlength=drawn.n_products)
        np.testing.assert_array_equal(owners, counted[block.product])
        whole = build(drawn, drawn_products)
        wide = FeatureBuilder(
            snapshot, default_retrievers(FEW), extra, FeatureConfig(per_channel=10, max_products=10**6)
        )
        np.testing.assert_array_equal(wide.block(everyone(drawn)).product, whole.block(everyone(drawn)).product)

    def test_a_snapshot_of_some_products_is_that_of_a_history_of_them(self, drawn, drawn_products):
        kept = np.arange(0, drawn.n_products, 3, dtype=np.int32)
        narrow = take_snapshot(drawn, CUTOFF, drawn_products).of_products(kept)
        lines = drawn.select(np.isin(drawn.product, kept))
        alone = replace(lines, product=(lines.product // 3).astype(np.int32), product_ids=drawn.product_ids[kept])
        same = take_snapshot(alone, CUTOFF, drawn_products)
        for name, values in vars(same.pairs).items():
            np.testing.assert_array_equal(getattr(narrow.pairs, name), values)
        np.testing.assert_array_equal(narrow.known.product, same.known.product)
        np.testing.assert_array_equal(narrow.age, same.age)
        np.testing.assert_array_equal(narrow.names, same.names)

    def test_every_column_has_a_name_of_its_own(self, drawn, drawn_products, drawn_accounts):
        builder = build(drawn, drawn_products, drawn_accounts)
        assert builder.block(everyone(drawn)[:3]).values.shape[1] == len(builder.names) == len(set(builder.names))

    def test_ranks_count_from_zero_and_shares_end_at_one(self, drawn, drawn_products):
        builder = build(drawn, drawn_products)
        block = builder.block(np.array([4], dtype=np.int32))
        score, share, rank = (
            block.values[:, builder.names.index(f"nearest_fresh{kind}")] for kind in ("", "_share", "_rank")
        )
        assert sorted(rank) == list(range(len(rank)))
        assert share.max() == pytest.approx(1.0)
        assert (np.diff(score[np.argsort(rank)]) <= 0).all()

    def test_an_account_without_purchases_gets_what_is_popular(self, drawn, drawn_products):
        builder = build(drawn, drawn_products, as_of=START + timedelta(days=30))
        new = np.setdiff1d(everyone(drawn), builder.standing())[:1].astype(np.int32)
        block = builder.block(new)
        assert len(block.product) > 0
        assert np.isnan(block.values[:, builder.names.index("account_recency_days")]).all()


class TestProductTable:
    def test_counts_ages_and_restock_by_hand(self, make_history):
        history = make_history([("a", "p", 0), ("b", "p", 50), ("a", "p", 98), (None, "p", 99), ("b", "q", 99)])
        table = product_feature_matrix(take_snapshot(history, START + timedelta(days=100), pd.DataFrame()))
        p = {
            name.removeprefix("product_"): float(value)
            for name, value in zip(table.names, table.values[0], strict=True)
        }
        assert (p["new_3d"], p["new_60d"], p["owners"]) == (0, 1, 2)
        assert (p["lines_7d"], p["known_lines_7d"]) == (2, 1)
        assert (p["days_since_sale"], p["age_days"], p["days_since_new_owner"]) == (1, 100, 50)
        assert p["days_since_restock"] == 2  # day 98 came after 48 days without a sale
        assert p["trend_30_90"] == pytest.approx((0 + 0.5) / (1 + 4))
        assert np.isnan(p["last_year_ahead"])
        assert p["share_without_account"] == pytest.approx((1 + 1) / (3 + 4))

    def test_last_year_by_hand(self, make_history):
        history = make_history([("z", "other", 0), ("a", "p", 36), ("b", "p", 50), ("c", "p", 20), ("d", "p", 395)])
        table = product_feature_matrix(take_snapshot(history, START + timedelta(days=400), pd.DataFrame()))
        row = int(np.flatnonzero(history.product_ids == "p")[0])
        found = {name: float(table.column(name)[row]) for name in table.names}
        assert found["product_last_year_ahead"] == 2  # days 35 to 65
        assert found["product_last_year_behind"] == 1  # days 5 to 35
        assert found["product_last_year_turn"] == pytest.approx(3 / 2)


class TestPairFeatures:
    def test_affinity_and_novelty_of_a_category_by_hand(self, make_history):
        history = make_history(
            [("a", "cup1", 0), ("a", "cup2", 70), ("a", "hat1", 40), ("b", "pen1", 99), ("b", "x", 9)]
        )
        products = pd.DataFrame({"product_id": history.product_ids})
        products["category"] = products["product_id"].str.rstrip("12").where(products["product_id"] != "x")
        snapshot = take_snapshot(history, START + timedelta(days=100), products)
        features = PairFeatures(product_feature_matrix(snapshot), account_feature_matrix(snapshot)).fit(snapshot)
        rows = np.zeros(5, dtype=np.int32), np.arange(5, dtype=np.int32)  # account a; cup1, cup2, hat1, pen1, x
        found = dict(zip(PAIR_NAMES, features.transform(*rows).T, strict=True))
        np.testing.assert_allclose(found["fit_category"], [2 / 3, 2 / 3, 1 / 3, 0, np.nan])
        np.testing.assert_allclose(found["days_since_category"], [30, 30, 60, np.nan, np.nan])


class TestAccountTable:
    def test_rhythm_by_hand(self, make_history):
        history = make_history([("a", "p", 0), ("a", "q", 0), ("a", "q", 90), ("b", "p", 40)])
        table = account_feature_matrix(take_snapshot(history, START + timedelta(days=100), pd.DataFrame()))
        a = {
            name.removeprefix("account_"): float(value)
            for name, value in zip(table.names, table.values[0], strict=True)
        }
        assert (a["n_owned"], a["n_orders"], a["recency_days"], a["tenure_days"]) == (2, 2, 10, 100)
        assert (a["lines_per_order"], a["days_per_order"]) == (1.5, 50)
        assert a["revenue_per_order"] == pytest.approx(3 * 10.0 / 2)
        assert (a["n_new_30d"], a["n_new_180d"], a["n_orders_30d"]) == (0, 2, 1)

    def test_columns_of_the_accounts_table_by_dtype(self, drawn, drawn_accounts):
        columns = AccountColumns().fit(drawn_accounts)
        table = columns.transform(drawn_accounts, drawn.account_ids)
        assert set(table.names) == {"account_region", "account_employees", "account_is_key_account"}
        np.testing.assert_allclose(table.column("account_employees"), np.arange(drawn.n_accounts) * 1.5)
        assert np.isnan(table.column("account_region")[0])
        assert set(table.column("account_region")[1:3]) == {0.0, 1.0}

    def test_accounts_outside_the_table_and_unseen_levels_are_missing(self):
        seen = pd.DataFrame({"account_id": ["a", "b"], "segment": ["gold", "gold"], "size": [1, 2]})
        columns = AccountColumns().fit(seen)
        later = pd.DataFrame({"account_id": ["a", "c"], "segment": ["tin", "gold"], "size": [5, 6]})
        table = columns.transform(later, np.array(["a", "b", "c"], dtype=object))
        np.testing.assert_array_equal(table.column("account_segment"), [np.nan, np.nan, 0.0])
        np.testing.assert_array_equal(table.column("account_size"), [5.0, np.nan, 6.0])


def test_informative_columns_hold_more_than_one_value():
    values = np.array([[1, 2, np.nan, np.nan], [1, 3, np.nan, 4], [1, 2, np.nan, 4]], dtype=np.float32)
    assert informative(values).tolist() == [1]
    assert FeatureMatrix(("x", "y", "z", "w"), values).column("y").tolist() == [2, 3, 2]
