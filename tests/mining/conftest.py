"""Real orders, small orders, and the null that keeps both margins."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.contracts import columns as c
from recsys.data.dataset import Dataset

Orders = list[list[str]]


@pytest.fixture(scope="session")
def groceries(groceries_path: Path) -> ibis.Table:
    """9,835 baskets; the time is the number of the basket."""
    raw = pd.read_csv(groceries_path)
    return in_duckdb(
        pd.DataFrame(
            {
                c.ORDER_ID: raw["basket_id"].astype(str).to_numpy(),
                c.PRODUCT_ID: raw["item"].to_numpy(),
                c.ORDERED_AT: pd.Timestamp("2026-01-01") + pd.to_timedelta(raw["basket_id"].to_numpy(), unit="min"),
            }
        )
    )


@pytest.fixture(scope="session")
def retail_lines(online_retail: Dataset) -> pd.DataFrame:
    """The cleaned lines of Online Retail II: order, product, account, time."""
    names = [c.ORDER_ID, c.PRODUCT_ID, c.ACCOUNT_ID, c.ORDERED_AT]
    return online_retail.orders.select(names).to_pandas()


@pytest.fixture(scope="session")
def retail(retail_lines: pd.DataFrame) -> ibis.Table:
    """Online Retail II on a DuckDB connection of its own."""
    return in_duckdb(retail_lines)


@pytest.fixture(scope="session")
def retail_until_june(retail: ibis.Table) -> ibis.Table:
    """Its first six months: the whole is for the proofs."""
    return retail.filter(retail[c.ORDERED_AT] < ibis.timestamp("2010-06-01"))


@pytest.fixture(scope="session")
def to_orders() -> Callable[..., ibis.Table]:
    """Baskets as a table of order lines, an hour apart; accounts by basket where they are given."""
    return make_orders


@pytest.fixture(scope="session")
def shuffled() -> Callable[..., pd.DataFrame]:
    """Order lines redrawn with both margins kept."""
    return swap_products


@pytest.fixture(scope="session")
def to_duckdb() -> Callable[[pd.DataFrame], ibis.Table]:
    """A frame as a table on a connection of its own."""
    return in_duckdb


@pytest.fixture(scope="session")
def count_by_hand() -> Callable[[Orders], dict[tuple[str, str], int]]:
    """Pairs counted in plain Python."""
    return brute_force_pairs


def in_duckdb(frame: pd.DataFrame) -> ibis.Table:
    # UTC without its name: pandas 3.1 warns when pyarrow or Ibis take a time with a zone.
    naive = {
        name: frame[name].dt.tz_convert(None)
        for name in frame.columns
        if isinstance(frame[name].dtype, pd.DatetimeTZDtype)
    }
    table = pa.Table.from_pandas(frame.assign(**naive), preserve_index=False)
    return ibis.duckdb.connect().create_table("orders", table)


def make_orders(baskets: Orders, accounts: list[str | None] | None = None) -> ibis.Table:
    rows = [(number, product) for number, basket in enumerate(baskets) for product in basket]
    numbers = np.array([number for number, _ in rows], dtype=np.int64)
    frame = pd.DataFrame(
        {
            c.ORDER_ID: pd.array([f"o{number:06d}" for number in numbers], dtype="str"),
            c.PRODUCT_ID: pd.array([product for _, product in rows], dtype="str"),
            c.ORDERED_AT: pd.Timestamp("2026-01-01") + pd.to_timedelta(numbers, unit="h"),
        }
    )
    if accounts is not None:
        frame[c.ACCOUNT_ID] = pd.array([accounts[number] for number in numbers], dtype="str")
    return ibis.memtable(frame)


def brute_force_pairs(baskets: Orders) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for basket in baskets:
        for pair in combinations(sorted(set(basket)), 2):
            counts[pair] = counts.get(pair, 0) + 1
    return counts


def swap_products(lines: pd.DataFrame, seed: int, passes: int = 20, within: str | None = None) -> pd.DataFrame:
    """Return the distinct lines with products traded between orders: sizes of orders and counts of products stay.

    Curveball trades (Strona et al. 2014): two orders pool what only one of them has and deal it out again.

    Args:
        within: a column; orders trade only with orders of the same value, so that each value keeps its counts.
    """
    draw = random.Random(seed)
    distinct = lines.drop_duplicates([c.ORDER_ID, c.PRODUCT_ID])
    held = {str(order): set(products) for order, products in distinct.groupby(c.ORDER_ID)[c.PRODUCT_ID]}
    orders = distinct.drop_duplicates(c.ORDER_ID).set_index(c.ORDER_ID)
    groups = [list(held)] if within is None else [list(group) for group in orders.groupby(within).groups.values()]
    for group in groups:
        for _ in range(passes):
            draw.shuffle(group)
            for left, right in zip(group[::2], group[1::2], strict=False):
                _trade(held, left, right, draw)
    rows = [(order, product) for order, products in held.items() for product in sorted(products)]
    traded = pd.DataFrame(rows, columns=[c.ORDER_ID, c.PRODUCT_ID])
    others = [name for name in orders.columns if name != c.PRODUCT_ID]
    return traded.merge(orders[others].reset_index(), on=c.ORDER_ID, validate="many_to_one")


def _trade(held: dict[str, set[str]], left: str, right: str, draw: random.Random) -> None:
    pool = sorted(held[left] ^ held[right])
    n_left = len(held[left] - held[right])
    if 0 < n_left < len(pool):
        common = held[left] & held[right]
        draw.shuffle(pool)
        held[left], held[right] = common.union(pool[:n_left]), common.union(pool[n_left:])
