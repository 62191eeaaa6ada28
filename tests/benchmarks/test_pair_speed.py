"""How fast pairs are counted, against mlxtend's FP-growth and at ten million lines."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.contracts import columns as c
from recsys.mining.counting import count_pairs
from recsys.mining.itemsets import frequent_itemsets
from recsys.mining.rules import RuleConfig, rules_frame

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "mining_speed.json"
SUPPORT = 0.005


def groceries(path: Path) -> ibis.Table:
    raw = pd.read_csv(path)
    return connect().create_table(
        "orders", pd.DataFrame({c.ORDER_ID: raw["basket_id"].astype(str), c.PRODUCT_ID: raw["item"]})
    )


def retail(path: Path) -> ibis.Table:
    names = {"Invoice": c.ORDER_ID, "StockCode": c.PRODUCT_ID}
    raw = pd.read_parquet(path, columns=list(names)).rename(columns=names)
    return connect().create_table("orders", raw)


def ten_million_lines() -> ibis.Table:
    """10 million lines, 900,000 orders of log-normal size, 20,000 products by a power law."""
    rng = np.random.default_rng(0)
    size = rng.lognormal(0, 0.8, 900_000)
    order = np.sort(rng.choice(len(size), 10_000_000, p=size / size.sum()))
    weight = 1 / np.arange(10, 20_010) ** 0.9
    product = rng.choice(len(weight), len(order), p=weight / weight.sum())
    order_ids = pa.array([f"o{number:07d}" for number in range(len(size))])
    product_ids = pa.array([f"P{number:05d}" for number in range(len(weight))])
    at = (order.astype(np.int64) * 60 + 1_500_000_000).astype("datetime64[s]").astype("datetime64[us]")
    lines = {c.ORDER_ID: order_ids.take(pa.array(order)), c.PRODUCT_ID: product_ids.take(pa.array(product))}
    return connect().create_table("orders", pa.table({**lines, c.ORDERED_AT: at}))


def connect() -> ibis.BaseBackend:
    return ibis.duckdb.connect(threads=2)


def counted(orders: ibis.Table, least: int) -> int:
    pairs = count_pairs(orders)
    return int(pairs.filter(pairs[c.N_BOTH] >= least).to_pyarrow().num_rows)


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Return the median time of `repeats` calls after a warm one."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@pytest.mark.proof
@pytest.mark.timeout(3_600)
def test_counting_pairs_is_measured(groceries_path: Path, online_retail_path: Path) -> None:
    results = {}
    for name, orders in (("groceries", groceries(groceries_path)), ("online_retail_ii", retail(online_retail_path))):
        n_orders = orders[c.ORDER_ID].nunique().to_pyarrow().as_py()
        least = int(np.ceil(SUPPORT * n_orders))
        found = frequent_itemsets(orders, least, 2)
        assert counted(orders, least) == (found[c.LENGTH] == 2).sum()
        ours = seconds(partial(counted, orders, least))
        theirs = seconds(partial(frequent_itemsets, orders, least, 2))
        results[name] = {
            "n_orders": n_orders,
            "min_support": SUPPORT,
            "pairs": counted(orders, least),
            "count_pairs_seconds": round(ours, 3),
            "every_pair_seconds": round(seconds(partial(counted, orders, 1)), 3),
            "mlxtend_fpgrowth_max_len_2_seconds": round(theirs, 3),
            "ratio": round(theirs / ours, 1),
        }
    large = ten_million_lines()
    results["ten_million_lines"] = {
        "count_pairs_at_least_5_seconds": round(seconds(lambda: counted(large, 5)), 2),
        "mine_rules_seconds": round(seconds(lambda: rules_frame(large, RuleConfig()), repeats=1), 2),
    }
    PROOF.write_text(
        json.dumps(
            {
                "date": datetime.now(UTC).date().isoformat(),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
                "method": "in process, warm, median of five (rules at ten million lines: one warm run)",
                "load_average": [round(load, 1) for load in os.getloadavg()],
                "results": results,
            },
            indent=2,
        )
        + "\n"
    )
    assert results["online_retail_ii"]["pairs"] > 1_000
