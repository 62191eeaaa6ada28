"""Point-in-time features of an account and a rung: what was known strictly before a moment."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from recsys.arrays import FloatArray
from recsys.contracts import columns as c
from recsys.data.history import SECONDS_A_DAY, History
from recsys.ladder.edges import Ladder
from recsys.ladder.upgrade_events import EdgePairs
from recsys.models.upgrade.climb_accounts import account_columns, account_features
from recsys.models.upgrade.climb_peers import (
    climbs_a_purchase,
    ladder_of_edge,
    orders_share,
    peer_order_shares,
    peer_quantities,
    peer_rates,
)
from recsys.models.upgrade.snapshot import (
    RECENT_DAYS,
    ClimbSnapshot,
    orders_standing,
    recent_buyers,
    usual_log_quantity,
)

FEATURES: Final = (
    "rung_tenure_years",
    "rung_recency_log_days",
    "rung_lines_log",
    "rung_recent_lines",
    "rung_usual_quantity_log",
    "rung_quantity_trend",
    "rung_overdue",
    "rung_rate_log",
    "rung_share_of_orders_log",
    "rung_exposure_log_days",
    "rung_met_log",
    "rung_chance_log",
    "price_step_log",
    "lower_price_log",
    "pack_distance",
    "quantity_over_peers",
    "quantity_over_ladder",
    "peer_climb_rate_log",
    "peer_share_of_orders_log",
    "peer_climbs_a_purchase_log",
    "upper_recent_buyers_log",
    "lower_recent_buyers_log",
    "account_tenure_log_days",
    "account_idle_log_days",
    "account_rate_log",
    "account_alive_log",
    "account_orders_log",
    "account_recent_orders_log",
    "account_order_value_log",
    "account_products_log",
    "account_premium_share",
    "account_climbs_log",
    "account_add_ons_log",
    "account_rungs_log",
)


def climb_features(
    snapshot: ClimbSnapshot, pairs: EdgePairs, ladder: Ladder, accounts: pd.DataFrame, horizon_days: int
) -> pd.DataFrame:
    """Return one row a pair with what the model learns from.

    Args:
        snapshot: what is known.
        pairs: some of the snapshot's standing pairs.
        ladder: the ladder of the snapshot.
        accounts: one row an account; every column but ids becomes a feature by its dtype.
        horizon_days: days over which peers' climb rate is stated.
    """
    columns: dict[str, object] = {}
    peer_shares = peer_order_shares(snapshot, len(ladder))
    columns.update(_rung_features(snapshot, pairs, peer_shares, horizon_days))
    columns.update(_edge_features(snapshot, pairs, ladder, peer_shares, horizon_days))
    columns.update(account_features(snapshot, pairs))
    frame = pd.DataFrame(columns, columns=list(FEATURES))
    table = account_columns(accounts, snapshot.history.account_ids, snapshot.now)
    return pd.concat([frame, table.iloc[pairs.account].reset_index(drop=True)], axis=1)


def _rung_features(
    snapshot: ClimbSnapshot, pairs: EdgePairs, peer_shares: FloatArray, horizon_days: int
) -> dict[str, FloatArray]:
    index, now = snapshot.index, snapshot.now
    recent = now - RECENT_DAYS * SECONDS_A_DAY
    total = index.sums(pairs.lower, 0, now)
    late = index.sums(pairs.lower, recent, now)
    early = index.sums(pairs.lower, 0, recent)
    tenure = (now - index.first[pairs.lower]) / SECONDS_A_DAY
    recency = (now - index.last[pairs.lower]) / SECONDS_A_DAY
    usual = usual_log_quantity(snapshot, pairs)
    before = np.where(early.lines > 0, early.log_quantity / np.maximum(early.lines, 1.0), usual)
    now_usual = np.where(late.lines > 0, late.log_quantity / np.maximum(late.lines, 1.0), usual)
    gap = (tenure - recency + 30.0) / total.lines
    orders = orders_standing(snapshot, pairs)
    share, activity = orders_share(snapshot, pairs, peer_shares), snapshot.activity
    chance = activity.chance(share, horizon_days, pairs.account)
    met = activity.met(share, recency, horizon_days, pairs.account)
    return {
        # Half-way between the last line and the end of the horizon; who has not moved in a year is settled.
        "rung_tenure_years": np.minimum((tenure - (recency - horizon_days) / 2) / 365.0, 1.0),
        "rung_recency_log_days": np.log1p(recency),
        "rung_lines_log": np.log(total.lines),
        "rung_recent_lines": late.lines,
        "rung_usual_quantity_log": usual,
        "rung_quantity_trend": now_usual - before,
        "rung_overdue": np.log(recency + 1.0) - np.log(gap),
        "rung_rate_log": np.log(total.lines) - np.log(tenure + 60.0),
        "rung_share_of_orders_log": np.log(total.lines + 0.5) - np.log(orders + 1.0),
        "rung_exposure_log_days": np.log(recency + horizon_days),  # since the last line a wish may have come
        "rung_met_log": np.log(np.maximum(met, 1e-4)),
        "rung_chance_log": np.log(np.maximum(chance, 1e-4)),
    }


def _edge_features(
    snapshot: ClimbSnapshot, pairs: EdgePairs, ladder: Ladder, peer_shares: FloatArray, horizon_days: int
) -> dict[str, FloatArray]:
    price = product_prices(snapshot.history)
    lower, upper = snapshot.edges.lower, snapshot.edges.upper
    packs = ladder.edges[c.PACK_RATIO].to_numpy(dtype=np.float64)
    usual = usual_log_quantity(snapshot, pairs)
    buyers, edge = recent_buyers(snapshot), pairs.edge
    each, together = np.arange(len(lower), dtype=np.int32), ladder_of_edge(snapshot)
    return {
        "price_step_log": (np.log(price[upper]) - np.log(price[lower]))[edge],
        "lower_price_log": np.log(price[lower])[edge],
        "pack_distance": np.log(np.maximum(packs, 1e-9))[edge] - usual,
        "quantity_over_peers": np.clip(usual - peer_quantities(snapshot, each)[edge], -1.5, 1.5),
        "quantity_over_ladder": np.clip(usual - peer_quantities(snapshot, together)[edge], -1.5, 1.5),
        "peer_climb_rate_log": np.log(peer_rates(snapshot, len(ladder), horizon_days))[edge],
        "peer_share_of_orders_log": np.log(peer_shares)[edge],
        "peer_climbs_a_purchase_log": np.log(climbs_a_purchase(snapshot, len(ladder)))[edge],
        "upper_recent_buyers_log": np.log1p(buyers[upper])[edge],
        "lower_recent_buyers_log": np.log1p(buyers[lower])[edge],
    }


def product_prices(history: History) -> FloatArray:
    """Return the median unit price of each product, NaN where it has no line, `(n_products,)`."""
    paid = pd.Series(history.unit_price).groupby(history.product).median()
    return np.asarray(paid.reindex(np.arange(history.n_products)), dtype=np.float64)
