"""The simulated market as data: contracts, determinism, switches."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys.contracts import columns as c
from recsys.contracts.tables import ACCOUNTS, ORDERS, PRODUCTS, UPGRADES
from recsys.data.dataset import ReadSpec, read_dataset
from recsys.data.entities import conform
from recsys.errors import ConfigError
from recsys.simulation.accounts import EMPLOYEES
from recsys.simulation.catalogue import build_catalogue
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import Market, simulate_market, write_market

SMALL = MarketConfig(n_accounts=400, n_products=500, seed=5)
FILES = (
    "accounts.parquet",
    "market.json",
    "orders.parquet",
    "products.parquet",
    "truth/complements.parquet",
    "truth/hazards.parquet",
    "truth/substitutes.parquet",
    "truth/upgrade_edges.parquet",
    "upgrades.parquet",
)


@pytest.fixture(scope="module")
def small() -> Market:
    return simulate_market(SMALL)


def changed(**options: object) -> MarketConfig:
    return MarketConfig(**(SMALL.model_dump() | options))


def assert_same(one: Market, other: Market) -> None:
    pd.testing.assert_frame_equal(one.orders, other.orders)
    pd.testing.assert_frame_equal(one.accounts, other.accounts)
    pd.testing.assert_frame_equal(one.products, other.products)
    pd.testing.assert_frame_equal(one.truth.hazards, other.truth.hazards)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestContracts:
    def test_every_table_fulfils_its_schema(self, small: Market) -> None:
        for schema, frame in (
            (ORDERS, small.orders),
            (PRODUCTS, small.products),
            (ACCOUNTS, small.accounts),
            (UPGRADES, small.upgrades),
        ):
            table = frame if schema is ORDERS else conform(frame, schema)
            assert len(schema.pandera_frame().validate(table)) == len(frame) > 0

    def test_sizes_are_those_asked_for(self, small: Market) -> None:
        assert (len(small.accounts), len(small.products)) == (400, 500)

    def test_a_product_stands_once_in_an_order_and_lines_count_from_one(self, small: Market) -> None:
        assert not small.orders.duplicated([c.ORDER_ID, c.PRODUCT_ID]).any()
        lines = small.orders.groupby(c.ORDER_ID)[c.LINE_ID].agg(list)
        assert all(sorted(map(int, ids)) == list(range(1, len(ids) + 1)) for ids in lines)

    def test_ids_of_orders_stand_in_the_other_tables(self, small: Market) -> None:
        assert set(small.orders[c.ACCOUNT_ID]) <= set(small.accounts[c.ACCOUNT_ID])
        assert set(small.orders[c.PRODUCT_ID]) <= set(small.products[c.PRODUCT_ID])
        assert set(small.upgrades[c.FROM_PRODUCT_ID]) <= set(small.products[c.PRODUCT_ID])

    def test_orders_lie_within_the_market_and_after_the_account_was_created(self, small: Market) -> None:
        joined = small.orders.merge(small.accounts, on=c.ACCOUNT_ID, validate="many_to_one")
        assert small.orders[c.ORDERED_AT].min() >= pd.Timestamp(SMALL.start)
        assert small.orders[c.ORDERED_AT].max() < pd.Timestamp(SMALL.start + timedelta(days=SMALL.days))
        assert (joined[c.ORDERED_AT] >= joined[c.CREATED_AT]).all()

    def test_names_are_unique_and_prices_lie_above_costs(self, small: Market) -> None:
        assert small.products[c.NAME].is_unique
        assert (small.products[c.COST] < small.products[c.PRICE]).all()

    def test_a_large_catalogue_has_unique_names_too(self) -> None:
        catalogue = build_catalogue(MarketConfig(n_products=60_000, seed=2))
        assert len(set(catalogue.names)) == len(catalogue) == 60_000

    def test_tiers_of_a_family_rise_in_price(self, small: Market) -> None:
        rungs = small.products[small.products[c.TIER].notna()].sort_values([c.FAMILY, c.TIER])
        step = rungs.groupby(c.FAMILY)[c.PRICE].diff().dropna()
        assert len(step) == len(small.upgrades)
        assert (step > 0).all()

    def test_discounts_are_below_the_price_and_key_accounts_have_one(self, small: Market) -> None:
        gross = small.orders[c.QUANTITY] * small.orders[c.UNIT_PRICE]
        assert (small.orders[c.DISCOUNT] <= 0.11 * gross + 0.01).all()
        joined = small.orders.merge(small.accounts, on=c.ACCOUNT_ID, validate="many_to_one")
        share = joined.groupby(c.IS_KEY_ACCOUNT)[c.DISCOUNT].agg(lambda off: (off > 0).mean())
        assert share[True] > 0.8 > 0.2 > share[False]

    def test_accounts_have_a_column_of_their_own_that_tells_of_their_quantities(self, small: Market) -> None:
        mean = small.orders.groupby(c.ACCOUNT_ID)[c.QUANTITY].mean().rename("mean").reset_index()
        joined = mean.merge(small.accounts, on=c.ACCOUNT_ID, validate="one_to_one")
        assert joined["mean"].corr(joined[EMPLOYEES], method="spearman") > 0.4

    def test_all_channels_and_segments_occur(self, small: Market) -> None:
        assert set(small.orders[c.CHANNEL]) == {"web", "phone", "field", "edi"}
        assert small.accounts[c.SEGMENT].nunique() == 5
        assert 0.01 < small.accounts[c.IS_KEY_ACCOUNT].mean() < 0.08


class TestDeterminism:
    def test_the_same_seed_gives_the_same_market_whatever_the_block_size(self, small: Market) -> None:
        assert_same(small, simulate_market(changed(block_accounts=37)))

    def test_another_seed_gives_another_market(self, small: Market) -> None:
        other = simulate_market(changed(seed=6))
        assert len(other.orders) != len(small.orders)
        assert not other.products[c.PRICE].equals(small.products[c.PRICE])

    def test_a_small_market_is_the_beginning_of_a_large_one(self, small: Market) -> None:
        fewer = simulate_market(changed(n_accounts=150))
        pd.testing.assert_frame_equal(fewer.orders, small.orders.iloc[: len(fewer.orders)])
        pd.testing.assert_frame_equal(fewer.accounts, small.accounts.iloc[:150])

    def test_files_are_equal_byte_for_byte_however_they_were_written(self, small: Market, tmp_path: Path) -> None:
        n_lines = write_market(SMALL, tmp_path / "streamed")
        write_market(changed(block_accounts=37), tmp_path / "small_blocks")
        assert small.write(tmp_path / "in_memory") == n_lines == len(small.orders)
        streamed = digests(tmp_path / "streamed")
        assert tuple(streamed) == FILES
        assert streamed == digests(tmp_path / "small_blocks") == digests(tmp_path / "in_memory")

    def test_row_groups_do_not_follow_the_blocks(self, tmp_path: Path) -> None:
        config = MarketConfig(n_accounts=6_000, n_products=200, lines_per_order=16, block_accounts=700)
        n_lines = write_market(config, tmp_path / "market")
        file = pq.ParquetFile(tmp_path / "market" / "orders.parquet")
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        assert sizes == [500_000, n_lines - 500_000]

    def test_writing_replaces_the_market_and_leaves_other_files(self, small: Market, tmp_path: Path) -> None:
        small.write(tmp_path)
        (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
        small.write(tmp_path)
        assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
        assert not list(tmp_path.parent.glob(f".{tmp_path.name}.part"))

    def test_the_files_are_read_back_without_a_rejected_row(self, small: Market, tmp_path: Path) -> None:
        small.write(tmp_path)
        names = ("orders", "products", "accounts", "upgrades")
        data = read_dataset(ReadSpec(**{name: str(tmp_path / f"{name}.parquet") for name in names}))
        assert len(data.history()) == len(small.orders)
        assert len(data.products) == len(small.products)
        assert data.currency == "GBP"


class TestSwitches:
    def test_seasonality_bends_the_months_and_can_be_off(self) -> None:
        def november_over_january(seasonality: bool) -> float:
            orders = simulate_market(MarketConfig(n_accounts=3_000, n_products=300, seasonality=seasonality)).orders
            month = orders.drop_duplicates(c.ORDER_ID)[c.ORDERED_AT].dt.month
            return float((month == 11).sum() / (month == 1).sum())

        assert november_over_january(seasonality=True) > 2.0
        assert 0.85 < november_over_january(seasonality=False) < 1.35  # accounts come and go; the year itself is flat

    def test_winter_products_sell_in_winter(self) -> None:
        config = MarketConfig(n_accounts=2_000, n_products=600, seed=4)
        market, catalogue = simulate_market(config), build_catalogue(config)
        season = pd.Series(catalogue.season, index=catalogue.ids)[market.orders[c.PRODUCT_ID]].to_numpy()
        winter = market.orders[c.ORDERED_AT].dt.month.isin([10, 11, 12]).to_numpy()
        share = [winter[season == kind].mean() for kind in (0, 1, 2)]
        assert share[1] > 1.5 * share[0] > 1.5 * 2 * share[2]

    def test_drift_launches_and_retires_products(self) -> None:
        config = MarketConfig(n_accounts=1_500, n_products=600, seed=4)
        market, catalogue = simulate_market(config), build_catalogue(config)
        row = pd.Index(catalogue.ids).get_indexer(pd.Index(market.orders[c.PRODUCT_ID]))
        day = (market.orders[c.ORDERED_AT] - pd.Timestamp(config.start)).dt.total_seconds().to_numpy() / 86_400
        assert (day >= catalogue.launched[row] - 30).all()  # popularity moves by periods of 30 days
        assert (day <= catalogue.retired[row] + 30).all()
        assert 0.1 < (catalogue.launched >= 0).mean() < 0.4
        retired = ~market.products[c.ACTIVE].to_numpy()
        assert np.array_equal(retired, catalogue.retired < config.days)
        assert retired.any()

    def test_without_drift_every_product_stays(self) -> None:
        market = simulate_market(changed(drift=False))
        assert market.products[c.ACTIVE].all()

    def test_without_needs_nobody_stands_on_a_rung(self) -> None:
        assert len(simulate_market(changed(needs=False)).truth.hazards) == 0

    def test_shares_of_zero_plant_nothing(self) -> None:
        market = simulate_market(changed(complement_share=0.0, substitute_share=0.0, ladder_share=0.0))
        truth = market.truth
        planted = (truth.complements, truth.substitutes, truth.upgrade_edges, truth.hazards, market.upgrades)
        assert [len(table) for table in planted] == [0] * 5
        assert len(market.orders) > 1_000

    def test_shares_ask_for_so_many_products(self) -> None:
        truth = simulate_market(changed(complement_share=0.2, substitute_share=0.1, ladder_share=0.3)).truth
        assert len(truth.complements) == 0.2 * 500 / 2
        assert len(truth.substitutes) == 0.1 * 500
        rungs = set(truth.upgrade_edges[c.FROM_PRODUCT_ID]) | set(truth.upgrade_edges[c.TO_PRODUCT_ID])
        assert len(rungs) == pytest.approx(0.3 * 500, abs=2)

    @pytest.mark.parametrize("lines", [6.0, 12.0])
    def test_lines_per_order_and_activity_set_the_size(self, lines: float) -> None:
        config = MarketConfig(n_accounts=3_000, lines_per_order=lines, activity=0.5, needs=False, days=365)
        orders = simulate_market(config).orders
        usual = simulate_market(MarketConfig(n_accounts=3_000, lines_per_order=2, needs=False, days=365)).orders
        assert orders.groupby(c.ORDER_ID).size().mean() == pytest.approx(lines, rel=0.06)
        assert orders[c.ORDER_ID].nunique() < 0.85 * usual[c.ORDER_ID].nunique()

    def test_the_start_moves_the_market(self) -> None:
        start = datetime(2009, 12, 1, tzinfo=UTC)
        market = simulate_market(changed(start=start, days=60))
        assert market.orders[c.ORDERED_AT].min() >= pd.Timestamp(start)
        assert market.orders[c.ORDERED_AT].max() < pd.Timestamp(start + timedelta(days=60))

    @pytest.mark.parametrize(
        "option", [{"n_accounts": 0}, {"n_products": 5}, {"days": 3}, {"activity": 0}, {"ladder_share": 0.9}, {"x": 1}]
    )
    def test_options_out_of_range_are_refused(self, option: dict[str, float]) -> None:
        with pytest.raises(ConfigError):
            MarketConfig(**option)
