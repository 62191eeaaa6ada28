"""A replay of some accounts of a large market: who is drawn, and what is left of the data."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.contracts import columns as c
from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.simulation.constants import MarketConfig
from recsys.simulation.market import write_market
from training.validation import of_accounts, sample_accounts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("market")
    write_market(MarketConfig(n_accounts=200, n_products=100, seed=5), folder)
    return read_dataset(ReadSpec(orders=str(folder / "orders.parquet"), products=str(folder / "products.parquet")))


def test_all_accounts_where_their_lines_are_few_enough(data: Dataset) -> None:
    assert sample_accounts(data, 1_000, 1_000, np.random.default_rng(0)) is None


def test_so_many_that_about_the_wanted_lines_are_theirs(data: Dataset) -> None:
    lines = data.history()
    chosen = sample_accounts(data, len(lines), len(lines) // 2, np.random.default_rng(0))
    assert chosen is not None
    assert len(chosen) / lines.n_accounts == pytest.approx(0.5, abs=0.15)
    again = sample_accounts(data, len(lines), len(lines) // 2, np.random.default_rng(0))
    assert again is not None
    assert again.tolist() == chosen.tolist()


def test_every_line_of_theirs_stays_in_its_order_and_nobody_elses(data: Dataset) -> None:
    whole = data.history()
    chosen = whole.account_ids[[3, 50, 120]]
    some = of_accounts(data, chosen)
    theirs = whole.select(np.isin(whole.account, [3, 50, 120]))
    history = some.history()
    assert history.account_ids.tolist() == chosen.tolist() == some.accounts[c.ACCOUNT_ID].tolist()
    np.testing.assert_array_equal(history.product_ids, whole.product_ids)
    np.testing.assert_array_equal(history.account_ids[history.account], whole.account_ids[theirs.account])
    np.testing.assert_array_equal(history.product, theirs.product)
    np.testing.assert_array_equal(history.seconds, theirs.seconds)
    np.testing.assert_array_equal(history.revenue, theirs.revenue)
