"""Who moves from a grocer's own brand to the national ones, a kind of goods at a time: The Complete Journey."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from recsys.data.history import SECONDS_A_DAY, History
from recsys.fitting.pipeline import FitConfig
from recsys.fitting.time_scales import TimeScales, with_time_scales
from recsys.ladder.edges import Ladder, build_ladder
from recsys.ladder.tier_columns import find_tier_columns
from recsys.ladder.upgrade_events import EdgePairs, PurchaseIndex
from recsys.models.upgrade.model import UpgradeModel, climbs_within
from recsys.models.upgrade.snapshot import ClimbSnapshot
from tests.benchmarks.test_ladders import write
from tests.conftest import real_file

CUTOFFS = tuple(datetime(2017, month, 1, tzinfo=UTC) for month in (4, 5, 6))
"""The last one has sixty days to its end."""
DAYS = 60
SHRUNK_BY = 20.0
"""Pairs at the mean of all kinds that the rate of one kind is shrunk by."""


def history_of_kinds() -> tuple[History, pd.DataFrame]:
    """Return who bought which kind of goods of which brand, where there are both, and the table of these."""
    products = pd.read_parquet(real_file("complete_journey/products.parquet"))
    lines = pd.read_parquet(real_file("complete_journey/transactions.parquet"))
    lines = lines[lines["quantity"] > 0].merge(products[["product_id", "brand", "product_type"]], on="product_id")
    brands = lines.groupby("product_type")["brand"].nunique()
    lines = lines[lines["product_type"].isin(brands.index[brands == 2])]
    sold = lines["product_type"] + ", " + lines["brand"]
    paid = (lines["sales_value"] - lines["coupon_disc"]).clip(lower=0) / lines["quantity"]
    frame = pd.DataFrame(
        {
            "order_id": lines["basket_id"].astype(str),
            "account_id": lines["household_id"].astype(str),
            "product_id": sold,
            "ordered_at": lines["transaction_timestamp"],
            "quantity": lines["quantity"].astype(float),
            "unit_price": paid,
        }
    )
    kinds = lines.assign(product_id=sold, family=lines["product_type"], tier=lines["brand"])
    table = kinds[["product_id", "family", "tier"]].drop_duplicates().reset_index(drop=True)
    return History.from_frame(frame[frame["unit_price"] > 0].reset_index(drop=True)), table


def first_bought(history: History, snapshot: ClimbSnapshot, pairs: EdgePairs) -> NDArray[np.bool_]:
    """Return which pairs' accounts bought the higher brand within `DAYS`."""
    index = PurchaseIndex.of(history)
    row = index.find(pairs.account, snapshot.edges.upper[pairs.edge])
    until = snapshot.now + DAYS * SECONDS_A_DAY
    return np.asarray((row >= 0) & (index.first[np.maximum(row, 0)] < until), dtype=bool)  # none of them had before


def rate_of_kinds(history: History, ladder: Ladder, config: FitConfig, as_of: datetime) -> NDArray[np.float64]:
    """Return the share of each edge's pairs that moved in the `DAYS` before a moment, shrunk towards that of all."""
    before = history.before(as_of)
    past = ClimbSnapshot.at(before, ladder, config.upgrades.climbs, as_of - timedelta(days=DAYS))
    moved = first_bought(before, past, past.standing)
    n = np.bincount(past.standing.edge, minlength=len(ladder))
    n_moved = np.bincount(past.standing.edge, weights=moved, minlength=len(ladder))
    return np.asarray((n_moved + SHRUNK_BY * moved.mean()) / (n + SHRUNK_BY), dtype=np.float64)


def figures(history: History, products: pd.DataFrame, as_of: datetime) -> dict[str, Any]:
    """Return what the default model of one moment says of who moves, against the kind's own rate."""
    before = history.before(as_of)
    config = with_time_scales(FitConfig(), TimeScales.of(before))
    ladder = build_ladder(products, before, None, config.ladder)
    accounts = pd.DataFrame({"account_id": history.account_ids})
    model = UpgradeModel(config.upgrades).fit(before, products, accounts, ladder, as_of, np.random.default_rng(0))
    snapshot = ClimbSnapshot.at(history, ladder, config.upgrades.climbs, as_of, config.upgrades.recent_days)
    pairs = snapshot.standing
    probability = model.pair_probabilities(snapshot, pairs)
    moved, of_kind = first_bought(history, snapshot, pairs), rate_of_kinds(history, ladder, config, as_of)[pairs.edge]
    climbed = climbs_within(history, snapshot, pairs, config.upgrades)
    return {
        "edges": len(ladder),
        "pairs": len(pairs),
        "moved_in_60_days": float(moved.mean()),
        "auc_of_the_model": float(roc_auc_score(moved, probability)),
        "auc_of_the_kinds_rate": float(roc_auc_score(moved, of_kind)),
        "climbs_in_the_horizon": int(climbed.sum()),
        "expected": float(probability.sum()),
    }


@pytest.mark.proof
@pytest.mark.data
def test_who_moves_to_the_national_brand_is_told_at_least_as_well_as_by_the_kind_of_goods() -> None:
    history, products = history_of_kinds()
    unstated = products.rename(columns={"family": "product_type", "tier": "brand"})
    columns = find_tier_columns(unstated, history.before(CUTOFFS[0]))
    assert columns is not None
    assert (columns.family, columns.tier, columns.order) == ("product_type", "brand", ("Private", "National"))
    found = {f"{as_of:%Y-%m-%d}": figures(history, products, as_of) for as_of in CUTOFFS}
    write("complete_journey_brands", {"columns_found": columns.sentence(), **found})
    for one in found.values():
        assert one["edges"] > 500
        assert one["auc_of_the_model"] >= one["auc_of_the_kinds_rate"]
    assert np.mean([one["auc_of_the_model"] for one in found.values()]) >= 0.724  # a logistic regression by hand
